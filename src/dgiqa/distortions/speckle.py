"""Multiplicative noise ("speckle"): each value is multiplied by 1 plus Gaussian noise, so bright parts suffer most.
Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import rounded
from dgiqa.distortions._light import grain
from dgiqa.types import Float32, UInt8

FAMILY = "noise"
KADID = 14

#: Standard deviation of the factor.
SIGMA = {1: 0.06, 2: 0.12, 3: 0.22, 4: 0.38, 5: 0.65}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, noisy."""
    return rounded(rgb * (1 + np.float32(SIGMA[severity]) * grain(rgb, rng)))

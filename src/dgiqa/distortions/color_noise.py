"""Noise in colour components: Gaussian and independent in Y, Cb and Cr (ITU-T T.871), so that most of it is colour.
Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import from_ycc, to_ycc
from dgiqa.distortions._light import grain
from dgiqa.types import Float32, UInt8

FAMILY = "noise"
KADID = 12

#: Standard deviation in each component, of values 0 to 255.
SIGMA = {1: 4.0, 2: 8.0, 3: 15.0, 4: 25.0, 5: 40.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, noisy."""
    return from_ycc(to_ycc(rgb) + np.float32(SIGMA[severity]) * grain(rgb, rng))

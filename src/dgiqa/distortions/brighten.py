"""Brightening: lightness L of CIELAB is bent by a power, its ends and the colours (a and b) stay where they are. Depth
and seed play no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import from_lab, to_lab
from dgiqa.types import Float32, UInt8

FAMILY = "brightness"
KADID = 16

#: Exponent.
GAMMA = {1: 1.25, 2: 1.6, 3: 2.1, 4: 3.0, 5: 4.5}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, brighter."""
    lab = to_lab(rgb)
    lab[..., 0] = 100 * np.clip(lab[..., 0] / 100, 0, 1) ** np.float32(1 / GAMMA[severity])
    return from_lab(lab)

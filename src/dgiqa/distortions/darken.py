"""Darkening: lightness L of CIELAB is bent by a power, its ends stay where they are. Colours (a and b) fade in
proportion, since dark colours can't be saturated. Depth and seed play no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import from_lab, to_lab
from dgiqa.types import Float32, UInt8

FAMILY = "brightness"
KADID = 17

#: Exponent.
GAMMA = {1: 1.25, 2: 1.6, 3: 2.0, 4: 2.6, 5: 3.5}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, darker."""
    lab = to_lab(rgb)
    lab *= np.clip(lab[..., :1] / 100, 0, 1) ** np.float32(GAMMA[severity] - 1)
    return from_lab(lab)

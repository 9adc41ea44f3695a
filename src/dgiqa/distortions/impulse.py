"""Impulse noise: some values, in each channel by itself, are replaced by 0 or 255 ("salt and pepper"), as by dead
pixels or bits flipped in transport. Those hit at one severity are hit at all higher ones. Specks are single pixels up
to the reference size and as coarse as there in larger pictures. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import specks
from dgiqa.types import Float32, UInt8

FAMILY = "noise"
KADID = 13

#: Share of the values that are hit.
SHARE = {1: 0.006, 2: 0.018, 3: 0.045, 4: 0.1, 5: 0.22}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, specked."""
    draw = specks(rgb, rng)
    half = np.float32(SHARE[severity] / 2)
    return np.where(draw < half, np.uint8(0), np.where(draw >= 1 - half, np.uint8(255), rgb))

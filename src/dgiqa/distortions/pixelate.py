"""Pixelation: the means of square cells, enlarged without smoothing. In pictures below the reference size cells shrink
towards single pixels. Depth and seed play no part.
"""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow

from dgiqa.distortions._light import scale
from dgiqa.types import Float32, UInt8

FAMILY = "spatial"
KADID = 21

#: Side of a cell, in pixels of the reference picture.
CELL = {1: 2.0, 2: 3.2, 3: 5.0, 4: 8.0, 5: 13.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, in cells."""
    height, width = rgb.shape[:2]
    cell = 1 + (CELL[severity] - 1) * scale(rgb)
    few = max(round(width / cell), 1), max(round(height / cell), 1)
    small = Pillow.fromarray(rgb).resize(few, Pillow.Resampling.BOX)
    return np.asarray(small.resize((width, height), Pillow.Resampling.NEAREST))

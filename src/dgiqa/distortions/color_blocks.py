"""Colour blocks: squares of one plain random colour each cover parts of the picture, as after lost packets. Those of
one severity are among those of all higher ones. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import scale
from dgiqa.types import Float32, UInt8

FAMILY = "spatial"
KADID = 23

#: Number of squares.
COUNT = {1: 2, 2: 5, 3: 11, 4: 22, 5: 44}

#: Side of a square, in pixels of the reference picture.
SIDE = 32.0


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, partly covered."""
    height, width = rgb.shape[:2]
    side = max(round(SIDE * scale(rgb)), 1)
    places, colors = rng.random((COUNT[5], 2)), rng.integers(0, 256, (COUNT[5], 3), dtype=np.uint8)
    result = rgb.copy()
    for place, color in zip(places[: COUNT[severity]], colors, strict=False):
        i, j = round(float(place[0]) * max(height - side, 0)), round(float(place[1]) * max(width - side, 0))
        result[i : i + side, j : j + side] = color
    return result

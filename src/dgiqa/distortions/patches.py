"""Patches out of place ("non-eccentricity pattern noise" of TID2008, Ponomarenko et al.): small squares are copied to
places nearby. Those of one severity are among those of all higher ones. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import scale
from dgiqa.types import Float32, UInt8

FAMILY = "spatial"
KADID = 20

#: Number of patches.
COUNT = {1: 15, 2: 40, 3: 90, 4: 180, 5: 360}

#: Side of a patch and the farthest it comes from, down and across, in pixels of the reference picture.
SIDE, WAY = 16.0, 24.0


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, with squares out of place."""
    height, width = rgb.shape[:2]
    side, way = max(round(SIDE * scale(rgb)), 1), max(WAY * scale(rgb), 1.0)
    room = max(height - side, 0), max(width - side, 0)
    places, ways = rng.random((COUNT[5], 2)), rng.uniform(-way, way, (COUNT[5], 2))
    result = rgb.copy()
    for place, step in zip(places[: COUNT[severity]], ways, strict=False):
        i, j = (round(float(at) * most) for at, most in zip(place, room, strict=True))
        top, left = (min(max(round(at + s), 0), most) for at, s, most in zip((i, j), step, room, strict=True))
        result[i : i + side, j : j + side] = rgb[top : top + side, left : left + side]
    return result

"""Colour shift: the green channel is out of register, so edges get coloured fringes. It moves in a direction that the
seed chooses and is blended in where the picture has edges (the size of its gradient is the mask), so that plain areas
keep their colour. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import rounded, to_ycc
from dgiqa.distortions._filters import box_mean
from dgiqa.distortions._light import scale, shifted
from dgiqa.types import Float32, UInt8

FAMILY = "color"
KADID = 5

#: Distance, in pixels of the reference picture.
DISTANCE = {1: 1.8, 2: 3.2, 3: 5.5, 4: 9.0, 5: 15.0}

#: How much of the moved channel is blended in at an edge.
SHARE = {1: 0.6, 2: 0.7, 3: 0.8, 4: 0.9, 5: 1.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, with fringes."""
    angle = rng.uniform(0, 2 * np.pi)
    distance = DISTANCE[severity] * scale(rgb)
    green = rgb[..., 1:2].astype(np.float32)
    moved = shifted(green, distance * float(np.sin(angle)), distance * float(np.cos(angle)))
    result = rgb.astype(np.float32)
    result[..., 1:2] += np.float32(SHARE[severity]) * edges(rgb) * (moved - green)
    return rounded(result)


def edges(rgb: UInt8) -> Float32:
    """(H, W, 1) 0 in plain areas to 1 near edges."""
    luma = to_ycc(rgb)[..., 0]
    down, right = (np.abs(np.diff(luma, axis=k, append=luma.take([-1], k))) for k in (0, 1))
    near = box_mean((down + right)[..., None], max(round(8 * scale(rgb)), 1))
    return np.asarray(np.minimum(near / np.float32(8), 1), np.float32)

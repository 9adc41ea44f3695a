"""Jitter: every pixel is read from a place a little beside its own, at random, as through frosted glass. Depth plays no
part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._filters import sampled
from dgiqa.distortions._light import grain, scale
from dgiqa.types import Float32, UInt8

FAMILY = "spatial"
KADID = 19

#: Standard deviation of the way, down and across, in pixels of the reference picture.
WAY = {1: 0.45, 2: 0.9, 3: 1.7, 4: 3.0, 5: 5.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, scattered."""
    way = grain(rgb, rng, 2) * np.float32(WAY[severity] * scale(rgb))
    rows, columns = (np.arange(n, dtype=np.float32) for n in rgb.shape[:2])
    return sampled(rgb, rows[:, None] + way[..., 0], columns + way[..., 1])

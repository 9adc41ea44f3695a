"""Gaussian blur of the sRGB values, as in most data sets of synthetic distortions. Depth and seed play no part."""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import rounded
from dgiqa.distortions._filters import gaussian
from dgiqa.distortions._light import scale
from dgiqa.types import Float32, UInt8

FAMILY = "blur"
KADID = 1

#: Standard deviation, in pixels of the reference picture.
SIGMA = {1: 0.8, 2: 1.5, 3: 2.6, 4: 4.5, 5: 7.5}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, blurred."""
    blurred = gaussian(rgb.astype(np.float32), SIGMA[severity] * scale(rgb))
    return rounded(blurred)

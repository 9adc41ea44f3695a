"""Over-sharpening: unsharp masking with far too much of it; edges get bright and dark borders, grain grows. Depth and
seed play no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import rounded
from dgiqa.distortions._filters import gaussian
from dgiqa.distortions._light import scale
from dgiqa.types import Float32, UInt8

FAMILY = "contrast"
KADID = 24

#: How much of the difference to the blurred picture is added.
AMOUNT = {1: 1.0, 2: 2.0, 3: 3.8, 4: 7.0, 5: 13.0}

#: Standard deviation of the blur, in pixels of the reference picture (in small pictures at least half a pixel).
SIGMA = 1.6


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, too sharp."""
    values = rgb.astype(np.float32)
    blurred = gaussian(values, max(SIGMA * scale(rgb), 0.5))
    return rounded(values + np.float32(AMOUNT[severity]) * (values - blurred))

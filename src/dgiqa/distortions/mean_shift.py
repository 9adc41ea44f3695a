"""Mean shift: one number is added to all values, and what leaves 0 to 255 is cut off. The seed says whether it is above
or below 0. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import rounded
from dgiqa.types import Float32, UInt8

FAMILY = "brightness"
KADID = 18

#: Size of the number, of values 0 to 255.
SHIFT = {1: 15.0, 2: 30.0, 3: 50.0, 4: 75.0, 5: 110.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, lighter or darker."""
    sign = 1 if rng.random() < 0.5 else -1
    return rounded(rgb + np.float32(sign * SHIFT[severity]))

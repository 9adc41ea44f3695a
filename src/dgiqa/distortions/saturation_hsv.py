"""Saturation wrong, in HSV: the saturation S is multiplied, hue and value stay. The seed says whether colours become
pale or garish. A grey picture stays as it is. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import rounded
from dgiqa.types import Float32, UInt8

FAMILY = "color"
KADID = 7

#: Factors of the saturation.
PALE = {1: 0.7, 2: 0.5, 3: 0.32, 4: 0.16, 5: 0.0}
GARISH = {1: 1.4, 2: 1.8, 3: 2.5, 4: 4.0, 5: 8.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, paler or more garish."""
    factor = (PALE if rng.random() < 0.5 else GARISH)[severity]
    values = rgb.astype(np.float32)
    value, low = (f(f(values[..., 0], values[..., 1]), values[..., 2])[..., None] for f in (np.maximum, np.minimum))
    # S = (value - low) / value; every channel's distance below the value grows by the same factor as S.
    most = value / np.maximum(value - low, np.float32(1e-3))
    return rounded(value - (value - values) * np.minimum(np.float32(factor), most))

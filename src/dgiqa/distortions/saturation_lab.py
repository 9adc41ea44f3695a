"""Saturation wrong, in CIELAB: a and b are multiplied, lightness stays. The seed says whether colours become pale or
garish. A grey picture stays as it is. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import from_lab, to_lab
from dgiqa.types import Float32, UInt8

FAMILY = "color"
KADID = 8

#: Factors of a and b.
PALE = {1: 0.7, 2: 0.5, 3: 0.32, 4: 0.16, 5: 0.0}
GARISH = {1: 1.35, 2: 1.75, 3: 2.3, 4: 3.2, 5: 4.8}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, paler or more garish."""
    lab = to_lab(rgb)
    lab[..., 1:] *= np.float32((PALE if rng.random() < 0.5 else GARISH)[severity])
    return from_lab(lab)

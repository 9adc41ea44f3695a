"""Colour diffusion: colours run out over the edges of things while lightness stays, as in a picture whose chroma was
stored too coarsely. Gaussian blur of a and b in CIELAB. Depth and seed play no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import from_lab, to_lab
from dgiqa.distortions._filters import gaussian
from dgiqa.distortions._light import scale
from dgiqa.types import Float32, UInt8

FAMILY = "color"
KADID = 4

#: Standard deviation, in pixels of the reference picture.
SIGMA = {1: 4.0, 2: 7.5, 3: 13.0, 4: 22.0, 5: 36.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, its colours spread."""
    lab = to_lab(rgb)
    lab[..., 1:] = gaussian(lab[..., 1:], SIGMA[severity] * scale(rgb))
    return from_lab(lab)

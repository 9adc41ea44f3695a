"""Lens blur: the whole picture is out of focus, every point a disc (a flat subject, far or near). Linear light.

Depth and seed play no part; :mod:`defocus` is the kind that follows depth.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import disc_blur, scale, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "blur"
KADID = 2

#: Radius of the disc, in pixels of the reference picture.
RADIUS = {1: 1.2, 2: 2.4, 3: 4.5, 4: 8.0, 5: 13.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, out of focus."""
    return to_srgb(disc_blur(to_linear(rgb), RADIUS[severity] * scale(rgb)))

"""Haze: light from the object is scattered away, light from the air is scattered in.

Koschmieder (1924): I = J t + A (1 - t) with transmission t = exp(-beta d), in linear light. ``beta`` a
metre runs from light fog (Foggy Cityscapes, Sakaridis et al., IJCV 2018, has 0.005 to 0.02) to the dense
indoor haze of RESIDE (Li et al., TIP 2019). The airlight A is nearly white and depends on the seed.

Without depth the picture is taken for level ground: inverse depth falls linearly from 1/4 a metre in the
bottom row to 1/100 a metre in the top row.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import level_ground, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "medium"
DEPTH = True

#: Extinction a metre.
BETA = {1: 0.006, 2: 0.015, 3: 0.035, 4: 0.08, 5: 0.18}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, hazy. ``depth`` in metres."""
    bright = rng.uniform(0.72, 0.92)
    air = (bright * np.array([1.0, 1.0, 1.0]) * rng.uniform(0.96, 1.04, 3)).astype(np.float32)
    through = transmission(level_ground(rgb.shape[:2]) if depth is None else depth, severity)[..., None]
    return to_srgb(to_linear(rgb) * through + air * (1 - through))


def transmission(depth: Float32, severity: int) -> Float32:
    """The share of light that arrives from ``depth`` metres, 0 to 1."""
    return np.exp(-BETA[severity] * depth.astype(np.float64)).astype(np.float32)

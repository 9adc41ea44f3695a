"""Veiling glare: light strays inside lens and camera and lies over the picture like a veil.

A share of each point's light is spread far around it, as the scatter of a lens or an eye does, whose spread function
falls about with the square of the distance (CIE 146:2002; McCann & Rizzi, "Veiling glare", 2007): here a sum of three
Gaussians of growing width. And a source just outside the frame, on the side that the seed says, adds light that fades
across the picture. Shadows are lifted, contrast is lost; there are no shapes as in :mod:`flare`. Linear light. Depth
plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import disc_blur, scale, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "lens"

#: Share of the light that strays, and light of the source outside where it is brightest.
STRAY = {1: 0.06, 2: 0.13, 3: 0.24, 4: 0.4, 5: 0.6}
SOURCE = {1: 0.07, 2: 0.16, 3: 0.32, 4: 0.6, 5: 1.05}

#: Radii over which it strays, in pixels of the reference picture, in equal shares.
RADII = (24.0, 72.0, 200.0)


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, veiled."""
    light, stray = to_linear(rgb), np.float32(STRAY[severity])
    spread = sum((disc_blur(light, radius * scale(rgb)) for radius in RADII), np.zeros_like(light)) / len(RADII)
    veil = outside(rgb.shape[:2], rng)
    return to_srgb(light + stray * (spread - light) + np.float32(SOURCE[severity]) * veil)


def outside(shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """(H, W, 3) light of a warm source above the frame, to the left or right: falls with the square of distance."""
    height, width = shape
    row, column = -0.25 * min(shape), rng.uniform(-0.2, 1.2) * width
    warm = np.array([1.0, rng.uniform(0.88, 1.0), rng.uniform(0.75, 0.95)], np.float32)
    down = (np.arange(height, dtype=np.float32)[:, None] - np.float32(row)) / min(shape)
    across = (np.arange(width, dtype=np.float32) - np.float32(column)) / min(shape)
    square = down * down + across * across
    veil = np.float32(0.25) + np.float32(0.75) / (1 + square / np.float32(0.3))
    return np.asarray(veil[..., None] * warm, np.float32)

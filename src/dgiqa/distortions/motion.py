"""Motion blur: the camera turns while the shutter is open, so every point is drawn out along the same path.

The path is two straight strokes from the middle of the exposure, the second bent against the first by up to
30 degrees: the simplest of the shake paths that Levin et al. (CVPR 2009) measured. A stroke is laid by
doubling (a picture averaged with its own shift covers twice the length), so long paths cost little. Linear
light. A turning camera moves near and far alike: depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import scale, shifted, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "blur"
KADID = 3

#: Length of the whole path, in pixels of the reference picture.
LENGTH = {1: 4.0, 2: 8.0, 3: 15.0, 4: 26.0, 5: 42.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, smeared."""
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-np.pi / 6, np.pi / 6)
    half = LENGTH[severity] * scale(rgb) / 2
    light = to_linear(rgb)
    back = _stroke(light, half, angle + np.pi)
    ahead = _stroke(light, half, angle + bend)
    return to_srgb((back + ahead) * np.float32(0.5))


def _stroke(light: Float32, length: float, angle: float) -> Float32:
    """The mean of the picture moved along a straight line of ``length`` pixels."""
    doublings = max(int(np.ceil(np.log2(max(length, 1.0)))), 1)
    step = length / 2**doublings
    for _ in range(doublings):
        moved = shifted(light, step * float(np.sin(angle)), step * float(np.cos(angle)))
        light = (light + moved) * np.float32(0.5)
        step *= 2
    return light

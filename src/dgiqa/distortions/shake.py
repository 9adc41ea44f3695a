"""Camera shake: while the shutter is open the hand trembles, and every point is drawn along the same crooked path.

The path is a smooth random walk of the camera's turning (as measured by Köhler et al., ECCV 2012): speed changes by
chance and persists for a part of the exposure, so light gathers where the hand rests. A seed's path has one shape and
grows with severity. Turning moves near and far alike: depth plays no part. Linear light.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._filters import convolved
from dgiqa.distortions._light import scale, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "blur"

#: Root mean square distance of the path from its middle, in pixels of the reference picture.
SPREAD = {1: 1.2, 2: 2.4, 3: 4.2, 4: 7.0, 5: 11.5}

#: Moments of the exposure, and the share of them for which a speed persists.
MOMENTS, PERSISTENCE = 256, 0.2


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, shaken."""
    way = path(rng) * (SPREAD[severity] * scale(rgb))
    return to_srgb(convolved(to_linear(rgb), kernel(way)))


def path(rng: np.random.Generator) -> Float32:
    """(MOMENTS, 2) places about a mean of 0, at a root mean square distance of 1 from it."""
    pushes = rng.standard_normal((MOMENTS, 2))
    speed, kept = np.zeros_like(pushes), 1 - 1 / (PERSISTENCE * MOMENTS)
    now = rng.standard_normal(2) * 5
    for moment, push in enumerate(pushes):
        now = kept * now + push
        speed[moment] = now
    places = np.cumsum(speed, 0)
    places -= places.mean(0)
    return np.asarray(places / np.sqrt((places**2).sum(1).mean()), np.float32)


def kernel(way: Float32) -> Float32:
    """(K, K) sum 1: the share of the exposure spent at each pixel, each moment shared out to its four neighbours."""
    reach = int(np.ceil(np.abs(way).max())) + 1
    at = way.astype(np.float64) + reach
    corner = np.floor(at).astype(np.intp)
    part = at - corner
    result = np.zeros((2 * reach + 1, 2 * reach + 1))
    for i, row in ((0, 1 - part[:, 0]), (1, part[:, 0])):
        for j, column in ((0, 1 - part[:, 1]), (1, part[:, 1])):
            np.add.at(result, (corner[:, 0] + i, corner[:, 1] + j), row * column)
    return np.asarray(result / result.sum(), np.float32)

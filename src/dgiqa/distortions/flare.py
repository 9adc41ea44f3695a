"""Lens flare: a bright source in view scatters and mirrors inside the lens.

Three additive parts in linear light, as in Wu et al., "How to Train Neural Networks for Flare Removal"
(ICCV 2021): veiling glare (a halo that falls with the square of the distance, and an even veil), streaks
(diffraction at the aperture's blades), and ghosts (images of the aperture on the line through source and
picture centre). The source lies in the upper half; with depth it lies among the farthest tenth of the
pixels, since a near thing would hide it.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "lens"
DEPTH = True

#: Strength of the whole flare.
STRENGTH = {1: 0.06, 2: 0.14, 3: 0.3, 4: 0.6, 5: 1.1}

GHOSTS = 5


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, with flare."""
    height, width = rgb.shape[:2]
    short = min(height, width)
    row, column = _source((height, width), depth, rng)
    y = (np.arange(height, dtype=np.float32)[:, None] - row) / short
    x = (np.arange(width, dtype=np.float32) - column) / short
    glare = _glare(x, y, rng) + _streaks(x, y, rng)
    warm = np.array([1.0, rng.uniform(0.82, 0.98), rng.uniform(0.65, 0.95)], np.float32)
    light = glare[..., None] * warm
    toward = ((width / 2 - column) / short, (height / 2 - row) / short)
    for _ in range(GHOSTS):
        light += _ghost(x, y, toward, rng)
    return to_srgb(to_linear(rgb) + np.float32(STRENGTH[severity]) * light)


def _source(shape: tuple[int, int], depth: Float32 | None, rng: np.random.Generator) -> tuple[float, float]:
    """Row and column of the light source."""
    down, across = rng.uniform(0.05, 0.45), rng.uniform(0.1, 0.9)
    place = rng.random()
    if depth is None:
        return float(down * shape[0]), float(across * shape[1])
    far = np.flatnonzero(depth >= np.quantile(depth, 0.9))
    index = int(far[int(place * len(far))])
    return float(index // shape[1]), float(index % shape[1])


def _glare(x: Float32, y: Float32, rng: np.random.Generator) -> Float32:
    square = x * x + y * y
    core = rng.uniform(0.02, 0.05)
    halo = 0.9 / (1 + square / np.float32(core**2)) + 0.35 * np.exp(-square / np.float32(0.18))
    return np.asarray(halo + 0.12, np.float32)


def _streaks(x: Float32, y: Float32, rng: np.random.Generator) -> Float32:
    """Six or eight rays: narrow across, fading along."""
    count = int(rng.choice([3, 4]))
    turn = rng.uniform(0, np.pi)
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for k in range(count):
        angle = turn + np.pi * k / count
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along, across = x * c + y * s, y * c - x * s
        reach = np.float32(rng.uniform(0.12, 0.35))
        total += 0.7 * np.exp(-np.abs(along) / reach) / (1 + (across / np.float32(0.006)) ** 2)
    return total


def _ghost(x: Float32, y: Float32, toward: tuple[float, float], rng: np.random.Generator) -> Float32:
    """A pale disc with a brighter rim, somewhere on the line from the source through the centre."""
    place, radius = rng.uniform(0.4, 2.2), rng.uniform(0.02, 0.12)
    colour = (rng.uniform(0.1, 0.4) * rng.uniform(0.3, 1.0, 3)).astype(np.float32)
    away = np.hypot(x - np.float32(place * toward[0]), y - np.float32(place * toward[1])) / np.float32(radius)
    body = np.clip((1 - away) * 12, 0, 1) * (0.45 + 0.55 * np.minimum(away, 1) ** 4)
    result: Float32 = (body[..., None] * colour).astype(np.float32)
    return result

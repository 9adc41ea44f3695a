"""Defocus: every point becomes the disc of the lens's circle of confusion.

Thin lens: the disc's radius is proportional to |1/d - 1/f| for depth d and focus f (Potmesil & Chakravarty,
1981). With depth, the focus lies near one end of the scene's depths (the seed says which) and the most
blurred pixel has the table's radius; blurring is in layers of radius, in which sharp pixels don't bleed.
Without depth the whole picture is out of focus by that radius. Linear light.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import disc_blur, scale, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

#: Largest radius of the disc, in pixels of the reference picture.
RADIUS = {1: 1.2, 2: 2.4, 3: 4.5, 4: 8.0, 5: 13.0}

#: Layers of blur with depth; from one to the next the radius grows by an equal step.
LAYERS = 6


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, out of focus. ``depth`` in metres."""
    light, widest = to_linear(rgb), RADIUS[severity] * scale(rgb)
    near = bool(rng.random() < 0.5)
    if depth is None:
        return to_srgb(disc_blur(light, widest))
    return to_srgb(_layered(light, confusion(depth, near=near) * np.float32(widest)))


def confusion(depth: Float32, *, near: bool) -> Float32:
    """(H, W) relative radius of the disc, 0 in focus to 1 at the most blurred pixel; focus near or far."""
    dioptres = 1 / depth
    focus = np.quantile(dioptres, 0.9 if near else 0.1)
    away = np.abs(dioptres - np.float32(focus))
    most = float(away.max())
    return np.asarray(away / most if most > 1e-6 else np.ones_like(away), np.float32)


def _layered(light: Float32, radius: Float32) -> Float32:
    """Blends between pictures blurred by rising radii."""
    widest = float(radius.max())
    result = light
    for layer in range(1, LAYERS + 1):
        size = widest * layer / LAYERS
        share = np.clip(radius / np.float32(size), 0.02, 1)[..., None]
        stack = disc_blur(np.concatenate([light * share, share], -1), size)
        blurred = stack[..., :3] / stack[..., 3:]
        step = np.float32(widest / LAYERS)
        blend = np.clip((radius - (size - step)) / step, 0, 1)[..., None]
        result = result + (blurred - result) * blend
    return result

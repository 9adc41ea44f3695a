"""Defocus by depth: the lens is focused on one distance, and the rest of the scene is blurred the more the farther
it lies from there.

Thin lens: the circle of confusion of a point at depth d has a radius proportional to |1/d - 1/f| for focus f
(Potmesil & Chakravarty, SIGGRAPH 1981). The focus lies near one end of the scene's depths (the seed says which) and
the most blurred tenth of the picture has at least the table's radius. The scene is taken apart into layers of depth,
each is blurred with what it covers, and they are laid over each other from far to near (as Kraus & Strengert, 2007):
a sharp subject doesn't bleed into a blurred background, and a blurred foreground spreads over a sharp one.

Without depth the picture is taken for level ground: inverse depth falls linearly from 1/4 a metre in the bottom row to
1/100 a metre in the top row. A picture of one depth is out of focus as a whole. Linear light.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dgiqa.distortions._light import disc_blur, level_ground, scale, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "blur"
DEPTH = True

Mask: TypeAlias = npt.NDArray[np.bool_]

#: Radius of the disc where focus is worst, in pixels of the reference picture.
RADIUS = {1: 2.0, 2: 4.0, 3: 7.0, 4: 11.0, 5: 16.0}

#: Number of layers of depth between the least and the largest size of disc.
LAYERS = 6


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, sharp at one distance alone. ``depth`` in metres."""
    light, widest = to_linear(rgb), RADIUS[severity] * scale(rgb)
    near = bool(rng.random() < 0.5)
    away = confusion(level_ground(rgb.shape[:2]) if depth is None else depth, near=near)
    return to_srgb(_layered(light, away, widest))


def confusion(depth: Float32, *, near: bool) -> Float32:
    """(H, W) size of the disc, -1 to 1, as a share of the largest: below 0 beyond the focus, above 0 before it."""
    dioptres = 1 / depth
    focus = np.quantile(dioptres, 0.9 if near else 0.1)
    away = np.asarray(dioptres - np.float32(focus), np.float32)
    size = np.abs(away)
    most = float(np.quantile(size, 0.9))
    if most <= 1e-6:
        most = float(size.max())
    return np.clip(away / most, -1, 1) if most > 1e-6 else np.ones_like(away)


def _layered(light: Float32, away: Float32, widest: float) -> Float32:
    """The layers, from far to near, each blurred and laid over those behind it."""
    index = np.rint(away * LAYERS).astype(np.intp)
    result = light.copy()
    for layer in np.unique(index):
        radius = abs(int(layer)) / LAYERS * widest
        window = _window(index == layer, int(np.ceil(radius)) + 1)
        behind, part = result[window], index[window]
        mine, covers = (mask.astype(np.float32)[..., None] for mask in (part == layer, part >= layer))
        stack = np.concatenate([light[window] * mine, mine, covers], -1)
        if radius > 0:
            stack = disc_blur(stack, radius, finest=1.5)
        color, share, cover = stack[..., :3], stack[..., 3:4], stack[..., 4:]
        # What a nearer layer hides goes on under it as an average of what is seen of this one.
        behind += (color / np.maximum(share, 1e-4) - behind) * cover * np.minimum(4 * share, 1)
    return result


def _window(mask: Mask, margin: int) -> tuple[slice, slice]:
    """The rows and columns that hold the True pixels, and ``margin`` more on each side."""
    ends = []
    for axis in (1, 0):
        at = np.flatnonzero(mask.any(axis))
        ends.append(slice(max(int(at[0]) - margin, 0), int(at[-1]) + 1 + margin))
    return ends[0], ends[1]

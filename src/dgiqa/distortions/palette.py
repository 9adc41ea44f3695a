"""Colour quantisation: the picture is reduced to a few colours of its own, with error diffusion (Floyd & Steinberg,
1976, by Pillow). An octree (Gervautz & Purgathofer, 1988; for a grey picture median cut, Heckbert, 1982) finds many
colours; of these the two whose union adds least to the squared error are merged (Ward, 1963), again and again, so fewer
colours always fit worse. Depth and seed play no part.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from dgiqa.types import Float32, UInt8

FAMILY = "color"
KADID = 6

Float64: TypeAlias = npt.NDArray[np.float64]

#: Number of colours.
COLORS = {1: 48, 2: 26, 3: 15, 4: 9, 5: 5}

#: Number of colours before any are merged, found in a copy reduced to a short side of about this.
FIRST, SAMPLE = 200, 256


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, in few colours."""
    picture = Pillow.fromarray(rgb)
    table = colors(picture.reduce(max(min(picture.size) // SAMPLE, 1)), COLORS[severity])
    palette = Pillow.new("P", (1, 1))
    palette.putpalette(np.resize(table, (256, 3)).tobytes())  # those that repeat change nothing
    dithered = picture.quantize(palette=palette, dither=Pillow.Dither.FLOYDSTEINBERG)
    return np.asarray(dithered.convert("RGB"))


def colors(picture: Pillow.Image, count: int) -> UInt8:
    """(count, 3) the colours, or fewer in a picture that has fewer."""
    mean, number = _many(picture, Pillow.Quantize.FASTOCTREE)
    if len(number) < COLORS[1]:  # greys fill few cells of the octree
        mean, number = _many(picture, Pillow.Quantize.MEDIANCUT)
    cost = np.stack([_costs(mean, number, k) for k in range(len(number))])
    for _ in range(len(number) - count):
        i, j = np.unravel_index(cost.argmin(), cost.shape)
        mean[i] = (mean[i] * number[i] + mean[j] * number[j]) / (number[i] + number[j])
        number[i], number[j] = number[i] + number[j], 0
        cost[i] = cost[:, i] = _costs(mean, number, int(i))
        cost[j] = cost[:, j] = np.inf
    return np.rint(mean[number > 0]).astype(np.uint8)


def _many(picture: Pillow.Image, method: Pillow.Quantize) -> tuple[Float64, Float64]:
    """(n, 3) up to FIRST colours, and (n,) the pixels that have them."""
    first = picture.quantize(FIRST, method)
    number = np.bincount(np.asarray(first).ravel()).astype(np.float64)
    mean = np.array(first.getpalette(), np.float64).reshape(-1, 3)[: len(number)]
    return mean[number > 0], number[number > 0]


def _costs(mean: Float64, number: Float64, k: int) -> Float64:
    """(n,) by how much the squared error grows when colour k is merged with each of the others."""
    weight = number * number[k] / (number + number[k])
    costs = np.where(number > 0, weight * ((mean - mean[k]) ** 2).sum(-1), np.inf)
    costs[k] = np.inf
    return costs

"""From a picture to the views that a network sees, colour and depth cut by the same boxes.

Where the boxes lie follows from the recipe and the resized size alone, never from the batch, the order or
the machine's past. ``whole`` and ``grid`` provably reach every pixel; ``random`` is what papers do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from dgiqa.cards import Recipe
from dgiqa.imaging.resize import fit, resize
from dgiqa.types import Box, Image, UInt8, Views

#: Depth of the whole picture: (H, W, 3) uint8 → (H, W) uint8, 0 farthest to 255 nearest.
#: (H, W, 3) uint8 sRGB to (H, W) uint8, 255 nearest, 0 farthest; tests and controls put their own here.
DepthMap = Callable[[UInt8], UInt8]


def make_views(image: Image, recipe: Recipe, depth_map: DepthMap | None = None) -> Views:
    """The views of one picture.

    Args:
        image: the decoded picture.
        recipe: how it is resized and cut.
        depth_map: estimates depth from (H, W, 3) uint8 pixels as (H, W) uint8 of the same size. It is called
            once, on the whole picture: the original one (its result is then resized with the recipe's kernel)
            or the resized one, as ``recipe.depth_from`` says. None for a network without depth.

    Returns:
        Views with color (V, H, W, 3) and depth (V, H, W) or None, of one shape for all views of the picture.

    Raises:
        ValueError: ``depth_map`` returned something other than uint8 of the size it was given.
    """
    pixels = fit(image.pixels, recipe, image.full)
    height, width = pixels.shape[:2]
    boxes = make_boxes(width, height, recipe)
    if depth_map is None:
        return Views(_cut(pixels, boxes), None, boxes)
    seen = image.pixels if recipe.depth_from == "picture" else pixels
    depth = resize(_depth(depth_map, seen), width, height, recipe.kernel)
    return Views(_cut(pixels, boxes), _cut(depth, boxes), boxes)


def make_boxes(width: int, height: int, recipe: Recipe) -> tuple[Box, ...]:
    """Where the views lie in the picture once it has its resized size ``width`` × ``height`` (``fit_size``).

    ``whole``: everything in one box; a long side over ``max_aspect`` short ones is cut into the fewest tiles
    of just that length. ``grid``: the fewest ``crop`` × ``crop`` squares an axis. Both are evenly spaced
    from edge to edge and leave no pixel out. ``random``: ``count`` squares drawn from ``seed`` and the size.
    ``native``: everything in one box, whatever its shape.
    """
    if recipe.views == "native":
        return ((0, 0, width, height),)
    if recipe.views == "random":
        return _random_boxes(width, height, recipe)
    if recipe.views == "grid":
        across, down = recipe.crop, recipe.crop
    else:
        tile = _tile_length(recipe)
        across, down = min(width, tile), min(height, tile)
    return tuple(
        (left, top, left + across, top + down) for top in _starts(height, down) for left in _starts(width, across)
    )


def _tile_length(recipe: Recipe) -> int:
    longest = math.floor(recipe.max_aspect * recipe.short_side + 1e-9)  # 2.3 × 100 is 230, not 229.99…
    return max(recipe.short_side, longest // recipe.multiple * recipe.multiple)


def _starts(length: int, part: int) -> list[int]:
    """Starts of the fewest parts that cover ``length``: the first at 0, the last ending at ``length``.

    n = ceil(length / part) makes the mean step at most ``part``, and so each step rounded to whole pixels.
    """
    steps = -(-length // part) - 1
    return [0] + [(2 * i * (length - part) + steps) // (2 * steps) for i in range(1, steps + 1)]


def _random_boxes(width: int, height: int, recipe: Recipe) -> tuple[Box, ...]:
    # The raw stream of PCG64: NumPy keeps it for ever, which it doesn't promise for Generator's methods.
    draws = np.random.PCG64([recipe.seed, width, height]).random_raw(2 * recipe.count).tolist()
    lefts = [draw % (width - recipe.crop + 1) for draw in draws[0::2]]
    tops = [draw % (height - recipe.crop + 1) for draw in draws[1::2]]
    return tuple((x, y, x + recipe.crop, y + recipe.crop) for x, y in zip(lefts, tops, strict=True))


def _depth(depth_map: DepthMap, pixels: UInt8) -> UInt8:
    depth = depth_map(pixels)
    if depth.dtype != np.uint8 or depth.shape != pixels.shape[:2]:
        expected = f"expected {pixels.shape[:2]} uint8"
        raise ValueError(f"depth_map returned {depth.shape} {depth.dtype}; {expected}")
    return depth


def _cut(pixels: UInt8, boxes: Sequence[Box]) -> UInt8:
    return np.stack([pixels[top:bottom, left:right] for left, top, right, bottom in boxes])

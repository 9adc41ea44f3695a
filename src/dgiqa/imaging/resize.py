"""Every resize kernel, by the name that model cards use.

``bilinear``, ``bicubic``, ``lanczos`` and ``box`` are Pillow's: their support grows with the reduction, so
they are antialiased. ``linear-opencv`` and ``cubic-opencv`` reproduce OpenCV's INTER_LINEAR and INTER_CUBIC
on uint8 within one grey level: two or four taps whatever the reduction, half-pixel centres, replicated
border, cubic a = -0.75. Networks published with such code were fitted to its aliasing, hence the copy.
``box-bicubic`` takes the mean of squares of 2, 4 or 8 pixels first and only then bicubic taps: what a JPEG decoded at
that fraction of its size gives too, within rounding, so that a large one needs no full decoding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import PIL.Image

from dgiqa.cards import Kernel, Recipe
from dgiqa.types import Float32, UInt8

#: Past this aspect ratio the long side is squeezed: a bound on memory.
MAX_ASPECT = 16

_PILLOW = {
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
    "box": PIL.Image.Resampling.BOX,
    "box-bicubic": PIL.Image.Resampling.BICUBIC,
}
#: Sides of the squares whose mean ``box-bicubic`` takes: the fractions at which JPEGs can be decoded.
_SQUARES = (8, 4, 2)
_TAPS = {"linear-opencv": 2, "cubic-opencv": 4}
_ROWS = 64  # output rows made at a time: temporaries stay at a few MB whatever the picture


def resize(pixels: UInt8, width: int, height: int, kernel: Kernel) -> UInt8:
    """``pixels`` at another size.

    Args:
        pixels: (H, W, 3) or (H, W) uint8.
        width, height: the new size, at least 1.
        kernel: one of :data:`dgiqa.cards.Kernel`.

    Returns:
        (height, width, 3) or (height, width) uint8; ``pixels`` itself when the size is the same.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if kernel in _PILLOW:
        return np.asarray(_resize_picture(PIL.Image.fromarray(pixels), (width, height), kernel))
    out = np.empty((height, width, *pixels.shape[2:]), np.uint8)
    for rows, values in _interpolate(pixels, width, height, _TAPS[kernel]):
        np.rint(values, out=values)
        out[rows] = np.clip(values, 0, 255, out=values)  # cubic taps overshoot
    return out


def resize_float(values: Float32, width: int, height: int) -> Float32:
    """A float map at another size: bilinear, half-pixel centres, not antialiased, edges clamped.

    The same as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.

    Args:
        values: (h, w) float32.
        width, height: the new size, at least 1.

    Returns:
        (height, width) float32.
    """
    out = np.empty((height, width), np.float32)
    for rows, block in _interpolate(values, width, height, 2):
        out[rows] = block
    return out


def fit_size(width: int, height: int, recipe: Recipe) -> tuple[int, int]:
    """(width, height) in pixels to which a recipe resizes a picture of the given size.

    The short side becomes exactly ``recipe.short_side``. The long side keeps the aspect ratio, rounded to the
    nearest multiple of ``recipe.multiple``, and is at least ``short_side`` and at most 16 × ``short_side``:
    a picture longer than 16:1 is squeezed along its long side, so that memory stays bounded. With ``native`` views the
    size stays.
    """
    if recipe.views == "native":
        return width, height
    short, long = sorted((width, height))
    unit = short * recipe.multiple
    rounded = (2 * long * recipe.short_side + unit) // (2 * unit) * recipe.multiple
    fitted = min(max(rounded, recipe.short_side), MAX_ASPECT * recipe.short_side)
    return (fitted, recipe.short_side) if width >= height else (recipe.short_side, fitted)


def fit(pixels: UInt8, recipe: Recipe, full: tuple[int, int] | None = None) -> UInt8:
    """The picture at :func:`fit_size`, of its ``full`` (width, height) if it was decoded at a reduced scale, with the
    recipe's kernel; (H, W, 3) uint8 both.
    """
    width, height = full or (pixels.shape[1], pixels.shape[0])
    return resize(pixels, *fit_size(width, height, recipe), recipe.kernel)


def fit_picture(picture: PIL.Image.Image, recipe: Recipe, full: tuple[int, int]) -> PIL.Image.Image:
    """The same for a Pillow image, if the kernel is Pillow's, else ``picture`` itself: an array as large as the
    picture would take as long as decoding it.
    """
    size = fit_size(*full, recipe)
    if recipe.kernel not in _PILLOW or picture.size == size:
        return picture
    return _resize_picture(picture, size, recipe.kernel)


def _resize_picture(picture: PIL.Image.Image, size: tuple[int, int], kernel: Kernel) -> PIL.Image.Image:
    """By one of Pillow's kernels."""
    if kernel == "box-bicubic":
        ratio = min(picture.size) // min(size)
        picture = picture.reduce(next((side for side in _SQUARES if side <= ratio), 1))
    return picture.resize(size, _PILLOW[kernel])


def _interpolate(source: UInt8 | Float32, width: int, height: int, taps: int) -> Iterator[tuple[slice, Float32]]:
    """Separable interpolation, some output rows at a time: first down the columns, then along the rows."""
    where_y, weight_y = _weights(source.shape[0], height, taps)
    where_x, weight_x = _weights(source.shape[1], width, taps)
    extra = (1,) * (source.ndim - 2)
    weight_y = weight_y.reshape(taps, height, 1, *extra)
    weight_x = weight_x.reshape(taps, 1, width, *extra)
    for top in range(0, height, _ROWS):
        rows = slice(top, min(top + _ROWS, height))
        tall = _blend(source, where_y[:, rows], weight_y[:, rows], axis=0)
        yield rows, _blend(tall, where_x, weight_x, axis=1)


def _blend(source: UInt8 | Float32, where: npt.NDArray[np.intp], weight: Float32, axis: int) -> Float32:
    """Weighted sum over the taps; only the rows or columns in ``where`` are touched."""
    total: Float32 = source.take(where[0], axis=axis) * weight[0]
    for index, share in zip(where[1:], weight[1:], strict=True):
        total += source.take(index, axis=axis) * share
    return total


def _weights(old: int, new: int, taps: int) -> tuple[npt.NDArray[np.intp], Float32]:
    """Source positions and weights, both (taps, new), with half-pixel centres and replicated border."""
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(centre)
    t = centre - first
    if taps == 2:
        offsets, weights = [0, 1], [1 - t, t]
    else:
        offsets, weights = [-1, 0, 1, 2], [_cubic(1 + t), _cubic(t), _cubic(1 - t), _cubic(2 - t)]
    where = np.clip(first.astype(np.intp) + np.array(offsets)[:, None], 0, old - 1)
    return where, np.stack(weights).astype(np.float32)


def _cubic(x: npt.NDArray[np.float64], a: float = -0.75) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel (IEEE ASSP 29, 1981) at distances 0 to 2."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)

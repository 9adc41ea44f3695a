"""Local statistics of natural pictures: luma less its local mean, over its local deviation, and its distribution.

Mittal, Moorthy, Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", TIP 2012: the normalised values
of a photograph follow a generalised Gaussian, products of neighbours an asymmetric one; faults change their
parameters.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

from dgiqa.types import UInt8

Plane: TypeAlias = npt.NDArray[np.float64]

#: Of the Gaussian window: side in pixels, six deviations; what keeps flat places finite, of 0..255.
WINDOW, STABLE = 7, 1.0
#: Neighbours whose products are looked at: right, below, and the two diagonals.
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
#: What is left of a flat place by rounding.
_ROUNDING = 1e-9
#: Of a Weibull distribution: least value that counts, least and largest shape, steps to it.
_SMALL, _SHAPES, _STEPS = 1e-3, (0.1, 20.0), 6
#: Luma of sRGB values (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114])


def luma(picture: UInt8) -> Plane:
    """(H, W) 0 to 255."""
    return np.asarray(picture @ _LUMA, np.float64)


def halved(plane: Plane) -> Plane:
    """Half the size, bicubic and antialiased."""
    image = PIL.Image.fromarray(plane.astype(np.float32))
    size = (-(-plane.shape[1] // 2), -(-plane.shape[0] // 2))
    return np.asarray(image.resize(size, PIL.Image.Resampling.BICUBIC), np.float64)


def normalised(plane: Plane, *, dark: bool = False, window: int = WINDOW) -> tuple[Plane, Plane]:
    """The plane less its local mean over its local deviation, and that deviation.

    Args:
        dark: whether there is black beyond the edges, as BRISQUE's authors have it; else the edges go on, as NIQE's do.
        window: pixels along the Gaussian window.
    """
    mean = _blurred(plane, dark, window)
    deviation = np.sqrt(np.abs(_blurred(plane * plane, dark, window) - mean * mean))
    values = (plane - mean) / (deviation + STABLE)
    values[np.abs(values) < _ROUNDING] = 0  # in flat places rounding alone would choose the sign
    return values, deviation


def products(values: Plane) -> list[Plane]:
    """Products with each of :data:`NEIGHBOURS`, wrapped around the edges as the authors' program does."""
    return [values * np.roll(values, shift, (0, 1)) for shift in NEIGHBOURS]


def cut(plane: Plane, side: int) -> list[Plane]:
    """The patches of ``side`` pixels, row by row; what is left over at the right and below is in none."""
    return [
        plane[top : top + side, left : left + side]
        for top in range(0, plane.shape[0] - side + 1, side)
        for left in range(0, plane.shape[1] - side + 1, side)
    ]


def symmetric(values: Plane) -> tuple[float, float]:
    """Shape and variance of a generalised Gaussian of mean 0, by its moments."""
    square, size = float(np.mean(values**2)), float(np.mean(np.abs(values)))
    shapes, ratios = _ratios()
    wanted = square / max(size**2, 1e-12)
    return float(shapes[np.argmin(np.abs(1 / ratios - wanted))]), square


def asymmetric(values: Plane) -> tuple[float, float, float, float]:
    """Shape, mean, and left and right deviation of an asymmetric generalised Gaussian, by its moments."""
    left, right = values[values < 0], values[values > 0]
    sigma_l, sigma_r = (float(np.sqrt(np.mean(side**2))) if side.size else 1e-6 for side in (left, right))
    ratio = sigma_l / sigma_r
    moments = float(np.mean(np.abs(values))) ** 2 / max(float(np.mean(values**2)), 1e-12)
    wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, ratios = _ratios()
    shape = float(shapes[np.argmin(np.abs(ratios - wanted))])
    mean = (sigma_r - sigma_l) * math.gamma(2 / shape) / math.sqrt(math.gamma(1 / shape) * math.gamma(3 / shape))
    return shape, mean, sigma_l, sigma_r


def unit_scale(shape: float) -> float:
    """The scale of a generalised Gaussian of that shape whose deviation is 1."""
    return math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))


def weibull(values: Plane) -> tuple[float, float]:
    """Shape and scale of a Weibull distribution of values that are not negative, by greatest likelihood.

    Of the logarithms less their mean, y, the shape k is where the mean of y, weighted by exp(ky), is 1 / k: Newton's
    steps, from the logarithms' deviation.
    """
    logs = np.log(np.maximum(values, _SMALL)).ravel()
    middle = float(logs.mean())
    logs -= middle
    shape = _within(math.pi / math.sqrt(6 * max(float(logs @ logs) / logs.size, 1e-12)))
    for _ in range(_STEPS):
        weights = np.exp(shape * logs)
        total, tilted = float(weights.sum()), weights * logs
        mean = float(tilted.sum()) / total
        slope = float(tilted @ logs) / total - mean**2 + 1 / shape**2
        shape = _within(shape - (mean - 1 / shape) / slope)
    return shape, math.exp(middle) * float(np.exp(shape * logs).mean()) ** (1 / shape)


def _within(shape: float) -> float:
    return min(max(shape, _SHAPES[0]), _SHAPES[1])


@cache
def _ratios() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Shapes, and of each the square of the mean size over the mean square."""
    shapes = np.arange(0.2, 10.0005, 0.001)
    of = [math.exp(2 * math.lgamma(2 / s) - math.lgamma(1 / s) - math.lgamma(3 / s)) for s in shapes]
    return shapes, np.array(of)


def _blurred(plane: Plane, dark: bool, side: int) -> Plane:
    """By the Gaussian window."""
    at = np.arange(side) - side // 2
    window = np.exp(-(at**2) / (2 * (side / 6) ** 2))
    window /= window.sum()
    padded = np.pad(plane, side // 2, "constant" if dark else "edge")
    for axis in (0, 1):
        length = padded.shape[axis] - side + 1
        padded = np.sum([w * padded.take(range(i, i + length), axis) for i, w in enumerate(window)], 0)
    return np.asarray(padded, np.float64)

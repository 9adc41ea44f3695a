"""IL-NIQE (Zhang, Zhang, Bovik, "A Feature-Enriched Completely Blind Image Quality Evaluator", TIP 2015): how far each
patch of a picture is from pristine photographs', by the statistics of luminance, gradients, log-Gabor filters, colours.

234 numbers a scale of each of 36 patches. Over the sharp patches of pristine photographs their 430 principal
components, each over its deviation, have mean 0 and covariance 1: means and components are fitted by
``python -m dgiqa.training.classics``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dgiqa.errors import ImageTooSmall
from dgiqa.imaging.resize import resize
from dgiqa.models.natural_statistics.local import (
    Plane,
    asymmetric,
    cut,
    halved,
    normalised,
    products,
    symmetric,
    unit_scale,
    weibull,
)
from dgiqa.types import UInt8

Spectrum: TypeAlias = npt.NDArray[np.complex128]
Statistics: TypeAlias = Callable[[Plane], tuple[float, float]]

#: Numbers of a patch, and their principal components that are kept.
COUNT, KEPT = 468, 430
#: Pixels along the resized picture, along its middle that is filtered (whose Fourier transform takes half the time) and
#: along a patch; scales. 36 patches leave a margin: what the filters wrap around the edges is in none.
SIDE, MIDDLE, PATCH, SCALES = 524, 520, 84, 2
#: Pixels along the window of local means.
WINDOW = 5
#: Luminance and opponent colours of sRGB values, by the Gaussian model of colour.
OPPONENT = np.array([[0.06, 0.63, 0.27], [0.30, 0.04, -0.35], [0.34, -0.60, 0.17]])
#: Axes of the logarithms of natural colours (Ruderman, Cronin, Chiao, JOSA A 1998); what keeps black near, of 0..255.
RUDERMAN, BLACK = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]]), 1.0
#: Gradients: deviation of the Gaussian in pixels, divided by the scale (1 or 2) to a power.
SLOPE, SLOPE_POWER = 1.66, 0.28
#: Log-Gabor filters: wavelengths, the shortest in pixels, divided by the scale to a power; factor from one to the next;
#: orientations; deviation of the logarithm of the frequency, as a ratio, and of the angle, in radians.
WAVES, SHORTEST, WAVE_POWER, FACTOR, ANGLES, RATIO, SPREAD = 3, 2.4, 0.87, 1.31, 4, 0.55, math.pi / 4 / 1.1


def measure(picture: UInt8, parameters: Mapping[str, npt.NDArray[np.float64]]) -> float:
    """0 (as pristine) upwards; less is better.

    Raises:
        ImageTooSmall: a side has fewer pixels than a patch.
    """
    rows, _ = patches(picture)
    return float(distances((rows - parameters["mean"]) @ parameters["components"]).mean())


def distances(rows: Plane) -> Plane:
    """(n,) how far each of (n, d) rows is from 0, by the mean of the identity and the rows' covariance.

    There are few rows: instead of that (d, d) mean an (n, n) matrix is inverted (Woodbury).
    """
    apart = (rows - rows.mean(0)) / math.sqrt(max(len(rows) - 1, 1))
    along = rows @ apart.T
    taken = along @ np.linalg.inv(np.eye(len(rows)) + apart @ apart.T)
    return np.asarray(np.sqrt(2 * ((rows**2).sum(1) - (along * taken).sum(1))), np.float64)


def patches(picture: UInt8) -> tuple[Plane, Plane]:
    """(36, 468) the statistics of each patch, and (36,) its mean local deviation: how sharp it is."""
    if min(picture.shape[:2]) < PATCH:
        raise ImageTooSmall(f"IL-NIQE looks at patches and needs {PATCH} pixels a side", hint="use BRISQUE")
    resized = resize(picture, SIDE, SIDE, "bicubic").astype(np.float64)
    color, columns, sharp = np.moveaxis(_middle(resized, MIDDLE), -1, 0), list[Plane](), np.zeros(0)
    for scale in range(1, SCALES + 1):
        color = color if scale == 1 else np.stack([halved(plane) for plane in color])
        side = PATCH // scale
        values, deviation = normalised(np.tensordot(OPPONENT[0], color, 1), window=WINDOW)
        if scale == 1:
            sharp = np.array([part.mean() for part in _parts(deviation, side)])
        columns.append(np.array([_luminance(part) for part in _parts(values, side)]))
        for plane, statistics in _planes(color, scale):
            columns.append(np.array([statistics(part) for part in _parts(plane, side)]))
    return np.concatenate(columns, 1), sharp


def _planes(color: Plane, scale: int) -> Iterator[tuple[Plane, Statistics]]:
    """What is seen of a picture beside its normalised luminance, a plane at a time, and how it is described."""
    logs = np.log(np.maximum(color, 0) + BLACK)  # bicubic weights go below black
    for plane in np.tensordot(RUDERMAN, logs - logs.mean((1, 2), keepdims=True), 1):
        yield plane, moments
    spectra = np.fft.fft2(np.tensordot(OPPONENT, color, 1))
    slopes = gradient_filters(color.shape[1:], scale)
    for spectrum in spectra:
        yield from _gradients(np.fft.ifft2(spectrum * slopes).real)
    for gabor in log_gabor_filters(color.shape[1:], scale):
        response, gradients = np.fft.ifft2(spectra[0] * gabor), np.fft.ifft2(spectra[0] * gabor * slopes)
        for plane, gradient in ((response.real, gradients.real), (response.imag, gradients.imag)):  # even, odd
            yield plane, gaussian
            yield from _gradients(gradient)


def _gradients(gradient: Plane) -> Iterator[tuple[Plane, Statistics]]:
    """Of (2, H, W): each, and how long they are together."""
    across, down = gradient
    yield across, gaussian
    yield down, gaussian
    yield np.sqrt(across**2 + down**2), weibull


def _luminance(values: Plane) -> list[float]:
    row = [*gaussian(values)]
    for product in products(values):
        shape, mean, left, right = asymmetric(product)
        row += [shape, mean, left * unit_scale(shape), right * unit_scale(shape)]
    return row


def gaussian(values: Plane) -> tuple[float, float]:
    """Shape and scale of a generalised Gaussian of mean 0."""
    shape, variance = symmetric(values)
    return shape, math.sqrt(variance) * unit_scale(shape)


def moments(values: Plane) -> tuple[float, float]:
    """Mean and variance."""
    return float(values.mean()), float(values.var())


@cache
def gradient_filters(shape: tuple[int, int], scale: int) -> Spectrum:
    """(2, H, W) derivatives of a Gaussian, across and down, over the spectrum."""
    deviation = SLOPE / scale**SLOPE_POWER
    across, down = _frequencies(shape)
    soft = np.exp(-2 * (np.pi * deviation) ** 2 * (across**2 + down**2))
    return np.asarray(2j * np.pi * soft * np.stack([across, down]), np.complex128)


@cache
def log_gabor_filters(shape: tuple[int, int], scale: int) -> Plane:
    """(12, H, W) log-Gabor filters over the spectrum, those of one wavelength together."""
    across, down = _frequencies(shape)
    radius, angle = np.hypot(across, down), np.arctan2(down, across)
    radius[0, 0] = np.inf  # no filter sees the mean
    filters = []
    for wavelength in SHORTEST / scale**WAVE_POWER * FACTOR ** np.arange(WAVES):
        ring = np.exp(-((np.log(radius * wavelength) / math.log(RATIO)) ** 2) / 2)
        for turn in np.arange(ANGLES) * np.pi / ANGLES:
            away = (angle - turn + np.pi) % (2 * np.pi) - np.pi
            filters.append(ring * np.exp(-((away / SPREAD) ** 2) / 2))
    return np.stack(filters)


def _frequencies(shape: tuple[int, int]) -> tuple[Plane, Plane]:
    """Across and down, in cycles a pixel, as the Fourier transform has them."""
    down, across = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    return across, down


def _parts(plane: Plane, side: int) -> list[Plane]:
    """The patches of ``side`` pixels of a plane's middle."""
    return cut(_middle(plane, min(plane.shape) // side * side), side)


def _middle(plane: Plane, side: int) -> Plane:
    top, left = ((n - side) // 2 for n in plane.shape[:2])
    return plane[top : top + side, left : left + side]

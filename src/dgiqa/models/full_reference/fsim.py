"""Feature similarity, with colour (Zhang, Zhang, Mou, Zhang, "FSIM: A feature similarity index for image quality
assessment", TIP 2011): phase congruency and gradients alike, weighted by phase congruency.

Phase congruency after Kovesi ("Image features from phase congruency", 1999): log-Gabor filters of four scales and four
orientations; where the scales' responses are in phase, there is a feature. Where colours are opposed, their similarity
is negative and its power complex: its size is taken, as piq does; the authors' program takes the real part, 0.4 % less.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dgiqa.models.full_reference._filters import Plane, blocks, gradients
from dgiqa.types import UInt8

#: Constants of the similarities of phase congruency, gradient and chroma; and the power of chroma's.
T1, T2, T3, T4, CHROMA = 0.85, 160.0, 200.0, 200.0, 0.03
#: Of the filters: scales, orientations, shortest wavelength in pixels, factor from scale to scale, width, spread.
SCALES, ANGLES, SHORTEST, FACTOR, WIDTH, SPREAD = 4, 4, 6, 2, 0.55, 1.2
#: Deviations of noise above its mean from which energy counts.
NOISE = 2.0
_TINY = 1e-8
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_SCHARR = np.array([[-3.0, 0, 3], [-10, 0, 10], [-3, 0, 3]]) / 16


def compare(picture: UInt8, original: UInt8) -> float:
    """0 to 1 (equal)."""
    side = max(1, round(min(picture.shape[:2]) / 256))
    (x, *chroma_x), (y, *chroma_y) = (
        [blocks(plane, side) for plane in np.moveaxis(p @ _YIQ.T, -1, 0)] for p in (picture, original)
    )
    phase_x, phase_y = phase_congruency(x), phase_congruency(y)
    slope_x, slope_y = (np.hypot(*gradients(plane, _SCHARR)) for plane in (x, y))
    similar = _alike(phase_x, phase_y, T1) * _alike(slope_x, slope_y, T2)
    colors = _alike(chroma_x[0], chroma_y[0], T3) * _alike(chroma_x[1], chroma_y[1], T4)
    similar = similar * np.abs(colors) ** CHROMA
    weight = np.maximum(phase_x, phase_y)
    return float((similar * weight).sum() / weight.sum()) if weight.any() else float(similar.mean())


def phase_congruency(plane: Plane) -> Plane:
    """(H, W) 0 to 1."""
    spectrum = np.fft.fft2(plane)
    radial, spreads = _filters(plane.shape)
    energy, strength = np.zeros(plane.shape), np.zeros(plane.shape)
    for spread in spreads:
        gabors = [scale * spread for scale in radial]
        answers = [np.fft.ifft2(spectrum * gabor) for gabor in gabors]
        sizes = [np.abs(answer) for answer in answers]
        even = np.sum([a.real for a in answers], 0)
        odd = np.sum([a.imag for a in answers], 0)
        length = np.sqrt(even**2 + odd**2) + _TINY
        along, beside = even / length, odd / length
        found = np.sum(
            [a.real * along + a.imag * beside - np.abs(a.real * beside - a.imag * along) for a in answers], 0
        )
        energy += np.maximum(found - _noise(sizes[0], gabors), 0)
        strength += np.sum(sizes, 0)
    return np.asarray(energy / (strength + _TINY), np.float64)


def _noise(finest: Plane, gabors: list[Plane]) -> float:
    """The energy that noise alone would show, by the finest scale's median (a Rayleigh distribution)."""
    power = np.median(finest**2) / np.log(2) / ((gabors[0] ** 2).sum() or 1)
    kernels = [np.fft.ifft2(gabor).real * np.sqrt(gabor.size) for gabor in gabors]
    squares = sum(float((kernel**2).sum()) for kernel in kernels)
    crossed = sum(float((a * b).sum()) for i, a in enumerate(kernels) for b in kernels[i + 1 :])
    total = 2 * power * squares + 4 * power * crossed
    mean = np.sqrt(total / 2) * np.sqrt(np.pi / 2)
    deviation = np.sqrt((2 - np.pi / 2) * (total / 2))
    return float((mean + NOISE * deviation) / 1.7)


def _filters(shape: tuple[int, ...]) -> tuple[list[Plane], list[Plane]]:
    """The scales' radial parts and the orientations' parts, over the spectrum."""
    rows, columns = (_frequencies(n) for n in shape)
    fx, fy = np.meshgrid(columns, rows)
    radius = np.sqrt(fx**2 + fy**2)
    theta = np.arctan2(-fy, fx)
    low = 1 / (1 + (radius / 0.45) ** 30)
    safe = np.where(radius == 0, 1, radius)
    radial = []
    for scale in range(SCALES):
        wanted = 1 / (SHORTEST * FACTOR**scale)
        part = np.exp(-(np.log(safe / wanted) ** 2) / (2 * np.log(WIDTH) ** 2)) * low
        radial.append(np.fft.ifftshift(np.where(radius == 0, 0, part)))
    spread = np.pi / ANGLES / SPREAD
    spreads = []
    for angle in np.arange(ANGLES) * np.pi / ANGLES:
        away = np.abs(np.arctan2(np.sin(theta - angle), np.cos(theta - angle)))
        spreads.append(np.fft.ifftshift(np.exp(-(away**2) / (2 * spread**2))))
    return radial, spreads


def _frequencies(n: int) -> npt.NDArray[np.float64]:
    """-0.5 to 0.5, centred."""
    return np.asarray((np.arange(n) - n // 2) / (n - n % 2 or 1), np.float64)


def _alike(x: Plane, y: Plane, stable: float) -> Plane:
    return np.asarray((2 * x * y + stable) / (x * x + y * y + stable), np.float64)

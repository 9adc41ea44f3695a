"""Filters and resampling of (H, W, C) float32 fields. Beyond the borders the edge is repeated."""

from __future__ import annotations

from math import erf

import numpy as np

from dgiqa.types import Float32, UInt8


def convolved(field: Float32, kernel: Float32) -> Float32:
    """(H, W, C) convolved with a (K, K) kernel of odd side, by the Fourier transform: any shape costs the same."""
    height, width, channels = field.shape
    reach = kernel.shape[0] // 2
    rows, columns = _good_length(height + 2 * reach), _good_length(width + 2 * reach)
    ends = ((reach, rows - height - reach), (reach, columns - width - reach))
    placed = np.zeros((rows, columns), np.float32)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    response = np.fft.rfft2(np.roll(placed, (-reach, -reach), (0, 1)))
    result = np.empty((height, width, channels), np.float32)
    for k in range(channels):
        spectrum = np.fft.rfft2(np.pad(field[..., k], ends, mode="edge"))
        whole = np.fft.irfft2(spectrum * response, (rows, columns))
        result[..., k] = whole[reach : reach + height, reach : reach + width]
    return result


def _good_length(n: int) -> int:
    """The smallest number from n whose prime factors are 2, 3 and 5, for which the transform is quick."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def gaussian(field: Float32, sigma: float) -> Float32:
    """(H, W, C) blurred with a Gaussian of ``sigma`` pixels, cut beyond 3 sigma.

    What a picture, linear between its pixels, gives: a Gaussian well inside one pixel blurs a little too.
    """
    reach = int(np.ceil(3 * sigma)) + 1
    at = np.arange(-reach - 1, reach + 2) / max(sigma, 1e-3)
    twice_integrated = (
        at * (1 + np.array([erf(x / 2**0.5) for x in at])) / 2 + np.exp(-at * at / 2) / (2 * np.pi) ** 0.5
    )
    line = np.diff(twice_integrated, 2)
    line /= line.sum()
    return convolved(field, np.outer(line, line).astype(np.float32))


def box_mean(field: Float32, radius: int) -> Float32:
    """(H, W, C) means over squares of side 2 ``radius`` + 1."""
    side = 2 * radius + 1
    for axis in (0, 1):
        ends = [(0, 0)] * field.ndim
        ends[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(field, ends, mode="edge"), axis, dtype=np.float64)
        n = field.shape[axis]
        later, earlier = np.take(sums, range(side, side + n), axis), np.take(sums, range(n), axis)
        field = ((later - earlier) / side).astype(np.float32)
    return field


def sampled(rgb: UInt8, rows: Float32, columns: Float32) -> UInt8:
    """(H, W, 3) uint8 read at (H, W) places between the pixels: bilinear, rounded."""
    height, width = rgb.shape[:2]
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    down, right = ((at - np.floor(at))[..., None] for at in (rows, columns))
    flat = rgb.reshape(-1, 3)
    here, below = top * width, np.minimum(top + 1, height - 1) * width
    beside = np.minimum(left + 1, width - 1)
    upper, lower = (
        flat[row + left] + right * (flat[row + beside] - flat[row + left].astype(np.float32)) for row in (here, below)
    )
    mixed: UInt8 = (upper + down * (lower - upper) + np.float32(0.5)).astype(np.uint8)
    return mixed

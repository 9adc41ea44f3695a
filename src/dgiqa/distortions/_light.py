"""What the kinds share: the sRGB curve (IEC 61966-2-1), sizes relative to the picture, distances where none are known,
grain, disc blur, resampling."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image as Pillow

from dgiqa.distortions._filters import convolved
from dgiqa.types import Float32, UInt8

#: Short side, in pixels, of the picture that the tables of severities speak of.
REFERENCE = 512

#: Metres in the bottom and in the top row where no depth is given.
RAMP = (4.0, 100.0)

#: Rec. 709 luminance of linear sRGB.
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def to_linear(rgb: UInt8) -> Float32:
    """uint8 sRGB to linear light, 0 to 1, float32."""
    v = np.arange(256, dtype=np.float64) / 255
    curve = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)
    light: Float32 = curve[rgb]
    return light


def to_srgb(light: Float32) -> UInt8:
    """Linear light to uint8 sRGB, clipped to 0 to 1 first and rounded (through a table of 16 bits)."""
    steps = (np.clip(light, 0, 1) * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
    rgb: UInt8 = _encoding()[steps]
    return rgb


@cache
def _encoding() -> UInt8:
    v = np.arange(65536) / 65535
    curve = np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)
    return (curve * 255 + 0.5).astype(np.uint8)


def scale(rgb: UInt8) -> float:
    """How many pixels of this picture are one pixel of the reference picture."""
    return float(min(rgb.shape[:2])) / REFERENCE


def level_ground(shape: tuple[int, ...]) -> Float32:
    """(H, W) metres: the stated ramp."""
    near, far = RAMP
    rows = (np.arange(shape[0], dtype=np.float32) + 0.5) / shape[0]
    inverse = 1 / far + (1 / near - 1 / far) * rows
    return np.broadcast_to((1 / inverse)[:, None], (shape[0], shape[1])).astype(np.float32)


def grain(rgb: UInt8, rng: np.random.Generator, channels: int = 3) -> Float32:
    """(H, W, channels) Gaussian noise of mean 0 and variance 1, as coarse as in the reference picture.

    Up to the reference size each pixel has its own value; beyond it the field is drawn at the reference
    size and enlarged, so that it survives being looked at as a whole.
    """
    field = rng.standard_normal((*coarse_shape(rgb), channels), dtype=np.float32)
    if field.shape[:2] == rgb.shape[:2]:
        return field
    large = resized(field, rgb.shape[:2])
    return np.asarray(large / (float(large.std()) or 1.0), np.float32)


def specks(rgb: UInt8, rng: np.random.Generator) -> Float32:
    """(H, W, 3) numbers, each equally likely from 0 to 1, one a pixel, or one a pixel of the reference picture."""
    field = rng.random((*coarse_shape(rgb), 3), dtype=np.float32)
    rows, columns = (np.arange(n) * m // n for n, m in zip(rgb.shape[:2], field.shape[:2], strict=True))
    drawn: Float32 = field[rows[:, None], columns]
    return drawn


def coarse_shape(rgb: UInt8) -> tuple[int, int]:
    """Height and width of this picture when its short side is brought down to the reference."""
    factor = max(scale(rgb), 1.0)
    return max(round(rgb.shape[0] / factor), 1), max(round(rgb.shape[1] / factor), 1)


def resized(field: Float32, shape: tuple[int, int]) -> Float32:
    """(H, W, C) float32 at another, larger (height, width): bilinear."""
    size = (shape[1], shape[0])
    layers = [
        np.asarray(Pillow.fromarray(np.ascontiguousarray(field[..., k])).resize(size, Pillow.Resampling.BILINEAR))
        for k in range(field.shape[2])
    ]
    return np.stack(layers, -1).astype(np.float32, copy=False)


def disc_blur(field: Float32, radius: float, finest: float = 3.0) -> Float32:
    """(H, W, C) convolved with a disc of ``radius`` pixels, edges repeated.

    Wide discs work on a picture reduced so far that the disc keeps a radius of 1 to 2 times ``finest`` pixels.
    """
    height, width = field.shape[:2]
    cell = max(int(radius / finest), 1)
    if cell > 1:
        small = disc_blur(_reduced(field, cell), radius / cell, finest)
        return resized(small, (small.shape[0] * cell, small.shape[1] * cell))[:height, :width]
    return convolved(field, disc(radius))


def _reduced(field: Float32, cell: int) -> Float32:
    """The means of ``cell`` × ``cell`` pixels; the last row and column are repeated to fill whole cells."""
    height, width, channels = field.shape
    rows, columns = -(-height // cell), -(-width // cell)
    padded = np.pad(field, ((0, rows * cell - height), (0, columns * cell - width), (0, 0)), mode="edge")
    means: Float32 = padded.reshape(rows, cell, columns, cell, channels).mean((1, 3), dtype=np.float32)
    return means


def disc(radius: float) -> Float32:
    """A square kernel of sum 1 and odd side: what a picture, linear between its pixels, gives over the disc.

    Sampled by points that are shared out to their four nearest pixels, so that a disc well inside one pixel
    blurs a little too, and more the wider it is.
    """
    reach = int(np.ceil(radius)) + 1
    step = radius / max(9, int(np.ceil(9 * radius)))
    at = np.arange(-radius + step / 2, radius, step)
    y, x = (part.ravel() for part in np.meshgrid(at, at, indexing="ij"))
    inside = x * x + y * y <= radius * radius
    y, x = y[inside] + reach, x[inside] + reach
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = y - top, x - left
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for i, row in ((0, 1 - fy), (1, fy)):
        for j, column in ((0, 1 - fx), (1, fx)):
            np.add.at(kernel, (top + i, left + j), row * column)
    return np.asarray(kernel / kernel.sum(), np.float32)


def shifted(field: Float32, down: float, right: float) -> Float32:
    """(H, W, C) moved by a part of pixels: linear between neighbours, edges repeated."""
    for axis, step in ((0, down), (1, right)):
        n = field.shape[axis]
        at = np.arange(n) - int(np.floor(step))
        part = np.float32(step - np.floor(step))
        here = np.take(field, np.clip(at, 0, n - 1), axis)
        if part:
            before = np.take(field, np.clip(at - 1, 0, n - 1), axis)
            here = here + (before - here) * part
        field = np.asarray(here, np.float32)
    return field

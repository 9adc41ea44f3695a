"""What the kinds share: the sRGB curve (IEC 61966-2-1), sizes relative to the picture, grain, disc blur,
resampling."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow

from dgiqa.types import Float32, UInt8

#: Short side, in pixels, of the picture that the tables of severities speak of.
REFERENCE = 512

#: Rec. 709 luminance of linear sRGB.
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def to_linear(rgb: UInt8) -> Float32:
    """uint8 sRGB to linear light, 0 to 1, float32."""
    v = np.arange(256, dtype=np.float64) / 255
    curve = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)
    light: Float32 = curve[rgb]
    return light


def to_srgb(light: Float32) -> UInt8:
    """Linear light to uint8 sRGB, clipped to 0 to 1 first and rounded."""
    v = np.clip(light, 0, 1)
    v = np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** np.float32(1 / 2.4) - 0.055)
    return (v * 255 + 0.5).astype(np.uint8)


def scale(rgb: UInt8) -> float:
    """How many pixels of this picture are one pixel of the reference picture."""
    return float(min(rgb.shape[:2])) / REFERENCE


def grain(rgb: UInt8, rng: np.random.Generator, channels: int = 3) -> Float32:
    """(H, W, channels) Gaussian noise of mean 0 and variance 1, as coarse as in the reference picture.

    Up to the reference size each pixel has its own value; beyond it the field is drawn at the reference
    size and enlarged, so that it survives being looked at as a whole.
    """
    height, width = rgb.shape[:2]
    factor = max(scale(rgb), 1.0)
    small = (max(round(height / factor), 1), max(round(width / factor), 1))
    field = rng.standard_normal((*small, channels), dtype=np.float32)
    if factor == 1.0:
        return field
    large = resized(field, (height, width))
    return np.asarray(large / (float(large.std()) or 1.0), np.float32)


def resized(field: Float32, shape: tuple[int, int], *, shrink: bool = False) -> Float32:
    """(H, W, C) float32 at another (height, width): bilinear, or area means to shrink."""
    kernel = Pillow.Resampling.BOX if shrink else Pillow.Resampling.BILINEAR
    size = (shape[1], shape[0])
    layers = [
        np.asarray(Pillow.fromarray(np.ascontiguousarray(field[..., k])).resize(size, kernel), np.float32)
        for k in range(field.shape[2])
    ]
    return np.stack(layers, -1)


def disc_blur(field: Float32, radius: float) -> Float32:
    """(H, W, C) convolved with a disc of ``radius`` pixels, edges repeated.

    Wide discs work on a picture reduced so far that the disc keeps a radius of 3 to 6 pixels.
    """
    if radius < 0.3:
        return field
    height, width = field.shape[:2]
    factor = max(int(radius / 3), 1)
    if factor > 1:
        small = (max(height // factor, 1), max(width // factor, 1))
        blurred = disc_blur(resized(field, small, shrink=True), radius / factor)
        return resized(blurred, (height, width))
    kernel = disc(radius)
    reach = kernel.shape[0] // 2
    padded = np.pad(field, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    total: Float32 = np.zeros_like(field)
    for (i, j), weight in np.ndenumerate(kernel):
        if weight:
            total += padded[i : i + height, j : j + width] * weight
    return total


def disc(radius: float) -> Float32:
    """A square kernel of sum 1: the share of each pixel that the disc covers, from 9×9 points a pixel."""
    reach = int(np.ceil(radius))
    fine = (np.arange((2 * reach + 1) * 9) + 0.5) / 9 - reach - 0.5
    inside = (fine[:, None] ** 2 + fine**2 <= radius**2).astype(np.float32)
    covered = inside.reshape(2 * reach + 1, 9, 2 * reach + 1, 9).mean((1, 3))
    return np.asarray(covered / covered.sum(), np.float32)


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

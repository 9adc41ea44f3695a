"""Colour spaces the kinds work in: CIELAB under D65 (CIE 15:2018) and full-range YCbCr (ITU-T T.871)."""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import to_linear, to_srgb
from dgiqa.types import Float32, UInt8

#: Linear sRGB to XYZ (IEC 61966-2-1), each row divided by the white point's value: white is (1, 1, 1).
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_TO_XYZ = (_XYZ / _XYZ.sum(1, keepdims=True)).astype(np.float32)
_FROM_XYZ = np.linalg.inv(_TO_XYZ.astype(np.float64)).astype(np.float32)

_TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]], np.float32
)
_FROM_YCC = np.linalg.inv(_TO_YCC.astype(np.float64)).astype(np.float32)

_BEND = 6 / 29


def to_lab(rgb: UInt8) -> Float32:
    """(H, W, 3) uint8 sRGB to L 0..100, a and b about -110..110."""
    xyz = to_linear(rgb) @ _TO_XYZ.T
    f = np.where(xyz > _BEND**3, np.cbrt(xyz), xyz * np.float32(1 / (3 * _BEND**2)) + np.float32(4 / 29))
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def from_lab(lab: Float32) -> UInt8:
    """L, a, b to uint8 sRGB; what lies outside its gamut is clipped channel by channel."""
    y = (lab[..., 0] + 16) * np.float32(1 / 116)
    f = np.stack([y + lab[..., 1] * np.float32(1 / 500), y, y - lab[..., 2] * np.float32(1 / 200)], -1)
    xyz = np.where(f > _BEND, f * f * f, (f - np.float32(4 / 29)) * np.float32(3 * _BEND**2))
    return to_srgb(xyz @ _FROM_XYZ.T)


def to_ycc(rgb: UInt8) -> Float32:
    """(H, W, 3) uint8 to Y 0..255, Cb and Cr -128..128."""
    return np.asarray(rgb.astype(np.float32) @ _TO_YCC.T)


def from_ycc(ycc: Float32) -> UInt8:
    """Y, Cb, Cr to uint8, clipped and rounded."""
    return rounded(ycc @ _FROM_YCC.T)


def rounded(values: Float32) -> UInt8:
    """Values to uint8, clipped to 0..255 and rounded."""
    return (np.clip(values, 0, 255) + np.float32(0.5)).astype(np.uint8)

"""Denoising gone too far: noise is added and smoothed away with much of the picture's detail, as a camera does at high
sensitivity. Luma goes through a guided filter (He, Sun, Tang, ECCV 2010) whose guide is itself, which keeps strong
edges; chroma is blurred. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._color import from_ycc, rounded, to_ycc
from dgiqa.distortions._filters import box_mean, gaussian
from dgiqa.distortions._light import grain, scale
from dgiqa.types import Float32, UInt8

FAMILY = "noise"
KADID = 15

#: Standard deviation of the noise, of values 0 to 255; the filter takes structure below it for noise.
SIGMA = {1: 10.0, 2: 18.0, 3: 30.0, 4: 46.0, 5: 70.0}

#: Half the side of the filter's window and the Gaussian's deviation, in pixels of the reference picture.
REACH, CHROMA = 4.0, 3.0


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, smooth and blotchy."""
    sigma, factor = SIGMA[severity], scale(rgb)
    ycc = to_ycc(rounded(rgb + np.float32(sigma) * grain(rgb, rng)))
    ycc[..., :1] = guided(ycc[..., :1], max(round(REACH * factor), 1), sigma * sigma)
    ycc[..., 1:] = gaussian(ycc[..., 1:], CHROMA * factor)
    return from_ycc(ycc)


def guided(field: Float32, radius: int, noise: float) -> Float32:
    """(H, W, C) smoothed where its variance in a window is below ``noise``, kept where it is far above."""
    mean = box_mean(field, radius)
    variance = np.maximum(box_mean(field * field, radius) - mean * mean, 0)
    slope = np.asarray(variance / (variance + np.float32(noise)), np.float32)
    return box_mean(slope, radius) * field + box_mean(np.asarray(mean - slope * mean, np.float32), radius)

"""Quantisation: each channel keeps a few levels, so smooth parts break into bands. Otsu's criterion (1979) for several
thresholds puts the levels where the channel's own values lie; the best thresholds are found exactly, over the
histogram. Depth and seed play no part.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dgiqa.types import Float32, UInt8

FAMILY = "spatial"
KADID = 22

Histogram: TypeAlias = npt.NDArray[np.intp]

#: Levels a channel.
LEVELS = {1: 12, 2: 8, 3: 6, 4: 4, 5: 3}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, in few levels."""
    channels = [
        levels(np.bincount(rgb[..., k].ravel(), minlength=256), LEVELS[severity])[rgb[..., k]] for k in range(3)
    ]
    return np.stack(channels, -1)


def levels(histogram: Histogram, count: int) -> UInt8:
    """(256,) the value that stands for each value: the mean of its class, of ``count`` classes in all.

    Between-class variance is greatest where the sum over classes of (sum of values)² / number is: a path through
    the 256 values in ``count`` steps.
    """
    number = np.concatenate([[0.0], np.cumsum(histogram)])
    total = np.concatenate([[0.0], np.cumsum(histogram * np.arange(256))])
    n, s = number - number[:, None], total - total[:, None]  # of the class from row to column
    gain = np.where(np.tri(257, dtype=bool), -np.inf, s * s / np.maximum(n, 1e-9))
    best, starts = gain[0], []
    for _ in range(count - 1):
        paths = best[:, None] + gain
        starts.append(paths.argmax(0))
        best = paths.max(0)
    result, end = np.empty(256, np.uint8), 256
    for start in (*(row for row in starts[::-1]), None):
        begin = 0 if start is None else int(start[end])
        result[begin:end] = round(s[begin, end] / n[begin, end]) if n[begin, end] else 0
        end = begin
    return result

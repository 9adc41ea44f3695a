"""Gradient magnitude similarity deviation (Xue, Zhang, Mou, Bovik, TIP 2014): how unevenly gradients are kept."""

from __future__ import annotations

import numpy as np

from dgiqa.models.full_reference._filters import blocks, gradients, grey
from dgiqa.types import UInt8

#: Keeps flat places from counting; the paper's, for values of 0..255, here of 0..1.
STABLE = 170 / 255**2
_PREWITT = np.array([[1.0, 1, 1], [0, 0, 0], [-1, -1, -1]]) / 3


def compare(picture: UInt8, original: UInt8) -> float:
    """0 (equal) to about 0.4; less is better."""
    x, y = (_magnitude(p) for p in (picture, original))
    similar = (2 * x * y + STABLE) / (x * x + y * y + STABLE)
    return float(similar.std())


def _magnitude(picture: UInt8) -> np.ndarray:
    plane = grey(picture) / 255
    if plane.shape[0] % 2 or plane.shape[1] % 2:
        plane = np.pad(plane, ((0, 1), (0, 1)))
    return np.hypot(*gradients(blocks(plane, 2), _PREWITT))

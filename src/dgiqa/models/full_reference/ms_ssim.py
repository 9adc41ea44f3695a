"""Multi-scale structural similarity (Wang, Simoncelli, Bovik, Asilomar 2003), mean over the three channels.

Contrast and structure are compared at five scales, luminance at the coarsest; each weighs as the paper's test found.
"""

from __future__ import annotations

import numpy as np

from dgiqa.errors import ImageTooSmall
from dgiqa.models.full_reference._filters import Plane, blocks
from dgiqa.models.full_reference.ssim import WINDOW, similarity
from dgiqa.types import UInt8

#: Of the five scales, finest first.
WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
#: Short side below which the coarsest scale holds no window.
LEAST = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1


def compare(picture: UInt8, original: UInt8) -> float:
    """0 to 1 (equal).

    Raises:
        ImageTooSmall: a side has fewer than ``LEAST`` pixels.
    """
    if min(picture.shape[:2]) < LEAST:
        raise ImageTooSmall(f"MS-SSIM looks at five scales and needs {LEAST} pixels a side", hint="use SSIM")
    return float(np.mean([_channel(picture[..., k] / 255.0, original[..., k] / 255.0) for k in range(3)]))


def _channel(x: Plane, y: Plane) -> float:
    parts = []
    for scale in range(len(WEIGHTS)):
        if scale:
            x, y = (blocks(_even(plane), 2) for plane in (x, y))
        whole, structure = similarity(x, y)
        parts.append((whole if scale == len(WEIGHTS) - 1 else structure).mean())
    return float(np.prod(np.maximum(parts, 0) ** WEIGHTS))


def _even(plane: Plane) -> Plane:
    """One more row above and one more column at the left, where either side is odd."""
    return np.pad(plane, ((1, 0), (1, 0)), "edge") if plane.shape[0] % 2 or plane.shape[1] % 2 else plane

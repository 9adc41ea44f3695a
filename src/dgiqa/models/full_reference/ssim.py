"""Structural similarity (Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
structural similarity", TIP 2004), mean over the three channels.

As the authors advise, a large picture is first brought down, by means over blocks, until its short side is about 256.
"""

from __future__ import annotations

import numpy as np

from dgiqa.errors import ImageTooSmall
from dgiqa.models.full_reference._filters import Plane, blocks, filtered, gaussian
from dgiqa.types import UInt8

#: Of the Gaussian window: side and deviation in pixels. Of the constants: shares of the range.
WINDOW, DEVIATION, K1, K2 = 11, 1.5, 0.01, 0.03


def compare(picture: UInt8, original: UInt8) -> float:
    """0 to 1 (equal); below 0 for pictures that are each other's negative.

    Raises:
        ImageTooSmall: a side has fewer pixels than the window.
    """
    if min(picture.shape[:2]) < WINDOW:
        raise ImageTooSmall(f"SSIM looks through a window and needs {WINDOW} pixels a side", hint="use PSNR")
    side = max(1, round(min(picture.shape[:2]) / 256))
    planes = ((blocks(p[..., k] / 255.0, side) for p in (picture, original)) for k in range(3))
    return float(np.mean([similarity(*pair)[0].mean() for pair in planes]))


def similarity(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The similarity at each place, and its part of contrast and structure; planes of 0..1."""
    window = gaussian(WINDOW, DEVIATION)
    c1, c2 = K1**2, K2**2
    mean_x, mean_y = filtered(x, window), filtered(y, window)
    var_x, var_y = filtered(x * x, window) - mean_x**2, filtered(y * y, window) - mean_y**2
    both = filtered(x * y, window) - mean_x * mean_y
    structure = (2 * both + c2) / (var_x + var_y + c2)
    return (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * structure, structure

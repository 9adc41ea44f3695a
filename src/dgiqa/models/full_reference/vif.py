"""Visual information fidelity (Sheikh, Bovik, "Image information and visual quality", TIP 2006), in its pixel form.

How much of the information that a viewer would get from the original is still in the picture, over four scales, for a
viewer whose own noise has variance 2 (values of 0..255).
"""

from __future__ import annotations

import numpy as np

from dgiqa.errors import ImageTooSmall
from dgiqa.models.full_reference._filters import filtered, gaussian, grey
from dgiqa.types import UInt8

SCALES, NOISE = 4, 2.0
#: Short side below which the coarsest scale holds no window.
LEAST = 41
_TINY = 1e-8


def compare(picture: UInt8, original: UInt8) -> float:
    """0 to 1 (equal); above 1 where contrast was raised.

    Raises:
        ImageTooSmall: a side has fewer than ``LEAST`` pixels.
    """
    if min(picture.shape[:2]) < LEAST:
        raise ImageTooSmall(f"VIF looks at four scales and needs {LEAST} pixels a side", hint="use SSIM")
    x, y = grey(picture), grey(original)
    kept = whole = 0.0
    for scale in range(SCALES):
        size = 2 ** (SCALES - scale) + 1
        window = gaussian(size, size / 5)
        if scale:
            x, y = (filtered(plane, window)[::2, ::2] for plane in (x, y))
        mean_x, mean_y = filtered(x, window), filtered(y, window)
        var_x = np.maximum(filtered(x * x, window) - mean_x**2, 0)
        var_y = np.maximum(filtered(y * y, window) - mean_y**2, 0)
        both = filtered(x * y, window) - mean_x * mean_y
        gain = both / (var_y + _TINY)
        lost = var_x - gain * both
        # Where one of them is flat, nothing is carried over; a negative gain carries nothing either.
        gain, lost = np.where(var_y < _TINY, 0, gain), np.where(var_y < _TINY, var_x, lost)
        var_y = np.where(var_y < _TINY, 0, var_y)
        gain, lost = np.where(var_x < _TINY, 0, gain), np.where(var_x < _TINY, 0, lost)
        lost = np.where(gain < 0, var_x, lost)
        gain, lost = np.maximum(gain, 0), np.maximum(lost, _TINY)
        kept += float(np.log10(1 + gain**2 * var_y / (lost + NOISE)).sum())
        whole += float(np.log10(1 + var_y / NOISE).sum())
    return (kept + _TINY) / (whole + _TINY)

"""Peak signal-to-noise ratio, in decibels over the three channels together.

Equal pictures have no finite one; a mean square error below 1e-8 of the peak's square counts as that: 80 dB.
"""

from __future__ import annotations

import numpy as np

from dgiqa.types import UInt8

#: Of a range of 0..1, added to the mean square error.
_LEAST = 1e-8


def compare(picture: UInt8, original: UInt8) -> float:
    """Decibels, about 20 to 80; more is better."""
    error = (picture.astype(np.float64) - original) / 255
    return float(-10 * np.log10(np.mean(error**2) + _LEAST))

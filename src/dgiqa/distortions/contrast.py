"""Contrast wrong: values pass through an S-shaped curve about the middle that keeps its ends (more contrast), or are
drawn towards the middle (less). The seed says which. Depth plays no part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dgiqa.types import Float32, UInt8

FAMILY = "contrast"
KADID = 25

#: Gain of the logistic curve, and what is left of the distance to the middle.
GAIN = {1: 4.0, 2: 6.0, 3: 9.0, 4: 14.0, 5: 26.0}
LEFT = {1: 0.75, 2: 0.55, 3: 0.38, 4: 0.24, 5: 0.13}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, harsher or flatter."""
    more = bool(rng.random() < 0.5)
    at = np.arange(256) / 255 - 0.5
    curve = s_curve(at, GAIN[severity]) if more else at * LEFT[severity]
    table = np.rint(255 * (curve + 0.5)).astype(np.uint8)
    result: UInt8 = table[rgb]
    return result


def s_curve(at: npt.NDArray[np.float64], gain: float) -> npt.NDArray[np.float64]:
    """A logistic curve of -0.5..0.5 through its ends and middle: tanh scaled to end where it begins."""
    return np.asarray(0.5 * np.tanh(gain * at / 2) / np.tanh(gain / 4))

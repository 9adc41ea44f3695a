"""Colour cast: white balance set for another light.

In linear light each channel has a gain: red against blue as for a light that is too warm or too cold, green against
both for the tint of lamps. The seed draws the direction, mostly warm or cold, with the tint up to half as strong; the
brightness of a grey stays (Rec. 709 luminance), and what leaves the range is cut off. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import LUMINANCE, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "color"

#: Red against blue, in stops.
STOPS = {1: 0.45, 2: 0.85, 3: 1.35, 4: 2.0, 5: 2.8}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, in a wrong light."""
    warm = 1.0 if rng.random() < 0.5 else -1.0
    tint = rng.uniform(-0.5, 0.5)
    stops = STOPS[severity] / 2 * np.array([warm, tint, -warm])
    gain = 2.0**stops
    gain /= float(gain @ LUMINANCE)
    return to_srgb(to_linear(rgb) * gain.astype(np.float32))

"""Over-exposure: too much light, and what the sensor can't hold is lost.

In linear light the exposure rises by some stops and is cut off at the sensor's full well: bright parts lose their
drawing, a channel at a time, so that colours near white shift. A camera's curve bends the last half stop below the end
(a shoulder), which keeps the edge of a burnt part soft. Depth and seed play no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "exposure"

#: Stops of light too many.
STOPS = {1: 0.6, 2: 1.1, 3: 1.7, 4: 2.4, 5: 3.2}

#: Where the shoulder begins, as a share of what the sensor holds.
SHOULDER = 0.7


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, burnt out."""
    light = to_linear(rgb) * np.float32(2.0 ** STOPS[severity])
    over = np.maximum(light - np.float32(SHOULDER), 0) / np.float32(1 - SHOULDER)
    bent = np.float32(SHOULDER) + np.float32(1 - SHOULDER) * (over - over * over / 4)  # level where over is 2
    return to_srgb(np.where(light < SHOULDER, light, np.where(over < 2, bent, np.float32(1))))

"""Noise: Gaussian, independent in the three channels, added to the sRGB values.

The "white noise" of LIVE (Sheikh et al., TIP 2006) and KADID-10k (Lin et al., QoMEX 2019). Depth plays no
part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import grain
from dgiqa.types import Float32, UInt8

FAMILY = "noise"
KADID = 11

#: Standard deviation, of values 0 to 255.
SIGMA = {1: 6.0, 2: 12.0, 3: 22.0, 4: 36.0, 5: 56.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, noisy."""
    noisy = rgb + np.float32(SIGMA[severity]) * grain(rgb, rng)
    return (np.clip(noisy, 0, 255) + np.float32(0.5)).astype(np.uint8)

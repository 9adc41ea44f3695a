"""Low light: fewer photons, then gain that lifts picture and noise alike.

In linear light the exposure drops by some stops; photons and the sensor's electronics add noise of variance
``signal + read²`` electrons (the Poisson-Gaussian model of Foi et al., TIP 2008, here with the Gaussian
limit of the photon noise, so that one pattern serves all severities); a 10-bit converter quantises; the
camera's gain gives some of the stops back. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._light import grain, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "exposure"

#: Stops of light lost, stops that gain gives back.
STOPS = {1: (1.2, 0.4), 2: (2.2, 0.7), 3: (3.2, 1.0), 4: (4.3, 1.3), 5: (5.6, 1.7)}

#: Electrons of a full pixel, and of the electronics' noise.
FULL, READ = 2500.0, 4.0

LEVELS = 1023


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, dark and noisy."""
    lost, gained = STOPS[severity]
    photons, electronics = grain(rgb, rng), grain(rgb, rng)
    electrons = to_linear(rgb) * np.float32(FULL * 2.0**-lost)
    electrons = electrons + np.sqrt(electrons) * photons + np.float32(READ) * electronics
    # The amplifier stands before the converter; what exceeds its range is lost.
    read = np.clip(electrons * np.float32(2.0**gained / FULL), 0, 1)
    return to_srgb((np.round(read * LEVELS) / LEVELS).astype(np.float32))

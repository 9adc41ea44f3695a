"""Rolling exposure: the sensor is exposed and read row by row, so a flickering lamp and a moving camera show.

Lamps on mains current flicker at twice its frequency: rows are bright and dark in bands, whose colour changes a little
with them as a lamp's phosphors glow on (Sheinin, Schechner, Kutulakos, CVPR 2017). Meanwhile the camera moves, and
each row is shifted by where it points at its time: straight lines lean and wave. Linear light. Depth plays no part.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._filters import sampled
from dgiqa.distortions._light import scale, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "exposure"

#: Depth of the bands, 1 going to black; and largest shift of a row, in pixels of the reference picture.
BANDS = {1: 0.1, 2: 0.17, 3: 0.3, 4: 0.48, 5: 0.75}
SHIFT = {1: 2.0, 2: 4.5, 3: 8.5, 4: 15.0, 5: 25.0}


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, banded and bent."""
    height, width = rgb.shape[:2]
    time = ((np.arange(height) + 0.5) / height).astype(np.float32)
    lamp, way = flicker(time, rng), wander(time, rng)
    columns = np.arange(width, dtype=np.float32) + (way * np.float32(SHIFT[severity] * scale(rgb)))[:, None]
    rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], columns.shape)
    light = to_linear(sampled(rgb, rows, columns))
    return to_srgb(light * (1 - np.float32(BANDS[severity]) * lamp)[:, None])


def flicker(time: Float32, rng: np.random.Generator) -> Float32:
    """(H, 3) 0 to 1: how far the lamp is down while a row is exposed, three to seven periods a picture."""
    periods, start = rng.uniform(3, 7), rng.uniform(0, 2 * np.pi)
    lag = np.array([0.35, 0.0, -0.25], np.float32)  # red phosphors glow longest
    wave = np.cos(np.float32(2 * np.pi * periods) * time[:, None] + np.float32(start) - lag)
    return np.asarray(0.5 + 0.5 * wave, np.float32)


def wander(time: Float32, rng: np.random.Generator) -> Float32:
    """(H,) -1 to 1: where the camera points while a row is read, a lean and two waves."""
    lean, slow, quick = rng.choice([-1.0, 1.0]), rng.uniform(1, 2), rng.uniform(2.5, 4)
    waves = 0.5 * np.sin(2 * np.pi * slow * time + rng.uniform(0, 2 * np.pi))
    waves += 0.2 * np.sin(2 * np.pi * quick * time + rng.uniform(0, 2 * np.pi))
    way = lean * (2 * time - 1) + waves
    return np.asarray(way / max(float(np.abs(way).max()), 1e-6), np.float32)

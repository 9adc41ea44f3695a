"""Rain: drops fall while the shutter is open, and each draws a streak; far rain is a haze.

After Garg & Nayar ("Vision and rain", IJCV 2007): a drop refracts light of nearly the whole scene, so its streak is
brighter than most backgrounds and hides little of them; streaks of near drops are long, wide and faint, of far drops
short, thin and many. Drops fall at five distances and hide behind what is nearer (with depth). Rain too far to be seen
as drops scatters as :mod:`haze` does. The seed says where drops are and how the wind slants them; those of one severity
are among those of all higher ones. Linear light.

Without depth the picture is taken for level ground: inverse depth falls linearly from 1/4 a metre in the bottom row to
1/100 a metre in the top row.
"""

from __future__ import annotations

import numpy as np

from dgiqa.distortions._filters import convolved
from dgiqa.distortions._light import LUMINANCE, level_ground, scale, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "medium"
DEPTH = True

#: Metres to the drops, and how many there are a reference picture's area in the heaviest rain.
DISTANCE = (1.0, 2.0, 4.0, 8.0, 16.0)
DROPS = (80, 320, 900, 1800, 3000)

#: Share of the drops that fall; extinction a metre by rain too far to be seen as drops; brightness of a streak.
SHARE = {1: 0.08, 2: 0.2, 3: 0.4, 4: 0.68, 5: 1.0}
BETA = {1: 0.002, 2: 0.005, 3: 0.010, 4: 0.018, 5: 0.030}
OPACITY = {1: 0.45, 2: 0.55, 3: 0.65, 4: 0.8, 5: 0.95}

#: A streak's length and width at one metre, in pixels of the reference picture.
LENGTH, WIDTH = 110.0, 2.2


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, in rain. ``depth`` in metres."""
    light = to_linear(rgb)
    metres = level_ground(rgb.shape[:2]) if depth is None else depth
    sky = np.float32(0.1 + 0.9 * float(np.quantile(light @ LUMINANCE, 0.9)))
    slant = rng.uniform(-0.35, 0.35)
    through = np.exp(np.float32(-BETA[severity]) * metres)[..., None]
    light = light * through + np.float32(0.8) * sky * (1 - through)
    clear = np.ones_like(metres)
    for distance, count in zip(DISTANCE, DROPS, strict=True):
        streaks = fall(rgb, rng, severity, distance, count, slant)
        clear *= 1 - np.float32(OPACITY[severity]) * streaks * (metres > distance)
    return to_srgb(light * clear[..., None] + sky * (1 - clear[..., None]))


def fall(rgb: UInt8, rng: np.random.Generator, severity: int, distance: float, count: int, slant: float) -> Float32:
    """(H, W) 0 to 1: how much of each pixel the streaks at one distance cover, in a picture of nothing else."""
    height, width = rgb.shape[:2]
    most = min(round(count * max(height, width) / min(height, width)), height * width)
    places, bright = rng.random((most, 2)), rng.uniform(0.4, 1, most)
    kept = slice(0, max(round(most * SHARE[severity]), 1))
    stroke = streak(LENGTH / distance * scale(rgb), WIDTH / distance**0.5 * scale(rgb), slant)
    margin = stroke.shape[0] // 2  # streaks reach in from outside the frame
    drops = np.zeros((height + 2 * margin, width + 2 * margin, 1), np.float32)
    rows, columns = ((places[kept, k] * n).astype(np.intp) for k, n in enumerate(drops.shape[:2]))
    np.add.at(drops, (rows, columns, 0), bright[kept].astype(np.float32))
    streaks = convolved(drops, stroke)[margin : margin + height, margin : margin + width, 0]
    return np.asarray(np.clip(streaks, 0, 1), np.float32)


def streak(length: float, width: float, slant: float) -> Float32:
    """(K, K) values up to 1: a line that is ``slant`` off the vertical, fading at its ends and sides."""
    reach = int(np.ceil(length / 2 + width)) + 1
    at = np.arange(-reach, reach + 1, dtype=np.float32)
    down, across = at[:, None], at - np.float32(np.tan(slant)) * at[:, None]
    sides = np.exp(-0.5 * (across / np.float32(max(width / 2, 0.4))) ** 2)
    ends = np.clip((np.float32(length / 2) - np.abs(down)) / np.float32(0.25 * length + 0.5) + 1, 0, 1)
    # A streak narrower than a pixel covers that share of it.
    return np.asarray(min(width / 0.8, 1.0) * sides * np.minimum(ends, 1), np.float32)

"""Photographs spoiled by known faults, for the head that tells faults.

A picture gets none, one or two of them, in the order in which a camera collects them: air, lens, shutter, sensor,
development, file. Whatever it got, it is then developed as any camera might: a tone curve, a little softness, a little
grain, a JPEG of good quality. That is no fault; it keeps the head from knowing faults by their being fresh.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageFilter

from dgiqa.distortions import distort
from dgiqa.distortions._light import to_linear, to_srgb
from dgiqa.models.dgiqa_mobile.explain import FAULTS
from dgiqa.types import Float32, UInt8

#: What each fault is made with, and how often, in the order in which a camera collects them.
MADE_BY: dict[str, dict[str, float]] = {
    "haze": {"haze": 1.0},
    "lens_flare": {"flare": 0.8, "glare": 0.2},
    "defocus_blur": {"blur": 0.35, "gaussian_blur": 0.25, "defocus": 0.4},
    "motion_blur": {"motion": 0.6, "shake": 0.4},
    "over_exposure": {"overexpose": 0.85, "brighten": 0.15},
    "low_light": {"low_light": 0.65, "darken": 0.35},
    "noise": {"noise": 0.35, "color_noise": 0.35, "speckle": 0.2, "impulse": 0.1},
    "color_cast": {"color_cast": 1.0},
    "low_contrast": {"contrast": 1.0},
    "banding": {"posterize": 1.0},
    "compression": {"jpeg": 0.75, "jpeg2000": 0.25},
}
#: Of what is none of these, and must not be taken for one.
OTHERS = ("sharpen", "saturation_hsv", "color_diffusion", "jitter", "patches", "rain")
#: Faults that exclude each other, and faults that bring another with them, of which then nothing is said.
EXCLUDES = ({"over_exposure", "low_light"}, {"defocus_blur", "motion_blur"}, {"haze", "low_contrast"})
BRINGS = {"low_light": "noise", "haze": "low_contrast", "glare": "low_contrast", "darken": "low_contrast"}
#: How many faults a picture gets, and how often; and how often one gets a soft background, or a fault of OTHERS.
HOW_MANY = {0: 0.2, 1: 0.5, 2: 0.3}
SOFT_BACKGROUND, OTHER = 0.06, 0.08
_STREAM = 20_000


@dataclass(frozen=True)
class Spoiling:
    """What is done to a picture.

    Attributes:
        index: the picture's place.
        steps: (kind, severity, seed) of :func:`dgiqa.distortions.distort`, in order.
        severity: (F,) of each of FAULTS, 0 for none, NaN where nothing is said.
        look: how it is developed then.
    """

    index: int
    steps: tuple[tuple[str, int, int], ...]
    severity: tuple[float, ...]
    look: Look


@dataclass(frozen=True)
class Look:
    """What is no fault.

    Attributes:
        gamma: power of the values 0..1.
        fog: of haze, how much of its light arrives: real fog is grey, not white.
        softness: deviation of a Gaussian blur, in pixels.
        grain: deviation of noise, of 0..255, before that blur.
        jpeg: quality of the file; 0 for none.
        seed: of the grain.
    """

    gamma: float
    fog: float
    softness: float
    grain: float
    jpeg: int
    seed: int


def draw(number: int, pictures: int) -> Spoiling:
    """The spoiling of that number, the same in every run, of one of ``pictures``."""
    rng = np.random.default_rng([_STREAM, number])
    index, special = int(rng.integers(pictures)), rng.random()
    severity, look = dict.fromkeys(FAULTS, 0.0), _look(rng)
    if special < SOFT_BACKGROUND:
        return Spoiling(
            index, (("defocus", int(rng.integers(2, 6)), _seed(rng, "defocus", True)),), _row(severity), look
        )
    if special < SOFT_BACKGROUND + OTHER:
        return Spoiling(index, ((str(rng.choice(OTHERS)), int(rng.integers(1, 6)), _seed(rng)),), _row(severity), look)
    steps = []
    for fault in _faults(rng):
        kinds = MADE_BY[fault]
        kind = str(rng.choice(list(kinds), p=list(kinds.values())))
        severity[fault] = float(rng.integers(1, 6))
        steps.append((kind, int(severity[fault]), _seed(rng, kind, False)))
        for cause in (fault, kind):
            if cause in BRINGS and not severity[BRINGS[cause]]:
                severity[BRINGS[cause]] = float("nan")
    return Spoiling(index, tuple(steps), _row(severity), look)


def _faults(rng: np.random.Generator) -> list[str]:
    count = int(rng.choice(list(HOW_MANY), p=list(HOW_MANY.values())))
    while True:
        found = {str(f) for f in rng.choice(FAULTS, count, replace=False)}
        if not any(pair <= found for pair in EXCLUDES):
            return [fault for fault in MADE_BY if fault in found]


def _look(rng: np.random.Generator) -> Look:
    some = rng.random(4) < 0.5
    return Look(
        gamma=float(np.exp(rng.normal(0, 0.15))) if some[0] else 1.0,
        fog=float(rng.uniform(0.35, 1.0)),
        softness=float(rng.uniform(0.2, 0.7)) if some[1] else 0.0,
        grain=float(rng.uniform(0.5, 3.0)) if some[2] else 0.0,
        jpeg=int(rng.integers(60, 96)) if some[3] else 0,
        seed=int(rng.integers(2**31)),
    )


def _row(severity: dict[str, float]) -> tuple[float, ...]:
    return tuple(severity.values())


def _seed(rng: np.random.Generator, kind: str = "", wanted: bool = False) -> int:
    """A seed; for the two kinds whose seed draws a direction, one with ``wanted``: focus is near, contrast rises."""
    while True:
        seed = int(rng.integers(2**31))
        if kind not in ("defocus", "contrast"):
            return seed
        if bool(np.random.default_rng([seed, *kind.encode()]).random() < 0.5) == wanted:
            return seed


def spoil(pixels: UInt8, spoiling: Spoiling, metres: Float32 | None) -> UInt8:
    """(H, W, 3) uint8 → the same, spoiled and developed."""
    filed = {kind for fault in ("banding", "compression") for kind in MADE_BY[fault]}
    before, after = ([s for s in spoiling.steps if (s[0] in filed) == late] for late in (False, True))
    for kind, severity, seed in before:
        pixels = distort(pixels, kind, severity, depth=metres, seed=seed)
        if kind == "haze":
            pixels = to_srgb(to_linear(pixels) * np.float32(spoiling.look.fog))
    pixels = _developed(pixels, spoiling.look)
    for kind, severity, seed in after:
        pixels = distort(pixels, kind, severity, depth=metres, seed=seed)
    return pixels if after else _filed(pixels, spoiling.look.jpeg)


def _developed(pixels: UInt8, look: Look) -> UInt8:
    values = pixels.astype(np.float32)
    if look.grain:
        values += np.random.default_rng(look.seed).normal(0, look.grain, pixels.shape).astype(np.float32)
    values = np.asarray(255 * (np.clip(values, 0, 255) / 255) ** np.float32(look.gamma), np.float32)
    picture = PIL.Image.fromarray(np.rint(values).astype(np.uint8))
    return np.asarray(picture.filter(PIL.ImageFilter.GaussianBlur(look.softness)) if look.softness else picture)


def _filed(pixels: UInt8, quality: int) -> UInt8:
    if not quality:
        return pixels
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(stream))

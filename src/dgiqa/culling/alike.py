"""Which pictures show the same: near duplicates by a perceptual hash, bursts by hash and time.

The hash is the difference hash of N. Krawetz ("Kind of like that", 2013): the picture as 9×8 grey pixels, a bit for
each pair of neighbours in a row, set where the right one is brighter. It hardly changes with size, compression and
exposure.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL.Image

from dgiqa.errors import ImageError
from dgiqa.imaging.decode import decode

#: Bits of the hash.
BITS = 64
#: EXIF: the sub-directory of the photograph, its time, and the fractions of that second.
_EXIF, _TIME, _FRACTION = 0x8769, 0x9003, 0x9291
_ROWS = 512  # compared at a time: memory stays at some MB


@dataclass(frozen=True)
class Look:
    """What is compared of a picture: ``bits`` (64,) of 0 and 1; ``seconds`` of its EXIF time, None without one."""

    bits: npt.NDArray[np.uint8]
    seconds: float | None


def look_at(path: str) -> Look | None:
    """The look of a picture's file; None where it can't be read."""
    try:
        pixels = decode(path, least_side=128).pixels
    except ImageError:
        return None
    small = PIL.Image.fromarray(pixels).convert("L").resize((9, 8), PIL.Image.Resampling.BOX)
    grey = np.asarray(small, np.int16)
    return Look((grey[:, 1:] > grey[:, :-1]).astype(np.uint8).ravel(), taken(path))


def taken(path: str) -> float | None:
    """Seconds since 1970, of no time zone, at which the camera says that the picture was taken; None without a time."""
    try:
        with PIL.Image.open(path) as image:
            tags = image.getexif().get_ifd(_EXIF)
        when = datetime.datetime.strptime(str(tags[_TIME]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        digits = str(tags.get(_FRACTION, "")).strip("\0 ")
        fraction = float(f"0.{digits}") if digits.isdecimal() else 0.0
        return when.replace(tzinfo=datetime.UTC).timestamp() + fraction
    except Exception:  # EXIF breaks in many ways, and files that aren't pictures have none
        return None


def groups(looks: Sequence[Look | None], *, duplicate: int, burst: int, seconds: float) -> list[list[int]]:
    """Pictures that are alike, joined by chains; each group in the pictures' order, groups by their first.

    Args:
        duplicate: two pictures are alike whose hashes differ in at most so many of 64 bits, whenever taken.
        burst: or in at most so many, if they were taken at most ``seconds`` apart.

    Returns:
        Groups of two pictures and more, by index.
    """
    seen = [(i, look) for i, look in enumerate(looks) if look is not None]
    if not seen:
        return []
    known = [i for i, _ in seen]
    bits = np.stack([look.bits for _, look in seen]).astype(np.float32)
    times = np.array([np.nan if look.seconds is None else look.seconds for _, look in seen], np.float64)
    first = list(range(len(known)))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = i = first[first[i]]
        return i

    ones = bits.sum(1)
    for start in range(0, len(known), _ROWS):
        part = slice(start, start + _ROWS)
        apart = ones[part, None] + ones[None] - 2 * bits[part] @ bits.T  # Hamming distances, exact in float32
        together = np.abs(times[part, None] - times[None]) <= seconds  # False where a time is missing
        for i, j in np.argwhere((apart <= duplicate) | (together & (apart <= burst))):
            low, high = sorted((root(start + int(i)), root(int(j))))
            first[high] = low
    members: dict[int, list[int]] = {}
    for i in range(len(known)):
        members.setdefault(root(i), []).append(known[i])
    return [group for group in members.values() if len(group) > 1]

"""Where a face's landmarks are: a network with a card of kind ``landmarks``, looking at a square around the face's box.

picture, box ──square_of, cut──→ view ──network──→ shares of the view → (K, 2) pixels of the picture
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from dgiqa.cards import ModelCard
from dgiqa.errors import UsageError
from dgiqa.metrics.landmarks import EYES
from dgiqa.models import find_card
from dgiqa.runtimes import Runtime, open_runtime
from dgiqa.types import Float32, Image, UInt8, Views

#: The card that finds landmarks unless another one is named.
DEFAULT = "fifa.mobile"
#: Side of the square that is looked at, as a multiple of the longer side of the face's box.
AROUND = 1.35
#: A square of more than so many times the picture's longer side is refused: it would be nearly all margin.
_LARGEST = 4

#: (left, top, right, bottom) in pixels of the picture, not necessarily whole.
FaceBox = tuple[float, float, float, float]


class LandmarkFinder:
    """A landmark network fed as its card says. Safe to share by threads."""

    def __init__(self, card: ModelCard, network: Runtime) -> None:
        self.card = card
        self._network = network

    def __call__(self, pixels: UInt8, face: FaceBox) -> Float32:
        """(K, 2) x and y in pixels of the picture (H, W, 3), from its upper left corner.

        Raises:
            UsageError: a box of no area, or one that lies beside the picture.
        """
        height, width = pixels.shape[:2]
        left, top, right, bottom = face
        if not (right > left and bottom > top):
            raise UsageError(f"face box {_words(face)} has no area", hint="give left, top, right, bottom")
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            raise UsageError(f"face box {_words(face)} lies beside the picture of {width}×{height} pixels")
        x, y, side = square_of(face)
        if side > _LARGEST * max(height, width):
            raise UsageError(f"face box {_words(face)} is far larger than the picture of {width}×{height} pixels")
        view = cut(pixels, (x, y, side), self.card.recipe.crop)
        shares = self._network.run(Views(view[None]))[0]
        return np.asarray(shares * side + (x, y), np.float32)


def open_landmarks(name: str | Path | ModelCard = DEFAULT, runtime: str | None = None) -> LandmarkFinder:
    """The finder of that card or name.

    Raises:
        UsageError: the card is of another kind.
        ModelNotFound, CardError, RuntimeMissing, WeightsError: each with the way out.
    """
    card = name if isinstance(name, ModelCard) else find_card(name)
    if card.kind != "landmarks":
        raise UsageError(f"{card.name} gives {card.kind}, not landmarks", hint=f"take {DEFAULT}")
    return LandmarkFinder(card, open_runtime(card, runtime))


def locate_face(
    image: Image,
    picture: UInt8,
    landmarks: npt.ArrayLike | None,
    face: FaceBox | None,
    finder: Callable[[], LandmarkFinder],
) -> Float32 | None:
    """The landmarks (K, 2) in pixels of ``picture``, which is the image as the scoring network sees it.

    Args:
        landmarks, face: in pixels of the image: landmarks that are known, or the box in which ``finder`` looks for
            them; None where neither is wanted.

    Raises:
        UsageError: both are given; landmarks of another number or shape, or none of which is in the picture.
    """
    if landmarks is not None and face is not None:
        raise UsageError("landmarks and a face are given", hint="give the face alone, or its landmarks")
    own, seen = (np.array(pixels.shape[1::-1], np.float32) for pixels in (image.pixels, picture))
    full = np.array([image.width, image.height], np.float32)
    if face is not None:
        box = np.reshape(np.asarray(face, np.float32), (2, 2)) * (own / full)
        left, top, right, bottom = box.ravel().tolist()
        found = finder()(image.pixels, (left, top, right, bottom))
        return np.asarray(found * (seen / own), np.float32)
    if landmarks is None:
        return None
    places = np.asarray(landmarks, np.float32)
    if places.ndim != 2 or places.shape[1] != 2 or len(places) not in EYES or not np.isfinite(places).all():
        raise UsageError(
            f"{image.name}: landmarks of shape {places.shape}",
            hint=f"give (K, 2) numbers, K one of {', '.join(map(str, sorted(EYES)))}",
        )
    if not ((places >= 0) & (places <= full)).all(1).any():
        raise UsageError(f"{image.name}: no landmark lies in the picture of {image.width}×{image.height} pixels")
    return np.asarray(places * (seen / full), np.float32)


def square_of(face: Sequence[float], around: float = AROUND) -> tuple[float, float, float]:
    """Left, top and side of the square about a box, ``around`` times its longer side."""
    left, top, right, bottom = face
    side = around * max(right - left, bottom - top)
    return (left + right - side) / 2, (top + bottom - side) / 2, side


def cut(pixels: UInt8, square: tuple[float, float, float], side: int) -> UInt8:
    """(side, side, 3) the square of a picture, resized; beyond the picture its edge goes on."""
    left, top, extent = square
    height, width = pixels.shape[:2]
    # A little more than the square on every side, which the filter reaches.
    reach = math.ceil(2 * extent / side) + 2
    first_x, first_y = math.floor(left) - reach, math.floor(top) - reach
    last_x, last_y = math.ceil(left + extent) + reach, math.ceil(top + extent) + reach
    inner = pixels[max(first_y, 0) : max(last_y, 0), max(first_x, 0) : max(last_x, 0)]
    before = (max(-first_y, 0), max(-first_x, 0))
    after = (max(last_y - height, 0), max(last_x - width, 0))
    part = np.pad(inner, ((before[0], after[0]), (before[1], after[1]), (0, 0)), "edge")
    box = (left - first_x, top - first_y, left - first_x + extent, top - first_y + extent)
    picture = PIL.Image.fromarray(part).resize((side, side), PIL.Image.Resampling.BICUBIC, box)
    return np.asarray(picture)


def _words(face: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in face)

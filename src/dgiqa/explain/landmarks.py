"""Where a face's landmarks are: a network with a card of kind ``landmarks``, looking at a square around the face's box.

    picture, box ──square_of, cut──→ view ──network──→ shares of the view → (K, 2) pixels of the picture
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from dgiqa.cards import ModelCard
from dgiqa.errors import UsageError
from dgiqa.models import find_card
from dgiqa.runtimes import Runtime, open_runtime
from dgiqa.types import Float32, UInt8, Views

#: The card that finds landmarks unless another one is named.
DEFAULT = "fifa.mobile"
#: Side of the square that is looked at, as a multiple of the longer side of the face's box.
AROUND = 1.35

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


def square_of(face: Sequence[float], around: float = AROUND) -> tuple[float, float, float]:
    """Left, top and side of the square about a box, ``around`` times its longer side."""
    left, top, right, bottom = face
    side = around * max(right - left, bottom - top)
    return (left + right - side) / 2, (top + bottom - side) / 2, side


def cut(pixels: UInt8, square: tuple[float, float, float], side: int) -> UInt8:
    """(side, side, 3) the square of a picture, resized; beyond the picture its edge goes on."""
    left, top, extent = square
    height, width = pixels.shape[:2]
    margin = math.ceil(max(0, -left, -top, left + extent - width, top + extent - height))
    if margin:
        pixels = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "edge")
        left, top = left + margin, top + margin
    box = (left, top, left + extent, top + extent)
    picture = PIL.Image.fromarray(pixels).resize((side, side), PIL.Image.Resampling.BICUBIC, box)
    return np.asarray(picture)


def _words(face: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in face)

"""The values that travel along the main path: Image, Views, Score, Failure. Frozen, NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dgiqa.errors import ImageError

UInt8: TypeAlias = npt.NDArray[np.uint8]
Float32: TypeAlias = npt.NDArray[np.float32]

#: (left, top, right, bottom) in pixels of the resized picture, right and bottom exclusive.
Box: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Image:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) uint8, sRGB, upright.
        name: how messages and rows call it (a path, or ``<bytes>``, ``<array>``, ``<image>``).
        notes: what the decoder did that a reader should know, such as ``first of 12 frames``.
        full: (width, height) of the picture where the pixels are those of another size; else None.
        others: pixels at further sizes, where the decoder was asked for several, see :meth:`at`.
    """

    pixels: UInt8
    name: str
    notes: tuple[str, ...] = ()
    full: tuple[int, int] | None = None
    others: tuple[UInt8, ...] = ()

    def at(self, place: int) -> Image:
        """The picture at the size in that place of those that the decoder was asked for, if it has them."""
        return self if not (place and self.others) else replace(self, pixels=self.others[place - 1], others=())

    @property
    def width(self) -> int:
        return self.full[0] if self.full else int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return self.full[1] if self.full else int(self.pixels.shape[0])


@dataclass(frozen=True)
class Views:
    """What a network sees of one picture.

    Attributes:
        color: (V, H, W, 3) uint8, sRGB.
        depth: (V, H, W) uint8, 0 farthest to 255 nearest over the whole picture; None for a network without.
        boxes: where each view lies in the resized picture.
        reference: (V, H, W, 3) uint8, the same views of the pristine original; None for a network without.
    """

    color: UInt8
    depth: UInt8 | None = None
    boxes: tuple[Box, ...] = ()
    reference: UInt8 | None = None

    def __len__(self) -> int:
        return int(self.color.shape[0])


#: The columns of a row, in order. A contract: tests freeze it.
ROW_FIELDS = ("path", "status", "quality", "low", "high", "raw", "model", "runtime", "width", "height", "error")


@dataclass(frozen=True)
class Score:
    """A picture's score.

    Attributes:
        path: the source's name.
        quality: 0 to 100, higher is better, calibrated; comparable only within one ``model``.
        raw: the network's own number, mean over the views.
        model: name and version of the card, ``dgiqa_mobile.biq2021@1.0``.
        width, height: size of the upright picture in pixels.
        notes: what the decoder did that a reader should know.
        low, high: the ends of the card's interval, 0 <= low <= quality <= high <= 100: of pictures like those it was
            calibrated on, 90 in 100 have the mean opinion of people inside; None where the card has none.
        spread: the error that the network expects of ``raw``, in raw units; None where it says nothing.
        runtime: what ran the network, and its precision: ``onnx fp32``.
    """

    path: str
    quality: float
    raw: float
    model: str
    width: int
    height: int
    notes: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    runtime: str = ""

    ok = True

    def as_row(self) -> dict[str, Any]:
        """The row with the fields of :data:`ROW_FIELDS`; quality, low and high to 2 decimals, raw to 6."""
        return {
            "path": self.path,
            "status": "ok",
            "quality": round(self.quality, 2),
            "low": None if self.low is None else round(self.low, 2),
            "high": None if self.high is None else round(self.high, 2),
            "raw": round(self.raw, 6),
            "model": self.model,
            "runtime": self.runtime,
            "width": self.width,
            "height": self.height,
            "error": None,
        }


@dataclass(frozen=True)
class Failure:
    """A source that could not be scored, with the error that says why and the way out."""

    path: str
    error: ImageError
    model: str
    notes: tuple[str, ...] = ()
    runtime: str = ""

    ok = False

    def as_row(self) -> dict[str, Any]:
        """The row with the fields of :data:`ROW_FIELDS`; the numbers are None."""
        return {
            "path": self.path,
            "status": "failed",
            "quality": None,
            "low": None,
            "high": None,
            "raw": None,
            "model": self.model,
            "runtime": self.runtime,
            "width": None,
            "height": None,
            "error": str(self.error),
        }


Result: TypeAlias = Score | Failure

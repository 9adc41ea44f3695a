"""Sharpness of what is near and of what is far, apart: a sharp subject before a soft background is no blurred picture.

The blur effect (Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
metric", SPIE 2007): a picture that is blurred once more changes much if it was sharp and little if it was blurred. Here
the change is summed over cells, and cells count to the subject by the fourth power of their nearness, to the background
by that of what is left of it. A cell without edges says nothing and counts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dgiqa.imaging.color import luma
from dgiqa.types import Float32, UInt8

#: Power of the nearness: of 2, 3, 4 and 6 the least that told a sharp subject from a sharp background every time.
_POWER = 4
#: Pixels along the filter that blurs once more; along a cell.
_FILTER, _CELL = 9, 16
#: Mean difference of neighbours, of 0..255, below which a cell holds no edge but noise and quantisation.
_LEAST = 0.6


@dataclass(frozen=True)
class Sharpness:
    """0 (blurred) to 1 (sharp); photographs that are in focus reach about 0.7 to 0.9. Noise looks sharp.

    Attributes:
        subject, background: of what is near and far; None without depth, or where nothing there has an edge.
        picture: of all; None where nothing has an edge.
    """

    subject: float | None
    background: float | None
    picture: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded."""
        return {name: None if value is None else round(value, 4) for name, value in vars(self).items()}


def sharpness(picture: UInt8, near: Float32 | None, known: Float32 | None = None) -> Sharpness:
    """Of a picture (H, W, 3) uint8, by nearness (H, W) 0..1, 1 nearest, where that is ``known`` (1, else 0)."""
    plane = luma(picture)
    before, lost = (sum(parts) for parts in zip(*(_change(plane, axis) for axis in (0, 1)), strict=True))
    edges = before > 2 * _LEAST * _CELL**2
    if near is None:
        return Sharpness(None, None, _share(before, lost, edges * np.float32(1)))
    known = np.ones_like(near) if known is None else known
    nearness, share = _sums(near * known) / np.maximum(_sums(known), 1), _sums(known) / _sums(np.ones_like(known))
    subject, background = (_share(before, lost, edges * share * weight**_POWER) for weight in (nearness, 1 - nearness))
    return Sharpness(subject, background, _share(before, lost, edges * np.float32(1)))


def _change(plane: Float32, axis: int) -> tuple[Float32, Float32]:
    """Sums over cells of neighbours' differences along an axis, and of what blurring once more takes of them."""
    padded = np.pad(plane, [(_FILTER // 2 * (a == axis),) * 2 for a in (0, 1)], "edge")
    sums = np.cumsum(padded, axis, np.float64)
    sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
    n = plane.shape[axis]
    blurred = (sums.take(range(_FILTER, n + _FILTER), axis) - sums.take(range(n), axis)) / _FILTER
    before = np.abs(np.diff(plane, axis=axis, append=plane.take([-1], axis)))
    after = np.abs(np.diff(blurred, axis=axis, append=blurred.take([-1], axis))).astype(np.float32)
    return _sums(before), _sums(np.maximum(before - after, 0))


def _sums(x: Float32) -> Float32:
    """Over cells; the last ones take what is left over."""
    for axis in (0, 1):
        starts = np.arange(0, max(x.shape[axis] - _CELL + 1, 1), _CELL)
        x = np.add.reduceat(x, starts, axis)
    return np.asarray(x, np.float32)


def _share(before: Float32, lost: Float32, weights: Float32) -> float | None:
    total = float((before * weights).sum(dtype=np.float64))
    return float((lost * weights).sum(dtype=np.float64)) / total if total > 1e-3 else None

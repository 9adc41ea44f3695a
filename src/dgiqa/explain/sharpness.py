"""Sharpness of what is near and of what is far, apart: a sharp subject before a soft background is no blurred picture.

The blur effect (Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
metric", SPIE 2007): a picture that is blurred once more changes much if it was sharp and little if it was blurred. Here
the change is summed over cells, and cells count to the subject by the fourth power of their nearness, to the background
by that of what is left of it. A cell without edges says nothing and counts nothing.

Where a face's landmarks are known, the same is told of the face and of its eyes, which people look at first: there
pixels count, not cells, because eyes are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dgiqa.imaging.color import luma
from dgiqa.metrics.landmarks import EYES
from dgiqa.types import Float32, UInt8

#: Power of the nearness: of 2, 3, 4 and 6 the least that told a sharp subject from a sharp background every time.
_POWER = 4
#: Pixels along the filter that blurs once more; along a cell.
_FILTER, _CELL = 9, 16
#: Mean difference of neighbours, of 0..255, below which a cell holds no edge but noise and quantisation.
_LEAST = 0.6
#: Half the side of what is looked at around an eye, in widths of that eye.
_AROUND_EYE = 0.8


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


@dataclass(frozen=True)
class FaceSharpness(Sharpness):
    """Of a picture and of a face in it.

    Attributes:
        eyes: of what is around both eyes; None where it has no edge, or the face is smaller than the filter can tell.
        face: of all within the landmarks; None as for the eyes.
    """

    eyes: float | None
    face: float | None

    @property
    def words(self) -> str:
        """The face's part, as people read it."""
        told = [
            f"{name} {value:.2f}" for name, value in (("eyes", self.eyes), ("face", self.face)) if value is not None
        ]
        return ", ".join(told) or "too small or without edges"


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


def face_sharpness(picture: UInt8, landmarks: Float32, whole: Sharpness) -> FaceSharpness:
    """Of a face with (K, 2) landmarks in pixels of the picture, beside what is known of the ``whole``.

    Landmarks may lie beyond the picture; what isn't in it doesn't count. K is one of
    :data:`dgiqa.metrics.landmarks.EYES`.
    """
    plane = luma(picture)
    before, lost = (sum(parts) for parts in zip(*(_differences(plane, axis) for axis in (0, 1)), strict=True))
    height, width = plane.shape
    places = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    eyes = np.zeros((height, width), np.float32)
    for members in EYES[len(landmarks)]:
        eye = landmarks[list(members)]
        reach = _AROUND_EYE * float(np.ptp(eye, 0).max())
        eyes = np.maximum(eyes, (np.abs(places - eye.mean(0)) <= reach).all(-1).astype(np.float32))
    face = _inside(places, landmarks)
    told = []
    for region in (eyes, face):
        share = _share(before, lost, region)
        edges = float((before * region).sum()) > 2 * _LEAST * float(region.sum())
        large = float(region.sum()) >= (2 * _FILTER) ** 2
        told.append(share if edges and large else None)
    return FaceSharpness(whole.subject, whole.background, whole.picture, *told)


def _inside(places: Any, points: Float32) -> Float32:
    """(H, W) 1 within the convex hull of (K, 2) points, else 0."""
    hull = _hull([(float(x), float(y)) for x, y in points])
    inside = np.ones(places.shape[:2], bool)
    for (ax, ay), (bx, by) in zip(hull, hull[1:] + hull[:1], strict=True):
        inside &= (bx - ax) * (places[..., 1] - ay) - (by - ay) * (places[..., 0] - ax) >= 0
    return inside.astype(np.float32)


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the convex hull in turn (Andrew's monotone chain, 1979)."""
    halves = []
    for ordered in (sorted(set(points)), sorted(set(points), reverse=True)):
        half: list[tuple[float, float]] = []
        for x, y in ordered:
            while len(half) > 1:
                (ax, ay), (bx, by) = half[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                half.pop()
            half.append((x, y))
        halves.append(half[:-1])
    return halves[0] + halves[1]


def _change(plane: Float32, axis: int) -> tuple[Float32, Float32]:
    """Sums over cells of neighbours' differences along an axis, and of what blurring once more takes of them."""
    before, lost = _differences(plane, axis)
    return _sums(before), _sums(lost)


def _differences(plane: Float32, axis: int) -> tuple[Float32, Float32]:
    """Neighbours' differences along an axis, and what blurring once more takes of them."""
    padded = np.pad(plane, [(_FILTER // 2 * (a == axis),) * 2 for a in (0, 1)], "edge")
    sums = np.cumsum(padded, axis, np.float64)
    sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
    n = plane.shape[axis]
    blurred = (sums.take(range(_FILTER, n + _FILTER), axis) - sums.take(range(n), axis)) / _FILTER
    before = np.abs(np.diff(plane, axis=axis, append=plane.take([-1], axis)))
    after = np.abs(np.diff(blurred, axis=axis, append=blurred.take([-1], axis))).astype(np.float32)
    return before, np.maximum(before - after, 0)


def _sums(x: Float32) -> Float32:
    """Over cells; the last ones take what is left over."""
    for axis in (0, 1):
        starts = np.arange(0, max(x.shape[axis] - _CELL + 1, 1), _CELL)
        x = np.add.reduceat(x, starts, axis)
    return np.asarray(x, np.float32)


def _share(before: Float32, lost: Float32, weights: Float32) -> float | None:
    total = float((before * weights).sum(dtype=np.float64))
    return float((lost * weights).sum(dtype=np.float64)) / total if total > 1e-3 else None

"""From what a network says of views to maps of the picture: put together, enlarged along its edges, and levelled so
that the score is their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import PIL.Image

from dgiqa.cards import Calibration
from dgiqa.imaging.color import luma
from dgiqa.imaging.resize import resize_float
from dgiqa.types import Box, Float32, UInt8

A = TypeVar("A", bound=npt.NDArray[np.generic])

#: Of the guided filter: the short side, in pixels, at which it works; its window's radius; the variance of luma, of
#: 0..1, from which an edge of the picture is one of the map.
_WORK, _RADIUS, _EDGE = 128, 12, 0.003
#: How close a levelled mean comes to what is asked, after how many steps at most; halvings for log odds, by one of this
#: many values along each axis.
_CLOSE, _STEPS, _HALVINGS, _SOME = 1e-5, 60, 30, 8


def stitch(views: A, boxes: Sequence[Box], size: tuple[int, ...]) -> A:
    """The picture (H, W, ...) that (V, h, w, ...) views were cut from; 0 where none reaches."""
    whole = np.zeros((*size, *views.shape[3:]), views.dtype)
    for view, (left, top, right, bottom) in zip(views, boxes, strict=True):
        whole[top:bottom, left:right] = view
    return whole  # type: ignore[return-value]


def weights_of(boxes: Sequence[Box], size: tuple[int, ...]) -> Float32:
    """(H, W) how much each place counts to the mean over the views, sum 1."""
    weights = np.zeros(size, np.float64)
    for left, top, right, bottom in boxes:
        weights[top:bottom, left:right] += 1 / ((bottom - top) * (right - left))
    return np.asarray(weights / len(boxes), np.float32)


def quality_map(
    parts: Sequence[Float32] | None,
    raw: Float32,
    boxes: Sequence[Box],
    picture: UInt8,
    weights: Float32,
    calibration: Calibration,
    quality: float,
) -> Float32 | None:
    """(H, W) quality 0..100 whose mean, weighted by ``weights``, is ``quality``; None of a single view without parts.

    Each view's map is moved, as log odds, until its mean is the view's own raw score; then all are put together,
    calibrated, and moved by what the calibration's bends leave.
    """
    if parts is None and len(boxes) == 1:
        return None
    guide = luma(picture) / np.float32(255)
    total = np.zeros(picture.shape[:2], np.float64)
    for i, (left, top, right, bottom) in enumerate(boxes):
        of_view = np.full((bottom - top, right - left), raw[i], np.float32)
        if parts is not None:
            of_view = _levelled_odds(along_edges(parts[i], guide[top:bottom, left:right]), float(raw[i]))
        total[top:bottom, left:right] += of_view / ((bottom - top) * (right - left) * len(boxes))
    local = np.divide(total, weights, out=np.full_like(total, float(raw.mean())), where=weights > 0)
    return _levelled(_calibrated(local, calibration), weights, quality)


def spread_out(maps: Sequence[Float32], boxes: Sequence[Box], size: tuple[int, ...]) -> Float32:
    """(H, W) from a coarse map of each view: enlarged, their mean where views overlap."""
    total, count = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for values, (left, top, right, bottom) in zip(maps, boxes, strict=True):
        total[top:bottom, left:right] += resize_float(values, right - left, bottom - top)
        count[top:bottom, left:right] += 1
    return np.asarray(total / np.maximum(count, 1), np.float32)


def along_edges(coarse: Float32, guide: Float32) -> Float32:
    """(h, w) values over (H, W) ``guide``, enlarged to it, with steps where its edges are.

    The guided filter (He, Sun, Tang, "Guided Image Filtering", TPAMI 2013) in its fast form: fitted small, applied
    large (He, Sun, arXiv:1505.00996).
    """
    height, width = guide.shape
    factor = max(min(height, width) / _WORK, 1)
    small = (max(round(width / factor), 1), max(round(height / factor), 1))
    smooth = resize_float(coarse, *small)
    light = np.asarray(PIL.Image.fromarray(guide).resize(small, PIL.Image.Resampling.BOX))
    mean_light, mean = _box(light), _box(smooth)
    slope = (_box(light * smooth) - mean_light * mean) / (_box(light * light) - mean_light**2 + _EDGE)
    offset = mean - slope * mean_light
    slope, offset = (resize_float(_box(part), width, height) for part in (slope, offset))
    return np.asarray(np.clip(slope * guide + offset, coarse.min(), coarse.max()), np.float32)


def _box(x: Float32) -> Float32:
    """Means over squares of 2 radius + 1, of what lies inside the map."""
    for axis in (0, 1):
        length = x.shape[axis]
        sums = np.concatenate([np.zeros_like(x.take([0], axis), np.float64), np.cumsum(x, axis, np.float64)], axis)
        ends = np.minimum(np.arange(length) + _RADIUS + 1, length)
        starts = np.maximum(np.arange(length) - _RADIUS, 0)
        count = (ends - starts).reshape((-1, 1) if axis == 0 else (1, -1))
        x = np.asarray((sums.take(ends, axis) - sums.take(starts, axis)) / count, np.float32)
    return x


def _levelled_odds(values: Float32, mean: float) -> Float32:
    """Values of 0..1 whose log odds are moved by one number until their mean is ``mean``, by some of them."""
    clipped = np.clip(values, 1e-4, 1 - 1e-4)
    odds = np.log(clipped / (1 - clipped))
    some = odds[::_SOME, ::_SOME]
    low, high = -20.0, 20.0
    for _ in range(_HALVINGS):
        by = (low + high) / 2
        low, high = (low, by) if float((1 / (1 + np.exp(-(some + by)))).mean()) > mean else (by, high)
    return np.asarray(1 / (1 + np.exp(-(odds + np.float32(by)))), np.float32)


def _levelled(values: Float32, weights: Float32, mean: float) -> Float32:
    """Values of 0..100, moved by one number, cut off at the ends, until their weighted mean is ``mean``.

    By Newton's method, since the mean is piecewise linear in that number and rises by the weight of what isn't cut off;
    by halving where that leaves the bounds, as when nearly all is cut off.
    """
    by, low, high, moved = 0.0, -100.0, 100.0, values
    for _ in range(_STEPS):
        error = mean - float((moved * weights).sum(dtype=np.float64))
        if abs(error) < _CLOSE:
            break
        low, high = (by, high) if error > 0 else (low, by)
        inside = float(weights[(moved > 0) & (moved < 100)].sum(dtype=np.float64))
        by += error / max(inside, 1e-9)
        if not low < by < high:
            by = (low + high) / 2
        moved = np.clip(values + np.float32(by), 0, 100)
    return np.asarray(moved, np.float32)


def _calibrated(raw: npt.NDArray[np.float64], calibration: Calibration) -> Float32:
    """As :meth:`Calibration.apply`, of every place."""
    x, y = np.array(calibration.raw), np.array(calibration.quality)
    i = np.clip(np.searchsorted(x, raw) - 1, 0, len(x) - 2)
    value = y[i] + (raw - x[i]) * (y[i + 1] - y[i]) / (x[i + 1] - x[i])
    return np.asarray(np.clip(value, 0, 100), np.float32)

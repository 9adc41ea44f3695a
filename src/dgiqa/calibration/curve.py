"""The rising curve from raw scores to people's mean opinions, 0..100.

A line through a few knots, fitted by least squares with the straight line as its prior: with few pictures it is
nearly that line, with many it bends wherever they say so.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dgiqa.cards import Calibration
from dgiqa.errors import UsageError

Float64: TypeAlias = npt.NDArray[np.float64]

#: How many pictures at each knot the straight line weighs as much as.
LINE = 10.0
#: The least step between two knots: of raw in the span of the raw scores, of quality in 0..1.
STEP = 1e-3


def fit_calibration(raw: npt.ArrayLike, mos: npt.ArrayLike, *, knots: int = 8, fitted_on: str = "") -> Calibration:
    """The rising curve through the ratings, as knots at the quantiles of the raw scores.

    It rises strictly and ends in (0, 0) and (1, 100), so that no two raw scores in 0..1 become one quality; the ends
    move out for a network whose raw scores leave 0..1.

    Args:
        raw: (n,) raw scores.
        mos: (n,) mean opinion scores scaled to 0..1, higher is better.
        knots: how many, besides the two ends.

    Raises:
        UsageError: fewer than 5 pictures a knot, or raw scores that hardly differ.
    """
    x, y = np.asarray(raw, np.float64), np.asarray(mos, np.float64)
    if len(x) != len(y) or len(x) < 5 * knots:
        raise UsageError(f"{len(x)} rated pictures are too few", hint=f"a calibration needs {5 * knots} or more")
    return fit_curve(x, y, knots=knots, fitted_on=fitted_on)


def fit_curve(x: Float64, y: Float64, *, knots: int = 8, fitted_on: str = "") -> Calibration:
    """:func:`fit_calibration` for any number of pictures, which are float64 and finite."""
    at = place_knots(x, knots)
    slope = max(0.0, float(np.cov(x, y, bias=True)[0, 1] / np.var(x)))
    heights = fit_heights(x, y, at, prior=y.mean() + slope * (at - x.mean()), weight=LINE)
    inner = np.clip(_rising(heights.tolist()), 0.01, 0.99)
    margin = 0.05 * float(np.ptp(x))
    first = 0.0 if x.min() > 0 else float(x.min()) - margin
    last = 1.0 if x.max() < 1 else float(x.max()) + margin
    centres, heights = np.array([first, *at, last]), np.array([0.0, *inner, 1.0])
    kept = [0]
    for i in range(1, len(centres)):
        if centres[i] - centres[kept[-1]] > STEP * (last - first) and heights[i] - heights[kept[-1]] > STEP:
            kept.append(i)
    kept[-1] = len(centres) - 1
    digits = 4 - int(np.floor(np.log10(last - first)))
    return Calibration(
        raw=tuple(round(float(centres[i]), digits) for i in kept),
        quality=tuple(round(100 * float(heights[i]), 2) for i in kept),
        fitted_on=fitted_on,
    )


def place_knots(x: Float64, knots: int) -> Float64:
    """Quantiles of ``x`` from its least to its greatest value, without those that all but coincide.

    Raises:
        UsageError: the raw scores hardly differ.
    """
    span = float(np.ptp(x))
    if not span > 1e-4 * max(1.0, float(np.abs(x).max())):
        raise UsageError(
            f"the {len(x)} raw scores hardly differ ({x.min():g} to {x.max():g})",
            hint="calibrate on pictures of several qualities, with a model that tells them apart",
        )
    kept: list[float] = []
    for value in np.quantile(x, np.linspace(0, 1, knots)).tolist():
        if not kept or value - kept[-1] > STEP * span:
            kept.append(value)
    kept[-1] = float(x.max())
    return np.array(kept)


def fit_heights(x: Float64, y: Float64, at: Float64, *, prior: Float64, weight: float) -> Float64:
    """Heights over the knots ``at`` of the line that fits ``y`` best, (k,) float64.

    Ridge regression on the hat functions of the knots; ``prior`` (k,) counts as ``weight`` pictures at each knot.
    """
    hats = np.stack([np.interp(x, at, row) for row in np.eye(len(at))], axis=1)
    normal = hats.T @ hats + weight * np.eye(len(at))
    return np.asarray(prior + np.linalg.solve(normal, hats.T @ (y - hats @ prior)), np.float64)


def _rising(values: list[float]) -> list[float]:
    """The nearest rising sequence (pool adjacent violators; Ayer et al. 1955)."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    return [float(np.mean(pool)) for pool in pools for _ in pool]

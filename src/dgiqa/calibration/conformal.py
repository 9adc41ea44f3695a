"""Split-conformal intervals: one part of the rated pictures shapes the curve, the rest say how far it errs.

Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-free predictive inference for regression", JASA 113
(2018), section 2.2; errors are measured in units of each picture's difficulty, as in section 5.2 there and in
Papadopoulos, Gammerman and Vovk, "Normalized nonconformity measures for regression conformal prediction" (2008).

What is promised: if the rated pictures and a new one are exchangeable (such as drawn alike), the new one's MOS lies
inside with probability at least ``level``, whatever the network, the curve and the difficulty are worth; they decide
only how wide the interval is. The promise is an average over calibrations and pictures: of one calibration with n
pictures behind the quantile, the coverage is itself random, Beta(k, n + 1 − k) with k = ⌈(n + 1) level⌉.

Why a split, and not cross-fitting such as CV+: its promise is the full level (CV+ promises 2 level − 1, 80 % for
90 %), and it needs one curve in the card, not one a fold. The price is small, for a curve as stiff as this one needs
few pictures: with 200 ratings the coverage of one calibration varies by 2.5 points about 90 % (one standard
deviation), where cross-fitting without a promise would vary by 2.1.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dgiqa.calibration.coverage import measure
from dgiqa.calibration.curve import Float64, fit_curve, fit_heights, place_knots
from dgiqa.cards import Calibration, Interval
from dgiqa.errors import UsageError

#: Share of pictures whose MOS shall lie inside the interval.
LEVEL = 0.9
#: Share of the rated pictures that shapes the curve and the difficulty; the quantile is taken of the rest.
SHAPING = 0.4
#: Fewest rated pictures. The quantile of 0.9 exists from 9 pictures on, 14 in all; but then it is the largest error
#: seen, and the curve is a guess. 200 are better.
LEAST = 40
#: Knots of the curve, and of the difficulty by raw score.
CURVE_KNOTS, DIFFICULTY_KNOTS = 8, 4
#: How many pictures at each knot of the difficulty the mean one weighs as much as.
MEAN = 4.0
#: The least difficulty, as a share of the mean one: nobody is so sure that the interval may vanish.
FLOOR = 0.25


@dataclass(frozen=True)
class Fit:
    """A curve and the interval around it, as they go into a card."""

    calibration: Calibration
    interval: Interval

    def judge(self, raw: npt.ArrayLike, spread: npt.ArrayLike | None = None) -> Float64:
        """(n, 3) quality, low and high of (n,) raw scores and their spreads, each in 0..100."""
        quality, half = self.predict(raw, spread)
        return np.stack([quality, np.maximum(0, quality - half), np.minimum(100, quality + half)], axis=1)

    def predict(self, raw: npt.ArrayLike, spread: npt.ArrayLike | None = None) -> tuple[Float64, Float64]:
        """(n,) quality, and (n,) half width of the interval before it is clipped."""
        raws = np.asarray(raw, np.float64).tolist()
        spreads = [None] * len(raws) if spread is None else np.asarray(spread, np.float64).tolist()
        quality = [self.calibration.apply(r) for r in raws]
        reach = [None if s is None else self.calibration.reach(r, s) for r, s in zip(raws, spreads, strict=True)]
        half = [self.interval.half_width(r, d) for r, d in zip(raws, reach, strict=True)]
        return np.array(quality, np.float64), np.array(half, np.float64)


def calibrate(
    raw: npt.ArrayLike,
    mos: npt.ArrayLike,
    spread: npt.ArrayLike | None = None,
    *,
    level: float = LEVEL,
    seed: int = 0,
    folds: int = 5,
    fitted_on: str = "",
) -> Fit:
    """The curve and the interval from n rated pictures, and the coverage that cross-validation finds.

    Args:
        raw: (n,) raw scores, of pictures that the network was not trained on.
        mos: (n,) mean opinion scores in 0..1, higher is better.
        spread: (n,) the network's expected errors of ``raw``; None for a network that gives none: then the
            difficulty is the mean error by raw score.
        level: of the interval.
        seed: of the split into two parts.
        folds: of the cross-validation; 0 leaves the coverage unmeasured.
        fitted_on: for the card: which pictures these are.

    Raises:
        UsageError: fewer than LEAST pictures, columns that differ in length or hold no numbers, MOS outside 0..1.
    """
    x, y, s = check_columns(raw, mos, spread)
    if len(x) < LEAST:
        raise UsageError(f"{len(x)} rated pictures are too few", hint=f"an interval needs {LEAST} or more")
    fit = fit_parts(x, y, s, level=level, seed=seed, fitted_on=fitted_on)
    if not folds:
        return fit
    judged = cross_validate(x, y, s, folds=folds, level=level, seed=seed)
    coverage = measure(y, judged, how=f"{folds}-fold cross-validation")
    return Fit(fit.calibration, dataclasses.replace(fit.interval, coverage=coverage))


def cross_validate(
    raw: npt.ArrayLike,
    mos: npt.ArrayLike,
    spread: npt.ArrayLike | None = None,
    *,
    folds: int = 5,
    level: float = LEVEL,
    seed: int = 0,
) -> Float64:
    """(n, 3) quality, low and high of each picture, by a curve and an interval from the other folds' pictures.

    They are what :func:`calibrate` would have said of the picture without its rating, and with that much less to go by.

    Raises:
        UsageError: as ``calibrate`` does, or a number of folds that leaves one empty.
    """
    x, y, s = check_columns(raw, mos, spread)
    if not 2 <= folds <= len(x):
        raise UsageError(f"{folds} folds of {len(x)} pictures", hint="2 folds or more, and a picture in each")
    judged = np.empty((len(x), 3))
    order = np.random.default_rng((seed, folds)).permutation(len(x))
    for fold in np.array_split(order, folds):
        rest = np.setdiff1d(order, fold)
        fit = fit_parts(x[rest], y[rest], None if s is None else s[rest], level=level, seed=seed)
        judged[fold] = fit.judge(x[fold], None if s is None else s[fold])
    return judged


def fit_parts(x: Float64, y: Float64, s: Float64 | None, *, level: float, seed: int, fitted_on: str = "") -> Fit:
    """:func:`calibrate` without the checks."""
    first, second = np.split(np.random.default_rng(seed).permutation(len(x)), [int(SHAPING * len(x))])
    rank = rank_of(level, len(second))
    curve = fit_curve(x[first], y[first], knots=CURVE_KNOTS, fitted_on=fitted_on)
    difficulty = _fit_difficulty(curve, x[first], y[first], None if s is None else s[first])
    quality, unit = Fit(curve, difficulty).predict(x[second], None if s is None else s[second])
    errors = np.sort(np.abs(100 * y[second] - quality) / unit)
    quantile = max(1, math.ceil(1e4 * float(errors[rank - 1]))) / 1e4  # never rounded down, and never nothing
    return Fit(curve, dataclasses.replace(difficulty, level=level, quantile=quantile, n=len(second)))


def rank_of(level: float, n: int) -> int:
    """Which of ``n`` errors, in rising order from 1, is the quantile: ⌈(n + 1) level⌉.

    Raises:
        UsageError: there is none, for it would be beyond the largest; or the level is none.
    """
    if not 0 < level < 1:
        raise UsageError(f"a level of {level:g}", hint="give a number between 0 and 1, such as 0.9")
    rank = math.ceil((n + 1) * level - 1e-9)
    if rank > n:
        least = math.ceil(level / (1 - level) - 1e-9)
        raise UsageError(f"{n} pictures have no quantile of {level:g}", hint=f"{least} or more have")
    return rank


def _fit_difficulty(curve: Calibration, x: Float64, y: Float64, s: Float64 | None) -> Interval:
    """An interval of quantile 1: its half width is the difficulty."""
    if s is not None:
        mean = float(np.mean([curve.reach(r, d) for r, d in zip(x.tolist(), s.tolist(), strict=True)]))
        return Interval(level=LEVEL, by="spread", quantile=1.0, floor=_rounded(FLOOR * mean), n=0)
    errors = np.abs(100 * y - [curve.apply(r) for r in x.tolist()])
    at, mean = place_knots(x, DIFFICULTY_KNOTS), float(errors.mean())
    heights = fit_heights(x, errors, at, prior=np.full(len(at), mean), weight=MEAN)
    return Interval(
        level=LEVEL,
        by="raw",
        quantile=1.0,
        floor=_rounded(FLOOR * mean),
        n=0,
        at=tuple(round(a, 8) for a in at.tolist()),
        difficulty=tuple(_rounded(max(h, FLOOR * mean)) for h in heights.tolist()),
    )


def _rounded(value: float) -> float:
    """A difficulty as the card states it; positive."""
    return max(round(value, 3), 1e-3)


def check_columns(
    raw: npt.ArrayLike, mos: npt.ArrayLike, spread: npt.ArrayLike | None
) -> tuple[Float64, Float64, Float64 | None]:
    """The columns as (n,) float64. Raises UsageError as :func:`calibrate` does."""
    x, y = np.asarray(raw, np.float64), np.asarray(mos, np.float64)
    s = None if spread is None else np.asarray(spread, np.float64)
    columns = [x, y] if s is None else [x, y, s]
    if any(column.shape != (len(x),) for column in columns):
        shapes = " and ".join(str(column.shape) for column in columns)
        raise UsageError(f"columns of one length are needed, not of shapes {shapes}")
    if not all(np.isfinite(column).all() for column in columns):
        raise UsageError("a raw score, a rating or a spread is no number")
    if y.min(initial=0) < 0 or y.max(initial=0) > 1:
        raise UsageError(f"ratings from {y.min():g} to {y.max():g} are not scaled to 0..1")
    if s is not None and s.min(initial=0) < 0:
        raise UsageError(f"a spread of {s.min():g} is negative")
    return x, y, s

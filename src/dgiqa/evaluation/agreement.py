"""From predictions and a split to an :class:`Evaluation`: numbers, intervals, groups, pairs, coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dgiqa.calibration import measure
from dgiqa.cards import Coverage
from dgiqa.datasets import Split
from dgiqa.errors import UsageError
from dgiqa.evaluation.predictions import Predictions
from dgiqa.evaluation.results import Agreement, Estimate, Evaluation, Group, LeftOut
from dgiqa.metrics.correlation import Float64, krcc, plcc, rmse, srcc
from dgiqa.metrics.discrimination import Discrimination, discriminate
from dgiqa.metrics.logistic import Logistic, fit_logistic
from dgiqa.metrics.resampling import interval, resample

Mask = npt.NDArray[np.bool_]

#: Groups of fewer pictures get no numbers; below 3 there is no correlation at all.
SMALLEST_GROUP, FEWEST = 5, 3
#: A logistic has 4 parameters.
FEWEST_FOR_CURVE = 5
#: A fitted column that varies by less, of 100, is a flat line and rounding.
FLAT = 1e-9


def evaluate(predictions: Predictions, split: Split, *, samples: int = 1000, seed: int = 0) -> Evaluation:
    """How well ``predictions`` agree with the split's MOS.

    Intervals are percentile bootstrap 95 % over pictures; the logistic curve is fitted once, on all pictures, and
    serves the groups too, so that their errors compare. It isn't fitted again in every resample.

    Args:
        samples: resamples of the bootstrap.
        seed: of the bootstrap and of drawn pairs.

    Raises:
        UsageError: fewer than 3 pictures have a score, or all scores or all MOS are the same.
    """
    if len(predictions) != len(split):
        raise UsageError(
            f"{predictions.model}: {len(predictions)} scores for the {len(split)} pictures of "
            f"{split.dataset} {split.split}"
        )
    scored = np.isfinite(predictions.scores)
    mos = np.asarray(split.mos, np.float64)
    x, y = predictions.scores[scored], mos[scored]
    _check(predictions, split, x, y)
    curve = fit_logistic(x, y) if len(x) >= FEWEST_FOR_CURVE else None
    groups = {
        kind: _groups(kind, names, scored, predictions.scores, mos, curve, samples, seed)
        for kind, names in (("subset", split.subsets), ("distortion", split.distortions))
    }
    pairs, why_not = _pairs(predictions, split, scored, seed)
    return Evaluation(
        model=predictions.model,
        fingerprint=predictions.fingerprint,
        dataset=split.dataset,
        split=split.split,
        asked=len(predictions),
        overall=agreement(x, y, curve, samples=samples, seed=seed),
        curve=curve,
        subsets=groups["subset"][0],
        distortions=groups["distortion"][0],
        left_out=groups["subset"][1] + groups["distortion"][1],
        missing=predictions.missing,
        discrimination=pairs,
        no_discrimination=why_not,
        coverage=_coverage(predictions, mos),
        samples=samples,
        seed=seed,
    )


def agreement(x: Float64, y: Float64, curve: Logistic | None, *, samples: int, seed: int) -> Agreement:
    """The numbers of scores ``x`` and MOS ``y`` in 0..1, (n,) each, with their intervals.

    Raises:
        ValueError: as :func:`dgiqa.metrics.correlation.srcc` does.
    """
    fitted = None if curve is None else 100 * curve(x)
    drawn = resample(x, 100 * y, fitted, samples=samples, seed=seed)
    flat = fitted is None or np.ptp(fitted) < FLAT
    return Agreement(
        n=len(x),
        srcc=_estimate(srcc(x, y), drawn.srcc),
        krcc=_estimate(krcc(x, y), drawn.krcc),
        plcc_raw=_estimate(plcc(x, y), drawn.plcc),
        plcc_fitted=None if fitted is None or flat else _estimate(plcc(fitted, y), drawn.plcc_fitted),
        rmse_fitted=None if fitted is None else _estimate(rmse(fitted, 100 * y), drawn.rmse_fitted),
    )


def _estimate(value: float, drawn: Float64) -> Estimate:
    ends = interval(drawn)
    return Estimate(round(value, 6)) if ends is None else Estimate(*(round(v, 6) for v in (value, *ends)))


def _check(predictions: Predictions, split: Split, x: Float64, y: Float64) -> None:
    where = f"{split.dataset} {split.split}"
    if len(x) < FEWEST:
        raise UsageError(
            f"{predictions.model}: {len(x)} of the {len(split)} pictures of {where} have a score",
            hint=f"{FEWEST} are the least; {predictions.missing[0].why}" if predictions.missing else "3 are the least",
        )
    if np.ptp(x) == 0:
        raise UsageError(f"{predictions.model}: the same score, {x[0]:g}, for all {len(x)} pictures of {where}")
    if np.ptp(y) == 0:
        raise UsageError(f"{where}: the same MOS, {y[0]:g}, of all {len(y)} pictures", hint="is it the right column?")


def _groups(
    kind: str,
    names: Sequence[str],
    scored: Mask,
    scores: Float64,
    mos: Float64,
    curve: Logistic | None,
    samples: int,
    seed: int,
) -> tuple[tuple[Group, ...], tuple[LeftOut, ...]]:
    """The groups of one kind, by name, and those without numbers; none of either where all pictures share a name."""
    found: list[Group] = []
    left: list[LeftOut] = []
    column = np.array(names)
    several = sorted(set(names)) if len(set(names)) > 1 else []
    for name in several:
        chosen = scored & (column == name)
        if why := _why_not(name, scores[chosen], mos[chosen]):
            left.append(LeftOut(kind, name, int(chosen.sum()), why))
        else:
            numbers = agreement(scores[chosen], mos[chosen], curve, samples=samples, seed=seed)
            found.append(Group(name, numbers))
    return tuple(found), tuple(left)


def _why_not(name: str, scores: Float64, mos: Float64) -> str:
    if not name:
        return "the data set names none for them"
    if len(scores) < SMALLEST_GROUP:
        return f"fewer than {SMALLEST_GROUP} pictures"
    if np.ptp(scores) == 0:
        return "all scores are the same"
    return "all MOS are the same" if np.ptp(mos) == 0 else ""


def _pairs(predictions: Predictions, split: Split, scored: Mask, seed: int) -> tuple[Discrimination | None, str]:
    if split.deviations is None:
        return None, "the data set has no deviations of its ratings"
    if split.raters < 1:
        return None, "the data set doesn't say how many rated each picture"
    deviations = np.asarray(split.deviations, np.float64)
    usable = scored & np.isfinite(deviations)
    if usable.sum() < FEWEST:
        return None, "too few pictures have a deviation of their ratings"
    if (deviations[usable] < 0).any():
        return None, f"a deviation of its ratings is {deviations[usable].min():g}, below 0"
    mos = np.asarray(split.mos, np.float64)
    return discriminate(predictions.scores[usable], mos[usable], deviations[usable], split.raters, seed=seed), ""


def _coverage(predictions: Predictions, mos: Float64) -> Coverage | None:
    if predictions.low is None or predictions.high is None:
        return None
    judged = np.column_stack([predictions.scores, predictions.low, predictions.high])
    whole = np.isfinite(judged).all(axis=1)
    return measure(mos[whole], judged[whole], how="the pictures evaluated") if whole.any() else None

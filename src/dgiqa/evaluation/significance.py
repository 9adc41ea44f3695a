"""Is one model better than another, or was it these pictures?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from dgiqa.datasets import Split
from dgiqa.errors import UsageError
from dgiqa.evaluation.agreement import FEWEST_FOR_CURVE
from dgiqa.evaluation.predictions import Predictions
from dgiqa.evaluation.results import Comparison, Difference
from dgiqa.metrics.correlation import Float64, plcc, srcc
from dgiqa.metrics.logistic import fit_logistic
from dgiqa.metrics.resampling import interval, resample, two_sided_p
from dgiqa.metrics.significance import compare_correlations


def compare(first: Predictions, second: Predictions, split: Split, *, samples: int = 1000, seed: int = 0) -> Comparison:
    """The difference of two models' SRCC and PLCC on the pictures that both gave a score.

    Paired: every resample of the bootstrap takes the same pictures for both. PLCC is after each model's own logistic
    curve, fitted on these pictures.

    Raises:
        UsageError: fewer than 5 pictures have both scores, or one of the columns is constant.
    """
    both = np.isfinite(first.scores) & np.isfinite(second.scores)
    y = np.asarray(split.mos, np.float64)[both]
    columns = first.scores[both], second.scores[both]
    if len(y) < FEWEST_FOR_CURVE:
        raise UsageError(
            f"{first.model} and {second.model}: {len(y)} pictures of {split.dataset} {split.split} have both scores",
            hint=f"{FEWEST_FOR_CURVE} are the least",
        )
    if any(np.ptp(column) == 0 for column in (*columns, y)):
        raise UsageError(f"{first.model} and {second.model}: a column is constant over the {len(y)} pictures of both")
    fitted = [fit_logistic(x, y)(x) for x in columns]
    a, b = (resample(x, y, bent, samples=samples, seed=seed) for x, bent in zip(columns, fitted, strict=True))
    return Comparison(
        first=first.model,
        second=second.model,
        dataset=split.dataset,
        split=split.split,
        n=len(y),
        srcc=_difference(srcc(columns[0], y), srcc(columns[1], y), srcc(*columns), len(y), a.srcc - b.srcc),
        plcc=_difference(
            _plcc(fitted[0], y), _plcc(fitted[1], y), _plcc(*fitted), len(y), a.plcc_fitted - b.plcc_fitted
        ),
    )


def compare_all(predictions: Sequence[Predictions], split: Split, *, seed: int = 0) -> tuple[Comparison, ...]:
    """Every pair once. The p values are of each pair alone: with many pairs some come out small by chance."""
    return tuple(compare(a, b, split, seed=seed) for a, b in itertools.combinations(predictions, 2))


def _difference(first: float, second: float, between: float, n: int, drawn: Float64) -> Difference:
    test = compare_correlations(first, second, between, n)
    low, high = interval(drawn) or (None, None)
    return Difference(
        value=round(first - second, 6),
        low=None if low is None else round(low, 6),
        high=None if high is None else round(high, 6),
        p=round(two_sided_p(drawn), 6),
        z=round(test.z, 4),
        p_of_z=round(test.p, 6),
    )


def _plcc(x: Float64, y: Float64) -> float:
    """A curve that came out flat agrees with nothing."""
    return plcc(x, y) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0

"""Is one model better than another, or was it these pictures?"""

from __future__ import annotations

import numpy as np

from dgiqa.datasets import Split
from dgiqa.errors import UsageError
from dgiqa.evaluation.agreement import FEWEST_FOR_CURVE, FLAT
from dgiqa.evaluation.predictions import Predictions
from dgiqa.evaluation.results import Comparison, Difference
from dgiqa.metrics.correlation import Float64, plcc, srcc
from dgiqa.metrics.logistic import fit_logistic
from dgiqa.metrics.resampling import interval, resample, two_sided_p
from dgiqa.metrics.significance import compare_correlations


def compare(first: Predictions, second: Predictions, split: Split, *, samples: int = 1000, seed: int = 0) -> Comparison:
    """The difference of two models' SRCC and PLCC on the pictures that both gave a score.

    Paired: every resample of the bootstrap takes the same pictures for both. PLCC is after each model's own logistic
    curve, fitted on these pictures once, not again in every resample.

    Args:
        samples: resamples of the bootstrap; p is never below 2 / (samples + 1).
        seed: of the bootstrap.

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
    fitted = [100 * fit_logistic(x, y)(x) for x in columns]
    a, b = (resample(x, 100 * y, bent, samples=samples, seed=seed) for x, bent in zip(columns, fitted, strict=True))
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


def _difference(first: float, second: float, between: float, n: int, drawn: Float64) -> Difference:
    test = compare_correlations(first, second, between, n)
    low, high = interval(drawn) or (None, None)
    return Difference(
        value=round(first - second, 6),
        low=None if low is None else round(low, 6),
        high=None if high is None else round(high, 6),
        p=round(two_sided_p(drawn), 6),
        z=round(test.z, 4),
        p_of_z=float(f"{test.p:.4g}"),  # however small: 0 is no probability of anything that was seen
    )


def _plcc(x: Float64, y: Float64) -> float:
    """A curve that came out flat agrees with nothing."""
    return 0.0 if np.ptp(x) < FLAT or np.ptp(y) == 0 else plcc(x, y)

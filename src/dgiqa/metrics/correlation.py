"""Agreement of predicted and subjective scores: SRCC, PLCC, KRCC, RMSE, and a bootstrap interval.

The four numbers of nearly every paper on image quality. All take two columns of equal length n >= 3 and
give the same value when the columns are swapped. PLCC is on the numbers as they are: no curve is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Metric = Callable[[Float64, Float64], float]


def srcc(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Spearman's rank correlation, -1..1: PLCC of the ranks, ties sharing their average rank.

    Raises:
        ValueError: lengths differ or are below 3, a value is not finite, or a column is constant.
    """
    x, y = check_columns(x, y, varied=True)
    return _pearson(ranks(x), ranks(y))


def plcc(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Pearson's linear correlation, -1..1. Raises ValueError as :func:`srcc` does."""
    x, y = check_columns(x, y, varied=True)
    return _pearson(x, y)


def krcc(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Kendall's tau-b, -1..1, in O(n log² n). Raises ValueError as :func:`srcc` does.

    From the numbers of tied and of discordant pairs: Knight, "A computer method for calculating Kendall's
    tau with ungrouped data", JASA 61 (1966).
    """
    x, y = check_columns(x, y, varied=True)
    first, second = dense_ranks(x), dense_ranks(y)
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    pairs = math.comb(len(first), 2)
    tied_x, tied_y = _tied_pairs(first), _tied_pairs(second)
    tied_both = _tied_pairs(first * len(first) + second)
    # Sorted by x, then y: a pair tied in x is in order, so what is out of order is discordant.
    difference = pairs - tied_x - tied_y + tied_both - 2 * _inversions(second)
    tau = difference / math.sqrt(pairs - tied_x) / math.sqrt(pairs - tied_y)
    return min(1.0, max(-1.0, tau))


def rmse(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Root of the mean squared difference, in the columns' unit.

    Raises:
        ValueError: lengths differ or are below 3, or a value is not finite.
    """
    x, y = check_columns(x, y, varied=False)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def bootstrap_interval(
    metric: Metric,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``metric`` over resampled pairs (Efron, 1979).

    Resamples in which a column is constant have no correlation and are drawn again.

    Args:
        metric: one of this module's functions, or any function of two columns.
        samples: how many resamples.
        seed: of the draws; the same seed gives the same interval.
        level: share of the resamples inside the interval.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: as :func:`srcc` does, or ``samples`` below 1, or ``level`` not between 0 and 1.
    """
    x, y = check_columns(x, y, varied=True)
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"samples must be positive and level between 0 and 1, not {samples} and {level}")
    random = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < samples:
        drawn = random.integers(0, len(x), len(x))
        a, b = x[drawn], y[drawn]
        if np.ptp(a) > 0 and np.ptp(b) > 0:
            values.append(metric(a, b))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def check_columns(x: npt.ArrayLike, y: npt.ArrayLike, *, varied: bool) -> tuple[Float64, Float64]:
    """Both columns as (n,) float64, checked."""
    columns = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    shapes = columns[0].shape, columns[1].shape
    if shapes[0] != shapes[1] or len(shapes[0]) != 1:
        raise ValueError(f"two columns of equal length are needed, not shapes {shapes[0]} and {shapes[1]}")
    if shapes[0][0] < 3:
        raise ValueError(f"at least 3 pairs are needed, not {shapes[0][0]}")
    for name, column in zip(("first", "second"), columns, strict=True):
        if bad := int(np.sum(~np.isfinite(column))):
            raise ValueError(f"the {name} column has {bad} values that are not finite")
        if varied and column.min() == column.max():
            raise ValueError(f"the {name} column is constant ({column[0]:g}): no correlation is defined")
    return columns


def _pearson(x: Float64, y: Float64) -> float:
    return min(1.0, max(-1.0, float(np.dot(_standard(x), _standard(y)))))


def _standard(x: Float64) -> Float64:
    """Mean 0, length 1. Scaled first (by a power of two: exact), so that no square over- or underflows."""
    x = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))
    x = x - x.mean()
    x = x / np.abs(x).max()
    x = x - x.mean()  # what rounding left of the mean of nearly constant columns
    return np.asarray(x / np.sqrt(np.dot(x, x)), dtype=np.float64)


def ranks(x: Float64) -> Float64:
    """Ranks from 1, ties sharing their average."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    average = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(average[inverse], dtype=np.float64)


def dense_ranks(x: Float64 | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ranks from 0 without gaps, ties equal."""
    return np.unique(x, return_inverse=True)[1].astype(np.int64)


def _tied_pairs(keys: npt.NDArray[np.int64]) -> int:
    counts = np.unique(keys, return_counts=True)[1].astype(np.int64)
    return int(np.sum(counts * (counts - 1) // 2))


def _inversions(ranks: npt.NDArray[np.int64]) -> int:
    """Pairs (i < j) with ranks[i] > ranks[j].

    Two unequal ranks first differ in one bit, from the top; each round counts the pairs of its bit: equal
    above it, a 1 before a 0.
    """
    total = 0
    for bit in reversed(range(int(ranks.max()).bit_length())):
        above, one = ranks >> (bit + 1), (ranks >> bit) & 1  # sorted by `above`, else in the given order
        ones_before: npt.NDArray[Any] = np.cumsum(one) - one
        group_start = np.searchsorted(above, above)
        total += int(np.sum((ones_before - ones_before[group_start])[one == 0]))
        ranks = ranks[np.argsort(ranks >> bit, kind="stable")]
    return total

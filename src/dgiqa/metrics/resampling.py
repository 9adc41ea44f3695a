"""The bootstrap of all the correlations at once, fast: resamples as counts, never sorted again.

A resample of n pictures (Efron, Annals of Statistics 7, 1979) is how often each of them was drawn. With the pictures
in order once, ranks, tied pairs and discordant pairs of every resample are sums of its counts: O(n) for SRCC and
PLCC, O(n log n) for KRCC, for many resamples side by side. The numbers are those of the resample written out (PLCC as
far as one outlier is less than a million times as far away as the rest is wide).

Two models resampled with one seed are resampled alike, so the differences of their rows are a paired bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dgiqa.metrics.correlation import Float64, check_columns, dense_ranks

#: Numbers held at once, about: n × resamples of a block.
BLOCK = 400_000


@dataclass(frozen=True)
class Resampled:
    """(samples,) values each; NaN where a resample has a constant column.

    ``plcc_fitted`` and ``rmse_fitted`` are of the fitted column, NaN where none was given.
    """

    srcc: Float64
    krcc: Float64
    plcc: Float64
    plcc_fitted: Float64
    rmse_fitted: Float64


def resample(
    x: npt.ArrayLike, y: npt.ArrayLike, fitted: npt.ArrayLike | None = None, *, samples: int = 1000, seed: int = 0
) -> Resampled:
    """The agreement of ``x`` and ``y``, (n,) each, in every resample.

    Args:
        fitted: (n,) x after a curve, in the unit of y, for PLCC and RMSE after it; the curve itself stays as it is.
        samples: how many resamples.
        seed: of the draws; with the same n and samples it gives the same resamples.

    Raises:
        ValueError: as :func:`dgiqa.metrics.correlation.srcc` does, or ``samples`` below 1.
    """
    x, y = check_columns(x, y, varied=True)
    bent = None if fitted is None else check_columns(fitted, y, varied=False)[0]
    if samples < 1:
        raise ValueError(f"samples must be positive, not {samples}")
    of_x, of_y, both = _Order(x), _Order(y), _Order(dense_ranks(x) * len(y) + dense_ranks(y))
    blocks = []
    for counts in draw(len(x), samples, seed):
        tau = _kendall(of_x, of_y, both, counts)
        rank = _pearson_of_ranks(of_x.ranks(counts), of_y.ranks(counts), counts)
        plain = _pearson(x, y, counts)
        nothing = np.full(counts.shape[1], np.nan)
        bent_plain = nothing if bent is None else _pearson(bent, y, counts)
        error = nothing if bent is None else np.sqrt((bent - y) ** 2 @ counts / len(y))
        blocks.append(np.stack([rank, tau, plain, bent_plain, error]))
    return Resampled(*np.concatenate(blocks, axis=1))


def draw(n: int, samples: int, seed: int) -> Iterator[Float64]:
    """(n, b) counts of b resamples each, ``samples`` in all; columns sum to n."""
    random = np.random.default_rng(seed)
    size = max(1, BLOCK // n)
    for start in range(0, samples, size):
        block = min(size, samples - start)
        drawn = random.integers(0, n, (block, n)) + n * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * n).reshape(block, n)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """The percentile interval of resampled values; None if more than half of them are NaN."""
    values = np.asarray(values, np.float64)
    known = values[~np.isnan(values)]
    if 2 * len(known) < len(values) or not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def two_sided_p(differences: npt.ArrayLike) -> float:
    """How unlikely resampled differences make a true difference of 0: twice the rarer sign's share, at least 2/(B+1).

    Davison and Hinkley, "Bootstrap methods and their application" (1997), section 4.2: the sample itself counts as
    one more resample, so that p is never 0.
    """
    values = np.asarray(differences, np.float64)
    values = values[~np.isnan(values)]
    rarer = min(np.sum(values <= 0), np.sum(values >= 0))
    return float(min(1.0, 2 * (rarer + 1) / (len(values) + 1)))


class _Order:
    """A column in order: what ranks and tied pairs of any resample need."""

    def __init__(self, column: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> None:
        self.dense = dense_ranks(column)
        self._order = np.argsort(self.dense, kind="stable")
        self._starts = np.flatnonzero(np.diff(self.dense[self._order], prepend=-1))

    def totals(self, counts: Float64) -> Float64:
        """(k, b): how often each of the k distinct values was drawn."""
        return np.asarray(np.add.reduceat(counts[self._order], self._starts, axis=0), np.float64)

    def ranks(self, counts: Float64) -> Float64:
        """(n, b): ranks within the resamples, ties sharing their average."""
        totals = self.totals(counts)
        return np.asarray((np.cumsum(totals, axis=0) - (totals - 1) / 2)[self.dense], np.float64)

    def tied_pairs(self, counts: Float64) -> Float64:
        """(b,)"""
        totals = self.totals(counts)
        return np.asarray(np.sum(totals * (totals - 1), axis=0) / 2, np.float64)


def _pearson(x: Float64, y: Float64, counts: Float64) -> Float64:
    """(b,) weighted by counts. Standardised first, so that no square cancels, overflows or underflows."""
    x, y = _standard(x), _standard(y)
    n = len(x)
    mean_x, mean_y, xx, yy, xy = np.stack([x, y, x * x, y * y, x * y]) @ counts / n
    return _ratio(xy - mean_x * mean_y, xx - mean_x**2, yy - mean_y**2)


def _standard(x: Float64) -> Float64:
    """Mean 0 and deviation 1; a constant column stays constant."""
    x = (x - x.min()) / (np.ptp(x) or 1.0)
    return np.asarray((x - x.mean()) / (x.std() or 1.0), np.float64)


def _pearson_of_ranks(x: Float64, y: Float64, counts: Float64) -> Float64:
    """(b,) from (n, b) ranks, whose mean is known."""
    x, y = x - (len(x) + 1) / 2, y - (len(x) + 1) / 2
    drawn = x * counts
    xy, xx = np.einsum("nb,nb->b", drawn, y), np.einsum("nb,nb->b", drawn, x)
    return _ratio(xy, xx, np.einsum("nb,nb->b", y * y, counts))


def _kendall(of_x: _Order, of_y: _Order, both: _Order, counts: Float64) -> Float64:
    """(b,) tau-b of the resamples, from tied and discordant pairs as in :func:`dgiqa.metrics.correlation.krcc`."""
    n = len(counts)
    pairs = n * (n - 1) / 2
    tied_x, tied_y, tied_both = (order.tied_pairs(counts) for order in (of_x, of_y, both))
    order = np.lexsort((of_y.dense, of_x.dense))
    discordant = _inversions(of_y.dense[order], counts[order])
    return _ratio(pairs - tied_x - tied_y + tied_both - 2 * discordant, pairs - tied_x, pairs - tied_y)


def _inversions(ranks: npt.NDArray[np.int64], counts: Float64) -> Float64:
    """(b,) drawn pairs (i < j) with ranks[i] > ranks[j], a bit at a time (see :mod:`dgiqa.metrics.correlation`)."""
    total = np.zeros(counts.shape[1])
    for bit in reversed(range(int(ranks.max()).bit_length())):
        above, one = ranks >> (bit + 1), ((ranks >> bit) & 1).astype(bool)
        ones = np.cumsum(counts * one[:, None], axis=0)
        before = np.concatenate([np.zeros((1, counts.shape[1])), ones])[np.searchsorted(above, above)]
        total += np.einsum("nb,nb->b", (ones - before)[~one], counts[~one])
        order = np.argsort(ranks >> bit, kind="stable")
        ranks, counts = ranks[order], counts[order]
    return total


def _ratio(product: Float64, first: Float64, second: Float64) -> Float64:
    """product / √(first · second), within −1..1; NaN where a column is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = product / np.sqrt(np.maximum(first, 0)) / np.sqrt(np.maximum(second, 0))
    found[(first <= 1e-12) | (second <= 1e-12)] = np.nan
    return np.clip(found, -1.0, 1.0)

"""From a network's raw score to quality 0..100: a rising curve through people's mean opinions.

Fitted on pictures that the network was not trained on, written into the card as knots.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dgiqa.cards import Calibration
from dgiqa.errors import UsageError


def fit_calibration(raw: npt.ArrayLike, mos: npt.ArrayLike, *, knots: int = 8, fitted_on: str = "") -> Calibration:
    """The curve through the means of ``knots`` equally filled bins of the raw scores, made to rise strictly.

    It ends in (0, 0) and (1, 100), so that no two raw scores in 0..1 become one quality.

    Args:
        raw: (n,) raw scores inside 0..1.
        mos: (n,) mean opinion scores scaled to 0..1, higher is better.

    Raises:
        UsageError: fewer than 5 pictures a bin, or raw scores outside 0..1.
    """
    x, y = np.asarray(raw, np.float64), np.asarray(mos, np.float64)
    if len(x) != len(y) or len(x) < 5 * knots:
        raise UsageError(f"{len(x)} rated pictures are too few", hint=f"a calibration needs {5 * knots} or more")
    if not (x.min() > 0 and x.max() < 1):
        raise UsageError(f"raw scores from {x.min():g} to {x.max():g} don't lie inside 0..1")
    bins = np.array_split(np.argsort(x, kind="stable"), knots)
    centres = [0.0, *(float(x[b].mean()) for b in bins), 1.0]
    heights = [0.0, *np.clip(_rising([float(y[b].mean()) for b in bins]), 0.01, 0.99), 1.0]
    kept = [0]
    for i in range(1, len(centres)):
        if centres[i] - centres[kept[-1]] > 1e-3 and heights[i] - heights[kept[-1]] > 1e-3:
            kept.append(i)
    kept[-1] = len(centres) - 1
    return Calibration(
        raw=tuple(round(centres[i], 4) for i in kept),
        quality=tuple(round(100 * float(heights[i]), 2) for i in kept),
        fitted_on=fitted_on,
    )


def _rising(values: list[float]) -> list[float]:
    """The nearest rising sequence (pool adjacent violators; Ayer et al. 1955)."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    return [float(np.mean(pool)) for pool in pools for _ in pool]

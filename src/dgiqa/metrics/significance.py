"""Is one model's correlation with people higher than another's, on the same pictures?

Meng, Rosenthal, Rubin, "Comparing correlated correlation coefficients", Psychological Bulletin 111 (1992), which
simplifies the test of Dunn and Clark (1969) that Steiger (1980) recommends: both correlations share the column of MOS,
and the correlation of the two models with each other says how much they can differ by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CorrelationTest:
    """``z`` is above 0 where the first correlation is higher; ``p`` two-sided."""

    z: float
    p: float


def compare_correlations(first: float, second: float, between: float, n: int) -> CorrelationTest:
    """The z-test of Meng, Rosenthal and Rubin (their equations 1 to 3).

    It assumes normal columns; for rank correlations it is an approximation that is customary and a little bold.

    Args:
        first, second: each model's correlation with MOS.
        between: the models' correlation with each other.
        n: pictures.

    Raises:
        ValueError: a correlation outside −1..1, or n below 4.
    """
    if not all(-1 <= r <= 1 for r in (first, second, between)):
        raise ValueError(f"correlations lie in -1..1, not {first:g}, {second:g}, {between:g}")
    if n < 4:
        raise ValueError(f"the test needs at least 4 pictures, not {n}")
    if first == second:
        return CorrelationTest(0.0, 1.0)
    # Kept off 1, which they reach where both models, or the two with each other, agree perfectly.
    mean_square = min((first**2 + second**2) / 2, 1 - 1e-15)
    rest, apart = 1 - mean_square, max(1 - between, 1e-15)
    f = min(1.0, apart / (2 * rest))
    h = (1 - f * mean_square) / rest
    z = (_fisher(first) - _fisher(second)) * math.sqrt((n - 3) / (2 * apart * h))
    return CorrelationTest(z, math.erfc(abs(z) / math.sqrt(2)))


def _fisher(r: float) -> float:
    """Fisher's z of a correlation; ±1 count as the closest number inside."""
    return math.atanh(max(-1 + 1e-15, min(1 - 1e-15, r)))

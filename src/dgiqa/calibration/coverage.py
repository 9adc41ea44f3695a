"""How often the interval holds, on pictures that it was not fitted on."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dgiqa.cards import Coverage


def measure(mos: npt.ArrayLike, judged: npt.ArrayLike, *, how: str) -> Coverage:
    """How many ratings lie inside their intervals, with a binomial 95 % interval (Wilson, JASA 22, 1927).

    Args:
        mos: (n,) ratings in 0..1.
        judged: (n, 3) quality, low and high in 0..100, fitted on other pictures.
        how: which pictures these are, for the card.
    """
    y, columns = 100 * np.asarray(mos, np.float64), np.asarray(judged, np.float64)
    low, high = columns[:, 1], columns[:, 2]
    share = float(np.mean((low <= y) & (y <= high)))
    ends = wilson(share, len(y))
    return Coverage(
        share=round(share, 4),
        low=round(ends[0], 4),
        high=round(ends[1], 4),
        n=len(y),
        mean_width=round(float(np.mean(high - low)), 2),
        how=how,
    )


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a binomial share of ``n``; 95 % by default."""
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))

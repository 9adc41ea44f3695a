"""What one model says of a split's pictures, in the split's order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dgiqa.evaluation.results import Missing
from dgiqa.metrics.correlation import Float64
from dgiqa.types import Result, Score


@dataclass(frozen=True)
class Predictions:
    """Scores of n pictures.

    Attributes:
        model: the label of the model, or the name of the file that the scores came from.
        scores: (n,), higher is better; NaN for a picture without one, which ``missing`` then names.
        low, high: (n,) ends of the model's 90 % intervals in 0..100, NaN as above; None for a model without.
        fingerprint: of what gave the scores.
    """

    model: str
    scores: Float64
    low: Float64 | None = None
    high: Float64 | None = None
    missing: tuple[Missing, ...] = ()
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.scores)


def collect(results: Iterable[Result], model: str, fingerprint: str = "") -> Predictions:
    """The predictions in the rows of one model: its quality 0..100, unrounded; failed rows become ``missing``."""
    rows = list(results)
    columns = [(r.quality, r.low, r.high) if isinstance(r, Score) else (None, None, None) for r in rows]
    scores, low, high = np.array(columns, np.float64).reshape(-1, 3).T
    none = bool(np.isnan(low).all())
    missing = tuple(Missing(r.path, str(r.error)) for r in rows if not isinstance(r, Score))
    return Predictions(model, scores, None if none else low, None if none else high, missing, fingerprint)

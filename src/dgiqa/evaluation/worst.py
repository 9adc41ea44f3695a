"""The pictures that a model misses by most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgiqa.datasets import Split
from dgiqa.evaluation.predictions import Predictions
from dgiqa.metrics.logistic import Logistic

#: How many are shown.
SHOWN = 12


@dataclass(frozen=True)
class Miss:
    """A picture; MOS and prediction (the score after the logistic) in 0..100."""

    path: Path
    mos: float
    score: float
    predicted: float

    @property
    def apart(self) -> float:
        """MOS minus prediction: above 0 where the model is too hard on the picture."""
        return self.mos - self.predicted


def worst_misses(predictions: Predictions, split: Split, curve: Logistic, count: int = SHOWN) -> list[Miss]:
    """The ``count`` pictures whose MOS is farthest from the prediction, the farthest first."""
    mos, predicted = 100 * np.asarray(split.mos, np.float64), 100 * curve(predictions.scores)
    apart = np.where(np.isfinite(predictions.scores), np.abs(mos - predicted), -1.0)
    order = np.argsort(-apart, kind="stable")[:count]
    return [
        Miss(split.paths[i], float(mos[i]), float(predictions.scores[i]), float(predicted[i]))
        for i in order
        if apart[i] >= 0
    ]

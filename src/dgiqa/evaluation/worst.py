"""The pictures that a model misses by most, small enough to be part of a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from dgiqa.datasets import Split
from dgiqa.errors import ImageError
from dgiqa.evaluation.predictions import Predictions
from dgiqa.imaging.decode import decode
from dgiqa.metrics.logistic import Logistic

#: Longest side of a thumbnail in pixels, its JPEG quality, and how many are shown.
SIDE, JPEG_QUALITY, SHOWN = 200, 80, 12


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


def thumbnail(path: Path) -> tuple[str, int, int] | None:
    """The picture as a JPEG ``data:`` URI of at most 200 pixels, its width and height; None if it can't be read."""
    try:
        pixels = decode(path).pixels
    except ImageError:
        return None
    small = PIL.Image.fromarray(pixels)
    small.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}", small.width, small.height

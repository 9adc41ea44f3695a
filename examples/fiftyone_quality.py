"""Quality, its faults and its maps as fields of a FiftyOne data set, to sort, filter and look at in its app.

    dataset = fiftyone.Dataset.from_images_dir("pictures")
    add_quality(dataset)                                  # quality, quality_low, quality_high, quality_model
    add_quality(dataset.take(100), reasons=True)          # and faults, quality_map, depth
    fiftyone.launch_app(dataset.sort_by("quality"))

Faults become classifications with their probability, maps become heatmaps over the picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone
import numpy as np

from dgiqa.errors import ImageError
from dgiqa.executors.arrow import kept


def add_quality(samples: Any, model: str = "default", *, reasons: bool = False) -> int:
    """Adds the fields to every sample of a data set or view; returns how many can't be scored.

    Those say why in ``quality_error``, and have no quality.
    """
    scorer, failed = kept(model), 0
    for sample in _each(samples):
        try:
            explanation = scorer.explain(sample.filepath) if reasons else None
            score = explanation.score if explanation else scorer.score(sample.filepath)
        except ImageError as error:
            failed += 1
            sample["quality"], sample["quality_error"] = None, str(error)
            continue
        sample["quality"], sample["quality_error"] = score.quality, None
        sample["quality_low"], sample["quality_high"] = score.low, score.high
        sample["quality_model"] = score.model
        if explanation:
            sample["faults"] = fiftyone.Classifications(
                classifications=[
                    fiftyone.Classification(label=fault.kind, confidence=fault.probability)
                    for fault in explanation.faults
                    if fault.found
                ]
            )
            for name, values, most in (
                ("quality_map", explanation.quality, 100.0),
                ("depth", explanation.depth, 255.0),
            ):
                if values is not None:
                    sample[name] = fiftyone.Heatmap(map=np.asarray(values, np.float32), range=[0.0, most])
    return failed


def _each(samples: Any) -> Iterable[Any]:
    """The samples, each saved when it is done; a plain list of samples is not saved."""
    return samples.iter_samples(autosave=True) if hasattr(samples, "iter_samples") else samples

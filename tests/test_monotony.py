"""More of a fault lowers the score of the default and of the quick card: Kendall's tau between severity and score.

Haze needs depth: the embedded depth network's map stands for distances from 2 to 100 metres.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import dgiqa
from dgiqa.depth import as_metres, open_depth
from dgiqa.distortions import SEVERITIES, distort, uses_depth
from dgiqa.metrics.correlation import krcc

#: Smallest mean tau over the photographs. 1 is perfect order, 0 chance.
FLOOR = {"blur": 0.9, "noise": 0.9, "jpeg": 0.9, "low_light": 0.8, "haze": 0.8}
MODELS = ("default", "dgiqa_mobile.quick")


@pytest.fixture(scope="module")
def pictures(photographs: list[Path]) -> list[np.ndarray]:
    sized = [PIL.Image.open(path).convert("RGB") for path in photographs if path.name != "hubble_deep_field.jpg"]
    return [np.asarray(image.resize((512, 384), PIL.Image.Resampling.LANCZOS)) for image in sized]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", FLOOR)
def test_score_falls_with_severity(kind: str, model: str, pictures: list[np.ndarray]) -> None:
    scorer, taus, estimate = dgiqa.load(model), [], open_depth("depth_mobile.rendered")
    for pixels in pictures:
        metres = as_metres(estimate(pixels)) if uses_depth(kind) else None
        ladder = [pixels, *(distort(pixels, kind, severity, depth=metres) for severity in SEVERITIES)]
        quality = [scorer.score(step).quality for step in ladder]
        taus.append(-krcc(range(len(ladder)), quality))
    print(f"{kind}: mean tau {np.mean(taus):.3f}, each {np.round(taus, 2).tolist()}")
    assert round(float(np.mean(taus)), 6) >= FLOOR[kind]  # means of tenths: 0.9 isn't quite 0.9

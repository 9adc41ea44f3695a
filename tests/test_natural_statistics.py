"""BRISQUE and NIQE: their statistics against piq's, their laws, and how they join the product.

``golden_natural_statistics.json`` holds what piq 0.8.0 gave, in float64, for the first scale of scikit-image's
public-domain photographs, as they are and spoiled by the project's own distortions; but for one whose sky JPEG makes so
plain that there piq's numbers are rounding.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dgiqa
from dgiqa.distortions import distort
from dgiqa.errors import ImageTooSmall, WeightsError
from dgiqa.models import find_card
from dgiqa.models.natural_statistics import brisque, niqe
from dgiqa.models.natural_statistics.local import asymmetric, luma, normalised, products, symmetric
from dgiqa.runtimes import open_runtime
from dgiqa.scorer import Scorer
from dgiqa.training.classics import fit_brisque, fit_niqe
from dgiqa.types import UInt8

GOLDEN = json.loads((Path(__file__).parent / "golden_natural_statistics.json").read_text())
NAMES = ("brisque", "niqe")


@pytest.fixture(scope="module")
def scorers() -> dict[str, Scorer]:
    return {name: dgiqa.load(f"natural_statistics.{name}", None) for name in NAMES}


@pytest.mark.parametrize("case", GOLDEN)
def test_statistics_are_piqs(case: str, samples: dict[str, UInt8]) -> None:
    name, *spoiled = case.split("-")
    picture = samples[name]
    if spoiled:
        picture = distort(picture, spoiled[0], int(spoiled[1]), seed=3)
    values, _ = normalised(luma(picture), dark=True)
    row = [*symmetric(values)]
    for product in products(values):
        shape, mean, left, right = asymmetric(product)
        row += [shape, mean, left**2, right**2]
    # JPEG leaves plain blocks, where piq lets rounding choose the sign of a value; here such a value is 0.
    tolerance = 0.02 if spoiled[:1] == ["jpeg"] else 1e-4
    np.testing.assert_allclose(row, GOLDEN[case], atol=tolerance)
    np.testing.assert_allclose(brisque.features(picture)[:18], row)


def test_parameters_of_known_distributions_come_out() -> None:
    rng = np.random.default_rng(0)
    shape, variance = symmetric(rng.normal(0, 1.5, 400_000))
    assert shape == pytest.approx(2, abs=0.03)
    assert variance == pytest.approx(2.25, rel=0.01)
    assert symmetric(rng.laplace(0, 1, 400_000))[0] == pytest.approx(1, abs=0.02)
    sides = rng.random(400_000) < 0.75  # a wider left side has more of the mass
    values = np.where(sides, -3.0, 1.0) * np.abs(rng.normal(0, 1, 400_000))
    shape, mean, left, right = asymmetric(values)
    assert (shape, left, right) == pytest.approx((2, 3, 1), rel=0.03)
    assert mean == pytest.approx(values.mean(), rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_spoiled_pictures_score_lower(name: str, samples: dict[str, UInt8], scorers: dict[str, Scorer]) -> None:
    falls = []
    for picture in samples.values():
        before = scorers[name].score(picture).quality
        for kind in ("gaussian_blur", "noise", "jpeg"):
            falls.append(scorers[name].score(distort(picture, kind, 5)).quality < before)
    assert np.mean(falls) >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_same_alone_and_among_others(name: str, samples: dict[str, UInt8], scorers: dict[str, Scorer]) -> None:
    alone = [scorers[name].score(picture).raw for picture in samples.values()]
    for batch, workers in ((1, 2), (4, 1)):
        rows = list(scorers[name].score_all(samples.values(), batch=batch, workers=workers))
        assert [row.raw for row in rows] == alone  # type: ignore[union-attr]
    row = scorers[name].score(samples["cat"])
    assert row.runtime == "numpy fp64"
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.quality <= row.high


def test_small_and_plain_pictures(scorers: dict[str, Scorer]) -> None:
    for name, side in (("brisque", 15), ("niqe", 95)):
        with pytest.raises(ImageTooSmall, match="needs"):
            scorers[name].score(np.zeros((side, 200, 3), np.uint8))
        plain = scorers[name].score(np.full((96, 96, 3), 128, np.uint8))
        assert 0 <= plain.quality <= 100


def test_fitting_finds_what_is_there(samples: dict[str, UInt8]) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 36))
    mos = 1 / (1 + np.exp(-rows[:, 0] + 0.5 * rows[:, 1]))
    parameters = fit_brisque(rows[:300], mos[:300])
    x = (rows[300:] - parameters["mean"]) / parameters["scale"]
    away = ((x[:, None] - parameters["centres"]) ** 2).sum(2)
    told = np.exp(-parameters["gamma"] * away) @ parameters["weights"] + parameters["offset"]
    assert np.corrcoef(told, mos[300:])[0, 1] > 0.8
    pristine = fit_niqe([niqe.patches(picture)[0] for picture in samples.values()])
    near, far = (niqe.measure(p, pristine) for p in (samples["cat"], distort(samples["cat"], "noise", 5)))
    assert near < far


def test_damaged_parameters_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("natural_statistics.niqe")
    (tmp_path / "niqe.npz").write_bytes(b"nothing")
    monkeypatch.setattr("dgiqa.runtimes.numpy.locate", lambda *_: tmp_path / "niqe.npz")
    with pytest.raises(WeightsError, match=r"niqe.npz: can't be read"):
        open_runtime(card, "numpy")

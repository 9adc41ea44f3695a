"""BRISQUE, NIQE and IL-NIQE: their statistics against piq's and scipy's, their laws, and how they join the product.

``golden_natural_statistics.json`` holds what piq 0.8.0 gave, in float64, for the first scale of scikit-image's
public-domain photographs, as they are and spoiled by the project's own distortions; but for one whose sky JPEG makes so
plain that there piq's numbers are rounding.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

import dgiqa
from dgiqa.distortions import distort
from dgiqa.errors import ImageTooSmall, UsageError, WeightsError
from dgiqa.models import find_card
from dgiqa.models.natural_statistics import brisque, il_niqe, niqe
from dgiqa.models.natural_statistics.local import (
    asymmetric,
    cut,
    luma,
    normalised,
    products,
    symmetric,
    unit_scale,
    weibull,
)
from dgiqa.runtimes import open_runtime
from dgiqa.scorer import Scorer
from dgiqa.training.classics import fit_brisque, fit_il_niqe, fit_niqe
from dgiqa.types import UInt8

GOLDEN = json.loads((Path(__file__).parent / "golden_natural_statistics.json").read_text())
NAMES = ("brisque", "niqe", "il_niqe")


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


def test_scipys_estimates_and_parameters_come_out() -> None:
    rng = np.random.default_rng(0)
    for shape, scale in ((0.8, 12.0), (1.7, 0.4)):
        sample = stats.weibull_min.rvs(shape, scale=scale, size=20_000, random_state=rng)
        by_scipy, _, its_scale = stats.weibull_min.fit(sample, floc=0)  # of greatest likelihood, too
        assert weibull(sample) == pytest.approx((by_scipy, its_scale), rel=1e-3)
        sample = stats.gennorm.rvs(shape, scale=scale, size=200_000, random_state=rng)
        assert il_niqe.gaussian(sample) == pytest.approx((shape, scale), rel=0.03)
        left = rng.random(200_000) < 3 / 4  # a scale three times as wide has three times the mass
        sided = np.where(left, -3, 1) * np.abs(sample)
        found, mean, wide, narrow = asymmetric(sided)
        assert (found, wide * unit_scale(found), narrow * unit_scale(found)) == pytest.approx(
            (shape, 3 * scale, scale), rel=0.05
        )
        assert mean == pytest.approx(sided.mean(), rel=0.05)
        assert unit_scale(shape) == pytest.approx(1 / stats.gennorm.std(shape))


def test_a_gradient_is_a_direct_convolution() -> None:
    plane = np.random.default_rng(0).normal(size=(20, 26))
    for scale, sigma in ((1, 1.66), (2, 1.66 / 2**0.28)):
        filters = il_niqe.gradient_filters(plane.shape, scale)
        across, down = np.fft.ifft2(np.fft.fft2(plane) * filters).real
        for order, ours in (((0, 1), across), ((1, 0), down)):
            theirs = ndimage.gaussian_filter(plane, sigma, order=order, mode="wrap", truncate=9)
            np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.abs(theirs).max())


def test_a_log_gabor_filter_is_its_formula_and_finds_its_grating() -> None:
    side = 64
    filters = il_niqe.log_gabor_filters((side, side), 1)
    assert not filters[:, 0, 0].any()
    for index, (y, x) in ((0, (0, 20)), (3, (9, 5)), (5, (-9, 14)), (10, (31, -1)), (11, (12, -30))):
        wave, turn = divmod(index, 4)
        ratio = math.hypot(x, y) / side * 2.4 * 1.31**wave
        cosine = (x * math.cos(turn * math.pi / 4) + y * math.sin(turn * math.pi / 4)) / math.hypot(x, y)
        wanted = math.exp(-0.5 * (math.log(ratio) / math.log(0.55)) ** 2)
        wanted *= math.exp(-0.5 * (math.acos(max(-1.0, cosine)) / (math.pi / 4 / 1.1)) ** 2)
        assert filters[index, y, x] == pytest.approx(wanted, rel=1e-9), index
    rows, columns = np.mgrid[:side, :side]
    grating = np.cos(2 * np.pi * 14 * (rows + columns) / side)  # 3.2 pixels from crest to crest, down to the right
    responses = np.fft.ifft2(np.fft.fft2(grating) * filters)
    assert np.argmax(np.abs(responses).mean((1, 2))) == 1 * 4 + 1
    kernel, direct = np.fft.ifft2(filters[5]), np.zeros((side, side), complex)
    for y, x in np.ndindex(side, side):
        direct += kernel[y, x] * np.roll(grating, (y, x), (0, 1))
    np.testing.assert_allclose(responses[5], direct, atol=1e-12)
    even, odd = responses[5].real, responses[5].imag
    assert even[0, 0] == pytest.approx(even.max())  # on a crest what is even peaks, and what is odd is nothing
    assert odd[0, 0] == pytest.approx(0, abs=1e-12)


def test_colours_by_hand() -> None:
    dark, light = (30, 60, 120), (200, 180, 90)
    picture = np.empty((524, 524, 3), np.uint8)
    picture[:, :262], picture[:, 262:] = dark, light
    rows, sharp = il_niqe.patches(picture)
    assert rows.shape == (36, il_niqe.COUNT)
    assert sharp.shape == (36,)
    red, green, blue = (math.log(b + 1) - math.log(a + 1) for a, b in zip(dark, light, strict=True))
    axes = [(red + green + blue) / 3**0.5, (red + green - 2 * blue) / 6**0.5, (red - green) / 2**0.5]
    for column, sign in ((0, -1), (5, 1)):  # half of the difference to either side of the mean, and no variance
        told = [number for value in axes for number in (sign * value / 2, 0)]
        np.testing.assert_allclose(rows[column, 18:24], told, atol=1e-9)
    opponent = il_niqe.OPPONENT @ np.array([[255, 255, 0], [0, 0, 255], [255, 0, 0], [0, 255, 0]]).T
    assert (np.sign(opponent[1, :2]) == (1, -1)).all()  # yellow, blue
    assert (np.sign(opponent[2, 2:]) == (1, -1)).all()  # red, green


def test_the_distance_is_the_papers() -> None:
    rows = np.random.default_rng(0).normal(size=(36, 50)) + 2
    pooled = (np.eye(50) + np.cov(rows, rowvar=False)) / 2
    wanted = [math.sqrt(row @ np.linalg.solve(pooled, row)) for row in rows]
    np.testing.assert_allclose(il_niqe.distances(rows), wanted)
    np.testing.assert_allclose(il_niqe.distances(rows[:1]), np.sqrt(2 * (rows[:1] ** 2).sum(1)))


def test_more_of_a_fault_is_farther_from_pristine_and_a_mirrored_picture_as_far(
    samples: dict[str, UInt8], scorers: dict[str, Scorer]
) -> None:
    picture, scorer = samples["coffee"], scorers["il_niqe"]
    before = scorer.score(picture).raw
    assert before == pytest.approx(-12.4205, rel=1e-3)  # as it was when the card's curve was fitted
    for kind in ("gaussian_blur", "noise", "jpeg"):
        ladder = [before, *(scorer.score(distort(picture, kind, severity)).raw for severity in (3, 5))]
        assert ladder == sorted(ladder, reverse=True), kind
    assert scorer.score(picture[:, ::-1]).raw == pytest.approx(before, rel=0.02)


@pytest.mark.parametrize("name", ["brisque", "niqe"])
def test_spoiled_pictures_score_lower(name: str, samples: dict[str, UInt8], scorers: dict[str, Scorer]) -> None:
    falls = []
    for picture in samples.values():
        before = scorers[name].score(picture).quality
        for kind in ("gaussian_blur", "noise", "jpeg"):
            falls.append(scorers[name].score(distort(picture, kind, 5)).quality < before)
    assert np.mean(falls) >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_same_alone_and_among_others(name: str, samples: dict[str, UInt8], scorers: dict[str, Scorer]) -> None:
    pictures = list(samples.values())[: 2 if name == "il_niqe" else None]  # it takes most of a second a picture
    alone = [scorers[name].score(picture).raw for picture in pictures]
    for batch, workers in ((1, 2), (4, 1)):
        rows = list(scorers[name].score_all(pictures, batch=batch, workers=workers))
        assert [row.raw for row in rows] == alone  # type: ignore[union-attr]
    row = scorers[name].score(samples["cat"])
    assert row.runtime == "numpy fp64"
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.quality <= row.high


def test_small_and_plain_pictures(scorers: dict[str, Scorer]) -> None:
    for name, side in (("brisque", 15), ("niqe", 95), ("il_niqe", 83)):
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


def test_pristine_patches_have_unit_covariance_in_what_is_fitted_to_them() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, il_niqe.COUNT)) * np.geomspace(1e-2, 1e2, il_niqe.COUNT) + 5
    fitted = fit_il_niqe(list(rows.reshape(50, 10, -1)))
    seen = (rows - fitted["mean"]) @ fitted["components"]
    np.testing.assert_allclose(np.cov(seen, rowvar=False), np.eye(il_niqe.KEPT), atol=1e-6)
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-6)
    with pytest.raises(UsageError, match="430 sharp patches can't tell 430 components"):
        fit_il_niqe([rows[:430]])


def test_patches_are_cut_row_by_row() -> None:
    plane = np.arange(35.0).reshape(5, 7)
    assert [part[0, 0] for part in cut(plane, 2)] == [0, 2, 4, 14, 16, 18]


def test_damaged_parameters_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("natural_statistics.niqe")
    (tmp_path / "niqe.npz").write_bytes(b"nothing")
    monkeypatch.setattr("dgiqa.runtimes.numpy.locate", lambda *_: tmp_path / "niqe.npz")
    with pytest.raises(WeightsError, match=r"niqe.npz: can't be read"):
        open_runtime(card, "numpy")

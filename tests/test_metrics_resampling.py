"""The fast bootstrap against resamples written out, against Efron's own numbers, and against what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dgiqa.metrics.correlation import plcc, rmse
from dgiqa.metrics.resampling import draw, interval, resample, two_sided_p

TIED = st.integers(3, 25).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 6), min_size=n, max_size=n)] * 3))

# Efron, "Computers and the theory of statistics", SIAM Review 21 (1979): 15 law schools, test score and grades.
LSAT = [576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594]
GPA = [3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]


def written_out(columns, counts):
    return [np.repeat(np.asarray(column, float), counts.astype(int)) for column in columns]


@settings(max_examples=60, deadline=None)
@given(TIED, st.integers(0, 99))
def test_every_resample_has_the_numbers_of_the_resample_written_out(columns, seed: int) -> None:
    assume(len(set(columns[0])) > 1 and len(set(columns[1])) > 1)
    found = resample(*columns, samples=7, seed=seed)
    (counts,) = draw(len(columns[0]), 7, seed)
    for k in range(7):
        x, y, fitted = written_out(columns, counts[:, k])
        assert found.rmse_fitted[k] == pytest.approx(rmse(fitted, y), abs=1e-12)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            assert np.isnan([found.srcc[k], found.krcc[k], found.plcc[k]]).all()
            continue
        assert found.srcc[k] == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-9)
        assert found.krcc[k] == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-9)
        assert found.plcc[k] == pytest.approx(plcc(x, y), abs=1e-9)
        if np.ptp(fitted) > 0:
            assert found.plcc_fitted[k] == pytest.approx(plcc(fitted, y), abs=1e-9)


def test_efrons_law_schools() -> None:
    """Efron and Tibshirani, "An introduction to the bootstrap" (1993), table 6.1: 0.132 from 3,200 resamples."""
    assert plcc(LSAT, GPA) == pytest.approx(0.776, abs=5e-4)
    assert resample(LSAT, GPA, samples=3200).plcc.std() == pytest.approx(0.132, abs=0.006)


def test_a_resample_draws_as_many_as_there_are_by_its_seed_alone() -> None:
    (counts,) = draw(50, 30, 3)
    assert counts.shape == (50, 30)
    assert (counts.sum(axis=0) == 50).all()
    assert (next(draw(50, 30, 3)) == counts).all()
    assert (next(draw(50, 30, 4)) != counts).any()
    many = np.concatenate(list(draw(150_000, 5, 3)), axis=1)
    assert many.shape == (150_000, 5)
    assert many[:, 0].var() == pytest.approx(1, abs=0.02)  # as often as a Poisson number of mean 1, nearly


@pytest.mark.parametrize("scale", [1e-250, 1.0, 1e250])
def test_columns_of_any_size_resample_alike(scale: float) -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 40))
    assert resample(x * scale, y, samples=20).plcc == pytest.approx(resample(x, y, samples=20).plcc, abs=1e-9)


def test_a_far_outlier_loses_no_resample() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 40))
    x[0] = 1e5
    found = resample(x, y, samples=50)
    (counts,) = draw(40, 50, 0)
    expected = [plcc(*written_out((x, y), counts[:, k])) for k in range(50)]
    assert found.plcc == pytest.approx(expected, abs=1e-4)


def test_the_interval_is_of_what_is_known() -> None:
    values = np.arange(101.0)
    assert interval(values) == pytest.approx((2.5, 97.5))
    assert interval(values, 0.5) == pytest.approx((25, 75))
    assert interval([*values, np.nan]) == pytest.approx((2.5, 97.5))
    assert interval([1.0, np.nan, np.nan]) is None
    assert interval([]) is None


def test_p_counts_the_rarer_sign() -> None:
    assert two_sided_p([0.0] * 99) == 1
    assert two_sided_p([1.0] * 99) == pytest.approx(2 / 100)
    assert two_sided_p([1.0] * 90 + [-1.0] * 9) == pytest.approx(20 / 100)
    assert two_sided_p([1.0] * 90 + [-1.0] * 9 + [np.nan]) == pytest.approx(20 / 100)
    assert two_sided_p([np.nan]) == 1


def test_the_intervals_hold_about_as_often_as_they_say() -> None:
    """Of normal columns of correlation 0.6, Spearman's is 6/π asin(0.3), Kendall's 2/π asin(0.6) (Kruskal, 1958)."""
    truth = (6 / np.pi * np.arcsin(0.3), 2 / np.pi * np.arcsin(0.6), 0.6)
    rng = np.random.default_rng(5)
    held = np.zeros(3)
    for seed in range(200):
        x = rng.normal(size=150)
        y = 0.6 * x + 0.8 * rng.normal(size=150)
        found = resample(x, y, samples=200, seed=seed)
        for i, values in enumerate((found.srcc, found.krcc, found.plcc)):
            low, high = interval(values)
            held[i] += low <= truth[i] <= high
    assert (held >= 179).all()  # of 200 at 0.95, fewer than 179 in one of 10,000 times
    assert (held <= 199).all()


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_two_models_that_are_equally_good_rarely_differ_by_chance(correlation: float) -> None:
    rng = np.random.default_rng(6)
    fewer = 0
    for seed in range(200):
        y = rng.normal(size=80)
        noise = np.sqrt(1 / correlation**2 - 1) * rng.normal(size=(2, 80))
        first, second = (resample(y + part, y, samples=199, seed=seed).srcc for part in noise)
        fewer += two_sided_p(first - second) < 0.05
    assert 1 <= fewer <= 22  # 10 are expected


def test_a_better_model_is_found() -> None:
    rng = np.random.default_rng(7)
    y = rng.normal(size=300)
    good, bad = y + 0.5 * rng.normal(size=300), y + 1.0 * rng.normal(size=300)
    difference = resample(good, y, samples=400).srcc - resample(bad, y, samples=400).srcc
    assert two_sided_p(difference) == pytest.approx(2 / 401)


@pytest.mark.parametrize(
    ("x", "samples", "text"),
    [
        ([1, 2, 3], 0, "samples must be positive, not 0"),
        ([1, 1, 1], 5, "the first column is constant (1): no correlation is defined"),
    ],
)
def test_what_has_no_resamples_says_why(x, samples: int, text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
        resample(x, [1, 2, 3], samples=samples)
    assert str(caught.value) == text

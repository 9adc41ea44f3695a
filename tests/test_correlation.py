"""Correlations against SciPy, ties included, against published numbers, and the laws that they keep."""

import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dgiqa.metrics.correlation import bootstrap_interval, krcc, plcc, rmse, srcc

REAL = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
FEW = st.integers(0, 4).map(float)  # nearly all tied


def columns(values, largest=60):
    return st.integers(3, largest).flatmap(
        lambda n: st.tuples(*(st.lists(values, min_size=n, max_size=n) for _ in range(2)))
    )


def varied(x, y):
    return len(set(x)) > 1 and len(set(y)) > 1


@given(st.one_of(columns(REAL), columns(FEW)))
def test_the_three_correlations_agree_with_scipy(pair):
    x, y = pair
    assume(varied(x, y))
    assert srcc(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-10)
    assert plcc(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-8)
    assert krcc(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)


# Anscombe, "Graphs in statistical analysis", American Statistician 27 (1973): four sets of one correlation, 0.816.
FIRST_X = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
ANSCOMBE = (
    (FIRST_X, [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]),
    (FIRST_X, [9.14, 8.14, 8.74, 8.77, 9.26, 8.10, 6.13, 3.10, 9.13, 7.26, 4.74]),
    (FIRST_X, [7.46, 6.77, 12.74, 7.11, 7.81, 8.84, 6.08, 5.39, 8.15, 6.42, 5.73]),
    ([8, 8, 8, 8, 8, 8, 8, 19, 8, 8, 8], [6.58, 5.76, 7.71, 8.84, 8.47, 7.04, 5.25, 12.50, 5.56, 7.91, 6.89]),
)


@pytest.mark.parametrize(("x", "y"), ANSCOMBE)
def test_anscombes_four_sets_have_one_correlation(x, y):
    assert plcc(x, y) == pytest.approx(0.8165, abs=3e-4)


@pytest.mark.parametrize(
    ("metric", "x", "y", "value"),
    [
        # The tests of Netflix' VMAF, python/test/perf_metric_test.py.
        (srcc, [1, 2, 3, 5], [1, 2, 3, 4], 1.0),
        (srcc, [1, 2, 5, 3], [1, 2, 3, 4], 0.79999999999999993),
        (krcc, [1, 2, 5, 3], [1, 2, 3, 4], 0.66666666666666663),
        (plcc, [1, 2, 3, 5], [1, 2, 3, 4], 0.98270762982399085),
        (rmse, [1, 2, 3, 5], [1, 2, 3, 4], 0.5),
        # The examples in SciPy's documentation of spearmanr, kendalltau and pearsonr; the first two have ties.
        (srcc, [1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 0.82078268166812329),
        (krcc, [12, 2, 1, 12, 2], [1, 4, 7, 1, 0], -0.47140452079103173),
        (plcc, [1, 2, 3, 4, 5, 6, 7], [10, 9, 2.5, 6, 4, 3, 2], -0.828503883588428),
    ],
)
def test_published_numbers_come_out(metric, x, y, value):
    assert metric(x, y) == pytest.approx(value, abs=1e-14)


@given(columns(REAL))
def test_rmse_is_the_root_of_the_mean_square(pair):
    x, y = map(np.array, pair)
    assert rmse(x, y) == pytest.approx(np.linalg.norm(x - y) / np.sqrt(len(x)), rel=1e-12)


@given(columns(FEW))
def test_swapping_the_columns_changes_nothing_and_turning_one_over_the_sign(pair):
    x, y = map(np.array, pair)
    assume(varied(pair[0], pair[1]))
    for metric in (srcc, plcc, krcc):
        assert metric(x, y) == pytest.approx(metric(y, x), abs=1e-12)
        assert metric(x, -y) == pytest.approx(-metric(x, y), abs=1e-12)
        assert -1 <= metric(x, y) <= 1
    assert srcc(x, np.exp(y)) == srcc(x, y)
    assert krcc(x, y**3) == krcc(x, y)
    assert plcc(x, 3 * y - 7) == pytest.approx(plcc(x, y), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e307])
def test_linear_correlation_survives_any_scale(scale):
    x, y = 5 + np.random.default_rng(1).normal(size=(2, 50))
    assert plcc(x * scale, y) == pytest.approx(plcc(x, y), abs=1e-12)


def test_linear_correlation_survives_a_large_offset():
    x, y = np.random.default_rng(2).integers(0, 9, size=(2, 50)).astype(float)
    assert plcc(x + 2.0**40, y) == pytest.approx(plcc(x, y), abs=1e-9)


def test_ten_thousand_pairs_of_kendall_take_well_under_a_second():
    x, y = np.random.default_rng(3).integers(0, 5000, size=(2, 10_000))
    began = time.process_time()
    found = krcc(x, y)
    assert time.process_time() - began < 1
    assert found == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        ([1, 2, 3], [1, 2], "two columns of equal length are needed, not shapes (3,) and (2,)"),
        ([[1, 2, 3]], [[1, 2, 3]], "two columns of equal length are needed, not shapes (1, 3) and (1, 3)"),
        ([1, 2], [1, 2], "at least 3 pairs are needed, not 2"),
        ([1, 2, 3], [np.nan, 2, np.inf], "the second column has 2 values that are not finite"),
        ([2, 2, 2], [1, 2, 3], "the first column is constant (2): no correlation is defined"),
    ],
)
def test_columns_that_have_no_correlation_say_why(x, y, text):
    for metric in (srcc, plcc, krcc, lambda x, y: bootstrap_interval(srcc, x, y)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
            metric(x, y)
        assert str(caught.value) == text


def test_rmse_of_a_constant_column_is_defined():
    assert rmse([2, 2, 2], [2, 2, 5]) == pytest.approx(3**0.5)


def test_bootstrap_repeats_with_its_seed_and_narrows_with_n():
    random = np.random.default_rng(4)
    x = random.normal(size=400)
    y = x + random.normal(size=400)
    wide = bootstrap_interval(plcc, x[:40], y[:40], samples=300)
    narrow = bootstrap_interval(plcc, x, y, samples=300)
    assert bootstrap_interval(plcc, x, y, samples=300) == narrow
    assert bootstrap_interval(plcc, x, y, samples=300, seed=1) != narrow
    assert narrow[0] < plcc(x, y) < narrow[1]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    inner = bootstrap_interval(plcc, x, y, samples=300, level=0.5)
    assert narrow[0] < inner[0] < inner[1] < narrow[1]


def test_bootstrap_agrees_with_scipy():
    random = np.random.default_rng(5)
    x = random.normal(size=200)
    y = x + random.normal(size=200)
    judge = scipy.stats.bootstrap(
        (x, y), plcc, paired=True, vectorized=False, n_resamples=2000, method="percentile", random_state=6
    )
    assert bootstrap_interval(plcc, x, y) == pytest.approx(judge.confidence_interval, abs=0.01)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(100):
        x = random.normal(size=120)
        y = 0.6 * x + 0.8 * random.normal(size=120)  # correlation 0.6
        low, high = bootstrap_interval(plcc, x, y, samples=150, level=0.9)
        covered += low <= 0.6 <= high
    assert 80 <= covered <= 98


@settings(max_examples=20)
@given(st.integers(3, 8))
def test_bootstrap_of_few_tied_pairs_ends(n):
    x = [0.0] * (n - 1) + [1.0]
    low, high = bootstrap_interval(srcc, x, x, samples=20)
    assert (low, high) == pytest.approx((1, 1))


@pytest.mark.parametrize(("samples", "level"), [(0, 0.95), (10, 0.0), (10, 1.0)])
def test_bootstrap_refuses_senseless_settings(samples, level):
    with pytest.raises(ValueError, match="samples must be positive and level between 0 and 1"):
        bootstrap_interval(srcc, [1, 2, 3], [1, 2, 3], samples=samples, level=level)

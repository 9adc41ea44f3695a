"""The four-parameter logistic against SciPy's curve_fit from several starts, and the laws of a least-squares fit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dgiqa.metrics.correlation import plcc, rmse, srcc
from dgiqa.metrics.logistic import Logistic, fit_logistic


def formula(x, b1, b2, b3, b4):
    """As the VQEG reports print it, written anew."""
    return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4)))


def squared_error(curve, x, y):
    return float(np.sum((curve(x) - y) ** 2))


def best_of_scipy(x, y):
    """The least squared error that SciPy finds from the field's usual start and eight others."""
    found = []
    for centre in np.quantile(x, (0.1, 0.5, 0.9)):
        for width in (x.std() / 8, x.std() / 4, x.std()):
            start = (y.max(), y.min(), centre, width)
            try:
                with np.errstate(over="ignore"):
                    b, _ = scipy.optimize.curve_fit(formula, x, y, start, maxfev=4000)
            except RuntimeError:  # no end within the calls allowed
                continue
            with np.errstate(over="ignore"):
                found.append(float(np.sum((formula(x, *b) - y) ** 2)))
    return min(found)


def draw(seed: int, n: int = 80):
    """Scores in some unit and MOS in 0..1 that bend with them, rising or falling."""
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.uniform(-50, 50), 10 ** rng.uniform(-2, 2), n)
    u = (x - x.mean()) / x.std()
    turn = rng.choice([-1, 1])
    return x, np.clip(
        1 / (1 + np.exp(-turn * rng.uniform(0.3, 4) * (u - rng.uniform(-1, 1)))) + rng.normal(0, 0.1, n), 0, 1
    )


@pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning")
@pytest.mark.parametrize("seed", range(12))
def test_no_start_of_scipys_finds_a_better_curve(seed: int) -> None:
    x, y = draw(seed)
    assert squared_error(fit_logistic(x, y), x, y) <= best_of_scipy(x, y) * (1 + 1e-6)


@pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning")
def test_the_parameters_are_scipys() -> None:
    x, y = draw(3)
    curve = fit_logistic(x, y)
    with np.errstate(over="ignore"):
        b, _ = scipy.optimize.curve_fit(formula, x, y, (curve.b1, curve.b2, curve.b3, curve.b4), xtol=1e-12)
    assert (curve.b1, curve.b2, curve.b3, curve.b4) == pytest.approx(tuple(b), rel=1e-3)
    assert curve(x) == pytest.approx(formula(x, *b), abs=1e-5)


@pytest.mark.parametrize(
    "b", [(0.9, 0.1, 50.0, 7.0), (0.2, 0.8, -3.0, 0.01), (1.0, 0.0, 1e6, 2e5), (0.7, 0.3, 1e-9, 3e-9)]
)
def test_a_curve_without_noise_comes_back(b: tuple[float, ...]) -> None:
    x = b[2] + b[3] * np.linspace(-4, 5, 60)
    found = fit_logistic(x, formula(x, *b))
    assert (found.b1, found.b2) == pytest.approx(b[:2], abs=1e-6)
    assert (found.b3, found.b4) == pytest.approx(b[2:], rel=1e-5)


def test_scores_that_are_the_mos_are_left_as_they_are() -> None:
    """Here VMAF's test of its own mapping, a logistic with ends that are not fitted, publishes 0.022753642178052261."""
    x = np.arange(0, 1, 0.0001)
    assert rmse(fit_logistic(x, x)(x), x) < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), min_size=5, max_size=40))
def test_the_error_lies_between_that_of_any_rising_or_falling_curve_and_that_of_a_line(pairs) -> None:
    x, y = np.array(pairs, float).T
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    error = squared_error(fit_logistic(x, y), x, y)
    line = float(np.polyfit(x, y, 1, full=True)[1].sum()) if len(set(x)) > 2 else np.inf
    assert error <= min(line, float(np.sum((y - y.mean()) ** 2))) * (1 + 1e-4) + 1e-9
    # Pictures of one score get one value, so that the best step function weighs their mean.
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, y) / counts
    within = float(np.sum((y - means[inverse]) ** 2))
    steps = (scipy.optimize.isotonic_regression(means, weights=counts, increasing=rising).x for rising in (True, False))
    best = within + min(float(np.sum(counts * (step - means) ** 2)) for step in steps)
    assert error >= best - 1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_the_unit_of_the_scores_does_not_matter(seed: int, shift: float, scale: float) -> None:
    x, y = draw(seed, 40)
    moved = shift + scale * (x - x.mean()) / x.std()
    assert fit_logistic(moved, y)(moved) == pytest.approx(fit_logistic(x, y)(x), abs=1e-4)


@pytest.mark.parametrize("scale", [1e-250, 1e250])
def test_scores_of_any_size_have_a_curve(scale: float) -> None:
    x, y = draw(1)
    u = (x - x.mean()) / x.std()
    assert fit_logistic(u * scale, y)(u * scale) == pytest.approx(fit_logistic(u, y)(u), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_keeps_the_order_and_raises_the_linear_correlation(seed: int) -> None:
    x, y = draw(seed)
    curve = fit_logistic(x, y)
    rises = 1 if curve.b1 > curve.b2 else -1
    assert np.all(rises * np.diff(curve(np.sort(x))) >= 0)
    assert plcc(curve(x), y) >= abs(plcc(x, y)) - 1e-6
    assert rises * srcc(x, y) > 0


def test_five_pictures_two_of_a_score_are_enough() -> None:
    x, y = [0, 0, 1, 1, 1], [0.1, 0.3, 0.7, 0.8, 0.9]
    assert fit_logistic(x, y)(x) == pytest.approx([0.2, 0.2, 0.8, 0.8, 0.8])


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        ([1, 2, 3], [1, 2, 3], "a curve of 4 parameters needs at least 4 pairs, not 3"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "the first column is constant (1): no correlation is defined"),
        ([1, 2, 3, np.nan], [1, 2, 3, 4], "the first column has 1 values that are not finite"),
    ],
)
def test_columns_without_a_curve_say_why(x, y, text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
        fit_logistic(x, y)
    assert str(caught.value) == text


def test_a_width_is_positive() -> None:
    with pytest.raises(ValueError, match=r"^b4 must be positive, not 0$"):
        Logistic(1.0, 0.0, 0.5, 0.0).check()

"""The z-test of two correlations with one column in common, against printed results and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from dgiqa.metrics.significance import CorrelationTest, compare_correlations

CORRELATION = st.floats(-1, 1)


@pytest.mark.parametrize(
    ("first", "second", "between", "n", "z"),
    [
        # As the R package cocor prints "Meng, Rosenthal, and Rubin's z (1992)"; the correlations are to 4 digits.
        (0.8066, 0.2383, 0.2255, 177, 8.3907),
        (-0.1741, 0.2015, 0.3734, 646, -8.5080),
        (0.1724, 0.1795, 0.5387, 646, -0.1909),
    ],
)
def test_printed_results_come_out(first: float, second: float, between: float, n: int, z: float) -> None:
    found = compare_correlations(first, second, between, n)
    assert found.z == pytest.approx(z, abs=2.5e-3)
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(abs(z)), rel=0.02)


@example(1.0, -1.0, 0.0, 4)
@given(CORRELATION, CORRELATION, CORRELATION, st.integers(4, 10_000))
def test_the_sign_follows_the_order_and_p_the_size(first: float, second: float, between: float, n: int) -> None:
    found, turned = (compare_correlations(*pair, between, n) for pair in ((first, second), (second, first)))
    assert math.isfinite(found.z)
    assert 0 <= found.p <= 1
    assert (turned.z, turned.p) == (-found.z, found.p)
    assert (found.z > 0) <= (first > second)
    if abs(first - second) > 1e-6:
        assert (found.z > 0) == (first > second)


def test_equal_correlations_do_not_differ() -> None:
    assert compare_correlations(0.9, 0.9, 1.0, 50) == CorrelationTest(0.0, 1.0)
    assert compare_correlations(1.0, 1.0, 1.0, 50) == CorrelationTest(0.0, 1.0)


def test_models_that_agree_with_each_other_are_told_apart_by_less() -> None:
    close, far = (compare_correlations(0.85, 0.83, between, 200).z for between in (0.95, 0.5))
    assert close > far > 0


def test_two_models_that_are_equally_good_rarely_differ_by_chance() -> None:
    rng = np.random.default_rng(8)
    fewer = 0
    for _ in range(1000):
        y = rng.normal(size=100)
        first, second = y + 0.6 * rng.normal(size=(2, 100))
        r = np.corrcoef([first, second, y])
        fewer += compare_correlations(r[0, 2], r[1, 2], r[0, 1], 100).p < 0.05
    assert 25 <= fewer <= 80  # 50 are expected


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((1.2, 0.5, 0.5, 50), "correlations lie in -1..1, not 1.2, 0.5, 0.5"),
        ((math.nan, 0.5, 0.5, 50), "correlations lie in -1..1, not nan, 0.5, 0.5"),
        ((0.6, 0.5, 0.5, 3), "the test needs at least 4 pictures, not 3"),
    ],
)
def test_senseless_numbers_are_refused(numbers, text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
        compare_correlations(*numbers)
    assert str(caught.value) == text

"""The two areas of Krasula et al. against their procedure written out slowly, and cases worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dgiqa.metrics.discrimination import Z_DIFFERENT, Discrimination, auc, discriminate

FEW = st.integers(0, 5).map(float)


def written_out(scores, mos, deviations, raters: int):
    """The authors' published procedure (github.com/krasuluk/AucPerformance), pair by pair in plain Python."""
    different, similar, better = [], [], []
    for i, j in itertools.combinations(range(len(mos)), 2):
        error = math.sqrt(deviations[i] ** 2 / raters + deviations[j] ** 2 / raters) or 1e-6
        z = (mos[i] - mos[j]) / error
        if 0.5 + math.erf(abs(z) / math.sqrt(2)) / 2 < 0.95:
            similar.append(abs(scores[i] - scores[j]))
        else:
            different.append(abs(scores[i] - scores[j]))
            better.append((scores[i] - scores[j]) * (1 if z > 0 else -1))
    return (
        area(different, similar),
        area(better, [-b for b in better]),
        sum(b > 0 for b in better) / len(better) if better else None,
        len(different),
    )


def area(high, low):
    """How often high is above low, each with each."""
    if not high or not low:
        return None
    return sum((a > b) + 0.5 * (a == b) for a in high for b in low) / len(high) / len(low)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(FEW, FEW, FEW), min_size=3, max_size=14), st.integers(1, 30))
def test_the_areas_are_those_of_the_procedure_written_out(rows, raters: int) -> None:
    scores, mos, deviations = zip(*rows, strict=True)
    found = discriminate(scores, mos, deviations, raters)
    area_ds, area_bw, correct, different = written_out(scores, mos, deviations, raters)
    assert (found.pairs, found.different) == (math.comb(len(rows), 2), different)
    assert (found.different_similar, found.better_worse, found.correct) == pytest.approx((area_ds, area_bw, correct))


def test_three_pictures_by_hand() -> None:
    """One deviation of 0.4 over 16 raters: a difference of two MOS has an error of 0.1414, and 0.2326 is apart."""
    found = discriminate([1.0, 2.0, 9.0], [0.2, 0.3, 0.9], [0.4, 0.4, 0.4], 16)
    # Pair (1, 2) is similar at 1 apart, (1, 3) and (2, 3) different at 8 and 7, and in order.
    assert found == Discrimination(different_similar=1.0, better_worse=1.0, correct=1.0, pairs=3, different=2)
    turned = discriminate([1.0, 9.0, 2.0], [0.2, 0.3, 0.9], [0.4, 0.4, 0.4], 16)
    # Now 8 apart where similar, 1 and 7 where different; the first in order, the second not: +1, −7 against −1, +7.
    assert turned == Discrimination(different_similar=0.0, better_worse=0.25, correct=0.5, pairs=3, different=2)


def test_the_limit_of_different_is_the_95th_percentile() -> None:
    assert scipy.stats.norm.cdf(Z_DIFFERENT) == pytest.approx(0.95, abs=1e-12)
    just, almost = Z_DIFFERENT * math.sqrt(2) + 1e-9, Z_DIFFERENT * math.sqrt(2) - 1e-9
    assert discriminate([0, 0, 1], [0, 0, just], [1, 1, 1], 1).different == 2
    assert discriminate([0, 0, 1], [0, 0, almost], [1, 1, 1], 1).different == 0


def test_without_pairs_of_a_kind_there_is_no_area() -> None:
    alike = discriminate([1, 2, 3], [0.5, 0.5, 0.5], [0, 0, 0], 30)
    assert alike == Discrimination(pairs=3, different=0)
    apart = discriminate([1, 2, 3], [0.1, 0.5, 0.9], [0, 0, 0], 30)
    assert apart == Discrimination(better_worse=1.0, correct=1.0, pairs=3, different=3)


def test_a_constant_score_tells_nothing_apart() -> None:
    found = discriminate([1, 1, 1, 1], [0.1, 0.1, 0.5, 0.9], [0.01] * 4, 30)
    assert (found.different_similar, found.better_worse, found.correct) == (0.5, 0.5, 0.0)


def test_many_pictures_give_a_drawn_share_of_pairs() -> None:
    rng = np.random.default_rng(1)
    mos = rng.uniform(size=400)
    scores, deviations = mos + rng.normal(0, 0.1, 400), np.full(400, 0.2)
    whole = discriminate(scores, mos, deviations, 20)
    drawn = discriminate(scores, mos, deviations, 20, most_pairs=20_000)
    assert (whole.drawn, whole.pairs, drawn.drawn, drawn.pairs) == (False, 79_800, True, 20_000)
    assert drawn.different_similar == pytest.approx(whole.different_similar, abs=0.02)
    assert drawn.better_worse == pytest.approx(whole.better_worse, abs=0.01)
    assert drawn.correct == pytest.approx(whole.correct, abs=0.02)
    assert drawn == discriminate(scores, mos, deviations, 20, most_pairs=20_000)
    assert drawn != discriminate(scores, mos, deviations, 20, most_pairs=20_000, seed=1)


@given(st.lists(FEW, min_size=1, max_size=20), st.lists(FEW, min_size=1, max_size=20))
def test_the_area_is_mann_and_whitneys(high, low) -> None:
    judge = scipy.stats.mannwhitneyu(high, low).statistic / len(high) / len(low)
    assert auc(high, low) == pytest.approx(judge)
    assert auc(low, high) == pytest.approx(1 - judge)
    assert auc(high, []) is None


@pytest.mark.parametrize(
    ("deviations", "raters", "text"),
    [
        (
            [0.1, -0.2, 0.1],
            5,
            "raters must be positive and deviations not negative, not 5 raters and a deviation of -0.2",
        ),
        (
            [0.1, 0.2, 0.1],
            0,
            "raters must be positive and deviations not negative, not 0 raters and a deviation of 0.1",
        ),
        ([0.1, np.nan, 0.1], 5, "the first column has 1 values that are not finite"),
    ],
)
def test_senseless_ratings_are_refused(deviations, raters: int, text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
        discriminate([1, 2, 3], [1, 2, 3], deviations, raters)
    assert str(caught.value) == text

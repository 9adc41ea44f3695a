"""Evaluations, comparisons and the result file: numbers against SciPy, what is left out and why, whole texts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dgiqa.datasets import Split
from dgiqa.errors import ImageUnreadable, UsageError
from dgiqa.evaluation import (
    Evaluation,
    Predictions,
    Report,
    as_text,
    collect,
    compare,
    evaluate,
    from_json,
    to_json,
)
from dgiqa.evaluation.results import Missing
from dgiqa.evaluation.table import change, remarks
from dgiqa.metrics.discrimination import discriminate
from dgiqa.types import Failure, Score


def make_split(mos, **columns) -> Split:
    mos = np.asarray(mos, np.float32)
    paths = tuple(Path(f"set/{i:03}.jpg") for i in range(len(mos)))
    given_columns = {"subsets": ("",) * len(mos), "distortions": ("",) * len(mos), **columns}
    return Split("made", "test", paths, mos, **given_columns)


def draw(n: int = 120, noise: float = 0.1, seed: int = 1, **columns) -> tuple[Split, Predictions]:
    """MOS, and scores of 0 to 100 that bend with them."""
    rng = np.random.default_rng(seed)
    split = make_split(rng.uniform(size=n), **columns)
    return split, Predictions("model", 100 * np.clip(split.mos**1.5 + rng.normal(0, noise, n), 0, 1))


def report(*evaluations: Evaluation, comparisons=()) -> Report:
    return Report("2026-01-02T03:04:05+00:00", "dgiqa evaluate", {"dgiqa": "1"}, evaluations, tuple(comparisons))


# --- one model ----------------------------------------------------------------------------------------------------


def test_the_numbers_are_scipys() -> None:
    split, predictions = draw()
    found = evaluate(predictions, split, samples=200)
    x, y = predictions.scores, split.mos.astype(float)
    assert (found.asked, found.overall.n, found.samples, found.seed) == (120, 120, 200, 0)
    assert found.overall.srcc.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-6)
    assert found.overall.krcc.value == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-6)
    assert found.overall.plcc_raw.value == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-6)
    assert found.curve is not None
    fitted = found.curve(x)
    assert found.overall.plcc_fitted.value == pytest.approx(scipy.stats.pearsonr(fitted, y).statistic, abs=1e-6)
    assert found.overall.rmse_fitted.value == pytest.approx(100 * np.sqrt(np.mean((fitted - y) ** 2)), abs=1e-6)
    assert found.overall.plcc_fitted.value > found.overall.plcc_raw.value


def test_the_intervals_are_scipys_bootstrap() -> None:
    split, predictions = draw()
    found = evaluate(predictions, split).overall.srcc
    judge = scipy.stats.bootstrap(
        (predictions.scores, split.mos),
        lambda x, y: scipy.stats.spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        random_state=2,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(judge), abs=0.012)
    assert found.low < found.value < found.high


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(30)), st.floats(0.01, 100))
def test_the_order_of_pictures_and_the_unit_of_scores_do_not_matter(order: list[int], scale: float) -> None:
    split, predictions = draw(30)
    index = np.array(order)
    moved = dataclasses.replace(split, mos=split.mos[index], paths=tuple(split.paths[i] for i in index))
    scaled = Predictions("model", 7 + scale * predictions.scores[index])
    a, b = (evaluate(p, s, samples=5).overall for p, s in ((predictions, split), (scaled, moved)))
    for name in ("srcc", "krcc", "plcc_raw", "plcc_fitted", "rmse_fitted"):
        assert getattr(b, name).value == pytest.approx(getattr(a, name).value, abs=2e-4)


def test_groups_have_numbers_of_their_own_by_the_curve_of_all() -> None:
    subsets = ("a", "b", "b") * 40
    split, predictions = draw(subsets=subsets, distortions=("blur", "noise") * 60)
    found = evaluate(predictions, split, samples=50)
    assert [(g.name, g.agreement.n) for g in found.subsets] == [("a", 40), ("b", 80)]
    assert [(g.name, g.agreement.n) for g in found.distortions] == [("blur", 60), ("noise", 60)]
    chosen = np.array(subsets) == "b"
    b, y = found.subsets[1].agreement, split.mos.astype(float)[chosen]
    assert b.srcc.value == pytest.approx(scipy.stats.spearmanr(predictions.scores[chosen], y).statistic, abs=1e-6)
    rmse = 100 * np.sqrt(np.mean((found.curve(predictions.scores[chosen]) - y) ** 2))
    assert b.rmse_fitted.value == pytest.approx(rmse, abs=1e-6)
    assert found.left_out == ()


def test_groups_without_numbers_say_why() -> None:
    names = ["few"] * 4 + ["flat"] * 5 + ["same"] * 5 + [""] * 6 + ["good"] * 20
    split, predictions = draw(40, subsets=tuple(names))
    predictions.scores[4:9] = 50
    split.mos[9:14] = 0.5
    found = evaluate(predictions, split, samples=20)
    assert [group.name for group in found.subsets] == ["good"]
    assert [(left.kind, left.name, left.n, left.why) for left in found.left_out] == [
        ("subset", "", 6, "the data set names none for them"),
        ("subset", "few", 4, "fewer than 5 pictures"),
        ("subset", "flat", 5, "all scores are the same"),
        ("subset", "same", 5, "all MOS are the same"),
    ]
    assert "subset without a name, 6 pictures: no numbers, the data set names none for them" in remarks(found)


def test_pictures_without_a_score_are_left_out_and_named() -> None:
    split, whole = draw(40)
    scores = whole.scores.copy()
    scores[[3, 17]] = np.nan
    missing = tuple(Missing(str(split.paths[i]), "it is gone") for i in (3, 17))
    found = evaluate(Predictions("model", scores, missing=missing), split, samples=20)
    kept = [i for i in range(40) if i not in (3, 17)]
    rest = dataclasses.replace(split, mos=split.mos[kept], paths=tuple(split.paths[i] for i in kept))
    rest = dataclasses.replace(rest, subsets=("",) * 38, distortions=("",) * 38)
    assert found.overall == evaluate(Predictions("model", whole.scores[kept]), rest, samples=20).overall
    assert (found.asked, found.overall.n, found.missing) == (40, 38, missing)
    assert "2 of 40 pictures have no score and are left out" in remarks(found)


def test_deviations_of_ratings_give_the_two_areas() -> None:
    split, predictions = draw(deviations=np.full(120, 0.15, np.float32), raters=20)
    found = evaluate(predictions, split, samples=20)
    assert found.discrimination == discriminate(predictions.scores, split.mos, split.deviations, 20)
    assert found.no_discrimination == ""
    pairs = found.discrimination
    assert list(remarks(found)) == [
        f"different or similar AUC {pairs.different_similar:.3f}, better or worse AUC {pairs.better_worse:.3f}, "
        f"ordered as people do {pairs.correct:.3f}; people tell {pairs.different:,} of 7,140 pairs apart "
        "(all there are)"
    ]


@pytest.mark.parametrize(
    ("deviation", "raters", "why"),
    [
        (None, 20, "the data set has no deviations of its ratings"),
        (0.1, 0, "the data set doesn't say how many rated each picture"),
        (np.nan, 20, "too few pictures have a deviation of their ratings"),
        (-0.25, 20, "a deviation of its ratings is -0.25, below 0"),
    ],
)
def test_without_deviations_there_are_no_areas(deviation: float | None, raters: int, why: str) -> None:
    column = None if deviation is None else np.full(30, deviation, np.float32)
    split, predictions = draw(30, deviations=column, raters=raters)
    found = evaluate(predictions, split, samples=20)
    assert (found.discrimination, found.no_discrimination) == (None, why)
    assert list(remarks(found)) == [f"no different or similar, better or worse AUC: {why}"]


def test_a_models_interval_is_measured() -> None:
    split, predictions = draw(50)
    y = 100 * split.mos.astype(float)
    low, high = np.clip(y - 5, 0, 100), np.clip(y + 5, 0, 100)
    high[:10] = low[:10]  # nothing lies inside, but for MOS at the ends
    low[49] = high[49] = np.nan
    found = evaluate(dataclasses.replace(predictions, low=low, high=high), split, samples=20)
    inside = (low[:49] <= y[:49]) & (y[:49] <= high[:49])
    assert (found.coverage.n, found.coverage.share) == (49, pytest.approx(inside.mean(), abs=1e-4))
    assert found.coverage.how == "the pictures evaluated"
    assert next(iter(remarks(found))).startswith(f"{found.coverage.share:.3f} of 49 MOS lie in their 90 % interval")


@pytest.mark.parametrize("n", [3, 4])
def test_of_three_or_four_pictures_no_curve_is_fitted(n: int) -> None:
    found = evaluate(Predictions("model", np.arange(n) ** 2.0), make_split(np.arange(n) / n), samples=50)
    assert (found.curve, found.overall.plcc_fitted, found.overall.rmse_fitted) == (None, None, None)
    assert found.overall.srcc.value == 1


def test_a_score_that_falls_and_a_training_split_are_said() -> None:
    split, predictions = draw(40)
    found = evaluate(Predictions("model", -predictions.scores), dataclasses.replace(split, split="train"), samples=20)
    assert found.overall.plcc_fitted.value > 0 > found.overall.plcc_raw.value
    assert list(remarks(found))[:2] == [
        "the score falls as MOS rises: where lower is better, say --lower-is-better; a fitted PLCC has no sign",
        "these are training pictures: a model that was trained on them agrees with new ones less",
    ]


@pytest.mark.parametrize(
    ("scores", "mos", "text"),
    [
        ([1, 2, 3], [0.1, 0.2, 0.3, 0.4], "model: 3 scores for the 4 pictures of made test"),
        ([5, 5, 5, np.nan], [0.1, 0.2, 0.3, 0.4], "model: the same score, 5, for all 3 pictures of made test"),
        ([1, 2, 3], [0.5, 0.5, 0.5], "made test: the same MOS, 0.5, of all 3 pictures; is it the right column?"),
        ([1, 2], [0.1, 0.2], "model: 2 of the 2 pictures of made test have a score; 3 are the least"),
        ([], [], "model: 0 of the 0 pictures of made test have a score; 3 are the least"),
    ],
)
def test_what_can_not_be_judged_says_why(scores, mos, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(Predictions("model", np.array(scores, float)), make_split(mos))
    assert str(caught.value) == text


def test_too_few_scores_name_the_first_reason() -> None:
    predictions = Predictions("model", np.array([1, np.nan, np.nan]), missing=(Missing("b.jpg", "b.jpg: is empty"),))
    with pytest.raises(UsageError) as caught:
        evaluate(predictions, make_split([0.1, 0.2, 0.3]))
    assert str(caught.value) == (
        "model: 1 of the 3 pictures of made test have a score; 3 are the least; b.jpg: is empty"
    )


def test_rows_become_predictions() -> None:
    rows = [
        Score("a.jpg", 51.25, 0.5, "m@1", 8, 8, low=40.0, high=60.0),
        Failure("b.jpg", ImageUnreadable("b.jpg: is empty", hint="save it again"), "m@1"),
        Score("c.jpg", 71.125, 0.7, "m@1", 8, 8),
    ]
    found = collect(rows, "m@1", "abcd1234")
    assert (found.model, found.fingerprint, len(found)) == ("m@1", "abcd1234", 3)
    np.testing.assert_array_equal(found.scores, [51.25, np.nan, 71.125])
    np.testing.assert_array_equal(found.low, [40, np.nan, np.nan])
    np.testing.assert_array_equal(found.high, [60, np.nan, np.nan])
    assert found.missing == (Missing("b.jpg", "b.jpg: is empty; save it again"),)
    plain = collect([rows[2]], "m@1")
    assert (plain.low, plain.high, plain.missing) == (None, None, ())


# --- two models ---------------------------------------------------------------------------------------------------


def test_a_model_does_not_differ_from_itself() -> None:
    split, predictions = draw()
    found = compare(predictions, dataclasses.replace(predictions, model="twin"), split)
    assert (found.first, found.second, found.dataset, found.split, found.n) == ("model", "twin", "made", "test", 120)
    for difference in (found.srcc, found.plcc):
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert (difference.p, difference.z, difference.p_of_z) == (1, 0, 1)


def test_a_difference_turns_its_sign_with_the_order() -> None:
    split, good = draw(noise=0.05)
    bad = dataclasses.replace(draw(noise=0.25, seed=1)[1], model="bad")
    found, turned = compare(good, bad, split), compare(bad, good, split)
    for one, other in ((found.srcc, turned.srcc), (found.plcc, turned.plcc)):
        assert one.value > 0
        assert one.low > 0
        assert one.p < 0.05
        assert one.p_of_z < 0.05
        assert (other.value, other.low, other.high, other.z) == pytest.approx((-one.value, -one.high, -one.low, -one.z))
        assert other.p == one.p
    x, y = good.scores, split.mos
    expected = scipy.stats.spearmanr(x, y).statistic - scipy.stats.spearmanr(bad.scores, y).statistic
    assert found.srcc.value == pytest.approx(expected, abs=1e-6)


def test_models_are_compared_on_the_pictures_of_both() -> None:
    split, first = draw(60)
    second = dataclasses.replace(draw(60, noise=0.2)[1], model="second")
    first.scores[:7] = np.nan
    second.scores[5:9] = np.nan
    assert compare(first, second, split, samples=20).n == 51


def test_equally_good_models_rarely_differ() -> None:
    """The whole of compare, its curves and both tests: about 1 in 20 is called different at 0.05."""
    rng = np.random.default_rng(9)
    called = np.zeros(4)
    for _ in range(60):
        y = rng.uniform(size=60)
        first, second = (Predictions(name, y + rng.normal(0, 0.15, 60)) for name in "ab")
        found = compare(first, second, make_split(y), samples=199)
        called += [p < 0.05 for d in (found.srcc, found.plcc) for p in (d.p, d.p_of_z)]
    assert (called <= 10).all()  # 3 are expected of each; 11 or more come less than once in 2,000 times


@pytest.mark.parametrize(
    ("second", "text"),
    [
        ([np.nan] * 3 + [1, 2, 3, 4], "a and b: 4 pictures of made test have both scores; 5 are the least"),
        ([1] * 7, "a and b: a column is constant over the 7 pictures of both"),
    ],
)
def test_models_that_can_not_be_compared_say_why(second, text: str) -> None:
    split = make_split(np.arange(7) / 10)
    with pytest.raises(UsageError) as caught:
        compare(Predictions("a", np.arange(7.0)), Predictions("b", np.array(second, float)), split)
    assert str(caught.value) == text


# --- the result file and the text ---------------------------------------------------------------------------------


def whole_report() -> Report:
    """A report with every kind of content, empty values too."""
    split, first = draw(60, subsets=("a", "b") * 29 + ("c", "c"), deviations=np.full(60, 0.2, np.float32), raters=9)
    scores = first.scores.copy()
    scores[4] = np.nan
    second = Predictions("second", scores, scores - 5, scores + 5, (Missing("set/004.jpg", "it is gone"),), "0123abcd")
    other = dataclasses.replace(split, dataset="other", deviations=None)
    flat = compare(first, second, split, samples=50)
    unknown = dataclasses.replace(flat.srcc, low=None, high=None)
    return report(
        evaluate(first, split, samples=50),
        evaluate(second, split, samples=50),
        evaluate(second, other, samples=50),
        evaluate(Predictions("model", np.arange(4.0)), make_split([0.1, 0.3, 0.2, 0.4]), samples=50),
        comparisons=[flat, dataclasses.replace(flat, srcc=unknown)],
    )


def test_the_result_file_comes_back_unchanged() -> None:
    original = whole_report()
    text = to_json(original)
    assert from_json(text) == original
    assert to_json(from_json(text)) == text
    assert text.isascii()


def test_the_result_file_has_no_number_that_json_has_not() -> None:
    def refuse(token: str):
        raise AssertionError(token)

    json.loads(to_json(whole_report()), parse_constant=refuse)


def keys(value, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {f"{path}{key}" for key in value} | {k for key, v in value.items() for k in keys(v, f"{path}{key}.")}
    if isinstance(value, list):
        return {k for item in value for k in keys(item, path)}
    return set()


NUMBERS = ("srcc", "krcc", "plcc_raw", "plcc_fitted", "rmse_fitted")


def test_the_keys_of_the_result_file_are_frozen() -> None:
    def agreement(place: str) -> set[str]:
        return {f"{place}.n"} | {
            f"{place}.{name}{part}" for name in NUMBERS for part in ("", ".value", ".low", ".high")
        }

    e, c = "evaluations", "comparisons"
    assert keys(json.loads(to_json(whole_report()))) == {
        "date", "command", "versions", "versions.dgiqa", e, c, "limit", "format",
        *(f"{e}.{k}" for k in (
            "model", "fingerprint", "dataset", "split", "asked", "overall", "curve", "subsets", "distortions",
            "left_out", "missing", "discrimination", "no_discrimination", "coverage", "samples", "seed",
        )),
        *agreement(f"{e}.overall"),
        *(f"{e}.curve.{k}" for k in ("b1", "b2", "b3", "b4")),
        f"{e}.subsets.name", f"{e}.subsets.agreement", *agreement(f"{e}.subsets.agreement"),
        *(f"{e}.left_out.{k}" for k in ("kind", "name", "n", "why")),
        *(f"{e}.missing.{k}" for k in ("path", "why")),
        *(f"{e}.discrimination.{k}" for k in (
            "different_similar", "better_worse", "correct", "pairs", "different", "drawn", "seed",
        )),
        *(f"{e}.coverage.{k}" for k in ("share", "low", "high", "n", "mean_width", "how")),
        *(f"{c}.{k}" for k in ("first", "second", "dataset", "split", "n", "srcc", "plcc")),
        *(f"{c}.{m}.{k}" for m in ("srcc", "plcc") for k in ("value", "low", "high", "p", "z", "p_of_z")),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change_it", "text"),
    [
        (lambda t: "", "r.json: not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        (lambda t: "[]", "r.json: its format is None, this version reads 1; evaluate once more"),
        (
            lambda t: t.replace('"format": 1', '"format": 2'),
            "r.json: its format is 2, this version reads 1; evaluate once more",
        ),
        (lambda t: t.replace('"limit": 0', '"limit": "no"'), "r.json: limit: expected int, found 'no'"),
        (lambda t: t.replace('"asked": 4,', ""), "r.json: evaluations[3]: asked: missing"),
    ],
)  # fmt: skip
def test_a_result_file_that_is_none_says_where(change_it, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_json(change_it(to_json(whole_report())), "r.json")
    assert str(caught.value) == text


def test_the_text_of_a_report() -> None:
    split = make_split([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], subsets=("a", "a", "a", "a", "a", "b"))
    first, second = (
        Predictions(name, np.array(x, float)) for name, x in (("one", range(6)), ("two", range(5, -1, -1)))
    )
    there = dataclasses.replace(split, dataset="there")
    text = as_text(
        report(
            evaluate(first, split, samples=50),
            evaluate(second, split, samples=50),
            evaluate(first, there, samples=50),
            comparisons=[compare(first, second, split)],
        )
    )
    assert text == (
        "made test\n"
        "            n  SRCC                     KRCC    PLCC raw  PLCC fitted           RMSE\n"
        "one         6  1.000 [1.000, 1.000]     1.000   1.000     1.000 [1.000, 1.000]  0.0 [0.0, 0.0]\n"
        "  subset a  5  1.000 [1.000, 1.000]     1.000   1.000     1.000 [1.000, 1.000]  0.0 [0.0, 0.0]\n"
        "two         6  -1.000 [-1.000, -1.000]  -1.000  -1.000    1.000 [1.000, 1.000]  0.0 [0.0, 0.0]\n"
        "  subset a  5  -1.000 [-1.000, -1.000]  -1.000  -1.000    1.000 [1.000, 1.000]  0.0 [0.0, 0.0]\n"
        "\n"
        "one on made test\n"
        "  no different or similar, better or worse AUC: the data set has no deviations of its ratings\n"
        "  subset b, 1 picture: no numbers, fewer than 5 pictures\n"
        "\n"
        "two on made test\n"
        "  the score falls as MOS rises: where lower is better, say --lower-is-better; a fitted PLCC has no sign\n"
        "  no different or similar, better or worse AUC: the data set has no deviations of its ratings\n"
        "  subset b, 1 picture: no numbers, fewer than 5 pictures\n"
        "\n"
        "one minus two, 6 pictures of both\n"
        f"  SRCC {change(compare(first, second, split).srcc)}\n"
        f"  PLCC {change(compare(first, second, split).plcc)}\n"
        "\n"
        "there test\n"
        "            n  SRCC                  KRCC   PLCC raw  PLCC fitted           RMSE\n"
        "one         6  1.000 [1.000, 1.000]  1.000  1.000     1.000 [1.000, 1.000]  0.0 [0.0, 0.0]\n"
        "  subset a  5  1.000 [1.000, 1.000]  1.000  1.000     1.000 [1.000, 1.000]  0.0 [0.0, 0.0]\n"
        "\n"
        "one on there test\n"
        "  no different or similar, better or worse AUC: the data set has no deviations of its ratings\n"
        "  subset b, 1 picture: no numbers, fewer than 5 pictures\n"
        "\n"
        "SRCC  made test                there test\n"
        "one   1.000 [1.000, 1.000]     1.000 [1.000, 1.000]\n"
        "two   -1.000 [-1.000, -1.000]  –"
    )


def test_a_difference_as_text() -> None:
    split, good = draw(noise=0.05)
    difference = dataclasses.replace(
        compare(good, draw(noise=0.2)[1], split, samples=20).srcc,
        value=0.0134, low=0.004, high=0.0221, p=0.006, z=2.814, p_of_z=0.0004,
    )  # fmt: skip
    assert change(difference) == "+0.013 [+0.004, +0.022], p 0.006 (z 2.81, p < 0.001)"
    assert change(dataclasses.replace(difference, low=None)) == "+0.013, p 0.006 (z 2.81, p < 0.001)"

"""The curve, the interval and what it promises; own cards; low and high through runtimes, rows and the command line."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import dgiqa
import dgiqa.cli.calibrate as verb
from dgiqa import judges
from dgiqa.calibration import LEAST, Fit, as_toml, calibrate, cross_validate, fit_calibration, measure, write_own_card
from dgiqa.calibration.conformal import rank_of
from dgiqa.calibration.coverage import wilson
from dgiqa.cards import Calibration, Interval, ModelCard, Recipe, read_card
from dgiqa.cli import main
from dgiqa.errors import CardError, UsageError, WeightsError
from dgiqa.imaging.decode import decode
from dgiqa.imaging.views import make_views
from dgiqa.models import find_card, list_models
from dgiqa.runtimes.fake import FakeNetwork
from dgiqa.types import ROW_FIELDS, Score, Views
from tolerances import BETWEEN_RUNTIMES, SAME_RUNTIME

# --- made ratings -------------------------------------------------------------------------------------------------


def draw(n: int, seed: int, *, noise: str = "even", spread: str = "true"):
    """(raw, mos, spread): ratings about a bent curve, with even errors, worse ones below, or each its own."""
    rng = np.random.default_rng(seed)
    raw = rng.uniform(0.2, 0.8, n)
    scale = {
        "even": np.full(n, 0.05),
        "worse": np.where(raw < 0.5, 0.12, 0.02),
        "own": rng.choice([0.01, 0.03, 0.09], n),
    }[noise]
    mos = np.clip(0.1 + 0.8 * raw**1.5 + scale * rng.laplace(0, 1, n), 0, 1)
    said = {"true": scale, "wrong": rng.lognormal(-3, 0.7, n), "same": np.full(n, 0.05)}[spread]
    return raw, mos, said


def inside(fit: Fit, raw, mos, spread=None):
    judged = fit.judge(raw, spread)
    return (judged[:, 1] <= 100 * mos) & (100 * mos <= judged[:, 2])


# --- the curve ----------------------------------------------------------------------------------------------------


def test_the_curve_follows_the_ratings() -> None:
    raw, mos, _ = draw(4000, 0)
    curve = fit_calibration(raw, mos)
    assert (curve.raw[0], curve.raw[-1], curve.quality[0], curve.quality[-1]) == (0, 1, 0, 100)
    for x in (0.21, 0.35, 0.5, 0.65, 0.79):
        assert curve.apply(x) == pytest.approx(100 * (0.1 + 0.8 * x**1.5), abs=1)


def test_few_pictures_give_nearly_a_straight_line() -> None:
    raw, mos, _ = draw(40, 1, noise="worse")
    curve = fit_calibration(raw, mos)
    slope, start = np.polyfit(raw, mos, 1)
    for x in (0.3, 0.5, 0.7):
        assert curve.apply(x) == pytest.approx(100 * (start + slope * x), abs=5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-3, 1.0, 50.0]), st.sampled_from([0, 1, 3]))
def test_any_curve_rises_strictly_and_keeps_the_order(seed, scale, decimals) -> None:
    """Ties, unrelated ratings, raw scores outside 0..1: the card takes the curve and the order stays."""
    rng = np.random.default_rng(seed)
    raw = np.round(rng.normal(0.5, 0.2, 60), 2) * scale
    curve = fit_calibration(raw, np.round(rng.uniform(0, 1, 60), decimals))
    curve.check()
    assert curve.raw[0] <= min(0, raw.min())
    assert (curve.quality[0], curve.quality[-1]) == (0, 100)
    quality = [curve.apply(r) for r in np.unique(raw)]
    assert (np.diff(quality) > 0).all()


def test_the_curve_refuses_what_says_nothing() -> None:
    with pytest.raises(UsageError, match="3 rated pictures are too few; a calibration needs 40 or more"):
        fit_calibration([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    with pytest.raises(UsageError, match=r"the 40 raw scores hardly differ \(0.5 to 0.5\)"):
        fit_calibration([0.5] * 40, np.linspace(0, 1, 40))


# --- the promise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "spread"), [("even", None), ("worse", None), ("own", "true"), ("own", "wrong")])
def test_coverage_is_what_split_conformal_promises(noise: str, spread: str | None) -> None:
    """Over many calibrations of 40 pictures: at least 0.9 and, without ties, exactly k / (n + 1), whatever the
    difficulty is worth."""
    runs, fresh, shares = 300, 40, []
    for seed in range(runs):
        raw, mos, said = draw(LEAST + fresh, seed, noise=noise, spread=spread or "true")
        first, rest = (None, None) if spread is None else (said[:LEAST], said[LEAST:])
        fit = calibrate(raw[:LEAST], mos[:LEAST], first, seed=seed, folds=0)
        shares.append(inside(fit, raw[LEAST:], mos[LEAST:], rest).mean())
    n = fit.interval.n
    k = rank_of(0.9, n)
    promised = k / (n + 1)
    # One calibration covers Beta(k, n + 1 - k) of all pictures; of that, `fresh` pictures are drawn.
    variance = stats.beta(k, n + 1 - k).var() + promised * (1 - promised) / fresh
    tolerance = 4 * math.sqrt(variance / runs)
    assert promised >= 0.9
    assert np.mean(shares) == pytest.approx(promised, abs=tolerance)


def test_coverage_of_coarse_ratings_is_no_lower() -> None:
    """Ratings on five steps tie; ties only widen the interval."""
    shares = []
    for seed in range(200):
        raw, mos, _ = draw(LEAST + 40, seed)
        mos = np.round(4 * mos) / 4
        fit = calibrate(raw[:LEAST], mos[:LEAST], seed=seed, folds=0)
        shares.append(inside(fit, raw[LEAST:], mos[LEAST:]).mean())
    assert np.mean(shares) >= 0.9 - 4 * np.std(shares) / math.sqrt(len(shares))


@pytest.mark.parametrize("noise", ["worse", "own"])
def test_an_interval_that_adapts_covers_hard_and_easy_alike(noise: str) -> None:
    """Errors of two or three sizes: one width for all covers the easy too often and the hard too seldom."""
    raw, mos, said = draw(6000, 3, noise=noise)
    constant = np.full(len(raw), 0.05)
    parts = slice(0, 1000), slice(1000, None)
    worst = {}
    for name, spread in (("adaptive", None if noise == "worse" else said), ("constant", constant)):
        columns = [None if spread is None else spread[part] for part in parts]
        fit = calibrate(raw[parts[0]], mos[parts[0]], columns[0])
        hit = inside(fit, raw[parts[1]], mos[parts[1]], columns[1])
        groups = [hit[said[parts[1]] == size].mean() for size in np.unique(said)]
        worst[name] = max(abs(share - 0.9) for share in groups)
    assert worst["adaptive"] < 0.06
    assert worst["constant"] > 0.09


def test_the_rank_is_the_least_that_keeps_the_promise() -> None:
    for n in range(9, 400):
        k = next(k for k in range(1, n + 1) if 10 * k >= 9 * (n + 1))
        assert rank_of(0.9, n) == k
    assert rank_of(0.9, 9) == 9
    with pytest.raises(UsageError, match=r"8 pictures have no quantile of 0.9; 9 or more have"):
        rank_of(0.9, 8)
    for level in (0, 1, 1.2, float("nan")):
        with pytest.raises(UsageError, match="a level of"):
            rank_of(level, 50)


def test_the_quantile_is_that_of_pictures_the_curve_has_not_seen() -> None:
    """Recomputed from the card's numbers alone: exactly k of the second part lie inside."""
    raw, mos, said = draw(200, 5, noise="own")
    for spread in (None, said):
        fit = calibrate(raw, mos, spread, seed=7)
        second = np.random.default_rng(7).permutation(200)[80:]
        assert fit.interval.n == len(second) == 120
        quality = np.array([fit.calibration.apply(r) for r in raw])
        if spread is None:
            unit = np.interp(raw, fit.interval.at, fit.interval.difficulty)
        else:
            above, below = ([fit.calibration.apply(r) for r in shifted] for shifted in (raw + said, raw - said))
            unit = (np.array(above) - below) / 2
        unit = np.maximum(unit, fit.interval.floor)
        errors = (np.abs(100 * mos - quality) / unit)[second]
        assert np.sum(errors <= fit.interval.quantile) == rank_of(0.9, 120) == 109


def test_cross_validation_and_the_binomial_interval() -> None:
    raw, mos, said = draw(300, 2, noise="own")
    for spread in (None, said):
        judged = cross_validate(raw, mos, spread, folds=5)
        assert calibrate(raw, mos, spread).interval.coverage == measure(mos, judged, how="5-fold cross-validation")
        assert calibrate(raw, mos, spread, folds=0).interval.coverage is None
        assert (judged[:, 1] <= judged[:, 0]).all()
        assert (judged[:, 0] <= judged[:, 2]).all()
        coverage = measure(mos, judged, how="x")
        coverage.check()
        assert coverage.low < 0.9 < coverage.high
        hits = np.mean((judged[:, 1] <= 100 * mos) & (100 * mos <= judged[:, 2]))
        assert coverage.share == pytest.approx(hits, abs=1e-4)
        assert coverage.mean_width == pytest.approx(np.mean(judged[:, 2] - judged[:, 1]), abs=0.01)
    for hits, n in ((0, 10), (10, 10), (181, 200), (1, 3)):
        wanted = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert wilson(hits / n, n) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_a_picture_is_judged_by_others_alone() -> None:
    """Cross-validation: changing one rating never changes what is said of that picture."""
    raw, mos, _ = draw(80, 4)
    before = cross_validate(raw, mos)
    mos[17] = 1 - mos[17]
    after = cross_validate(raw, mos)
    assert (before[17] == after[17]).all()
    assert (before != after).any()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0.5] * 39, [0.5] * 39), "39 rated pictures are too few; an interval needs 40 or more"),
        (([0.5] * 50, [0.5] * 49), r"columns of one length are needed, not of shapes \(50,\) and \(49,\)"),
        (([0.5] * 50, [math.nan] * 50), "is no number"),
        (([0.5] * 50, [3.0] * 50), "ratings from 3 to 3 are not scaled to 0..1"),
        (([0.5] * 50, [0.5] * 50, [-1.0] * 50), "a spread of -1 is negative"),
    ],
)
def test_ratings_that_make_no_interval(columns, message) -> None:
    with pytest.raises(UsageError, match=message):
        calibrate(*columns)


# --- the card -----------------------------------------------------------------------------------------------------

BY_RAW = Interval(0.9, "raw", 2.0, 1.5, 100, at=(0.2, 0.5, 0.8), difficulty=(9.0, 6.0, 3.0))
BY_SPREAD = Interval(0.9, "spread", 2.0, 1.5, 100)
CURVE = Calibration(raw=(0.0, 0.5, 1.0), quality=(0.0, 40.0, 100.0))


def test_the_interval_by_hand() -> None:
    card = dataclasses.replace(find_card("default"), calibration=CURVE, interval=None)
    assert card.judge(0.5, 0.1) == (40.0, None, None)
    by_raw = dataclasses.replace(card, interval=BY_RAW)
    assert by_raw.judge(0.65) == pytest.approx((58, 58 - 9, 58 + 9))
    assert by_raw.judge(0.05) == pytest.approx((4, 0, 22)), "level beyond the knots, clipped at 0"
    assert by_raw.judge(0.65, 0.3) == by_raw.judge(0.65), "a spread that the card doesn't ask for"
    by_spread = dataclasses.replace(card, interval=BY_SPREAD)
    assert by_spread.judge(0.5, 0.1) == pytest.approx((40, 40 - 20, 40 + 20)), "half of 32..52, times 2"
    assert by_spread.judge(0.5, 0.001) == pytest.approx((40, 37, 43)), "the floor"
    with pytest.raises(CardError, match="the interval follows a spread that the network doesn't give; calibrate"):
        by_spread.judge(0.5)


positive = st.floats(1e-3, 1e3)


@st.composite
def intervals(draw_):
    at = sorted(draw_(st.sets(st.floats(-2, 2, width=32), min_size=2, max_size=5)))
    heights = draw_(st.lists(positive, min_size=len(at), max_size=len(at)))
    by_raw = Interval(0.9, "raw", draw_(positive), draw_(positive), 20, tuple(at), tuple(heights))
    return draw_(st.sampled_from([by_raw, dataclasses.replace(by_raw, by="spread", at=(), difficulty=())]))


@settings(max_examples=300)
@given(intervals(), st.floats(-2, 2), st.floats(0, 10))
def test_low_quality_high_are_in_order(interval, raw, spread) -> None:
    interval.check()
    card = dataclasses.replace(find_card_once(), calibration=CURVE, interval=interval)
    quality, low, high = card.judge(raw, spread)
    assert 0 <= low <= quality <= high <= 100
    row = Score("x", quality, raw, "m", 1, 1, (), low, high, spread).as_row()
    assert 0 <= row["low"] <= row["quality"] <= row["high"] <= 100
    wider = dataclasses.replace(interval, quantile=2 * interval.quantile)
    assert wider.around(quality, raw, 1.0)[0] <= interval.around(quality, raw, 1.0)[0]


def find_card_once(kept: list[ModelCard] = []) -> ModelCard:  # noqa: B006 (hypothesis calls it 300 times)
    if not kept:
        kept.append(find_card("default"))
    return kept[0]


TABLE = """
[interval]
level = 0.9
by = "raw"
quantile = 2.0
floor = 1.5
n = 100
at = [0.2, 0.8]
difficulty = [9.0, 3.0]

[interval.coverage]
share = 0.9
low = 0.85
high = 0.95
n = 200
mean_width = 30.0
how = "5-fold cross-validation"
"""

WRONG = [
    ('by = "raw"', 'by = "size"', "interval: by: 'size' is not one of 'spread', 'raw'"),
    ('by = "raw"', 'by = "spread"', "interval: by = 'spread' takes no at or difficulty"),
    ("at = [0.2, 0.8]", "", "interval: by = 'raw' needs the same number of knots in at and difficulty, at least 2"),
    ("at = [0.2, 0.8]", "at = [0.8, 0.8]", "interval: at must rise strictly"),
    ("at = [0.2, 0.8]", "at = [0.2, inf]", "interval: at[1]: expected a finite number, found inf"),
    ("[9.0, 3.0]", "[9.0, 0.0]", "interval: difficulty must be positive"),
    ("level = 0.9", "level = 90", "interval: level must lie between 0 and 1"),
    ("level = 0.9", "", "interval: level: missing"),
    ("n = 100", "n = 8", "interval: 8 pictures can't promise a level of 0.9"),
    ("quantile = 2.0", "quantile = 0.0", "interval: quantile and floor must be positive"),
    ("floor = 1.5", "floor = -1", "interval: quantile and floor must be positive"),
    ("floor = 1.5", "floor = 1.5\nroof = 2", "interval: roof: unknown key; known keys: level, by, quantile, floor, n"),
    ("share = 0.9", "share = 0.99", "interval: coverage: n must be positive, and 0 <= low <= share <= high <= 1"),
    ("n = 200", "n = 0", "interval: coverage: n must be positive, and 0 <= low <= share <= high <= 1"),
    ("mean_width = 30.0", "mean_width = 130.0", "interval: coverage: mean_width must lie in 0..100"),
    ("[interval.coverage]", "[interval.coverages]", "interval: coverages: unknown key; known keys: level, by, "),
]


def write_with_interval(path: Path, table: str) -> Path:
    card = find_card("default")
    text = (card.folder / card.file).read_text(encoding="utf-8")
    own = re.compile(r"(?m)^\[interval(?:\.coverage)?\]\n(?:(?!\[).*\n?)*")
    path.write_text(own.sub("", text) + table, encoding="utf-8")
    return path


def test_a_card_carries_its_interval(tmp_path: Path) -> None:
    card = read_card(write_with_interval(tmp_path / "mine.toml", TABLE))
    assert card.interval is not None
    assert (card.interval.at, card.interval.difficulty, card.interval.n) == ((0.2, 0.8), (9.0, 3.0), 100)
    assert card.interval.coverage is not None
    assert card.interval.coverage.how == "5-fold cross-validation"


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_the_interval_is_strictly_checked(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert TABLE.count(old) == 1
    path = write_with_interval(tmp_path / "mine.toml", TABLE.replace(old, new))
    with pytest.raises(CardError, match=re.escape(f"{path}: {message}")):
        read_card(path)


def test_a_depth_card_has_no_interval(tmp_path: Path) -> None:
    card = find_card("depth_mobile.rendered")
    (tmp_path / "mine.toml").write_text((card.folder / card.file).read_text(encoding="utf-8") + TABLE, encoding="utf-8")
    with pytest.raises(CardError, match="interval: only a quality has one"):
        read_card(tmp_path / "mine.toml")


def test_every_card_reads_back_as_it_was_written(tmp_path: Path) -> None:
    for card in list_models():
        for interval in (card.interval, BY_RAW, BY_SPREAD) if card.kind == "quality" else (card.interval,):
            wanted = dataclasses.replace(card, interval=interval, folder=tmp_path, name=f"{card.arch}.mine")
            (tmp_path / "mine.toml").write_text(as_toml(wanted, leave=("name", "folder")), encoding="utf-8")
            assert read_card(tmp_path / "mine.toml") == wanted
    part = as_toml(BY_RAW, table="interval")
    assert part.startswith('[interval]\nlevel = 0.9\nby = "raw"\n')


values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(), values, max_size=4), st.text(st.characters(codec="utf-8")))
def test_any_text_and_settings_survive_toml(tmp_path_factory, free, text) -> None:
    import tomllib

    wanted = dataclasses.replace(find_card_once(), settings=free, summary=text)
    found = tomllib.loads(as_toml(wanted, leave=("name", "folder")))
    assert found.get("settings", {}) == json.loads(json.dumps(free))
    assert found["summary"] == text


# --- own cards ----------------------------------------------------------------------------------------------------


def test_an_own_card_has_its_weights_its_label_and_the_same_raw_scores(
    default: dgiqa.Scorer, photographs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "mine.toml"
    written = write_own_card(default.card, out, calibration=CURVE, interval=BY_RAW, what="my pictures, all")
    assert written.summary.endswith("; calibrated on my pictures, all")
    assert {path.name for path in tmp_path.iterdir()} == {"mine.toml", "mine.onnx", "mine.explain.onnx"}
    own = dgiqa.load(out)
    assert own.model.startswith(f"dgiqa_mobile.mine@{find_card('default').version}+")
    before, after = default.score(photographs[0]), own.score(photographs[0])
    assert after.raw == before.raw
    assert (after.quality, after.low, after.high) == written.judge(before.raw)
    again = write_own_card(own.card, out, calibration=CURVE, interval=None, what="others")
    assert again.summary == default.card.summary + "; calibrated on others"
    assert dgiqa.load(out).model != own.model
    beside = write_own_card(own.card, tmp_path / "second.toml", calibration=CURVE, interval=None)
    assert beside.weights["onnx"].file == "mine.onnx", "weights that lie there already are not copied"


def test_an_own_card_keeps_the_trunk_that_it_shares(photographs: list[Path], tmp_path: Path) -> None:
    shared = dgiqa.load("loda.mobile")
    assert shared.card.weights["onnx"].shares
    write_own_card(shared.card, tmp_path / "mine.toml", calibration=CURVE, interval=None)
    assert dgiqa.load(tmp_path / "mine.toml").score(photographs[0]).raw == shared.score(photographs[0]).raw


def test_an_own_cards_label_changes_with_its_depth_network(
    default: dgiqa.Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own_card(default.card, tmp_path / "mine.toml", calibration=CURVE, interval=None)
    before, other = dgiqa.load(tmp_path / "mine.toml").model, tmp_path / "other-depth.onnx"
    other.write_bytes(b"another version's weights")
    where = judges.locate
    monkeypatch.setattr(judges, "locate", lambda card, kind: other if card.kind == "depth" else where(card, kind))
    assert dgiqa.load(tmp_path / "mine.toml").model != before
    assert dgiqa.load().model == default.model, "a built-in card's version stands for its depth network's, too"


def test_a_formula_has_no_own_card(tmp_path: Path) -> None:
    measure = dgiqa.load("natural_statistics.niqe")  # without naming its runtime
    with pytest.raises(UsageError, match=r"natural_statistics\.niqe is a formula, which only a built-in card may name"):
        write_own_card(measure.card, tmp_path / "mine.toml", calibration=CURVE, interval=None)
    assert not list(tmp_path.iterdir())


def test_other_files_are_never_overwritten(default: dgiqa.Scorer, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"my own training")
    with pytest.raises(UsageError, match=r"mine.onnx: another file is there, and the weights would replace it"):
        write_own_card(default.card, tmp_path / "mine.toml", calibration=CURVE, interval=None)
    assert (tmp_path / "mine.onnx").read_bytes() == b"my own training"
    assert not (tmp_path / "mine.toml").exists()


def test_an_older_explanation_is_never_taken_over(default: dgiqa.Scorer, tmp_path: Path) -> None:
    (tmp_path / "mine.explain.onnx").write_bytes(b"older")
    with pytest.raises(UsageError, match=r"mine.explain.onnx: another file is there"):
        write_own_card(default.card, tmp_path / "mine.toml", calibration=CURVE, interval=None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.explain.onnx"]
    (tmp_path / "mine.explain.onnx").unlink()
    write_own_card(default.card, tmp_path / "mine.toml", calibration=CURVE, interval=None)
    write_own_card(default.card, tmp_path / "mine.toml", calibration=CURVE, interval=None)


def test_an_own_depth_card_is_found_from_the_new_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("default", "depth_mobile.rendered"):
        card = find_card(name)
        text = as_toml(card, leave=("name", "folder")).replace('"depth_mobile.rendered"', '"rendered.toml"')
        (tmp_path / "a" / card.file).write_text(text, encoding="utf-8")
        weights = card.weights["onnx"].file
        (tmp_path / "a" / weights).write_bytes((card.folder / weights).read_bytes())
    base = find_card(tmp_path / "a" / "biq2021.toml")
    own = write_own_card(base, tmp_path / "b" / "mine.toml", calibration=CURVE, interval=None)
    assert (own.folder / own.recipe.depth).resolve() == tmp_path / "a" / "rendered.toml"
    assert "+depth_mobile.rendered@1.0+" in dgiqa.load(tmp_path / "b" / "mine.toml").model


# --- networks that give a spread ----------------------------------------------------------------------------------


GRID = Recipe(short_side=64, kernel="bilinear", views="grid", crop=64)
WHOLE = Recipe(short_side=64, kernel="bilinear", views="whole", multiple=32)


def two_columns(views: Views) -> np.ndarray:
    """Mean brightness, and a spread by contrast."""
    grey = views.color.astype(np.float32).mean(3) / 255
    return np.stack([grey.mean((1, 2)), 0.01 + grey.std((1, 2))], axis=1)


def scorer_of(function, interval: Interval | None, recipe: Recipe = GRID) -> dgiqa.Scorer:
    card = dataclasses.replace(find_card("default"), recipe=recipe, calibration=CURVE, interval=interval)
    return dgiqa.Scorer(card, FakeNetwork(function))


def test_views_are_averaged_in_both_columns(photographs: list[Path]) -> None:
    scorer = scorer_of(two_columns, BY_SPREAD)
    image = decode(photographs[2])
    views = make_views(image, scorer.card.recipe, None)
    assert len(views) > 1
    score = scorer.score(photographs[2])
    assert [score.raw, score.spread] == pytest.approx(two_columns(views).mean(0), abs=1e-7)
    reach = (CURVE.apply(score.raw + score.spread) - CURVE.apply(score.raw - score.spread)) / 2
    assert score.high - score.quality == pytest.approx(min(2 * reach, 100 - score.quality))
    assert scorer_of(lambda v: two_columns(v)[:, 0], BY_RAW).score(photographs[2]).raw == score.raw


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(5)), batch=st.integers(1, 6), workers=st.integers(1, 3))
def test_the_interval_is_the_same_alone_and_in_any_batch(photographs, order, batch, workers) -> None:
    scorer = scorer_of(two_columns, BY_SPREAD)
    alone = [scorer.score(path) for path in photographs]
    found = list(scorer.score_all([photographs[i] for i in order], batch=batch, workers=workers))
    for i, result in zip(order, found, strict=True):
        assert abs(result.low - alone[i].low) <= SAME_RUNTIME
        assert abs(result.high - alone[i].high) <= SAME_RUNTIME
        assert result == alone[i]


@pytest.mark.parametrize(
    "bad",
    [
        lambda v: np.zeros((len(v), 3), np.float32),
        lambda v: np.array([[0.5, -0.1]] * len(v), np.float32),
        lambda v: np.array([[0.5, np.nan]] * len(v), np.float32),
        lambda v: np.zeros((2, len(v), 1), np.float32),
    ],
)
def test_numbers_that_are_no_score_are_refused(bad) -> None:
    with pytest.raises(WeightsError, match="its weights are damaged, or belong to another network"):
        scorer_of(bad, None).score(np.zeros((50, 60, 3), np.uint8))


def test_raw_scores_below_zero_are_scores() -> None:
    """Only a spread can't be negative."""
    scorer = scorer_of(lambda v: np.linspace(-0.2, -0.1, len(v), dtype=np.float32), None)
    assert scorer.score(np.zeros((64, 200, 3), np.uint8)).quality == 0


def test_torch_and_onnx_agree_on_raw_spread_and_interval(photographs: list[Path], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from dgiqa.export.onnx import export
    from dgiqa.runtimes.onnx import open_file
    from dgiqa.runtimes.torch import TorchNetwork

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.look = torch.nn.Conv2d(4, 8, 5, stride=4)
            self.say = torch.nn.Linear(16, 2)

        def forward(self, color, depth):
            x = torch.cat([color.permute(0, 3, 1, 2), depth[:, None]], 1).float() / 255
            x = self.look(x).relu()
            raw, spread = self.say(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)).unbind(1)
            return torch.stack([raw.sigmoid(), torch.nn.functional.softplus(spread)], 1)

    torch.manual_seed(0)
    network = Small().eval()
    recipe = dataclasses.replace(WHOLE, depth="depth_mobile.rendered")
    card = dataclasses.replace(find_card("default"), recipe=recipe, calibration=CURVE, interval=BY_SPREAD)
    assert export(network, card, tmp_path / "small.onnx") <= 1e-4

    def depth(pixels):
        return pixels[..., 0]

    runtimes = open_file(tmp_path / "small.onnx"), TorchNetwork(network, "cpu")
    onnx, torch_ = (dgiqa.Scorer(card, runtime, depth) for runtime in runtimes)
    spreads = set()
    for path in photographs[:3]:
        a, b = onnx.score(path), torch_.score(path)
        assert abs(a.raw - b.raw) <= BETWEEN_RUNTIMES
        assert abs(a.spread - b.spread) <= BETWEEN_RUNTIMES
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.1)
        assert a.low < a.quality < a.high
        spreads.add(a.spread)
    assert len(spreads) == 3
    assert list(onnx.score_all(photographs[:3], batch=3)) == [onnx.score(path) for path in photographs[:3]]


def test_an_export_that_loses_the_spread_is_refused(tmp_path: Path, monkeypatch) -> None:
    """(V, 1) against (V, 2) would pass by broadcasting."""
    torch = pytest.importorskip("torch")
    import dgiqa.export.onnx as export

    card = dataclasses.replace(find_card("default"), recipe=WHOLE)

    class Both(torch.nn.Module):
        def forward(self, color):
            mean = color.float().mean((1, 2, 3)) / 255
            return torch.stack([mean, mean], 1)

    monkeypatch.setattr(export, "open_file", lambda path: FakeNetwork(lambda v: two_columns(v)[:, :1]))
    with pytest.raises(WeightsError, match="differs from torch by inf"):
        export.export(Both(), card, tmp_path / "both.onnx")


# --- rows and the command line ------------------------------------------------------------------------------------


def test_rows_have_low_and_high_after_quality() -> None:
    assert ROW_FIELDS[2:5] == ("quality", "low", "high")
    row = Score("x", 50.004, 0.5, "m", 1, 1, (), 40.006, 60.0).as_row()
    assert (row["quality"], row["low"], row["high"]) == (50.0, 40.01, 60.0)
    assert tuple(row) == ROW_FIELDS
    row = Score("x", 50.0, 0.5, "m", 1, 1).as_row()
    assert (row["low"], row["high"]) == (None, None)


def test_the_table_has_a_column_only_where_there_is_an_interval(capsys: pytest.CaptureFixture[str]) -> None:
    from dgiqa.cli._output import print_table

    without = Score("a.jpg", 31.26, 0.5, "m", 640, 480)
    print_table([without], "worst")
    assert capsys.readouterr().out.splitlines()[:2] == ["quality         size  path", "   31.3      640×480  a.jpg"]
    print_table([dataclasses.replace(without, low=0.0, high=55.4), without], "worst")
    assert capsys.readouterr().out.splitlines()[:3] == [
        "quality low–high         size  path",
        "   31.3     0–55      640×480  a.jpg",
        "   31.3               640×480  a.jpg",
    ]


@pytest.fixture(scope="module")
def rated(tmp_path_factory, photographs: list[Path]) -> Path:
    """60 pictures, five photographs blurred more and more, with made-up ratings from 1 to 5; all in one folder."""
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    lines = ["path,mos"]
    for i, path in enumerate(photographs):
        photograph = PIL.Image.open(path).convert("RGB").resize((160, 120))
        for step in range(12):
            name = f"{i}-{step}.png"
            photograph.filter(PIL.ImageFilter.GaussianBlur(0.3 * step)).save(folder / name)
            lines.append(f"{name},{np.clip(5 - 0.33 * step + rng.normal(0, 0.3), 1, 5):.2f}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def quick(monkeypatch) -> None:
    """The default's card with a fake network: the more contrast the better, and brightness is the spread."""

    def network(views: Views) -> np.ndarray:
        grey = views.color.astype(np.float32).mean(3) / 255
        return np.stack([0.1 + 0.8 * grey.std((1, 2)), 0.02 + 0.1 * grey.mean((1, 2))], axis=1)

    fake = dgiqa.Scorer(find_card("default"), FakeNetwork(network), lambda pixels: pixels[..., 0])
    monkeypatch.setattr(verb, "load", lambda name, runtime: fake if name == "default" else dgiqa.load(name, runtime))


def run(rated: Path, out: Path, *flags: str, ratings: str = "ratings.csv") -> int:
    return main(["calibrate", "--on", str(rated / ratings), "--root", str(rated), "--out", str(out), *flags])


def test_from_ratings_to_scores_with_an_interval(default: dgiqa.Scorer, rated: Path, tmp_path: Path, capsys) -> None:
    """The default model, from end to end."""
    out = tmp_path / "mine.toml"
    assert run(rated, out) == 0
    said = capsys.readouterr().out.splitlines()
    assert "60 rated pictures" in said[0]
    srcc_before, srcc_after = said[2].split()[-2:]
    assert srcc_before == srcc_after
    rmse_before, rmse_after = map(float, said[3].split()[-2:])
    assert rmse_after < rmse_before
    own = read_card(out)
    assert own.interval is not None
    assert own.interval.coverage is not None
    assert own.interval.coverage.n == 60
    assert own.interval.coverage.low < 0.9 < own.interval.coverage.high
    assert own.measured[0].srcc == pytest.approx(float(srcc_after), abs=1e-3)
    some = [str(rated / "0-*.png"), str(rated / "3-*.png")]
    assert main(["score", *some, "--model", str(out), "--out", str(tmp_path / "rows.csv")]) == 0
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    ratings = dict(line.split(",") for line in (rated / "ratings.csv").read_text().splitlines()[1:])
    hits = 0
    for row in rows:
        low, quality, high = (float(row[key]) for key in ("low", "quality", "high"))
        assert 0 <= low <= quality <= high <= 100
        assert row["model"].startswith(f"dgiqa_mobile.mine@{find_card('default').version}+")
        hits += low <= 25 * (float(ratings[Path(row["path"]).name]) - 1) <= high
    assert len(rows) == 24
    assert hits >= 0.7 * 24
    assert float(rows[0]["raw"]) == round(default.score(rows[0]["path"]).raw, 6)
    assert main(["score", rows[0]["path"], "--model", str(out), "--json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert [str(as_json[key]) for key in ROW_FIELDS[2:5]] == [rows[0][key] for key in ROW_FIELDS[2:5]]


def test_a_network_with_a_spread_gets_an_interval_by_it(rated: Path, tmp_path: Path, quick, capsys) -> None:
    cards = []
    for workers in ("1", "2"):
        assert run(rated, tmp_path / "mine.toml", "--workers", workers) == 0
        cards.append((tmp_path / "mine.toml").read_text(encoding="utf-8"))
    assert cards[0] == cards[1]
    assert read_card(tmp_path / "mine.toml").interval.by == "spread"


def test_pictures_kept_aside_and_other_folds(rated: Path, tmp_path: Path, quick, capsys) -> None:
    assert run(rated, tmp_path / "a.toml", "--test-share", "0.25", "--seed", "3") == 0
    aside = read_card(tmp_path / "a.toml").interval
    assert (aside.n, aside.coverage.n, aside.coverage.how) == (27, 15, "15 pictures kept aside")
    assert "15 pictures kept aside" in capsys.readouterr().out
    assert run(rated, tmp_path / "b.toml", "--folds", "10") == 0
    folds = read_card(tmp_path / "b.toml").interval
    assert (folds.n, folds.coverage.n, folds.coverage.how) == (36, 60, "10-fold cross-validation")


def test_dmos_is_told_and_turned(rated: Path, tmp_path: Path, quick, capsys) -> None:
    lines = (rated / "ratings.csv").read_text().splitlines()
    turned = [lines[0]] + [f"{name},{6 - float(mos):.2f}" for name, mos in (line.split(",") for line in lines[1:])]
    (rated / "dmos.csv").write_text("\n".join(turned))
    assert run(rated, tmp_path / "mine.toml", ratings="dmos.csv") == 2
    assert re.search(
        r"the ratings fall where the scores rise \(SRCC -0\.\d\d over 60 pictures\); if they are DMOS, "
        r"where lower is better, add --lower-is-better",
        capsys.readouterr().err,
    )
    assert not (tmp_path / "mine.toml").exists()
    assert run(rated, tmp_path / "mine.toml", "--lower-is-better", ratings="dmos.csv") == 0


def test_pictures_that_fail_are_left_out_and_said(rated: Path, tmp_path: Path, quick, capsys) -> None:
    (rated / "broken.png").write_bytes((rated / "0-0.png").read_bytes()[:200])
    (rated / "one-broken.csv").write_text((rated / "ratings.csv").read_text() + "broken.png,3\n")
    try:
        assert run(rated, tmp_path / "mine.toml", ratings="one-broken.csv") == 1
    finally:
        (rated / "broken.png").unlink()
    out, err = capsys.readouterr()
    assert "60 rated pictures" in out
    assert "broken.png" in err


@pytest.mark.parametrize(
    ("flags", "rows", "message"),
    [
        ([], 30, "30 rated pictures are too few; 40 are the least, 200 are better"),
        ([], "same", "all 60 ratings are the same"),
        (["--folds", "1"], 60, "1 folds of 60 pictures; 2 folds or more"),
        (["--test-share", "0.5"], 60, "30 rated pictures are too few; an interval needs 40 or more"),
        (
            ["--test-share", "0.03"],
            60,
            "--test-share 0.03: of the 2 pictures kept aside, too few or too alike, no agree",
        ),
        (["--test-share", "1.5"], 60, "--test-share 1.5: give a share between 0 and 1"),
        (["--workers", "0"], 60, "--workers must be positive"),
        (["--out", "mine.txt"], 60, "mine.txt: a card's name ends in .toml"),
        (["--out", "none/mine.toml"], 60, "name a file in a folder that exists and is yours"),
    ],
)
def test_misuse_exits_2_and_writes_nothing(flags, rows, message, rated: Path, tmp_path: Path, quick, capsys) -> None:
    lines = (rated / "ratings.csv").read_text().splitlines()
    same = [line.partition(",")[0] + ",3" for line in lines[1:]]
    lines = lines[:1] + same if rows == "same" else lines[: rows + 1]
    (rated / "some.csv").write_text("\n".join(lines))
    flags = [str(tmp_path / flag) if flag.startswith(("mine", "none")) else flag for flag in flags]
    assert run(rated, tmp_path / "mine.toml", *flags, ratings="some.csv") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_data_set_needs_its_folder(tmp_path: Path, capsys) -> None:
    assert main(["calibrate", "--on", "biq2021", "--out", str(tmp_path / "mine.toml")]) == 2
    assert "biq2021: --root is missing; name the folder that the data set lies in" in capsys.readouterr().err

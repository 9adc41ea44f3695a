"""The page: one file that needs nothing else, drawings that are well formed and inside their frames, pictures."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgiqa.datasets import Split
from dgiqa.evaluation import Predictions, Report, as_page, compare, evaluate
from dgiqa.evaluation.charts import HEIGHT, MOST_DOTS, WIDTH, bars, residuals, scatter, ticks
from dgiqa.evaluation.results import Missing
from dgiqa.evaluation.worst import SHOWN, worst_misses
from dgiqa.imaging.thumbnail import SIDE, thumbnail
from dgiqa.metrics.logistic import Logistic, fit_logistic

VOID = {"meta", "img", "br"}
ODD = "<b>&\"odd\" 'name'.png"


class Reader(HTMLParser):
    """Collects tags, checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """40 pictures; the first is gone, the second has an odd name."""
    folder = tmp_path_factory.mktemp("pictures")
    names = ["gone.png", ODD, *(f"{i:02}.png" for i in range(2, 40))]
    for i, name in enumerate(names[1:]):
        PIL.Image.new("RGB", (300, 40), (6 * i, 10, 10)).save(folder / name)
    mos = np.linspace(0, 1, 40).astype(np.float32)
    return Split(
        "made",
        "test",
        tuple(folder / name for name in names),
        mos,
        ("x", "y") * 20,
        distortions=("blur",) * 20 + ("noise",) * 20,
        deviations=np.full(40, 0.1, np.float32),
        raters=10,
    )


def predictions_of(split: Split) -> Predictions:
    """The first two are missed by most, the last has no score."""
    scores = 100 * split.mos.astype(float) + np.random.default_rng(1).normal(0, 3, 40)
    scores[:2] = 90, 80
    scores[39] = np.nan
    return Predictions("model <one>", scores, missing=(Missing(str(split.paths[39]), "a & b"),))


def page_of(split: Split) -> tuple[str, Reader]:
    first = predictions_of(split)
    second = dataclasses.replace(first, model="two", scores=np.sqrt(np.abs(first.scores)))
    there = dataclasses.replace(split, dataset="there")
    judged = [(split, first), (split, second), (there, first)]
    report = Report(
        "2026-01-02T03:04:05+00:00",
        "dgiqa evaluate <one>",
        {"dgiqa": "1", "numpy": "2"},
        tuple(evaluate(predictions, place, samples=50) for place, predictions in judged),
        (compare(first, second, split, samples=50),),
        limit=40,
    )
    page = as_page(report, judged)
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return page, reader


@pytest.fixture(scope="module")
def page(split: Split) -> tuple[str, Reader]:
    return page_of(split)


def test_nothing_is_fetched_and_nothing_runs(page: tuple[str, Reader]) -> None:
    text, reader = page
    names = {name for name, _ in reader.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "a", "form", "base"}
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in reader.all("img"))
    assert not re.search(r"https?:|url\(|@import|\son\w+=", text)
    assert {"http-equiv": "Content-Security-Policy", "content": reader.all("meta")[2]["content"]} == reader.all("meta")[
        2
    ]
    assert "default-src 'none'" in (reader.all("meta")[2]["content"] or "")


def test_light_and_dark_and_labels(page: tuple[str, Reader]) -> None:
    text, reader = page
    assert "color-scheme: light dark" in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert reader.all("html") == [{"lang": "en"}]
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in reader.all("svg"))
    assert all(image["alt"] and image["width"] and image["height"] for image in reader.all("img"))
    assert all(cell["scope"] in ("col", "row") for cell in reader.all("th"))
    levels = [int(name[1]) for name, _ in reader.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_what_stands_on_the_page(page: tuple[str, Reader]) -> None:
    _, reader = page
    text = reader.text
    for part in (
        "Agreement with people: made test, there test",
        "dgiqa evaluate <one>",
        "Only the first 40 pictures of each split.",
        "Models and data sets",
        "model <one>",
        "model <one> − two",
        "subset x",
        "distortion blur",
        "different or similar AUC",
        "Worst misses",
        "The picture can't be read.",
        "Pictures without a score: 1",
        "39.png: a & b",
        "dgiqa 1, numpy 2. Bootstrap: 50 resamples by seed 0.",
    ):
        assert part in text, part
    assert len(reader.all("svg")) == 3 * 4  # scatter, residuals, subsets, distortions of each evaluation
    assert len(reader.all("img")) == 3 * (SHOWN - 1)  # one of the worst is gone


def test_drawings_are_well_formed_and_inside_their_frames(page: tuple[str, Reader]) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page[0], re.DOTALL)
    for drawing in drawings:
        root = ET.fromstring(drawing)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for path in root.iter("path"):
            for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.attrib["d"]):
                assert -1 <= float(x) <= width + 1
                assert -1 <= float(y) <= height + 1
        for box in root.iter("rect"):
            assert float(box.attrib["width"]) >= 0
            assert 0 <= float(box.attrib["x"]) <= width
        assert "nan" not in drawing
        assert "inf" not in drawing.replace("information", "")


def test_every_picture_is_a_dot_where_its_numbers_say() -> None:
    scores, mos = np.array([0.0, 50.0, 100.0]), np.array([0.0, 25.0, 100.0])
    drawing = scatter(scores, mos, Logistic(1.0, 0.0, 50.0, 10.0), "m")
    dots = {
        (float(x), float(y))
        for path in re.findall(r'class="dots" d="([^"]*)"', drawing)
        for x, y in re.findall(r"M([\d.]+) ([\d.]+)h0", path)
    }
    (left, bottom), (middle, lower), (right, top) = sorted(dots)
    assert bottom == HEIGHT - 44
    assert top == 10
    assert lower == pytest.approx(bottom + 0.25 * (top - bottom), abs=0.1)
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert right < WIDTH


def test_many_pictures_are_thinned_out() -> None:
    x = np.random.default_rng(1).uniform(size=MOST_DOTS + 500) * 100
    assert scatter(x, x, None, "m").count("h0") == MOST_DOTS


def test_residuals_are_mos_minus_prediction() -> None:
    fitted = np.linspace(0, 100, 50)
    drawing = residuals(fitted, np.clip(fitted + 30, 0, 130), "m")
    dots = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", drawing)]
    zero = float(re.search(r'class="zero" d="M[\d.]+ ([\d.]+)', drawing).group(1))
    assert max(dots) < zero  # above the line: the model is too hard on them


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    found = list(ticks(low, low + span))
    room = 1e-6 * span + 1e-9 * abs(low)
    if span > 1e-6 * abs(low):
        assert 2 <= len(found) <= 11
        assert all(low - room <= tick <= low + span + room for tick in found)
        assert len(set(found)) == len(found)


def test_ticks_of_small_scores_differ() -> None:
    assert list(ticks(0, 1e-13)) == [0.0, 2e-14, 4e-14, 6e-14, 8e-14, 1e-13]


def test_bars_of_groups_below_zero_stay_inside(split: Split) -> None:
    found = evaluate(Predictions("m", -100 * split.mos.astype(float)), split, samples=30)
    drawing = bars(found.subsets, "subset")
    assert 'aria-label="SRCC by subset. x -1.000; y -1.000. Lines are 95 % intervals."' in drawing
    assert all(float(x) >= 129 for x in re.findall(r'<rect class="bar" x="([\d.]+)"', drawing))


def test_the_worst_misses_come_first_and_say_which_way(split: Split) -> None:
    predictions = predictions_of(split)
    scored = np.isfinite(predictions.scores)
    curve = fit_logistic(predictions.scores[scored], split.mos[scored])
    found = worst_misses(predictions, split, curve)
    assert len(found) == SHOWN
    assert [miss.path for miss in found[:2]] == [split.paths[0], split.paths[1]]
    sizes = [abs(miss.apart) for miss in found]
    assert sizes == sorted(sizes, reverse=True)
    assert found[0].apart == found[0].mos - found[0].predicted < 0
    assert split.paths[39] not in [miss.path for miss in worst_misses(predictions, split, curve, 99)]
    assert len(worst_misses(predictions, split, curve, 99)) == 39


def test_thumbnails_are_small_and_keep_their_shape(split: Split) -> None:
    data, width, height = thumbnail(split.paths[2])
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))
    assert (picture.size, picture.format) == ((width, height), "JPEG")
    assert (width, height) == (SIDE, 27)
    assert thumbnail(split.paths[0]) is None


def test_names_that_are_no_unicode_do_not_stop_the_page(tmp_path: Path, split: Split) -> None:
    odd = dataclasses.replace(split, paths=(*split.paths[:1], Path("\udcff.jpg"), *split.paths[2:]))
    page_of(odd)[0].encode("utf-8", "surrogateescape")

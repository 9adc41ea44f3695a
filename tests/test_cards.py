"""Cards: nothing slips through the door, and every card in the wheel is true to its files."""

import hashlib
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgiqa.cards import Calibration, Measured, Recipe, WeightsFile, read_card
from dgiqa.errors import CardError
from dgiqa.models import DEFAULT, find_card, list_models

CARD = """
arch = "tiny"
version = "1.0"
kind = "quality"
summary = "A card of the tests"

[paper]
title = "Title"
authors = "Somebody"
year = 2025
url = "https://example.org"

[licence]
code = "Apache-2.0"
weights = "unstated"
data = "CC-BY-4.0"

[network]
parameters = 12
gmacs = 1
input = "1x3x32x32"

[recipe]
short_side = 64
kernel = "bilinear"
views = "grid"
crop = 32

[weights.onnx]
file = "mine.onnx"
page = "https://example.org/weights"

[training]
data = "none"
initialisation = "random"

[calibration]
raw = [0, 0.5, 1.0]
quality = [0, 20, 100]

[[measured]]
dataset = "biq2021"
split = "test"
n = 10
srcc = 0.5
srcc_low = 0.4
srcc_high = 0.6
plcc = 0.5
"""


@pytest.fixture
def read(tmp_path):
    """Reads the card above after one change."""

    def read(old="", new=""):
        assert CARD.count(old) == 1 or not old
        path = tmp_path / "mine.toml"
        path.write_text(CARD.replace(old, new) if old else CARD + new, encoding="utf-8")
        return read_card(path)

    return read


def test_a_card_carries_what_its_file_says(read, tmp_path):
    card = read()
    assert (card.name, card.label, card.arch, card.folder) == ("tiny.mine", "tiny.mine@1.0", "tiny", tmp_path)
    assert card.network.gmacs == 1.0
    assert type(card.network.gmacs) is float
    assert card.recipe == Recipe(short_side=64, kernel="bilinear", views="grid", crop=32)
    assert card.weights == {"onnx": WeightsFile(file="mine.onnx", page="https://example.org/weights")}
    assert card.calibration == Calibration(raw=(0.0, 0.5, 1.0), quality=(0.0, 20.0, 100.0))
    assert card.measured == (Measured("biq2021", "test", 10, 0.5, 0.4, 0.6, 0.5),)
    assert card.settings == {}


def test_the_folder_names_the_architecture_where_the_card_does_not(tmp_path):
    folder = tmp_path / "some_arch"
    folder.mkdir()
    (folder / "tag.toml").write_text(CARD.replace('arch = "tiny"', ""))
    assert read_card(folder / "tag.toml").name == "some_arch.tag"


def test_settings_are_free(read):
    settings = "[settings]\nwidth = 16\nnested = { deep = [1, 2] }"
    assert read("", settings).settings == {"width": 16, "nested": {"deep": [1, 2]}}


WRONG = [
    # (what stands in the card, what is written instead, what the error says after the card's path)
    (
        'version = "1.0"',
        'version = "1.0"\nflavour = 1',
        "flavour: unknown key; known keys: arch, version, kind, summary, paper, licence, network, recipe, "
        "weights, training, reference, calibration, interval, explain, ensemble, measured, published, settings",
    ),
    (
        'data = "CC-BY-4.0"',
        'data = "CC-BY-4.0"\nnotes = ""',
        "licence: notes: unknown key; known keys: code, weights, data, note",
    ),
    (
        'file = "mine.onnx"',
        'file = "mine.onnx"\nmd5 = ""',
        "weights.onnx: md5: unknown key; known keys: file, embedded, sha256, bytes, url, page, precision, shares",
    ),
    ('version = "1.0"', "", "version: missing"),
    ("crop = 32", "crop = 32\nkernels = 1\nfoo = 2", "recipe: foo: unknown key; known keys: "),
    ("short_side = 64", "", "recipe: short_side: missing"),
    ("plcc = 0.5", "", "measured[0]: plcc: missing"),
    (
        'version = "1.0"',
        'version = "1.0"\nname = "x"',
        "name: follows from the file's place and can't be set",
    ),
    (
        'version = "1.0"',
        'version = "1.0"\nfolder = "/"',
        "folder: follows from the file's place and can't be set",
    ),
    ('version = "1.0"', "version = 1.0", "version: expected str, found 1.0"),
    ('version = "1.0"', 'version = " "', "version: empty"),
    ('arch = "tiny"', "arch = 3", "arch: expected str, found 3"),
    (
        'arch = "tiny"',
        'arch = "../../x"',
        "arch: '../../x' is not a plain name of letters, digits and underscores",
    ),
    ('arch = "tiny"', 'arch = "a.b"', "arch: 'a.b' is not a plain name of letters, digits and underscores"),
    ('kind = "quality"', 'kind = "best"', "kind: 'best' is not one of 'quality', 'depth', 'trunk', 'landmarks'"),
    ("year = 2025", "year = 2025.0", "paper: year: expected int, found 2025.0"),
    ("parameters = 12", "parameters = true", "network: parameters: expected int, found True"),
    ("gmacs = 1", "gmacs = true", "network: gmacs: expected float, found True"),
    ("gmacs = 1", "gmacs = nan", "network: gmacs: expected a finite number, found nan"),
    ("crop = 32", "crop = 32\nmax_aspect = inf", "recipe: max_aspect: expected a finite number, found inf"),
    ("crop = 32", "crop = 32\nbackground = 255", "recipe: background: expected a list, found 255"),
    ("crop = 32", "crop = 32\nbackground = [1, 2]", "recipe: background: expected 3 values, found 2"),
    ("crop = 32", "crop = 32\nbackground = [1, 2, 3.0]", "recipe: background[2]: expected int, found 3.0"),
    (
        "crop = 32",
        "crop = 32\nbackground = [1, 2, 256]",
        "recipe: background must be three numbers from 0 to 255",
    ),
    (
        '"bilinear"',
        '"cubic"',
        "recipe: kernel: 'cubic' is not one of 'bilinear', 'bicubic', 'lanczos', 'box', 'box-bicubic', "
        "'linear-opencv', 'cubic-opencv'",
    ),
    ("crop = 32", "crop = 65", "recipe: crop must be between 1 and short_side"),
    ("crop = 32", "", "recipe: crop must be between 1 and short_side"),
    ("crop = 32", "crop = 32\nmultiple = 7", "recipe: short_side must be a positive multiple of multiple"),
    ("short_side = 64", "short_side = 0", "recipe: short_side must be a positive multiple of multiple"),
    ("crop = 32", "crop = 32\ncount = 5", "recipe: count goes with views = 'random', and only there"),
    ("crop = 32", "crop = 32\ncount = -5", "recipe: count goes with views = 'random', and only there"),
    ('views = "grid"', 'views = "random"', "recipe: count goes with views = 'random', and only there"),
    (
        'views = "grid"',
        'views = "random"\ncount = -1',
        "recipe: count goes with views = 'random', and only there",
    ),
    ("crop = 32", "crop = 32\nseed = 1", "recipe: seed goes with views = 'random', and is not negative"),
    (
        'views = "grid"',
        'views = "random"\ncount = 1\nseed = -1',
        "recipe: seed goes with views = 'random', and is not negative",
    ),
    (
        'views = "grid"',
        'views = "whole"',
        "recipe: views = 'whole' takes no crop or count, and a max_aspect of at least 1",
    ),
    (
        "raw = [0, 0.5, 1.0]",
        "raw = [0, 0.5]",
        "calibration: raw and quality need the same number of knots, at least 2",
    ),
    ("raw = [0, 0.5, 1.0]", "raw = [0, 0.5, 0.5]", "calibration: knots must rise strictly"),
    ("quality = [0, 20, 100]", "quality = [20, 0, 100]", "calibration: knots must rise strictly"),
    ("quality = [0, 20, 100]", "quality = [0, 20, 100.5]", "calibration: quality must lie in 0..100"),
    (
        "raw = [0, 0.5, 1.0]",
        "raw = [0, nan, 1.0]",
        "calibration: raw[1]: expected a finite number, found nan",
    ),
    ('"mine.onnx"', '"../mine.onnx"', "weights.onnx: file must be a plain file name"),
    ('"mine.onnx"', '"C:mine.onnx"', "weights.onnx: file must be a plain file name"),
    ('"mine.onnx"', '".."', "weights.onnx: file must be a plain file name"),
    ('"mine.onnx"', '"m"\nsha256 = "abc"', "weights.onnx: sha256 must be 64 lower-case hex digits"),
    ('"mine.onnx"', '"m"\nurl = "http://x/y"', "weights.onnx: url must start with https://"),
    (
        '"mine.onnx"',
        '"m"\nurl = "https://x/y"',
        "weights.onnx: an embedded or downloadable file needs its sha256",
    ),
    (
        '"mine.onnx"',
        '"m"\nembedded = true',
        "weights.onnx: an embedded or downloadable file needs its sha256",
    ),
    (
        '"mine.onnx"',
        '"m"\nbytes = -1',
        "weights.onnx: bytes must be the file's size, or 0 when it is unknown",
    ),
    ("srcc_low = 0.4", "srcc_low = 0.55", "measured[0]: srcc must lie between srcc_low and srcc_high"),
    (
        "plcc = 0.5",
        "plcc = 1.5",
        "measured[0]: n must be positive, correlations from -1 to 1, and srcc_low at most srcc_high",
    ),
    ("[paper]", "[[paper]]", "paper: expected a table, found [{'title': 'Title', "),
]


@pytest.mark.parametrize(("old", "new", "text"), WRONG, ids=[text[:50] for _, _, text in WRONG])
def test_a_wrong_card_says_what_and_where(read, tmp_path, old, new, text):
    with pytest.raises(CardError) as caught:
        read(old, new)
    found, expected = str(caught.value), f"{tmp_path / 'mine.toml'}: {text}"
    if text.endswith(" "):  # the rest is a long list
        assert found.startswith(expected)
    else:
        assert found == expected


def test_weights_are_a_table_with_something_in_it(read, tmp_path):
    start, end = CARD.index("[weights.onnx]"), CARD.index("[training]")
    for weights, text in [
        ("[weights]\n", "weights: at least one file is needed"),
        ("weights.onnx = 3\n", "weights.onnx: expected a table, found 3"),
    ]:
        path = tmp_path / "mine.toml"
        path.write_text(weights + CARD[:start] + CARD[end:] if "=" in weights else CARD[:start] + weights + CARD[end:])
        with pytest.raises(CardError, match=re.escape(text) + "$"):
            read_card(path)


def test_a_file_that_is_no_card(tmp_path):
    path = tmp_path / "mine.toml"
    with pytest.raises(CardError, match="the card can't be read"):
        read_card(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CardError, match="the card can't be read"):
        read_card(path)
    path.write_text("version = ")
    with pytest.raises(CardError, match="not valid TOML"):
        read_card(path)


# --- calibration ------------------------------------------------------------------------------------------


@st.composite
def calibrations(draw):
    n = draw(st.integers(2, 8))
    raw = st.lists(st.floats(-1e3, 1e3, width=32), min_size=n, max_size=n, unique=True)
    quality = st.lists(st.floats(0, 100, width=32), min_size=n, max_size=n, unique=True)
    curve = Calibration(tuple(sorted(draw(raw))), tuple(sorted(draw(quality))))
    curve.check()
    return curve


def neighbours(curve):
    """Raw scores where mistakes would be: at the knots and one unit in the last place from them."""
    knots = st.sampled_from(curve.raw)
    near = knots.flatmap(lambda x: st.sampled_from([x, math.nextafter(x, math.inf), math.nextafter(x, -math.inf)]))
    return st.one_of(near, st.floats(-2e3, 2e3))


@given(st.data(), calibrations())
def test_a_higher_raw_score_never_gets_a_lower_quality(data, curve):
    low, high = sorted(data.draw(st.tuples(neighbours(curve), neighbours(curve))))
    assert 0 <= curve.apply(low) <= curve.apply(high) <= 100


def test_rounding_at_a_knot_does_not_turn_the_order_over():
    curve = Calibration(raw=(0.2, 0.36, 0.73), quality=(16.9, 83.8, 91.8))
    assert curve.apply(0.36) <= curve.apply(math.nextafter(0.36, 1))


@given(calibrations())
def test_the_curve_goes_through_its_knots(curve):
    for raw, quality in zip(curve.raw, curve.quality, strict=True):
        assert curve.apply(raw) == pytest.approx(quality, abs=1e-9)


def test_outer_segments_go_on_and_are_clipped():
    curve = Calibration(raw=(0.2, 0.4, 0.8), quality=(10, 30, 90))
    assert curve.apply(0.3) == pytest.approx(20)
    assert curve.apply(0.6) == pytest.approx(60)
    assert curve.apply(0.15) == pytest.approx(5)
    assert curve.apply(0.82) == pytest.approx(93)
    assert [curve.apply(raw) for raw in (-9, float("-inf"), 9, float("inf"))] == [0, 0, 100, 100]


def test_a_score_that_is_no_number_does_not_become_a_quality():
    assert str(Calibration().apply(float("nan"))) == "nan"


# --- the cards in the wheel -------------------------------------------------------------------------------


def test_every_embedded_file_is_what_its_card_says():
    cards = list_models()
    assert DEFAULT in [card.name for card in cards]
    checked: dict[Path, int] = {}
    for card in cards:
        for weights in card.weights.values():
            if weights.embedded:
                path = card.folder / weights.file
                content = path.read_bytes()
                assert len(content) == (weights.bytes or len(content)), path
                assert hashlib.sha256(content).hexdigest() == weights.sha256, path
                checked[path] = len(content)
        if card.explain:
            path = card.folder / card.explain.weights.file
            content = path.read_bytes()
            assert hashlib.sha256(content).hexdigest() == card.explain.weights.sha256, path
            assert card.explain.continues == card.weights["onnx"].sha256
            checked[path] = len(content)
    on_disk = {path for card in cards for kind in ("*.onnx", "*.npz") for path in card.folder.glob(kind)}
    assert {path for path in checked if path.suffix != ".py"} == on_disk, (
        "every weights file in the wheel belongs to a card"
    )
    default = find_card(DEFAULT)
    assert default.explain is not None
    files = [(default, "onnx"), (find_card(default.recipe.depth), "onnx")]
    own = sum(checked[card.folder / card.weights[kind].file] for card, kind in files)
    own += checked[default.folder / default.explain.weights.file]
    assert 0 < own < 20_000_000, "the default's own"
    assert sum(checked.values()) < 62_000_000, "all that comes in the wheel"


def test_the_default_is_whole_without_a_download():
    by_name = {card.name: card for card in list_models()}
    default = by_name[DEFAULT]
    assert default.weights["onnx"].embedded
    assert by_name[default.recipe.depth].weights["onnx"].embedded
    assert default.measured, "the default says how well it agrees with people"


def test_no_built_in_card_leaves_its_terms_open():
    for card in list_models():
        for term in (card.licence.code, card.licence.weights, card.licence.data, card.training.data):
            assert term.strip(), card.name
        for weights in card.weights.values():
            assert weights.embedded or weights.url or weights.page, f"{card.name}: nobody can find {weights.file}"

"""The laws of the main path, on the default model: a score is a function of the pixels and the card alone."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import dgiqa
from dgiqa.cards import Calibration
from dgiqa.imaging.decode import decode
from dgiqa.models import find_card
from dgiqa.runtimes.fake import FakeNetwork
from dgiqa.types import Score
from tolerances import BETWEEN_RUNTIMES, GOLDEN, SAME_RUNTIME

#: Raw scores of the default model on two photographs; a change belongs under "Scores changed" in the CHANGELOG.
GOLDEN_SCORES = {"astronaut.png": 0.709419, "chelsea.png": 0.713263}


@pytest.fixture(scope="module")
def small(photographs: list[Path]) -> list[np.ndarray]:
    """Six pictures of five shapes, two of one shape, small enough to score quickly."""
    shapes = [(96, 64), (64, 96), (64, 64), (64, 64), (130, 40), (64, 70)]
    loaded = [PIL.Image.open(path).convert("RGB") for path in (*photographs, photographs[0])]
    return [np.asarray(image.resize(shape)) for image, shape in zip(loaded, shapes, strict=True)]


@pytest.fixture(scope="module")
def alone(default: dgiqa.Scorer, small: list[np.ndarray]) -> list[float]:
    return [default.score(pixels).raw for pixels in small]


@settings(max_examples=6, deadline=None)
@given(order=st.permutations(range(6)), batch=st.integers(1, 7), workers=st.integers(1, 3))
def test_order_batch_and_workers_do_not_matter(default, small, alone, order, batch, workers) -> None:
    found = list(default.score_all([small[i] for i in order], batch=batch, workers=workers))
    assert len(set(alone)) == len(alone), "the pictures must differ for the test to mean anything"
    for i, result in zip(order, found, strict=True):
        assert abs(result.raw - alone[i]) <= SAME_RUNTIME


def test_path_bytes_image_and_array_are_one(default: dgiqa.Scorer, photographs: list[Path]) -> None:
    for path in (photographs[0], photographs[3]):  # a PNG, and a JPEG with a profile
        with PIL.Image.open(path) as image:
            sources = [str(path), path, path.read_bytes(), image, decode(path).pixels]
            raws = [default.score(source).raw for source in sources]
        assert max(raws) - min(raws) <= SAME_RUNTIME


def test_a_second_load_gives_the_same_score(default: dgiqa.Scorer, small: list[np.ndarray], alone: list[float]) -> None:
    assert [dgiqa.load().score(pixels).raw for pixels in small[:2]] == alone[:2]


def test_turned_by_exif_scores_as_turned_pixels(default: dgiqa.Scorer, photographs: list[Path]) -> None:
    picture = PIL.Image.open(photographs[1]).convert("RGB")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    tagged = io.BytesIO()
    picture.save(tagged, "PNG", exif=exif)
    turned = picture.transpose(PIL.Image.Transpose.ROTATE_270)
    assert default.score(tagged.getvalue()).raw == default.score(turned).raw
    assert default.score(tagged.getvalue()).raw != default.score(picture).raw


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_runtimes_agree_on_photographs(default: dgiqa.Scorer, photographs: list[Path], runtime: str) -> None:
    pytest.importorskip(runtime)
    scorer = dgiqa.load(runtime=runtime)
    for path in photographs:
        score = scorer.score(path)
        assert abs(score.raw - default.score(path).raw) <= BETWEEN_RUNTIMES
        assert (score.model, score.as_row()["runtime"]) == (default.model, f"{runtime} fp32")  # the row says what ran


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_other_runtimes_keep_the_law_of_batch_and_workers(small: list[np.ndarray], runtime: str) -> None:
    pytest.importorskip(runtime)
    scorer = dgiqa.load(runtime=runtime)
    wanted = [scorer.score(pixels).raw for pixels in small]
    for workers, batch in ((1, 4), (2, 1)):
        found = [result.raw for result in scorer.score_all(small, workers=workers, batch=batch)]
        assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= SAME_RUNTIME


def test_golden_scores(default: dgiqa.Scorer, photographs: list[Path]) -> None:
    for path in photographs:
        if path.name in GOLDEN_SCORES:
            assert default.score(path).raw == pytest.approx(GOLDEN_SCORES[path.name], abs=GOLDEN)


def test_scoring_listing_and_the_demo_run_without_torch(photographs: list[Path], tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("torch", "transformers", "safetensors", "scipy", "onnx"):
    sys.modules[name] = None
from dgiqa.cli import main
assert main(["score", {str(photographs[0])!r}, "--json"]) == 0
assert main(["models"]) == 0
assert main(["models", "dgiqa.koniq10k"]) == 0
import dgiqa.cli.demo
dgiqa.cli.demo.KINDS, dgiqa.cli.demo.SEVERITIES = ("haze",), (3,)  # of many, which take long
assert main(["demo", "--out", {str(tmp_path)!r}]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_loads_neither_torch_nor_onnxruntime() -> None:
    code = "import sys, dgiqa; print(sorted({'torch', 'onnxruntime', 'transformers', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_score_all_streams_in_bounded_memory(photographs: list[Path]) -> None:
    """An endless source works, and no more than the promised pictures are taken ahead."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield np.full((40, 40, 3), taken % 251, np.uint8)

    network = FakeNetwork(lambda views: views.color.mean((1, 2, 3)).astype(np.float32) / 255)
    card = dataclasses.replace(find_card("default"), interval=None)  # a network without a spread
    scorer = dgiqa.Scorer(card, network, lambda pixels: np.zeros(pixels.shape[:2], np.uint8))
    stream = scorer.score_all(endless(), workers=2, batch=3)
    first = [next(stream) for _ in range(30)]
    stream.close()
    assert [round(r.raw * 255) for r in first] == list(range(1, 31))
    assert taken <= 30 + 3 * (2 * 2 + 1)


def test_sources_may_change_once_they_are_taken(default: dgiqa.Scorer, small: list[np.ndarray]) -> None:
    """One buffer filled again and again, one animation advanced frame by frame, one lazy image listed often."""
    stacked = [pixels[:40, :40] for pixels in small]
    wanted = [default.score(pixels).raw for pixels in stacked]
    animation = io.BytesIO()
    frames = [PIL.Image.fromarray(pixels) for pixels in stacked]
    frames[0].save(animation, "WEBP", save_all=True, append_images=frames[1:], lossless=True)

    def one_buffer():
        buffer = np.empty((40, 40, 3), np.uint8)
        for pixels in stacked:
            buffer[:] = pixels
            yield buffer

    for workers, batch in ((1, 1), (1, 3), (2, 2)):
        found = [r.raw for r in default.score_all(one_buffer(), workers=workers, batch=batch)]
        assert found == wanted
        with PIL.Image.open(io.BytesIO(animation.getvalue())) as opened:
            moving = PIL.ImageSequence.Iterator(opened)
            assert [r.raw for r in default.score_all(moving, workers=workers, batch=batch)] == wanted
        first = io.BytesIO()
        frames[0].save(first, "PNG")
        with PIL.Image.open(first) as lazy:
            assert [r.raw for r in default.score_all([lazy] * 4, workers=workers, batch=batch)] == wanted[:1] * 4


def test_a_model_of_ones_own_never_bears_the_defaults_label(default: dgiqa.Scorer, tmp_path: Path) -> None:
    card = find_card("default")
    text = (card.folder / card.file).read_text()
    weights = card.weights["onnx"].file
    labels = {default.model}
    for number, changed in enumerate((text, text.replace("quality = [0.0,", "quality = [0.5,"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / weights).write_bytes((card.folder / weights).read_bytes())
        (folder / card.file).write_text(f'arch = "{card.arch}"\n' + changed)
        labels.add(dgiqa.load(folder / card.file).model)
    assert len(labels) == 3
    damaged = bytearray((folder / weights).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / weights).write_bytes(damaged)
    with pytest.raises(dgiqa.RunError, match=r"SHA-256 is .*, but the card says"):
        dgiqa.load(folder / card.file)


def test_a_network_of_another_kind_is_refused() -> None:
    """A depth map is no score, and a card that gives no depth can't stand in for one that does."""
    card, depth = find_card("default"), find_card("depth_mobile.rendered")
    scorer = dgiqa.Scorer(card, FakeNetwork(lambda views: np.zeros((1, 4, 4), np.float32)), lambda p: p[..., 0])
    with pytest.raises(dgiqa.RunError, match=r"gave \(1, 4, 4\) values for 1 views of <array>"):
        scorer.score(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(dgiqa.RunError, match="gives quality, not depth"):
        dgiqa.load(depth="dgiqa_mobile.biq2021")
    with pytest.raises(dgiqa.RunError, match="is a depth card, it gives no score"):
        dgiqa.load(depth.name)


def test_failures_are_rows_and_the_rest_goes_on(default: dgiqa.Scorer, small: list[np.ndarray], tmp_path: Path) -> None:
    results = list(default.score_all([small[0], b"not a picture", tmp_path / "none.jpg", small[1]], workers=2, batch=2))
    assert [r.ok for r in results] == [True, False, False, True]
    assert results[2].path == str(tmp_path / "none.jpg")
    assert isinstance(results[3], Score)


def test_a_programming_error_is_not_swallowed(small: list[np.ndarray]) -> None:
    def broken(views):
        raise ZeroDivisionError("a bug")

    scorer = dgiqa.Scorer(find_card("default"), FakeNetwork(broken), lambda p: np.zeros(p.shape[:2], np.uint8))
    with pytest.raises(ZeroDivisionError):
        list(scorer.score_all(small, workers=2))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100)), min_size=2, max_size=9),
    st.floats(-1, 2),
    st.floats(-1, 2),
)
def test_calibration_keeps_the_order(knots, a, b) -> None:
    raw = sorted({round(r, 3) for r, _ in knots})
    quality = sorted({round(q, 2) for _, q in knots})
    n = min(len(raw), len(quality))
    assume(n >= 2)
    curve = Calibration(tuple(raw[:n]), tuple(quality[:n]))
    low, high = sorted((a, b))
    assert 0 <= curve.apply(low) <= curve.apply(high) <= 100


def test_a_small_picture_is_said_to_be_enlarged(default: dgiqa.Scorer) -> None:
    assert default.score(np.zeros((256, 300, 3), np.uint8)).notes == ()
    assert default.score(np.zeros((255, 300, 3), np.uint8)).notes == (
        "300×255 was enlarged to a short side of 512: so small a picture scores low",
    )


def test_extreme_shapes_score(default: dgiqa.Scorer) -> None:
    for shape in ((1, 1), (3, 500), (500, 3), (2000, 700)):
        assert 0 <= default.score(np.zeros((*shape, 3), np.uint8)).quality <= 100

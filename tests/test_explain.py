"""What explains a score: maps that add up to it, faults that are there, a sharp subject that isn't called blurred."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest

import dgiqa
from dgiqa.calibration.own_card import write_own_card
from dgiqa.cards import Calibration
from dgiqa.cli import main
from dgiqa.depth import as_metres, open_depth
from dgiqa.distortions import distort
from dgiqa.errors import UsageError, WeightsError
from dgiqa.explain import Explanation, FaceSharpness, open_explainer
from dgiqa.explain.figure import as_png, colored, maps
from dgiqa.explain.maps import _levelled, along_edges, quality_map, stitch, weights_of
from dgiqa.explain.sharpness import sharpness
from dgiqa.models import find_card
from dgiqa.runtimes.fake import FakeNetwork
from dgiqa.scenes import demo_scenes
from dgiqa.scenes.faces import draw_face
from dgiqa.scorer import Scorer
from dgiqa.types import Float32, Views
from dgiqa.weights.fetch import locate, locate_explanation

ROOT = Path(__file__).parents[1]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.jpg"))
CARD = find_card("default")


@pytest.fixture(scope="module")
def explained(default: Scorer) -> dict[str, Explanation]:
    return {path.name: default.explain(path) for path in PICTURES}


def weighted(explanation: Explanation) -> float:
    assert explanation.quality is not None
    return float((explanation.quality * explanation.weights).sum(dtype=np.float64))


def of_kind(explanation: Explanation, kind: str) -> float:
    return next(fault.probability for fault in explanation.faults if fault.kind == kind)


# ---- the score and its maps


def test_the_score_is_the_score(default: Scorer, explained: dict[str, Explanation]) -> None:
    for path in PICTURES:
        assert explained[path.name].score == default.score(path)


def test_maps_have_the_pictures_size_and_add_up_to_the_score(explained: dict[str, Explanation]) -> None:
    for explanation in explained.values():
        assert explanation.quality is not None
        assert explanation.attention is not None
        assert explanation.depth is not None
        size = explanation.picture.shape[:2]
        assert explanation.quality.shape == explanation.attention.shape == explanation.depth.shape == size
        assert explanation.weights.shape == size
        assert weighted(explanation) == pytest.approx(explanation.score.quality, abs=1e-3)
        assert float(explanation.weights.sum(dtype=np.float64)) == pytest.approx(1, abs=1e-5)
        assert 0 <= float(explanation.quality.min()) < float(explanation.quality.max()) <= 100
        assert explanation.quality.std() > 0.5, "a map without parts says nothing"
        assert float(explanation.attention.mean()) == pytest.approx(1, abs=0.02)
        assert explanation.attention.min() >= 0


@pytest.mark.parametrize("size", [(512, 512), (2300, 512), (512, 1700), (33, 700), (90, 60)])
def test_every_shape_adds_up(default: Scorer, size: tuple[int, int]) -> None:
    """Long pictures are seen in several views; their middle parts lie in two of them."""
    pixels = np.asarray(PIL.Image.open(PICTURES[0]).convert("RGB").resize(size))
    explanation = default.explain(pixels)
    assert explanation.score.raw == default.score(pixels).raw
    assert weighted(explanation) == pytest.approx(explanation.score.quality, abs=1e-3)
    assert explanation.quality is not None
    assert explanation.quality.shape == explanation.picture.shape[:2]


@pytest.mark.parametrize("value", [0, 255, 128])
def test_a_plain_picture_has_an_explanation(default: Scorer, value: int) -> None:
    explanation = default.explain(np.full((64, 96, 3), value, np.uint8))
    assert weighted(explanation) == pytest.approx(explanation.score.quality, abs=1e-3)
    assert explanation.sharpness.picture is None
    json.dumps(explanation.as_dict(), allow_nan=False)
    assert as_png(explanation).startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["gaussian_blur", "noise", "jpeg", "low_light"])
def test_the_spoiled_half_is_the_worse_one(default: Scorer, kind: str) -> None:
    for path in PICTURES[:3]:
        pixels = np.asarray(PIL.Image.open(path).convert("RGB"))
        half = pixels.shape[1] // 2
        worse = np.concatenate([distort(pixels, kind, 4)[:, :half], pixels[:, half:]], 1)
        quality, before = default.explain(worse).quality, default.explain(pixels).quality
        assert quality is not None
        assert before is not None
        fall = (quality - before)[:, :half].mean() - (quality - before)[:, half:].mean()
        assert fall < -3


def test_torch_says_the_same() -> None:
    torch = pytest.importorskip("torch")
    from dgiqa.models.dgiqa_mobile import explain as module
    from dgiqa.runtimes.onnx import open_session
    from dgiqa.runtimes.torch import load_module

    explainer, session = open_explainer(CARD), open_session(locate(CARD, "onnx"), name="the network")
    assert explainer is not None
    assert CARD.explain is not None
    assert CARD.explain.faults == module.FAULTS
    network = module.Explainer(load_module(CARD)).eval()
    rng = np.random.default_rng(0)
    feeds = {
        "color": rng.integers(0, 256, (1, 512, 640, 3), np.uint8),
        "depth": rng.integers(0, 256, (1, 512, 640), np.uint8),
    }
    with torch.inference_mode():
        raw, parts, attention, _, _ = network(*(torch.from_numpy(array) for array in feeds.values()))
    seen = explainer.run(Views(feeds["color"], feeds["depth"]))
    np.testing.assert_allclose(session.run(None, feeds)[0], raw.numpy(), atol=1e-5)
    np.testing.assert_allclose(seen.parts[0], parts[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(seen.attention[0], attention[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(seen.attention[0].mean(), 1, atol=1e-4)


# ---- putting maps together


def test_views_are_stitched_where_they_were_cut() -> None:
    picture = np.arange(6 * 10, dtype=np.uint8).reshape(6, 10)
    boxes = ((0, 0, 6, 6), (4, 0, 10, 6))
    views = np.stack([picture[t:b, left:r] for left, t, r, b in boxes])
    assert (stitch(views, boxes, (6, 10)) == picture).all()
    weights = weights_of(boxes, (6, 10))
    assert weights[0, 0] == pytest.approx(1 / 72)
    assert weights[0, 5] == pytest.approx(2 / 72)


def test_a_model_of_several_views_shows_the_quality_of_each() -> None:
    boxes = ((0, 0, 6, 6), (4, 0, 10, 6))
    picture, raws = np.zeros((6, 10, 3), np.uint8), np.array([0.2, 0.6], np.float32)
    weights, calibration = weights_of(boxes, (6, 10)), Calibration()
    quality = quality_map(None, raws, boxes, picture, weights, calibration, 40.0)
    assert quality is not None
    np.testing.assert_allclose(quality[0], [20] * 4 + [40] * 2 + [60] * 4, atol=1e-3)
    assert quality_map(None, raws[:1], boxes[:1], picture, weights, calibration, 20.0) is None


@pytest.mark.parametrize("quality", [0.0, 0.4, 50.0, 99.7, 100.0])
def test_a_map_is_levelled_up_to_the_ends(quality: float) -> None:
    rng = np.random.default_rng(1)
    picture, boxes = rng.integers(0, 256, (64, 96, 3), np.uint8), ((0, 0, 96, 64),)
    parts, weights = [rng.uniform(0.1, 0.9, (4, 6)).astype(np.float32)], weights_of(boxes, (64, 96))
    raw = np.array([quality / 100], np.float32)
    found = quality_map(parts, raw, boxes, picture, weights, Calibration(), quality)
    assert found is not None
    assert float((found * weights).sum(dtype=np.float64)) == pytest.approx(quality, abs=2e-3)


@pytest.mark.parametrize(
    ("values", "mean"), [([0.0, 100.0], 40.0), ([0.0, 100.0], 60.0), ([100.0] * 99 + [50.0], 99.9)]
)
def test_a_map_that_is_nearly_all_cut_off_is_levelled(values: list[float], mean: float) -> None:
    flat = np.array([values], np.float32)
    found = _levelled(flat, np.full_like(flat, 1 / flat.size), mean)
    assert float(found.mean()) == pytest.approx(mean, abs=1e-3)


def test_steps_lie_on_the_pictures_edges() -> None:
    guide = np.zeros((128, 128), np.float32)
    guide[:, 70:] = 1
    coarse = np.repeat(np.array([[0.2, 0.2, 0.5, 0.8]], np.float32), 4, 0)
    found = along_edges(coarse, guide)
    slope = np.abs(np.diff(found[64]))
    assert int(slope.argmax()) == 69
    assert slope.max() > 5 * np.median(slope[30:110])
    assert found.min() >= coarse.min()
    assert found.max() <= coarse.max()


# ---- faults


CASES = {
    "defocus_blur": "blur", "motion_blur": "motion", "noise": "noise", "compression": "jpeg", "low_light": "low_light",
    "over_exposure": "overexpose", "haze": "haze", "color_cast": "color_cast", "banding": "posterize",
}  # fmt: skip


@pytest.mark.parametrize("fault", CASES)
def test_a_severe_fault_is_told_on_real_photographs(default: Scorer, photographs: list[Path], fault: str) -> None:
    """Photographs that no part of it was trained on; most of them, for none is told every time."""
    rises, found = [], []
    for path in photographs:
        pixels = np.asarray(PIL.Image.open(path).convert("RGB"))
        metres = as_metres(open_depth(CARD.recipe.depth)(pixels)) if fault == "haze" else None
        before, after = default.explain(pixels), default.explain(distort(pixels, CASES[fault], 4, depth=metres, seed=1))
        rises.append(of_kind(after, fault) > of_kind(before, fault))
        found.append(next(f.found for f in after.faults if f.kind == fault))
    assert np.mean(rises) >= 0.8
    assert np.mean(found) >= 0.6


def test_severity_rises(default: Scorer, photographs: list[Path]) -> None:
    for kind, fault in (("blur", "defocus_blur"), ("noise", "noise"), ("overexpose", "over_exposure")):
        told = []
        for path in photographs:
            pixels = np.asarray(PIL.Image.open(path).convert("RGB"))
            steps = [default.explain(distort(pixels, kind, s, seed=1)) for s in (1, 3, 5)]
            told.append([next(f.severity for f in e.faults if f.kind == fault) for e in steps])
        assert (np.diff(np.mean(told, 0)) > 0).all()
        assert 0 <= np.min(told) <= np.max(told) <= 5


def test_faults_are_in_order_and_probabilities_are_probabilities(explained: dict[str, Explanation]) -> None:
    for explanation in explained.values():
        assert CARD.explain is not None
        assert {fault.kind for fault in explanation.faults} == set(CARD.explain.faults)
        told = [fault.probability for fault in explanation.faults]
        assert told == sorted(told, reverse=True)
        assert explanation.none is not None
        assert all(0 <= p <= 1 for p in [*told, explanation.none])
        least = dict(zip(CARD.explain.faults, CARD.explain.least, strict=True))
        assert all(fault.found == (fault.probability >= least[fault.kind]) for fault in explanation.faults)


# ---- sharpness


def near_of(depth: Float32) -> Float32:
    dioptres = 1 / depth
    return np.asarray((dioptres - dioptres.min()) / (dioptres.max() - dioptres.min()), np.float32)


def seed_of(near: bool) -> int:
    """A seed of ``defocus`` that focuses near, or far."""
    return next(s for s in range(99) if bool(np.random.default_rng([s, *b"defocus"]).random() < 0.5) is near)


@pytest.mark.parametrize("severity", [2, 3, 4])
def test_a_sharp_subject_before_a_soft_background_is_not_blurred(severity: int) -> None:
    """Subject sharp ranks above background sharp, and near all sharp; the picture as a whole says the opposite."""
    wrong = 0
    for scene in demo_scenes((768, 512)).values():
        near = near_of(scene.depth)
        subject_sharp, background_sharp = (
            distort(scene.pixels, "defocus", severity, depth=scene.depth, seed=seed_of(focus))
            for focus in (True, False)
        )
        sharp, first, second = (sharpness(p, near) for p in (scene.pixels, subject_sharp, background_sharp))
        assert sharp.subject
        assert first.subject
        assert second.subject
        assert first.subject > 1.15 * second.subject
        assert first.subject > (0.75 if severity == 2 else 0.55) * sharp.subject
        assert first.background
        assert second.background
        assert first.background < second.background
        wrong += (first.picture or 0) < (second.picture or 0)
    assert wrong >= 3, "whole pictures' sharpness would have ranked most of these the other way"


def test_sharpness_falls_with_blur_and_needs_edges() -> None:
    pixels = np.asarray(PIL.Image.open(PICTURES[0]).convert("RGB"))
    told = [sharpness(pixels if not s else distort(pixels, "gaussian_blur", s), None).picture for s in range(6)]
    assert all(value is not None for value in told)
    assert told == sorted(told, reverse=True)  # type: ignore[type-var]
    flat = sharpness(np.full((40, 40, 3), 99, np.uint8), np.ones((40, 40), np.float32))
    assert flat.as_dict() == {"subject": None, "background": None, "picture": None}


# ---- a face


def portrait(seed: int = 4, side: int = 420) -> tuple[np.ndarray, np.ndarray]:
    """A sharp drawn face in a picture of 800×600, and its landmarks there."""
    face = draw_face(seed, size=side, spoil=False)
    picture = np.asarray(PIL.Image.open(PICTURES[0]).convert("RGB").resize((800, 600))).copy()
    picture[90 : 90 + side, 150 : 150 + side] = face.pixels
    return picture, face.landmarks + np.array([150, 90], np.float32)


def blurred(picture: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    spoiled = PIL.Image.fromarray(picture)
    spoiled.paste(spoiled.crop(box).filter(PIL.ImageFilter.GaussianBlur(4)), box[:2])
    return np.asarray(spoiled)


def told(scorer: Scorer, picture: np.ndarray, points: np.ndarray) -> FaceSharpness:
    found = scorer.explain(picture, landmarks=points).sharpness
    assert isinstance(found, FaceSharpness)
    return found


@pytest.mark.parametrize("seed", [4, 9, 11])
def test_blurred_eyes_and_blurred_faces_are_told_apart(default: Scorer, seed: int) -> None:
    picture, points = portrait(seed)
    left, top = np.floor(points[36:48].min(0)).astype(int) - 12
    right, bottom = np.ceil(points[36:48].max(0)).astype(int) + 12
    sharp = told(default, picture, points)
    eyes = told(default, blurred(picture, (left, top, right, bottom)), points)
    face = told(default, blurred(picture, (150, 90, 570, 510)), points)
    assert sharp.eyes
    assert sharp.face
    assert eyes.eyes
    assert eyes.face
    assert face.eyes
    assert face.face
    assert eyes.eyes < 0.8 * sharp.eyes
    assert face.face < 0.8 * sharp.face
    assert face.face < eyes.face, "blurred eyes alone leave most of the face sharp"
    outside = told(default, blurred(picture, (0, 0, 140, 600)), points)
    assert outside.eyes == pytest.approx(sharp.eyes, abs=0.02), "what is beside the face doesn't count"


def test_landmarks_add_to_an_explanation_and_change_nothing_else(default: Scorer) -> None:
    picture, points = portrait()
    without, with_them = default.explain(picture), default.explain(picture, landmarks=points)
    rows = without.as_dict(), with_them.as_dict()
    assert set(rows[1]) - set(rows[0]) == {"landmarks"}
    assert set(rows[1]["sharpness"]) - set(rows[0]["sharpness"]) == {"eyes", "face"}
    assert {k: v for k, v in rows[1].items() if k in rows[0] and k != "sharpness"} == {
        k: v for k, v in rows[0].items() if k != "sharpness"
    }
    np.testing.assert_allclose(rows[1]["landmarks"], points, atol=0.06)
    assert with_them.landmarks is not None
    height, width = with_them.picture.shape[:2]
    np.testing.assert_allclose(with_them.landmarks, points * np.array([width / 800, height / 600]), rtol=1e-4)
    assert as_png(without) != as_png(with_them)
    assert np.array_equal(maps(without)["picture"], maps(with_them)["picture"])


def test_the_same_of_a_picture_at_another_size(default: Scorer) -> None:
    picture, points = portrait()
    large = np.asarray(PIL.Image.fromarray(picture).resize((1600, 1200), PIL.Image.Resampling.BICUBIC))
    small, twice = told(default, picture, points), told(default, large, 2 * points)
    assert twice.eyes == pytest.approx(small.eyes, abs=0.04)
    assert twice.face == pytest.approx(small.face, abs=0.04)


def test_a_face_that_is_too_small_or_flat_is_not_judged(default: Scorer) -> None:
    picture, points = portrait()
    tiny = points.mean(0) + (points - points.mean(0)) * (6 / np.ptp(points[:, 0]))
    assert (told(default, picture, tiny).eyes, told(default, picture, tiny).face) == (None, None)
    flat = told(default, np.full((600, 800, 3), 90, np.uint8), points)
    assert (flat.eyes, flat.face) == (None, None)
    assert flat.words == "too small or without edges"
    assert told(default, picture, points).words.startswith("eyes 0.")


def test_other_orders_of_landmarks(default: Scorer) -> None:
    picture, points = portrait()
    wflw = np.repeat(points[:1], 98, 0)
    wflw[:68] = points
    wflw[60:68], wflw[68:76] = points[[36, 36, 37, 38, 39, 40, 41, 41]], points[[42, 42, 43, 44, 45, 46, 47, 47]]
    assert told(default, picture, wflw).eyes == pytest.approx(told(default, picture, points).eyes, abs=0.02)


def test_landmarks_that_are_none_are_refused(default: Scorer) -> None:
    picture, points = portrait()
    for landmarks, why in (
        (points[:5], r"landmarks of shape \(5, 2\); give \(K, 2\) numbers, K one of 29, 68, 98"),
        (points[:, :1], r"shape \(68, 1\)"),
        (points * np.nan, "landmarks of shape"),
        (points + 2000, "no landmark lies in the picture of 800×600 pixels"),
    ):
        with pytest.raises(UsageError, match=why):
            default.explain(picture, landmarks=landmarks)
    with pytest.raises(UsageError, match="landmarks and a face are given"):
        default.explain(picture, landmarks=points, face=(0, 0, 9, 9))


def test_landmarks_are_found_in_a_box(default: Scorer) -> None:
    picture, points = portrait()
    box = (*points.min(0).tolist(), *points.max(0).tolist())
    found = default.explain(picture, face=box)  # type: ignore[arg-type]
    assert found.landmarks is not None
    away = np.linalg.norm(np.array(found.as_dict()["landmarks"]) - points, axis=1).mean()
    assert away < 0.12 * np.linalg.norm(points[36] - points[45])
    assert isinstance(found.sharpness, FaceSharpness)
    assert found.sharpness.eyes == pytest.approx(told(default, picture, points).eyes, abs=0.1)
    assert found.score == default.score(picture)


# ---- other models


def test_models_without_an_explainer_show_what_they_have() -> None:
    card = dataclasses.replace(CARD, explain=None)
    scorer = Scorer(card, FakeNetwork(lambda views: np.full((len(views), 2), 0.5, np.float32)), lambda p: p[..., 0])
    explanation = scorer.explain(PICTURES[0])
    assert (explanation.faults, explanation.none, explanation.quality, explanation.attention) == ((), None, None, None)
    assert explanation.depth is not None
    assert explanation.sharpness.subject is not None
    assert as_png(explanation).startswith(b"\x89PNG")
    assert set(maps(explanation)) == {"picture", "depth"}


def test_a_card_of_ones_own_keeps_its_explanations(tmp_path: Path, default: Scorer) -> None:
    own = write_own_card(CARD, tmp_path / "mine.toml", calibration=Calibration(), interval=None)
    assert own.explain is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.explain.onnx", "mine.onnx", "mine.toml"]
    mine, theirs = dgiqa.load(tmp_path / "mine.toml").explain(PICTURES[0]), default.explain(PICTURES[0])
    assert mine.faults == theirs.faults
    assert mine.score.quality == pytest.approx(100 * mine.score.raw)
    assert weighted(mine) == pytest.approx(mine.score.quality, abs=1e-3)


def test_an_explanation_of_other_weights_is_refused(tmp_path: Path) -> None:
    assert CARD.explain is not None
    other = dataclasses.replace(CARD, explain=dataclasses.replace(CARD.explain, continues="0" * 64))
    with pytest.raises(WeightsError, match="explains other weights"):
        open_explainer(other)
    write_own_card(CARD, tmp_path / "mine.toml", calibration=Calibration(), interval=None)
    path = tmp_path / "mine.explain.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="bytes, but the card says"):
        dgiqa.load(tmp_path / "mine.toml").explain(PICTURES[0])
    path.unlink()
    with pytest.raises(WeightsError, match="not on this machine"):
        dgiqa.load(tmp_path / "mine.toml").explain(PICTURES[0])
    with pytest.raises(WeightsError, match="nothing that explains"):
        locate_explanation(dataclasses.replace(CARD, explain=None))


def test_a_table_that_makes_no_sense_is_named() -> None:
    assert CARD.explain is not None
    for changes in ({"least": (0.5,)}, {"least": (1.5,) * 11}, {"faults": (), "least": ()}):
        with pytest.raises(ValueError, match="least"):
            dataclasses.replace(CARD.explain, **changes).check()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="explain"):
        dataclasses.replace(CARD, weights={"torch": CARD.weights["onnx"]}).check()


# ---- figure and verb


def test_the_figure_holds_what_there_is(explained: dict[str, Explanation]) -> None:
    for explanation in explained.values():
        found = maps(explanation)
        assert list(found) == ["picture", "depth", "attention", "quality"]
        assert all(pixels.shape == explanation.picture.shape for pixels in found.values())
    low, high = colored(np.array([[0.0, 1.0]], np.float32))[0].tolist()
    assert (low, high) == ([68, 1, 84], [253, 231, 37])


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    twice = tmp_path / "again" / PICTURES[0].name
    twice.parent.mkdir()
    twice.write_bytes(PICTURES[0].read_bytes())
    out = tmp_path / "reasons"
    arguments = [str(PICTURES[0]), str(twice), str(tmp_path / "broken.jpg"), "--out", str(out), "--maps"]
    assert main(["explain", *arguments]) == 1
    said = capsys.readouterr()
    assert "broken.jpg: text, not a picture" in said.err
    assert "2 explained, 1 failed" in said.err
    stem = PICTURES[0].stem
    endings = [".png", ".json", ".maps"]
    assert {p.name for p in out.iterdir()} == {f"{name}{e}" for name in (stem, f"{stem}~2") for e in endings}
    assert {p.stem for p in (out / f"{stem}.maps").iterdir()} == {"picture", "depth", "attention", "quality"}
    row = json.loads((out / f"{stem}.json").read_text())
    assert row["status"] == "ok"
    assert len(row["faults"]) == 11
    assert set(row["sharpness"]) == {"subject", "background", "picture"}
    assert {len(row["maps"][name]) for name in ("quality", "attention", "depth")} == {16}
    with PIL.Image.open(out / f"{stem}.png") as figure:
        assert figure.width > 1000
    capsys.readouterr()
    assert main(["explain", str(PICTURES[0]), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert "maps" not in printed
    assert printed["quality"] == row["quality"]


def test_the_verb_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for arguments, text in [
        ([str(tmp_path), "--out", str(tmp_path / "out")], "no pictures in"),
        ([str(PICTURES[0]), "--out", str(tmp_path / "file" / "out")], "can't be written"),
        ([str(PICTURES[0]), "--out", str(tmp_path), "--workers", "0"], "--workers must be positive"),
        ([str(PICTURES[0]), "--out", str(tmp_path), "--model", "nothing"], "nothing"),
    ]:
        assert main(["explain", *arguments]) == 2
        assert text in capsys.readouterr().err


def test_the_verb_tells_of_a_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, points = portrait()
    path, file, out = tmp_path / "a.png", tmp_path / "a.pts", tmp_path / "out"
    PIL.Image.fromarray(picture).save(path)
    lines = "\n".join(f"{x + 0.5:.3f} {y + 0.5:.3f}" for x, y in points)
    file.write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
    box = ",".join(f"{v:.0f}" for v in (*points.min(0), *points.max(0)))
    rows = []
    for more in (["--landmarks", str(file)], ["--landmarks", "auto", "--face", box]):
        assert main(["explain", str(path), "--out", str(out), *more]) == 0
        assert re.search(r"  eyes 0\.\d\d, face 0\.\d\d  ", capsys.readouterr().out)
        rows.append(json.loads((out / "a.json").read_text()))
        assert set(rows[-1]["sharpness"]) == {"subject", "background", "picture", "eyes", "face"}
    np.testing.assert_allclose(rows[0]["landmarks"], points, atol=0.1)
    assert np.shape(rows[1]["landmarks"]) == (68, 2)
    for arguments, text in [
        ([str(path), "--landmarks", "auto"], "--landmarks auto needs the box of the face"),
        ([str(path), "--face", box], "--face goes with --landmarks auto"),
        ([str(path), "--landmarks", str(file), "--face", box], "leave it out"),
        ([str(path), "--landmarks", "auto", "--face", "1,2,3"], "--face 1,2,3: not four numbers"),
        ([str(path), "--landmarks", "auto", "--face", "9,9,9,9"], "has no area"),
        ([str(path), str(PICTURES[0]), "--landmarks", str(file)], "are of one picture, and there are 2"),
        ([str(path), "--landmarks", str(tmp_path / "b.pts")], "there is no such file"),
    ]:
        assert main(["explain", *arguments, "--out", str(out)]) == 2, arguments
        assert text in capsys.readouterr().err


def test_it_works_without_torch(tmp_path: Path) -> None:
    face = ["--landmarks", "auto", "--face", "100,100,300,300"]
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from dgiqa.cli import main\n"
        f"sys.exit(main(['explain', {str(PICTURES[0])!r}, '--out', {str(tmp_path / 'out')!r}, *{face}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_report_shows_the_reasons_of_the_worst(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_report import data_of

    assert main(["score", *map(str, PICTURES[:3]), "--out", str(tmp_path / "rows.csv")]) == 0
    out = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "rows.csv"), "--out", str(out), "--reasons", "2"]) == 0
    rows = data_of(out.read_text(encoding="utf-8"))["rows"]
    worst = sorted(rows, key=lambda row: row["quality"])[:2]
    assert [row for row in rows if "maps" in row] == [row for row in rows if row in worst]
    for row in worst:
        assert set(row["maps"]) == {"depth", "attention", "quality"}
        assert row["faults"][-1][0] == "no fault"
        assert set(row["sharpness"]) <= {"subject", "background", "picture"}
    capsys.readouterr()
    rows_of_another = (tmp_path / "rows.csv").read_text().replace("@1.", "@0.")
    (tmp_path / "rows.csv").write_text(rows_of_another)
    assert main(["report", str(tmp_path / "rows.csv"), "--out", str(out), "--reasons", "2"]) == 2
    assert "--model default is" in capsys.readouterr().err

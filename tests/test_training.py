"""Training: a run that was stopped goes on to the same weights; held-out pictures stay out; controls differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

torch = pytest.importorskip("torch")

from dgiqa.calibration import fit_calibration  # noqa: E402
from dgiqa.datasets import read_split  # noqa: E402
from dgiqa.errors import UsageError, WeightsError  # noqa: E402
from dgiqa.export.onnx import export  # noqa: E402
from dgiqa.models import build_network, find_card  # noqa: E402
from dgiqa.models.dgiqa_mobile.network import DGIQAMobile  # noqa: E402
from dgiqa.training import mobile  # noqa: E402
from dgiqa.training.depth import invariant_loss  # noqa: E402
from dgiqa.training.features import cells, compute_features, picture  # noqa: E402
from dgiqa.training.ladders import compute_ladders  # noqa: E402

PLAN = mobile.Plan(crops=(64, 96), batch=4, pairs=2, pairs_from=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in BIQ2021's shape: 40 pictures that fade from sharp to noise, with MOS."""
    root = tmp_path_factory.mktemp("biq2021")
    (root / "Images").mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for i in range(40):
        flat = np.full((128, 128, 3), 40 + 4 * i)
        pixels = np.clip(flat + rng.normal(0, 1 + 1.5 * i, flat.shape), 0, 255).astype(np.uint8)
        suffix = "JPG" if i == 7 else "jpg"  # the published lists and files differ in case
        PIL.Image.fromarray(pixels).save(root / "Images" / f"ss0{1 + i % 3} ({i}).{suffix}", "JPEG")
        lines.append(f"ss0{1 + i % 3} ({i}).jpg,{0.95 - 0.02 * i:.2f}")
    text = "\n".join(["Image Name,MOS", *lines]) + "\n"
    (root / "Train (Images and MOS).csv").write_text(text)
    (root / "Test (Images and MOS).csv").write_text(text)
    return root


@pytest.fixture(scope="module")
def trained_on(data: Path, tmp_path_factory: pytest.TempPathFactory) -> mobile.Data:
    """Features and ladders of those pictures, with a ramp for depth."""
    split = read_split("biq2021", "train", data)
    inputs = (start().color_trunk.eval(), mobile.RECIPE, ramp, tmp_path_factory.mktemp("features"))
    features = compute_features(split.paths, *inputs)
    return mobile.Data(features, split.mos, compute_ladders(split.paths, np.arange(3), *inputs))


def ramp(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.repeat((np.arange(height) * (255 / height)).astype(np.uint8)[:, None], width, 1)


def start() -> DGIQAMobile:
    torch.manual_seed(0)
    return DGIQAMobile()


def test_splits_are_read(data: Path) -> None:
    split = read_split("biq2021", "test", data)
    assert len(split) == 40
    assert split.subsets[:4] == ("ss01", "ss02", "ss03", "ss01")
    assert split.mos[:2].tolist() == pytest.approx([0.95, 0.93])
    assert split.paths[7].suffix == ".JPG"


def test_missing_files_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such data set; known: biq2021"):
        read_split("koniq", "train", data)
    with pytest.raises(UsageError, match=r"Train \(Images and MOS\).csv is missing; bring the data set from"):
        read_split("biq2021", "train", tmp_path)
    (tmp_path / "Train (Images and MOS).csv").write_text("Image Name,MOS\nnone.jpg,0.5\n")
    with pytest.raises(UsageError, match=r"1 of 1 pictures are missing, first .*none\.jpg"):
        read_split("biq2021", "train", tmp_path)


def test_held_out_pictures_are_never_fitted() -> None:
    fitted, held = mobile.held_out(10_000)
    assert len(held) == 1000
    assert sorted([*fitted, *held]) == list(range(10_000))
    assert np.array_equal(held, mobile.held_out(10_000)[1])


def test_a_stopped_run_goes_on_to_the_same_weights(trained_on: mobile.Data, tmp_path: Path, monkeypatch) -> None:
    mobile.train(start(), trained_on, PLAN, tmp_path / "whole")
    saved = torch.save

    def stop_after_first_epoch(state, path):
        saved(state, path)
        if str(path).endswith("checkpoint.part"):
            Path(path).replace(tmp_path / "parts" / "checkpoint.pt")
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stop_after_first_epoch)
    with pytest.raises(KeyboardInterrupt):
        mobile.train(start(), trained_on, PLAN, tmp_path / "parts")
    monkeypatch.setattr(torch, "save", saved)
    mobile.train(start(), trained_on, PLAN, tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / run / "weights.pt", weights_only=True) for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    first = start().state_dict()
    assert not torch.equal(first["score.weight"], whole["score.weight"])
    frozen = [name for name in whole if name.startswith("color_trunk.blocks.0.")]
    assert frozen
    assert all(torch.equal(first[name], whole[name]) for name in frozen)


def test_predictions_are_the_scores_of_the_whole_network(trained_on: mobile.Data, data: Path) -> None:
    """Cached int8 features against the network from pixels: what training sees is what scoring gives."""
    network = start().eval()
    found = mobile.predict(network, trained_on.features, np.arange(4), None, PLAN)
    split = read_split("biq2021", "train", data)
    for i in range(4):
        color = picture(split.paths[i], mobile.RECIPE)
        with torch.no_grad():
            wanted = network(torch.tensor(color)[None], torch.tensor(ramp(color))[None]).item()
        assert found[i] == pytest.approx(wanted, abs=2e-3)


def test_controls_replace_depth_alone(trained_on: mobile.Data) -> None:
    chosen = np.arange(5)
    assert np.all(mobile._depth(trained_on.features, chosen, None, mobile.Plan(depth="constant")) == 0)
    rows = mobile._depth_rows(40, mobile.Plan(depth="shuffled"))
    assert rows is not None
    assert sorted(rows) == list(range(40))
    assert mobile._depth_rows(40, mobile.Plan()) is None


def test_pairs_are_one_picture_in_rising_severity(trained_on: mobile.Data) -> None:
    low, depth, steps = mobile._pairs(trained_on, PLAN, 64, np.random.default_rng(0))
    assert low.shape == (4, 24, 16, 16)
    assert depth.shape == (4, 1, 16, 16)
    assert torch.equal(depth[:2], depth[2:])  # one place of one picture
    assert not torch.equal(low[:2], low[2:])
    assert all(1 <= step <= 5 for step in steps.tolist())


def test_rank_loss_wants_the_worse_below() -> None:
    plan, steps = mobile.Plan(margin=0.05), torch.tensor([2.0])
    right, close, wrong = (
        mobile._rank_loss(torch.tensor(pair), steps, plan).item() for pair in ([0.7, 0.5], [0.55, 0.5], [0.5, 0.7])
    )
    assert right == 0
    assert close == pytest.approx(0.05)
    assert wrong == pytest.approx(0.3)


def test_cells_are_means() -> None:
    depth = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert cells(depth).tolist() == [[14, 18], [46, 50]]  # 13.5, 17.5, 45.5, 49.5 rounded to even


def test_depth_loss_ignores_scale_and_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.rand((2, 16, 16), generator=generator)
    assert invariant_loss(3 * wanted + 5, wanted).item() == pytest.approx(0, abs=1e-5)
    assert invariant_loss(-wanted, wanted).item() > 1


def test_calibration_follows_the_ratings() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.2, 0.8, 2000)
    curve = fit_calibration(raw, raw**2 + rng.normal(0, 0.05, 2000))
    assert (curve.raw[0], curve.raw[-1], curve.quality[0], curve.quality[-1]) == (0, 1, 0, 100)
    for x in (0.3, 0.5, 0.7):
        assert curve.apply(x) == pytest.approx(100 * x**2, abs=2)


def test_calibration_refuses_too_few() -> None:
    with pytest.raises(UsageError, match="3 rated pictures are too few; a calibration needs 40 or more"):
        fit_calibration([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])


def test_an_export_that_differs_is_refused(tmp_path: Path, monkeypatch) -> None:
    card = find_card("depth_mobile.rendered")
    out = tmp_path / "network.onnx"
    assert export(build_network(card), card, out) <= 1e-4
    content = out.read_bytes()
    assert b".py" not in content  # the exporter's notes would name files of the machine
    monkeypatch.setattr("dgiqa.export.onnx._difference", lambda *_: 0.01)
    with pytest.raises(WeightsError, match=r"differs from torch by 0.01, over the 0.0001 allowed"):
        export(build_network(card), card, out)
    assert out.read_bytes() == content
    assert list(tmp_path.iterdir()) == [out]

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
from dgiqa.models import find_card  # noqa: E402
from dgiqa.models.dgiqa_mobile.network import DGIQAMobile  # noqa: E402
from dgiqa.training import mobile  # noqa: E402
from dgiqa.training.depth import invariant_loss  # noqa: E402
from dgiqa.training.features import Features, cells, compute_features  # noqa: E402

PLAN = mobile.Plan(crops=(64, 96), batch=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in BIQ2021's shape: 20 pictures that fade from sharp to noise, with MOS."""
    root = tmp_path_factory.mktemp("biq2021")
    (root / "Images").mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for i in range(20):
        flat = np.full((128, 128, 3), 40 + 9 * i)
        pixels = np.clip(flat + rng.normal(0, 1 + 3 * i, flat.shape), 0, 255).astype(np.uint8)
        suffix = "JPG" if i == 7 else "jpg"  # the published lists and files differ in case
        PIL.Image.fromarray(pixels).save(root / "Images" / f"ss0{1 + i % 3} ({i}).{suffix}", "JPEG")
        lines.append(f"ss0{1 + i % 3} ({i}).jpg,{0.95 - 0.04 * i:.2f}")
    text = "\n".join(["Image Name,MOS", *lines]) + "\n"
    (root / "Train (Images and MOS).csv").write_text(text)
    (root / "Test (Images and MOS).csv").write_text(text)
    return root


@pytest.fixture(scope="module")
def features(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Features:
    torch.manual_seed(0)
    split = read_split("biq2021", "train", data)
    folder = tmp_path_factory.mktemp("features")
    ramp = np.repeat(np.arange(448, dtype=np.float32)[:, None], 448, 1) * (255 / 448)
    return compute_features(
        split.paths,
        DGIQAMobile().color_trunk.eval(),
        mobile.RECIPE,
        lambda pixels: ramp.astype(np.uint8),
        folder,
    )


def start() -> DGIQAMobile:
    torch.manual_seed(0)
    return DGIQAMobile()


def test_splits_are_read(data: Path) -> None:
    split = read_split("biq2021", "test", data)
    assert len(split) == 20
    assert split.subsets[:4] == ("ss01", "ss02", "ss03", "ss01")
    assert split.mos[:2].tolist() == pytest.approx([0.95, 0.91])
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


def test_a_stopped_run_goes_on_to_the_same_weights(features: Features, data: Path, tmp_path: Path, monkeypatch) -> None:
    mos = read_split("biq2021", "train", data).mos
    mobile.train(start(), features, mos, PLAN, tmp_path / "whole")
    saved = torch.save

    def stop_after_first_epoch(state, path):
        saved(state, path)
        if str(path).endswith("checkpoint.part"):
            Path(path).replace(tmp_path / "parts" / "checkpoint.pt")
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stop_after_first_epoch)
    with pytest.raises(KeyboardInterrupt):
        mobile.train(start(), features, mos, PLAN, tmp_path / "parts")
    monkeypatch.setattr(torch, "save", saved)
    mobile.train(start(), features, mos, PLAN, tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / run / "weights.pt", weights_only=True) for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    first = start().state_dict()
    assert not torch.equal(first["score.weight"], whole["score.weight"])
    frozen = [name for name in whole if name.startswith("color_trunk.blocks.0.")]
    assert frozen
    assert all(torch.equal(first[name], whole[name]) for name in frozen)


def test_predictions_are_the_scores_of_the_whole_network(features: Features, data: Path) -> None:
    """Cached int8 features against the network from pixels: what training sees is what scoring gives."""
    network = start().eval()
    found = mobile.predict(network, features, np.arange(4), None, PLAN)
    from dgiqa.training.features import picture

    split = read_split("biq2021", "train", data)
    depth = np.repeat(np.arange(448, dtype=np.float32)[:, None], 448, 1) * (255 / 448)
    for i in range(4):
        color = torch.tensor(picture(split.paths[i], mobile.RECIPE))[None]
        with torch.no_grad():
            wanted = network(color, torch.tensor(depth.astype(np.uint8))[None]).item()
        assert found[i] == pytest.approx(wanted, abs=2e-3)


def test_controls_replace_depth_alone(features: Features) -> None:
    chosen = np.arange(5)
    assert np.all(mobile._depth(features, chosen, None, mobile.Plan(depth="constant")) == 0)
    rows = mobile._depth_rows(20, mobile.Plan(depth="shuffled"))
    assert rows is not None
    assert sorted(rows) == list(range(20))
    assert mobile._depth_rows(20, mobile.Plan()) is None


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
    card = find_card("dgiqa_mobile.biq2021")
    out = tmp_path / "network.onnx"
    assert export(start(), card, out) <= 1e-4
    content = out.read_bytes()
    assert b".py" not in content
    monkeypatch.setattr("dgiqa.export.onnx._difference", lambda *_: 0.01)
    with pytest.raises(WeightsError, match=r"differs from torch by 0.01, over the 0.0001 allowed"):
        export(start(), card, out)
    assert not out.exists()

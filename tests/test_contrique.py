"""CONTRIQUE: two scales, the regression without and with an original, conversion, export."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dgiqa.cli import main
from dgiqa.errors import CardError, UsageError, WeightsError
from dgiqa.export.onnx import TOLERANCE, export
from dgiqa.models import build_network, find_card, list_models
from dgiqa.models.contrique.convert import convert, official_name, read_ridge
from dgiqa.models.contrique.network import Contrique, halve
from dgiqa.models.official import blank
from dgiqa.runtimes.onnx import open_file
from dgiqa.training.small import RECIPE
from dgiqa.training.systems import contrique as training
from dgiqa.types import Views
from dgiqa.weights.files import read_state
from formula import filled, formula

CARDS = ("csiq", "csiq_fr", "koniq10k", "live", "live_fr", "livec")


def pictures(count: int, height: int = 128, width: int = 128) -> Tensor:
    return (255 * (formula((count, height, width, 3), 3) + 0.5)).to(torch.uint8)


# The network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", CARDS)
def test_cards(tag: str) -> None:
    card = find_card(f"contrique.{tag}")
    network = blank(lambda: build_network(card)).eval()
    view = torch.zeros(1, 384, 512, 3, dtype=torch.uint8, device="meta")
    views = [view] * (2 if card.reference == "full" else 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(*views).shape == (1,)
    assert sum(p.numel() for p in network.encoder.parameters()) == 23_508_032
    assert sum(p.numel() for p in network.parameters()) == card.network.parameters == 23_508_032 + 4097
    assert round(counter.get_total_flops() / 2e9, 2) == card.network.gmacs
    assert (card.weights["torch"].url, card.weights["torch"].sha256, card.measured) == ("", "", ())
    assert card.calibration.apply(card.calibration.raw[1]) == 100


def test_all_six_regressions_have_a_card() -> None:
    own = [card.name for card in list_models() if card.arch == "contrique" and card.settings.get("size") != "mobile"]
    assert own == [f"contrique.{tag}" for tag in CARDS]


@pytest.mark.parametrize("size", [(64, 96), (67, 64), (130, 71), (384, 512)])
def test_half_the_size_is_pillows(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    height, width = (side // 2 * 2 for side in size)
    wanted = PIL.Image.fromarray(pixels[:height, :width]).resize(
        (width // 2, height // 2), PIL.Image.Resampling.BICUBIC
    )
    found = halve(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)
    assert np.array_equal(found.numpy(), np.asarray(wanted))


def test_a_photograph_at_half_its_size_is_pillows(photographs: list[Path]) -> None:
    picture = PIL.Image.open(photographs[0]).convert("RGB")
    picture = picture.crop((0, 0, picture.width // 2 * 2, picture.height // 2 * 2))
    wanted = picture.resize((picture.width // 2, picture.height // 2), PIL.Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    assert np.array_equal(halve(pixels)[0].permute(1, 2, 0).numpy(), np.asarray(wanted))


def test_features_by_hand() -> None:
    """Means of the last map at both scales, each of length 1, not normalised before; a linear sum of them."""
    network = filled(Contrique())
    color = pictures(2)
    features = network.look(color)
    assert features.shape == (2, 4096)
    rgb = color.permute(0, 3, 1, 2).float()
    for part, scale in ((features[:, :2048], rgb), (features[:, 2048:], halve(rgb))):
        mean = network.encoder(scale / 255)[-1].mean((2, 3))
        torch.testing.assert_close(part, mean / mean.norm(dim=1, keepdim=True), atol=1e-6, rtol=0)
    wanted = features @ network.ridge.weight[0] + network.ridge.bias
    torch.testing.assert_close(network(color), wanted, atol=1e-5, rtol=0)
    network.sign = -1
    torch.testing.assert_close(network(color), -wanted, atol=1e-5, rtol=0)


def test_with_an_original_the_distance_is_judged() -> None:
    network = filled(Contrique(part="fr", size="mobile"))
    color, reference = pictures(2), pictures(3)[1:]
    apart = (network.look(color) - network.look(reference)).abs()
    wanted = apart @ network.ridge.weight[0] + network.ridge.bias
    torch.testing.assert_close(network(color, reference), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(network(reference, color), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(network(color, color), network.ridge.bias.expand(2), atol=1e-6, rtol=0)


def test_a_reference_goes_with_the_part() -> None:
    color = pictures(1)
    with pytest.raises(ValueError, match="compares with a reference"):
        Contrique(part="fr", size="mobile")(color)
    with pytest.raises(ValueError, match="has none"):
        Contrique(size="mobile")(color, color)


@pytest.mark.parametrize("settings", [{"part": "both"}, {"size": "large"}, {"labels": "stars"}, {"width": 3}])
def test_other_settings_are_refused(settings: dict[str, Any]) -> None:
    card = dataclasses.replace(find_card("contrique.live"), settings=settings)
    with pytest.raises(CardError, match="don't fit contrique "):
        build_network(card)


def test_alone_or_in_a_batch() -> None:
    torch.manual_seed(0)
    network = Contrique(size="mobile").eval()
    color = pictures(2)
    with torch.no_grad():
        together, alone = network(color), torch.cat([network(color[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("part", ["nr", "fr"])
def test_exported_it_gives_the_same(part: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = "full" if part == "fr" else "none"
    settings = {"part": part, "size": "mobile"}
    card = dataclasses.replace(find_card("contrique.koniq10k"), recipe=RECIPE, reference=reference, settings=settings)  # type: ignore[arg-type]
    assert export(build_network(card), card, tmp_path / "mobile.onnx") <= TOLERANCE


def test_exported_it_takes_pictures_of_their_own_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = dataclasses.replace(find_card("contrique.koniq10k"), settings={"size": "mobile"})
    network, file = build_network(card), tmp_path / "native.onnx"
    assert export(network, card, file) <= TOLERANCE
    color = pictures(1, 131, 190)
    with torch.no_grad():
        assert open_file(file).run(Views(color.numpy())) == pytest.approx(network(color).numpy(), abs=1e-5)


# The authors' files ------------------------------------------------------------------------------------------


class Ridge:
    """What a regression's pickle holds, as scikit-learn 1.0 writes it."""

    def __init__(self, features: int = 4096) -> None:
        self.alpha, self.n_features_in_ = 0.1, features
        self.coef_ = np.sin(np.arange(features, dtype=np.float32))
        self.n_iter_, self.intercept_ = None, np.float32(37.25)


def official(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """An encoder's checkpoint with the authors' names, and our state of it."""
    network = filled(Contrique())
    state = network.state_dict()
    theirs = {official_name(name): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    theirs |= {f"projector.{name}": torch.zeros(2) for name in ("0.weight", "1.weight", "1.running_mean", "3.weight")}
    path = tmp_path / "CONTRIQUE_checkpoint25.tar"
    torch.save(theirs, path)
    return path, state


def test_names() -> None:
    names = {
        "encoder.conv1.weight": "encoder.0.weight",
        "encoder.bn1.running_var": "encoder.1.running_var",
        "encoder.layer1.0.downsample.0.weight": "encoder.4.0.downsample.0.weight",
        "encoder.layer4.2.bn3.bias": "encoder.7.2.bn3.bias",
        "ridge.weight": "ridge.weight",
    }
    assert {name: official_name(name) for name in names} == names


def test_the_authors_files_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, state = official(tmp_path)
    ridge, out = tmp_path / "Koniq.save", tmp_path / "contrique_koniq10k.safetensors"
    ridge.write_bytes(pickle.dumps(Ridge(), protocol=3))
    assert main(["convert", "contrique.koniq10k", str(checkpoint), str(ridge), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 320 tensors, 23512129 parameters\n"
    found = read_state(out)
    assert found.keys() == state.keys()
    assert all(np.array_equal(found[name], state[name]) for name in state if name.startswith("encoder."))
    assert np.array_equal(found["ridge.weight"], Ridge().coef_[None])
    assert found["ridge.bias"] == [37.25]
    assert convert([checkpoint, ridge], out)["dropped"] == 4
    with pytest.raises(UsageError, match=r"1 files are given, and 2 are needed: the authors' encoder .*, a regression"):
        convert([checkpoint], out)
    torch.save({n: t for n, t in torch.load(checkpoint).items() if n != "encoder.0.weight"}, checkpoint)
    with pytest.raises(WeightsError, match="not a checkpoint of the paper's encoder, tensors: 1 missing"):
        convert([checkpoint, ridge], out)


def test_a_regression_is_read_without_running_it(tmp_path: Path) -> None:
    """In a process of its own, where a step of the pickle that ran would leave a file."""
    trace = tmp_path / "ran"

    harmless, evil = tmp_path / "good.save", tmp_path / "evil.save"
    harmless.write_bytes(pickle.dumps(Ridge(8), protocol=3))
    evil.write_bytes(pickle.dumps(_reduced(trace), protocol=3))
    code = "import sys; from pathlib import Path; from dgiqa.models.contrique.convert import read_ridge\n"
    code += "found = read_ridge(Path(sys.argv[1]), 8); print(found['weight'].shape, found['bias'].item())"
    for path in (harmless, evil):
        ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        assert ran.stdout == "torch.Size([1, 8]) 37.25\n"
    assert not trace.exists()
    pickle.loads(evil.read_bytes())
    assert trace.exists(), "the pickle must be one that would have run"


class _Runs:
    """A pickle that opens a file when it is unpickled, with a regression in it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return open, (str(self.trace), "w")


def _reduced(trace: Path) -> list[Any]:
    return [_Runs(trace), Ridge(8).__dict__]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "is no pickle"),
        (b"", "is no pickle"),
        (pickle.dumps(Ridge(7), protocol=3), "holds no linear regression of 8 features in 32-bit floats"),
        (pickle.dumps({"coef_": 1.0}, protocol=3), "holds no linear regression of 8 features"),
        (pickle.dumps(Ridge(8), protocol=3)[:300], "is no pickle|holds no linear regression"),
    ],
)
def test_other_regressions_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.save"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_ridge(path, 8)
    with pytest.raises(WeightsError, match="there is no such file"):
        read_ridge(tmp_path / "none.save", 8)


# Training ----------------------------------------------------------------------------------------------------


def test_ridge_is_the_augmented_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, y, alpha = rng.normal(size=(30, 6)), rng.normal(size=30), 0.7
    weight, bias = training.solve(x, y, alpha)
    centre = x - x.mean(0)
    rows = np.vstack([centre, np.sqrt(alpha) * np.eye(6)])
    wanted = np.linalg.lstsq(rows, np.append(y - y.mean(), np.zeros(6)), rcond=None)[0]
    np.testing.assert_allclose(weight, wanted, atol=1e-10)
    assert bias == pytest.approx(y.mean() - x.mean(0) @ wanted)


def test_the_regression_finds_what_is_linear_and_chooses_its_weight() -> None:
    network = Contrique(size="mobile")
    rng = np.random.default_rng(1)
    features = torch.from_numpy(rng.normal(size=(1200, 896)).astype(np.float32))
    truth = features.numpy() @ rng.normal(size=896)
    assert training.fit_ridge(network, features, truth) == min(training.ALPHAS), "no noise, nothing to hold back"
    with torch.no_grad():
        assert np.corrcoef(network.judge(features).numpy(), truth)[0, 1] > 0.999
    noisy = truth + 300 * rng.normal(size=1200)
    assert training.fit_ridge(network, features, noisy) > min(training.ALPHAS)


def test_distances_are_from_the_original() -> None:
    spoiled = formula((2, 3, 5), 1).numpy()
    found = training.distances(spoiled)
    assert found.shape == (2, 2, 5)
    np.testing.assert_allclose(found[1, 1], np.abs(spoiled[1, 0] - spoiled[1, 2]))


def test_what_is_looked_at_at_speed_is_what_the_network_sees(photographs: list[Path]) -> None:
    from dgiqa.training.small import SIDE, runnable

    network = training.start("nr")
    pixels = np.asarray(PIL.Image.open(photographs[0]).convert("RGB").resize((SIDE, SIDE)))[None]
    found = runnable(training.Looking(network), ("features",)).run(None, {"color": pixels})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, network.look(torch.from_numpy(pixels.copy())).numpy(), atol=1e-5)

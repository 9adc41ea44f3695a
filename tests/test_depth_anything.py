"""Depth Anything: the card's settings make transformers' network, and the hub's files fit into it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from dgiqa.cards import ModelCard, WeightsFile
from dgiqa.errors import CardError
from dgiqa.export.onnx import export
from dgiqa.models import build_network, find_card, list_models
from dgiqa.runtimes import open_runtime
from dgiqa.runtimes.torch import load_module as open_module
from dgiqa.runtimes.torch import open_network
from dgiqa.types import Views

NAMES = ["v1_small", "v1_base", "v1_large", "v2_small"]
#: taps differ as V1 (the last four layers) and V2 (spread out) differ.
TINY = {
    name: {
        "width": 24,
        "layers": 8,
        "heads": 2,
        "taps": taps,
        "neck": [8, 12, 16, 16],
        "fusion": 8,
        "size": 70,
    }
    for name, taps in {"v1": [5, 6, 7, 8], "v2": [2, 4, 6, 8]}.items()
}


@pytest.fixture(params=TINY)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ModelCard, DepthAnythingForDepthEstimation]:
    """A tiny random checkpoint beside a card, and transformers' network that wrote it."""
    tiny = TINY[request.param]
    torch.manual_seed(1)
    config = DepthAnythingConfig(
        backbone_config={
            "model_type": "dinov2",
            "hidden_size": tiny["width"],
            "num_hidden_layers": tiny["layers"],
            "num_attention_heads": tiny["heads"],
            "image_size": tiny["size"],
            "patch_size": 14,
            "out_indices": tiny["taps"],
            "reshape_hidden_states": False,
        },
        reassemble_hidden_size=tiny["width"],
        neck_hidden_sizes=tiny["neck"],
        fusion_hidden_size=tiny["fusion"],
    )
    judge = DepthAnythingForDepthEstimation(config).eval()
    with torch.no_grad():
        for parameter in judge.parameters():
            if parameter.ndim > 1:  # transformers' first weights are too small for anything to move
                parameter.normal_(0, parameter[0].numel() ** -0.5)
        judge.head.conv3.bias.fill_(5)  # well above the last ReLU's zero, where every output would look alike
    judge.save_pretrained(tmp_path)
    card = dataclasses.replace(
        find_card("depth_anything.v2_small"),
        name="tiny",
        settings=tiny,
        weights={"torch": WeightsFile(file="model.safetensors")},
        folder=tmp_path,
    )
    return card, judge


def pictures(count: int, height: int, width: int) -> np.ndarray:
    v, y, x = np.mgrid[:count, :height, :width]
    return np.stack([(3 * x + y + 50 * v) % 256, x * y % 256, (5 * y + 90 * v) % 256], -1).astype(np.uint8)


def expected_depth(judge: DepthAnythingForDepthEstimation, color: np.ndarray) -> Tensor:
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (torch.from_numpy(color) / 255 - mean) / deviation
    with torch.no_grad():
        return judge(pixels.permute(0, 3, 1, 2)).predicted_depth


@pytest.mark.parametrize("size", [(70, 70), (70, 112), (98, 42)])
def test_same_depth_as_transformers(
    checkpoint: tuple[ModelCard, DepthAnythingForDepthEstimation], size: tuple[int, int]
) -> None:
    card, judge = checkpoint
    color = pictures(2, *size)
    depth = open_network(card).run(Views(color))
    expected = expected_depth(judge, color)
    assert depth.shape == (2, *size)
    assert depth.dtype == np.float32
    assert expected.std() > 0.01
    torch.testing.assert_close(torch.from_numpy(depth), expected, atol=1e-5, rtol=1e-5)


def test_state_has_the_names_of_the_hub(
    checkpoint: tuple[ModelCard, DepthAnythingForDepthEstimation],
) -> None:
    card, _ = checkpoint
    state = build_network(card).state_dict()
    with safe_open(card.folder / "model.safetensors", "pt") as file:
        assert sorted(file.keys()) == sorted(state)
    # Literally what the hub's files hold, whatever transformers calls it this year.
    for name in ("query.weight", "key.bias", "value.weight"):
        assert f"backbone.encoder.layer.7.attention.attention.{name}" in state
    assert "backbone.encoder.layer.0.attention.output.dense.bias" in state
    assert "neck.fusion_stage.layers.3.residual_layer1.convolution2.weight" in state


def test_a_state_goes_back_where_it_came_from(
    checkpoint: tuple[ModelCard, DepthAnythingForDepthEstimation],
) -> None:
    one, other = build_network(checkpoint[0]), build_network(checkpoint[0])
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict"):
        other.load_state_dict({n: t for n, t in one.state_dict().items() if "layer.3.attention" not in n})


def test_there_are_these_cards() -> None:
    cards = [card.name for card in list_models("depth") if card.arch == "depth_anything"]
    assert cards == sorted(f"depth_anything.{name}" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_cards(name: str) -> None:
    card = find_card(f"depth_anything.{name}")
    with torch.device("meta"):
        network = build_network(card).eval()
        picture = torch.zeros(1, 518, 518, 3, dtype=torch.uint8)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            assert network(picture).shape == (1, 518, 518)
    assert sum(p.numel() for p in network.parameters()) == card.network.parameters
    assert round(counter.get_total_flops() / 2e9, 2) == card.network.gmacs
    recipe = card.recipe
    assert (recipe.short_side, recipe.multiple, recipe.kernel, recipe.views) == (
        518,
        14,
        "cubic-opencv",
        "whole",
    )
    assert recipe.max_aspect == 32
    file = card.weights["torch"]
    assert file.url.startswith(file.page)
    assert len(file.url.split("/resolve/")[1].split("/")[0]) == 40  # a commit, which never changes
    assert file.bytes in (0, 99_173_660)
    assert card.licence.weights == "Apache-2.0"


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_exported_it_gives_the_same_depth_of_every_size(
    checkpoint: tuple[ModelCard, DepthAnythingForDepthEstimation], runtime: str, tmp_path: Path
) -> None:
    card, judge = checkpoint
    recipe = dataclasses.replace(card.recipe, short_side=70)
    file = tmp_path / "exported.onnx"
    assert export(open_module(card), dataclasses.replace(card, recipe=recipe), file) < 1e-4
    exported = dataclasses.replace(card, weights={"onnx": WeightsFile(file=file.name)}, folder=tmp_path)
    network = open_runtime(exported, runtime)
    for size in ((70, 70), (70, 182), (126, 42)):  # a grid as stored, and two whose places are interpolated
        color = pictures(1, *size)
        depth = network.run(Views(color))
        torch.testing.assert_close(torch.from_numpy(depth), expected_depth(judge, color), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "5 heads don't divide a width of 24"),
        ({"taps": [2, 4, 6, 9]}, "taps must be layers from 1 to 8"),
        ({"taps": [2, 4, 8]}, "taps and neck need 4 values each"),
        ({"neck": [8, 8]}, "taps and neck need 4 values each"),
        ({"taps": [2, 2, 4, 6]}, "each above the one before"),
        ({"taps": [6, 4, 2, 8]}, "each above the one before"),
        ({"taps": [0, 2, 4, 6]}, "taps must be a whole number, at least 1"),
        ({"taps": [2, 2.5, 4, 6]}, "taps must be a whole number, at least 1"),
        ({"heads": 0}, "heads must be a whole number, at least 1"),
        ({"heads": True}, "heads must be a whole number, at least 1"),
        ({"width": 0}, "width must be a whole number, at least 1"),
        ({"layers": 0}, "layers must be a whole number, at least 1"),
        ({"head": 0}, "head must be a whole number, at least 1"),
        ({"fusion": 1}, "fusion must be a whole number, at least 2"),
        ({"neck": [0, 12, 16, 16]}, "neck must be a whole number, at least 1"),
        ({"neck": [8, 12, 16, 0]}, "neck must be a whole number, at least 1"),
        ({"size": 13}, "size must be a whole number, at least 14"),
    ],
)
def test_settings_that_make_no_network_are_named(
    checkpoint: tuple[ModelCard, DepthAnythingForDepthEstimation], changes: dict[str, object], message: str
) -> None:
    card, _ = checkpoint
    with pytest.raises(CardError, match=message):
        build_network(dataclasses.replace(card, settings={**card.settings, **changes}))

"""The two embedded networks: sizes asserted, golden numbers at weights filled by a formula, gradients everywhere."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dgiqa.models import build_network, find_card  # noqa: E402
from dgiqa.models.depth_mobile.mobilenet import MobileNetV2, load_imagenet  # noqa: E402
from formula import filled  # noqa: E402

CARDS = ("dgiqa_mobile.biq2021", "depth_mobile.rendered")


def inputs(size: tuple[int, int], depth: bool) -> tuple[torch.Tensor, ...]:
    height, width = size
    i = torch.arange(height * width * 3).reshape(1, height, width, 3)
    color = ((i * 7919) % 251).to(torch.uint8)
    return (color, color[..., 0].contiguous()) if depth else (color,)


@pytest.mark.parametrize("name", CARDS)
def test_size_is_what_the_card_says(name: str) -> None:
    card = find_card(name)
    network = build_network(card).eval()
    assert sum(p.numel() for p in network.parameters()) == card.network.parameters
    side = int(card.network.input.partition("×")[0])
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(*inputs((side, side), bool(card.recipe.depth)))
    assert counter.get_total_flops() / 2e9 == pytest.approx(card.network.gmacs, rel=0.005)


def test_golden_numbers() -> None:
    score = filled(build_network(find_card("dgiqa_mobile.biq2021")))
    depth = filled(build_network(find_card("depth_mobile.rendered")))
    with torch.no_grad():
        raw = score(*inputs((128, 160), depth=True))
        near = depth(*inputs((64, 96), depth=False))
    assert raw.shape == (1,)
    assert near.shape == (1, 16, 24)
    assert raw.item() == pytest.approx(GOLDEN_RAW, abs=1e-5)
    assert near.mean().item() == pytest.approx(GOLDEN_NEAR[0], abs=1e-4)
    assert near.std().item() == pytest.approx(GOLDEN_NEAR[1], abs=1e-4)


GOLDEN_RAW, GOLDEN_NEAR = 0.440952, (-0.13662, 0.08121)


def test_every_parameter_gets_a_gradient_and_depth_matters() -> None:
    torch.manual_seed(0)
    network = build_network(find_card("dgiqa_mobile.biq2021")).eval()
    color, depth = inputs((128, 160), depth=True)
    network(color, depth).sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    with torch.no_grad():
        assert abs(network(color, depth) - network(color, 255 - depth)).item() > 1e-6


def test_imagenet_weights_go_in_by_forward_order() -> None:
    trunk = MobileNetV2()
    convolutions = [m for m in trunk.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 51
    arrays = {}
    for i, conv in enumerate(convolutions):
        arrays[f"conv{i:02d}.weight"] = np.full(tuple(conv.weight.shape), i, np.float16)
        arrays[f"conv{i:02d}.bias"] = np.full(len(conv.bias), -i, np.float32)
    load_imagenet(trunk, arrays)
    assert [c.weight.detach().mean().item() for c in convolutions] == [float(i) for i in range(51)]
    assert [c.bias.detach().mean().item() for c in convolutions] == [-float(i) for i in range(51)]


def test_stride_two_pads_as_tensorflow_does() -> None:
    """'same' on even sides: nothing before, one pixel after."""
    from dgiqa.models.depth_mobile.mobilenet import ConvReLU6

    layer = ConvReLU6(1, 1, 3, stride=2, linear=True)
    with torch.no_grad():
        layer.conv.weight.fill_(0)
        layer.conv.weight[0, 0, 0, 0] = 1  # picks the top left pixel of its window
        layer.conv.bias.fill_(0)
        x = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert layer(x).flatten().tolist() == [0.0, 2.0, 8.0, 10.0]

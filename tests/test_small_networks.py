"""The two embedded networks: sizes asserted, golden numbers at weights filled by a formula, gradients everywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dgiqa.errors import CardError  # noqa: E402
from dgiqa.export.onnx import export  # noqa: E402
from dgiqa.models import build_network, find_card  # noqa: E402
from dgiqa.models.dgiqa_mobile import efficientnet, pixels, thin_resnet  # noqa: E402
from dgiqa.models.dgiqa_mobile.efficientnet import EfficientNetLite0  # noqa: E402
from dgiqa.models.dgiqa_mobile.explain import Explainer  # noqa: E402
from dgiqa.models.dgiqa_mobile.network import DGIQAMobile, Head  # noqa: E402
from dgiqa.models.dgiqa_mobile.thin_resnet import ThinResNet50  # noqa: E402
from dgiqa.models.trunks.mobilenet import MobileNetV2, load_imagenet  # noqa: E402
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
    plain, score = filled(DGIQAMobile()), filled(build_network(find_card("dgiqa_mobile.biq2021")))
    depth = filled(build_network(find_card("depth_mobile.rendered")))
    with torch.no_grad():
        raw, without = (network(*inputs((128, 160), depth=True)) for network in (score, plain))
        near = depth(*inputs((64, 96), depth=False))
    assert raw.shape == (1, 2)
    assert near.shape == (1, 16, 24)
    assert raw[0].tolist() == pytest.approx(GOLDEN_RAW, abs=1e-5)
    assert without[0].tolist() == pytest.approx(GOLDEN_PLAIN, abs=1e-5)
    assert near.mean().item() == pytest.approx(GOLDEN_NEAR[0], abs=1e-4)
    assert near.std().item() == pytest.approx(GOLDEN_NEAR[1], abs=1e-4)


#: With pixels and members as the card has them, and without; and the depth network's mean and deviation.
GOLDEN_RAW, GOLDEN_PLAIN, GOLDEN_NEAR = (0.527985, 0.21965), (0.140958, 0.2886), (-0.13662, 0.08121)


def test_every_parameter_gets_a_gradient_and_depth_matters() -> None:
    torch.manual_seed(0)
    network = build_network(find_card("dgiqa_mobile.biq2021")).eval()
    color, depth = inputs((128, 160), depth=True)
    network(color, depth).sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    with torch.no_grad():
        assert abs(network(color, depth) - network(color, 255 - depth)).min() > 1e-6


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
    from dgiqa.models.trunks.mobilenet import ConvReLU6

    layer = ConvReLU6(1, 1, 3, stride=2, linear=True)
    with torch.no_grad():
        layer.conv.weight.fill_(0)
        layer.conv.weight[0, 0, 0, 0] = 1  # picks the top left pixel of its window
        layer.conv.bias.fill_(0)
        x = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert layer(x).flatten().tolist() == [0.0, 2.0, 8.0, 10.0]


def test_lite0_has_the_published_size_and_takes_published_weights() -> None:
    """4.65 M parameters with the classifier of 1,281,000; a state dict in forward order, by other names."""
    trunk = EfficientNetLite0()
    assert sum(p.numel() for p in trunk.parameters()) == 4_652_008 - 1_281_000
    own = {name: value for name, value in trunk.state_dict().items() if not name.endswith("num_batches_tracked")}
    state = {f"layer{i}": torch.full_like(value, float(i)) for i, value in enumerate(own.values())}
    efficientnet.load_imagenet(trunk, state | {"classifier": torch.zeros(1000, 1280)})
    loaded = [v for name, v in trunk.state_dict().items() if not name.endswith("num_batches_tracked")]
    assert all((value == i).all() for i, value in enumerate(loaded))
    with pytest.raises(ValueError, match=r"layer1: shape \(3,\) is not stem\.norm\.weight's \(32,\)"):
        efficientnet.load_imagenet(trunk, state | {"layer1": torch.zeros(3)})


@pytest.mark.parametrize(("kernel", "taken"), [(3, [0.0, 2.0, 8.0, 10.0]), (5, [5.0, 7.0, 13.0, 15.0])])
def test_lite0_pads_as_tensorflow_does(kernel: int, taken: list[float]) -> None:
    """'same' on even sides: the odd pixel comes after. The weight picks one pixel of the window."""
    layer = efficientnet.Convolution(1, 1, kernel, stride=2, linear=True)
    layer.norm = torch.nn.Identity()
    at = 0 if kernel == 3 else 2
    with torch.no_grad():
        layer.conv.weight.fill_(0)
        layer.conv.weight[0, 0, at, at] = 1
        x = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert layer(x).flatten().tolist() == taken


def open_nsfw_state() -> dict[str, torch.Tensor]:
    """Tensors named and shaped as all of open-nsfw.onnx's, in another order."""
    shapes, number, inputs = [("Conv__440", (64, 3, 7, 7))], 440, 64
    for stage, (count, outputs) in enumerate(((3, 128), (4, 256), (6, 512), (3, 1024))):
        for block in range(count):
            name, width, number = f"conv_stage{stage}_block{block}", outputs // 4, number + 7
            shapes.append((f"{name}_branch2a/BiasAdd", (width, inputs, 1, 1)))
            shapes.append((f"Conv__{number}", (width, width, 3, 3)))
            shapes.append((f"{name}_branch2c/BiasAdd", (outputs, width, 1, 1)))
            if block == 0:
                shapes.append((f"{name}_proj_shortcut/BiasAdd", (outputs, inputs, 1, 1)))
            inputs = outputs
    state = {"fc_nsfw/MatMul/ReadVariableOp:0": torch.zeros(1024, 2)}
    for i, (name, shape) in reversed(list(enumerate(shapes))):
        scale = (shape[1] * shape[2] * shape[3]) ** -0.5
        generator = torch.Generator().manual_seed(i)
        state[f"{name}_weights_fused_bn"] = scale * torch.randn(shape, generator=generator)
        state[f"{name}_bias_fused_bn"] = torch.randn(shape[0], generator=generator)
    return state


def caffe_resnet(state: dict[str, torch.Tensor], color: torch.Tensor) -> list[torch.Tensor]:
    """The first three stages as Caffe's description has them, on B, G, R less its means: the tests' own reading."""
    functional = torch.nn.functional

    def convolve(x: torch.Tensor, name: str, **how: int) -> torch.Tensor:
        return functional.conv2d(x, state[f"{name}_weights_fused_bn"], state[f"{name}_bias_fused_bn"], **how)

    x = color.flip(3).permute(0, 3, 1, 2).float() - torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
    maps = [convolve(x, "Conv__440", stride=2, padding=3).relu()]
    x, number = functional.max_pool2d(maps[0], 3, 2, ceil_mode=True), 440
    for stage, count in enumerate((3, 4, 6)):
        for block in range(count):
            name, stride, number = f"conv_stage{stage}_block{block}", 2 if stage and block == 0 else 1, number + 7
            y = convolve(x, f"{name}_branch2a/BiasAdd", stride=stride).relu()
            y = convolve(convolve(y, f"Conv__{number}", padding=1).relu(), f"{name}_branch2c/BiasAdd")
            x = (y + (convolve(x, f"{name}_proj_shortcut/BiasAdd", stride=stride) if block == 0 else x)).relu()
        maps.append(x)
    return maps


def test_half_a_resnet_takes_published_weights_and_gives_their_maps() -> None:
    trunk, state = ThinResNet50().eval(), open_nsfw_state()
    thin_resnet.load_imagenet(trunk, state)
    color = inputs((96, 128), depth=False)[0]
    with torch.no_grad():
        found, wanted = trunk(trunk.scaled(color)), caffe_resnet(state, color)
    assert [m.shape[1] for m in found] == list(trunk.channels)
    assert [128 // m.shape[3] for m in found] == list(trunk.strides)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=2e-4)
    for lost, message in (("conv_stage1_block3_branch2c/BiasAdd_bias", "block3_branch2c"), ("Conv__447_weights", "16")):
        broken = {name: value for name, value in state.items() if not name.startswith(lost)}
        with pytest.raises((KeyError, ValueError), match=message):
            thin_resnet.load_imagenet(trunk, broken)
    with pytest.raises(ValueError, match="0 convolutions"):
        thin_resnet.load_imagenet(trunk, {})


def test_half_a_resnet_feeds_the_bridges_from_fine_to_coarse(tmp_path: Path) -> None:
    network = DGIQAMobile(trunk="resnet50-thin", asks="alone").eval()
    taken = [next(p for p in bridge.parameters() if p.ndim == 4).shape[1] for bridge in network.color_bridges]
    assert taken == [2 * channels for channels in (64, 128, 256, 512)]
    with torch.no_grad():
        bare = DGIQAMobile(trunk="resnet50-thin", asks="alone", hidden=0).eval()
        assert bare(*inputs((64, 96), False)).shape == (1, 2)
    settings = {"trunk": "resnet50-thin", "asks": "alone", "members": 4, "pixels": 4.0}
    card = dataclasses.replace(find_card("dgiqa_mobile.quick"), settings=settings)
    torch.manual_seed(0)
    assert export(build_network(card).eval(), card, tmp_path / "thin.onnx") < 1e-5  # of every size


def test_what_explains_reads_the_first_trunk_alone() -> None:
    for settings in ({"trunk": "resnet50-thin", "pixels": 4.0}, {}, {"pixels": 4.0, "asks": "alone"}):
        with pytest.raises(ValueError, match="only a network on EfficientNet-Lite0"):
            Explainer(DGIQAMobile(**settings))


@pytest.mark.parametrize(
    ("trunk", "stages"),
    [*(("efficientnet-lite0", n) for n in range(1, 9)), *(("resnet50-thin", n) for n in range(1, 5))],
)
def test_mobile_goes_on_from_what_its_first_stages_say(trunk: str, stages: int) -> None:
    """In 16 bits, so equal up to their rounding; on a picture that isn't square, too."""
    torch.manual_seed(0)
    network = DGIQAMobile(trunk=trunk).eval()
    if trunk == "resnet50-thin":
        thin_resnet.load_imagenet(network.color_trunk, open_nsfw_state())
    color, depth = inputs((96, 128), depth=True)
    with torch.no_grad():
        first = network.first(color, stages)
        assert first.dtype == torch.float16
        assert first.shape[2:] == (3, 4)
        assert not torch.equal(network(first, depth), network(color.flip(2), depth))
        torch.testing.assert_close(network(first, depth), network(color, depth), atol=5e-5, rtol=0)
        known, whole = network.statistics(first), network.statistics(color)
        largest = 1.0 if trunk == "efficientnet-lite0" else float(whole.max())  # whose maps aren't normalised
        torch.testing.assert_close(known, whole, atol=5e-4 * largest, rtol=2e-3)
    names = {name for name, _ in network.named_parameters()}
    prefixes = tuple(network.frozen_for(stages))
    stem = sum(name.startswith("color_trunk.stem.") for name in names)
    assert stem == (3 if trunk == "efficientnet-lite0" else 0)
    assert sum(name.startswith(prefixes) for name in names) == stem + sum(
        name.startswith(f"color_trunk.stages.{i}.") for name in names for i in range(stages)
    )


def test_members_read_their_own_part_and_their_mean_is_the_score() -> None:
    torch.manual_seed(0)
    head = Head(12, 6, 8, members=4)
    statistics, fused = torch.randn(5, 12), torch.randn(5, 6)
    for layer in head.dropout:
        layer.p = 0.0
    each = head.train()(statistics, fused)
    mean = head.eval()(statistics, fused)
    assert each.shape == (5, 8)
    torch.testing.assert_close(mean, torch.stack([each[:, 0::2].mean(1), each[:, 1::2].mean(1)], 1))
    with torch.no_grad():  # the third member's hidden units
        head.hidden.weight[4:6] += 1.0
        head.hidden.bias[4:6] += torch.tensor([0.5, -1.0])
    changed = (head.train()(statistics, fused) != each).any(0)
    assert changed.tolist() == [False] * 4 + [True] * 2 + [False] * 2


def test_one_member_is_the_plain_head() -> None:
    torch.manual_seed(0)
    head = Head(12, 6, 8).eval()
    statistics, fused = torch.randn(5, 12), torch.randn(5, 6)
    hidden = torch.nn.functional.gelu(head.hidden(head.norm((statistics - head.mean) / head.scale)))
    score = head.score(torch.cat([hidden, fused], 1)).sigmoid()
    torch.testing.assert_close(head(statistics, fused)[:, :1], score)


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"asks": "alone"}, {"asks": "color", "stack": "plain"}])
def test_every_part_of_a_changed_network_is_used(settings: dict[str, object]) -> None:
    """What is left gets a gradient, so an exported file holds it all; and it is another network."""
    torch.manual_seed(0)
    network = DGIQAMobile(**settings).train()
    color, depth = inputs((64, 64), depth=True)
    network(color.repeat(2, 1, 1, 1), depth.repeat(2, 1, 1)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    whole = {name: p.shape for name, p in DGIQAMobile().named_parameters()}
    changed = {name: p.shape for name, p in network.named_parameters()}
    assert (changed != whole) == ("hidden" in settings or settings["asks"] == "alone")


def test_depth_is_wanted_by_those_that_ask_it() -> None:
    color, depth = inputs((64, 64), True)
    alone = DGIQAMobile(asks="alone").eval()
    with torch.no_grad():
        assert torch.equal(alone(color), alone(color, depth))
        with pytest.raises(ValueError, match="asks depth and there is none"):
            DGIQAMobile().eval()(color)


def test_settings_that_the_network_does_not_have() -> None:
    card = find_card("dgiqa_mobile.biq2021")
    for settings in (
        {"asks": "colour"},
        {"trunk": "resnet50"},
        {"stack": True},
        {"gated": "False"},
        {"nonsense": 1},
        {"members": 3},
        {"members": 0},
    ):
        with pytest.raises(CardError, match=r"^dgiqa_mobile\.biq2021: settings: "):
            build_network(dataclasses.replace(card, settings=settings))


def test_what_is_left_out_leaves_the_rest_its_start() -> None:
    torch.manual_seed(3)
    whole = DGIQAMobile().state_dict()
    for settings in ({"gated": False}, {"refined": False}, {"asks": "alone"}, {"stack": "plain"}):
        torch.manual_seed(3)
        changed = DGIQAMobile(**settings).state_dict()
        assert all(torch.equal(whole[name], value) for name, value in changed.items()), settings


def test_shares_of_pixels_are_soft_histograms() -> None:
    """Each plane's add up to 1; those of luma and of differences are numpy's own, cell by cell."""
    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal(rng.uniform(0, 255, (1, 96, 64, 1)), 30, (1, 96, 64, 3)), 0, 255).astype(np.uint8)
    shares = pixels.PixelShares()(torch.from_numpy(picture))[0].numpy()
    assert shares.shape == (pixels.COUNT, 3, 2)
    lengths = [16, 12, 8, 8, 8, 9, 9, 9, 7, 7, *[9] * 6]
    assert sum(lengths) == pixels.COUNT
    for part in np.split(shares, np.cumsum(lengths)[:-1]):
        np.testing.assert_allclose(part.sum(0), 1, atol=1e-4)
        assert part.min() > -1e-4
    luma = picture[0].astype(np.float64) @ [0.299, 0.587, 0.114]
    places = np.linspace(0, 255, 16)
    wanted = [np.interp(luma[32:64:2, :32:2], places, row).mean() for row in np.eye(16)]
    np.testing.assert_allclose(shares[:16, 1, 0], wanted, atol=1e-4)
    across = np.abs(np.diff(luma, axis=1))[::2, ::2]
    wanted = [np.interp(across[16:32, :16], pixels.STEPS, row).mean() for row in np.eye(9)]
    np.testing.assert_allclose(shares[52:61, 1, 0], wanted, atol=1e-4)


def test_the_head_minds_the_pixels_as_much_as_it_is_told() -> None:
    torch.manual_seed(0)
    color, depth = inputs((96, 128), depth=True)
    plain, minding = DGIQAMobile().eval(), DGIQAMobile(pixels=4).eval()
    with torch.no_grad():
        first = minding.first(color, 4)
        torch.testing.assert_close(minding(first, depth), minding(color, depth), atol=2e-4, rtol=0)
        torch.testing.assert_close(minding.statistics(first), minding.statistics(color), atol=5e-4, rtol=2e-3)
    rows = minding.statistics(torch.cat([color, color.flip(2), 255 - color])).detach()
    assert rows.shape[1] == plain.statistics(color).shape[1] + pixels.COUNT
    with torch.no_grad():
        minding.fit_statistics(rows)
    np.testing.assert_allclose(minding.head.scale[:-147], rows.std(0)[:-147] + 1e-6, rtol=1e-5)
    np.testing.assert_allclose(minding.head.scale[-147:], (rows.std(0)[-147:] + 1e-6) / 4, rtol=1e-5)
    with pytest.raises(ValueError, match="pixels = -1 is a number, 0 or more"):
        DGIQAMobile(pixels=-1)

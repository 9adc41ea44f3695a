"""SaTQA: deformable sampling by hand, streams, gate, patch attention, sizes, the encoder's part, training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dgiqa.export.onnx import TOLERANCE, export  # noqa: E402
from dgiqa.models import build_network, find_card  # noqa: E402
from dgiqa.models.satqa import network as satqa  # noqa: E402
from dgiqa.models.satqa.blocks import (  # noqa: E402
    AttentionStream,
    DeformableConv,
    Gate,
    MultiStreamBlock,
    PatchAttention,
    PooledStream,
    sample,
)
from dgiqa.models.satqa.network import Encoder, Judge, Projector, SaTQA, Small, SmallEncoder, read  # noqa: E402
from dgiqa.models.trunks.vit import ViT  # noqa: E402
from dgiqa.training.small import RECIPE  # noqa: E402
from dgiqa.training.systems import satqa as training  # noqa: E402
from formula import filled, formula  # noqa: E402


def pictures(count: int) -> Tensor:
    side = torch.arange(384)
    v, y, x = torch.meshgrid(torch.arange(count), side, side, indexing="ij")
    return torch.stack([(3 * x + 5 * y + 40 * v) % 256, (x * y // (7 + v)) % 256, (x + 90 * v) % 256], -1).to(
        torch.uint8
    )


@pytest.fixture(scope="module")
def small() -> Small:
    module = filled(Small())
    assert isinstance(module, Small)
    module.fit_statistics(module.trunk(pictures(2)))
    return module


# Deformable convolution -------------------------------------------------------------------------------------


def between(plane: Tensor, row: float, column: float) -> float:
    """Bilinear between the four pixels around, 0 beyond the border (equations 3 and 4 of arXiv:1703.06211)."""
    height, width = plane.shape
    value = 0.0
    for y in (math.floor(row), math.floor(row) + 1):
        for x in (math.floor(column), math.floor(column) + 1):
            if 0 <= y < height and 0 <= x < width:
                value += plane[y, x].item() * max(0, 1 - abs(row - y)) * max(0, 1 - abs(column - x))
    return value


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 99), st.sampled_from([0.5, 3.0, 12.0]))
def test_sampling_is_the_formula(height: int, width: int, seed: int, reach: float) -> None:
    """Also where places lie outside the map."""
    x = formula((2, 2, height, width), seed)
    away = reach * formula((2, 3, 2, height, width), seed + 1)
    found = sample(x, away)
    assert found.shape == (2, 2, 3, height, width)
    for at in np.ndindex(*found.shape):
        n, c, k, y, z = at
        row, column = (float(v) for v in away[n, k, :, y, z])
        assert found[at].item() == pytest.approx(between(x[n, c], y + row, z + column), abs=1e-5)


def test_deformable_convolution_is_the_formula() -> None:
    """Equation 2 of the paper: each tap reads its place plus its offset, offsets in pairs of row and column."""
    layer = filled(DeformableConv(2, 3))
    assert isinstance(layer, DeformableConv)
    x = 4 * formula((1, 2, 4, 5), 1)
    offsets = layer.offset(x)[0]
    assert 0.3 < offsets.abs().max() < 10
    found = layer(x)
    for o, y, z in np.ndindex(3, 4, 5):
        value = layer.conv.bias[o].item()
        for c in range(2):
            for k in range(9):
                i, j = divmod(k, 3)
                row = y + i - 1 + offsets[2 * k, y, z].item()
                column = z + j - 1 + offsets[2 * k + 1, y, z].item()
                value += layer.conv.weight[o, c, i, j].item() * between(x[0, c], row, column)
        assert found[0, o, y, z].item() == pytest.approx(value, abs=1e-4)


def test_it_starts_as_an_ordinary_convolution() -> None:
    layer = DeformableConv(4, 6)
    x = formula((2, 4, 7, 5), 2)
    expected = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)


def test_offsets_learn() -> None:
    layer = DeformableConv(2, 2)
    layer(formula((1, 2, 6, 6), 3)).square().sum().backward()
    assert layer.offset.weight.grad is not None
    assert layer.offset.weight.grad.abs().max() > 0


# Streams, gate, block ---------------------------------------------------------------------------------------


def test_pooled_stream_keeps_the_size_and_reads_maxima() -> None:
    stream = filled(PooledStream(4))
    x = formula((2, 4, 7, 7), 4)
    assert stream(x).shape == x.shape
    # Where a larger neighbour covers it in all windows that see it, a pixel doesn't count.
    x[:, :, 3:6, 3:6] = -1
    x[:, :, ::2, ::2] = 2
    touched = x.clone()
    touched[:, :, 3, 3] = 0
    assert torch.equal(stream(touched), stream(x))


def test_attention_stream_is_torchs_attention() -> None:
    stream = filled(AttentionStream(12, 3))
    assert isinstance(stream, AttentionStream)
    x = 3 * formula((2, 12, 3, 4), 5)
    judge = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    own = stream.attention.state_dict()
    judge.load_state_dict(
        {
            "in_proj_weight": own["qkv.weight"],
            "in_proj_bias": own["qkv.bias"],
            "out_proj.weight": own["proj.weight"],
            "out_proj.bias": own["proj.bias"],
        }
    )
    tokens = x.flatten(2).transpose(1, 2)
    expected = judge(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(stream(x), expected, atol=1e-5, rtol=0)


def test_gate_is_the_formula() -> None:
    gate = filled(Gate(6, 4))
    assert isinstance(gate, Gate)
    x = 3 * formula((1, 6, 8, 8), 6)
    first, second = gate.channels[0], gate.channels[2]

    def perceptron(v: Tensor) -> Tensor:
        return second.weight @ (first.weight @ v + first.bias).clamp(min=0) + second.bias

    pooled = x[0].flatten(1)
    weight = torch.sigmoid(perceptron(pooled.mean(1)) + perceptron(pooled.max(1).values))
    weighed = x[0] * weight[:, None, None]
    both = torch.stack([weighed.mean(0), weighed.max(0).values])[None]
    expected = weighed * torch.sigmoid(F.conv2d(both, gate.places.weight, gate.places.bias, padding=3))
    torch.testing.assert_close(gate(x), expected, atol=1e-5, rtol=0)


def test_each_stream_has_its_channels() -> None:
    """Before the gate: with a gate that lets all through by half, other streams' channels stay as they are."""
    block = filled(MultiStreamBlock((4, 6, 8), heads=2, hidden=5))
    assert isinstance(block, MultiStreamBlock)
    for parameter in block.gate.parameters():
        parameter.zero_()
    x = 3 * formula((1, 18, 5, 5), 7)
    before = block(x)
    quarter = (before - x)[:, 4:10]
    normed = F.layer_norm(x.permute(0, 2, 3, 1), (18,), block.norm.weight, block.norm.bias, 1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(quarter, block.pooled(normed[:, 4:10]) / 4, atol=1e-5, rtol=0)
    block.attention.attention.proj.bias += 1
    changed = (block(x) != before).any(3).any(2)[0]
    assert changed.tolist() == [False] * 10 + [True] * 8


# Patch attention --------------------------------------------------------------------------------------------


def test_patch_attention_is_the_formula() -> None:
    layer = filled(PatchAttention(5, 8, heads=2, ratio=4))
    assert isinstance(layer, PatchAttention)
    asking, answering = 3 * formula((4, 5), 8), 3 * formula((6, 8), 9)
    query, key, value = layer.query(asking), layer.key(answering), layer.value(answering)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        near = query[:, part] @ key[:, part].T / 2
        heads.append(near.softmax(1) @ value[:, part])
    answers = torch.cat(heads, 1)
    expected = answers + layer.mlp(answers)
    torch.testing.assert_close(layer(asking[None], answering[None])[0], expected, atol=1e-5, rtol=0)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"^10 channels can't be shared out to 4 heads$"):
        PatchAttention(3, 10, heads=4, ratio=4)


def test_answers_are_a_set() -> None:
    """The map's tokens have no places of their own here: in another order they answer the same."""
    layer = filled(PatchAttention(5, 8, heads=2, ratio=4))
    asking, answering = formula((1, 4, 5), 8), formula((1, 6, 8), 9)
    torch.testing.assert_close(layer(asking, answering.flip(1)), layer(asking, answering), atol=1e-6, rtol=0)


# The networks -----------------------------------------------------------------------------------------------


def test_tokens_are_read_as_a_map() -> None:
    vit = filled(ViT(size=12, patch=4, inputs=2, width=8, depth=3, heads=2))
    assert isinstance(vit, ViT)
    x = formula((2, 2, 12, 12), 10)
    found = read(vit, x, (0, 2))
    assert found.shape == (2, 16, 3, 3)
    tokens = vit.after(x, (0, 2))
    assert torch.equal(found[1, :8, 2, 1], tokens[0][1, 1 + 2 * 3 + 1])
    assert torch.equal(found[1, 8:, 0, 2], tokens[1][1, 1 + 2])


def test_judge_golden() -> None:
    judge = filled(Judge(12, 10, splits=((8, 8, 8), (6, 6, 12)), depths=(1, 2), strides=(2,), head=4, gate=0.5))
    scores = judge(3 * formula((2, 12, 8, 8), 11), 3 * formula((2, 10, 4, 4), 12))
    assert scores.tolist() == pytest.approx(GOLDEN, abs=1e-5)


GOLDEN = [0.048871, 0.061407]


def test_paper_size_is_what_the_card_says() -> None:
    """And near what is known of the authors' network: 58.47 M trained, 145.05 M with the ViT, 29.1 M the encoder's
    training, 82.7 GMACs without the encoder. The README says where they differ."""
    card = find_card("satqa.paper")
    with torch.device("meta"):
        network = build_network(card).eval()
        assert isinstance(network, SaTQA)
        view, rgb = torch.zeros(1, 224, 224, 3, dtype=torch.uint8), torch.zeros(1, 3, 224, 224)
        with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            gmacs = [
                _gmacs(module, value)
                for module, value in ((network, view), (network.encoder, rgb), (network.trunk, rgb))
            ]
        encoder, projector = count(network.encoder), count(Projector())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert count(network) == card.network.parameters == 169_186_366
    assert round(gmacs[0], 2) == card.network.gmacs == 55.13
    assert trained == count(network.judge) == 58_296_574
    assert trained == pytest.approx(58.47e6, rel=0.004)
    head = 768 * 1000 + 1000  # the ViT's classifier, which nobody reads and which isn't built
    assert round((count(network.trunk) + head) / 1e6, 2) == 86.58 == round(145.05 - 58.47, 2)
    classifier = 2048 * 1000 + 1000  # ResNet-50's
    assert round((encoder + projector + classifier) / 1e6, 1) == 29.1
    five_blocks = gmacs[2] * 5 / 12  # after the last one that is read; the authors' code runs them
    assert gmacs[0] - gmacs[1] + five_blocks == pytest.approx(82.7, rel=0.01)


def _gmacs(module: nn.Module, value: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        module(value)
    return float(counter.get_total_flops() / 2e9)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_shapes_on_the_way_of_the_paper() -> None:
    with torch.device("meta"):
        network = SaTQA().eval()
        rgb = torch.zeros(1, 3, 224, 224)
        assert read(network.trunk, rgb, satqa.BLOCKS).shape == (1, 3072, 28, 28)
        assert network.encoder(rgb).shape == (1, 1792, 7, 7)
        x = network.judge.reduce(torch.zeros(1, 3072, 28, 28))
        sides = []
        for number, stage in enumerate(network.judge.stages):
            x = stage(network.judge.halve[number - 1](x) if number else x)
            sides.append((len(stage), x.shape[1:]))
    assert sides == [(1, (768, 28, 28)), (5, (768, 14, 14)), (3, (768, 7, 7))]


def test_encoder_takes_the_fine_scales_as_they_are() -> None:
    encoder = filled(Encoder())
    assert isinstance(encoder, Encoder)
    rgb = formula((1, 3, 64, 64), 13)
    maps = encoder.trunk(rgb)
    found = encoder(rgb)
    torch.testing.assert_close(found[:, :256], F.avg_pool2d(maps[0], 8), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 256:768], F.avg_pool2d(maps[1], 4), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 1280:], encoder.reduce[1](maps[3]), atol=1e-5, rtol=1e-5)


def test_projector_reads_the_direction_alone() -> None:
    projector = filled(Projector(6, 8, 4))
    feature = formula((3, 6, 2, 2), 14)
    torch.testing.assert_close(projector(5 * feature), projector(feature), atol=1e-5, rtol=0)


def test_the_score_depends_on_the_encoders_feature(small: Small) -> None:
    """The authors' training calls the network without it."""
    color = pictures(1)
    before = small(color)
    maps = small.trunk(color)
    feature = small.encoder(maps)
    assert torch.equal(small.judge(maps[-1], feature), before)
    assert (small.judge(maps[-1], feature.flip(1)) - before).abs() > 1e-4
    with torch.enable_grad():
        asked = feature.clone().requires_grad_()
        small.judge(maps[-1], asked).sum().backward()
    assert asked.grad is not None
    assert asked.grad.abs().max() > 0
    saved = small.encoder.reduce[0].bias.clone()
    small.encoder.reduce[0].bias += 1
    changed = small(color)
    small.encoder.reduce[0].bias.copy_(saved)
    assert (changed - before).abs() > 1e-4


def test_alone_or_in_a_batch(small: Small) -> None:
    color = pictures(2)
    alone = torch.cat([small(color[i : i + 1]) for i in range(2)])
    assert (alone[0] - alone[1]).abs() > 1e-3
    torch.testing.assert_close(small(color), alone, atol=1e-5, rtol=1e-5)


def test_exported_it_gives_the_same(small: Small, tmp_path: Path) -> None:
    card = dataclasses.replace(find_card("satqa.paper"), recipe=RECIPE, settings={"size": "mobile"})
    assert isinstance(build_network(card), Small)
    assert export(small, card, tmp_path / "mobile.onnx") <= TOLERANCE
    assert (count(small.judge), count(small.encoder)) == (522_213, 21_120)
    assert {name.split(".")[0] for name in small.state_dict()} == {"trunk", "encoder", "judge"}


def test_only_the_judge_is_trained_on_ratings() -> None:
    network = Small()
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {"judge"}


# Training ---------------------------------------------------------------------------------------------------


def test_labels_are_the_papers_number() -> None:
    labels = {training.label_of(kind, level) for kind in training.KINDS for level in training.LEVELS}
    assert labels == set(range(1, training.LABELS))
    assert training.LABELS == 97


def test_versions_are_drawn_in_turns() -> None:
    labels = training.draw(64)
    assert not labels[:, 0].any()
    counts = np.bincount(labels[:, 1:].ravel(), minlength=training.LABELS)
    assert counts[0] == 0
    assert set(counts[1:]) == {4}  # 64 times 6 is four turns of 96
    assert np.array_equal(labels[:10], training.draw(10))


def test_maps_are_packed_and_unpacked() -> None:
    maps = [formula((2, c, s, s), c) for c, s in ((32, 48), (96, 24), (320, 12))]
    for found, expected in zip(training.unpack(training.pack(maps)), maps, strict=True):
        assert torch.equal(found, expected)


def flat(channels: Tensor) -> np.ndarray:
    """Packed maps of one value a channel."""
    maps = [
        part[:, :, None, None].expand(-1, -1, side, side)
        for part, side in zip(channels.split([32, 96, 320], 1), (48, 24, 12), strict=True)
    ]
    return training.pack(maps)


def test_contrast_gathers_labels_and_freezes_the_encoder() -> None:
    """Three ways of spoiling five photographs. At best a picture can't tell its label's three others: log 3."""
    torch.manual_seed(0)
    labels = np.tile(np.arange(3), (5, 1))
    photograph, spoiling = 2 * formula((5, 1, 448), 15), formula((1, 3, 448), 16)
    spoiled = flat((photograph + spoiling).reshape(15, 448)).reshape(5, 3, -1)
    encoder = Small().encoder
    before = encoder.reduce[2].weight.clone()
    training.pre_train(encoder, None, spoiled, labels, 20, 0)  # type: ignore[arg-type]
    assert not torch.equal(encoder.reduce[2].weight, before)
    assert not any(p.requires_grad for p in encoder.parameters())

    parts = nn.ModuleList([encoder.requires_grad_(True), Projector(128, 32, 16)])
    loss = training.contrast_loss(encoder, parts[1], spoiled, labels, np.random.default_rng(0))
    optimiser = torch.optim.AdamW(parts.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        value = loss(np.arange(3))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert losses[0] > 2 * math.log(3)
    assert losses[-1] == pytest.approx(math.log(3), abs=0.1)


def test_nearest_leaves_out_the_same_photograph() -> None:
    """Spoiling alone tells versions apart: all find their label. The photograph alone: what is left is chance."""
    encoder = filled(Small().encoder)
    labels = np.tile(np.arange(3), (4, 1))
    photograph, spoiling = formula((4, 1, 448), 15), formula((1, 3, 448), 16)
    by_spoiling = flat((1e-3 * photograph + spoiling).reshape(12, 448)).reshape(4, 3, -1)
    network = SimpleNamespace(encoder=encoder)
    assert training.nearest(network, by_spoiling, labels) == 1  # type: ignore[arg-type]
    by_photograph = flat((photograph + 1e-3 * spoiling).reshape(12, 448)).reshape(4, 3, -1)
    assert training.nearest(network, by_photograph, labels) < 1  # type: ignore[arg-type]
    assert training.by_chance(labels) == pytest.approx(1 / 3)


def test_ratings_teach_the_judge_alone() -> None:
    torch.manual_seed(0)
    network = Small()
    maps = [formula((6, c, s, s), c) for c, s in ((32, 48), (96, 24), (320, 12))]
    mos = np.linspace(0, 1, 6, dtype=np.float32)
    study = SimpleNamespace(mos=mos, maps=lambda places: [m[places] for m in maps])
    loss = training.rating_loss(network, study)  # type: ignore[arg-type]
    network.fit_statistics(maps)
    standard = network.encoder.standardise[0](maps[0])
    torch.testing.assert_close(standard.mean((0, 2, 3)), torch.zeros(32), atol=1e-4, rtol=0)
    torch.testing.assert_close(network.judge.standardise(maps[2]).std((0, 2, 3)), torch.ones(320), atol=0.01, rtol=0)
    frozen = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    places = np.arange(6)
    network.judge.train()
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(15):
        value = loss(places)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert losses[0] == pytest.approx(np.abs(mos).mean(), abs=0.2)
    assert losses[-1] < losses[0] / 2
    assert all(torch.equal(value, frozen[name]) for name, value in network.encoder.state_dict().items())
    assert isinstance(network.encoder, SmallEncoder)

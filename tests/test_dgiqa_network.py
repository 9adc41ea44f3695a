"""The paper's network: its blocks' laws, its size, its golden numbers, and the conversion of checkpoints.

Golden numbers come from weights and pictures that are formulas, so they need no file. The network's were also
computed with the authors' released code on the same weights: 0.679201, 0.677581, the same to 1e-7.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dgiqa.errors import WeightsError
from dgiqa.models import build_network, find_card
from dgiqa.models.dgiqa.blocks import DepthCAR, DilatedStack, TransformerCNNBridge, gather
from dgiqa.models.dgiqa.convert import convert, official_name, read_official, to_official
from dgiqa.models.dgiqa.network import DGIQA
from dgiqa.models.dgiqa.swin import DropPath, SwinTiny
from formula import filled, formula


def formula_pictures(count: int) -> tuple[Tensor, Tensor]:
    """(count, 224, 224, 3) and (count, 224, 224) uint8: ramps, moiré and rings; a slanted depth."""
    side = torch.arange(224)
    v, y, x = torch.meshgrid(torch.arange(count), side, side, indexing="ij")
    color = torch.stack(
        [(3 * x + 5 * y + 40 * v) % 256, (x * y // (7 + v)) % 256, (x * x + 2 * y * y + 90 * v) // 11 % 256],
        -1,
    )
    return color.to(torch.uint8), ((2 * x + y + 17 * v) // 3 % 256).to(torch.uint8)


@pytest.fixture(scope="module")
def network() -> DGIQA:
    module = filled(DGIQA())
    assert isinstance(module, DGIQA)
    return module


# The bridge -------------------------------------------------------------------------------------------------


def test_bridge_golden() -> None:
    out = filled(TransformerCNNBridge(12, 32))(3 * formula((2, 12, 6, 5), 1))
    assert out.shape == (2, 32, 6, 5)
    assert out.mean().item() == pytest.approx(0.135322, abs=1e-5)
    assert out[1, 7, 3, 2].item() == pytest.approx(0.799541, abs=1e-5)


def test_bridge_gates_each_pixel_by_itself() -> None:
    """Nothing is pooled: a pixel reaches its eight neighbours through the 3×3 convolution and no further."""
    bridge = filled(TransformerCNNBridge(4, 32))
    features = formula((1, 4, 9, 9), 2)
    touched = features.clone()
    touched[:, :, 4, 4] += 1
    changed = (bridge(touched) != bridge(features)).any(1)[0]
    assert changed[3:6, 3:6].all()
    changed[3:6, 3:6] = False
    assert not changed.any()


# Depth-CAR --------------------------------------------------------------------------------------------------


def test_depth_car_golden() -> None:
    fused = filled(DepthCAR(24, 4))(2 * formula((2, 24, 3, 5), 3), 2 * formula((2, 24, 3, 5), 4))
    assert fused.shape == (2, 24, 3, 5)
    assert fused.square().mean().item() == pytest.approx(1.020723, abs=1e-5)
    assert fused[1, 7, 2, 3].item() == pytest.approx(-0.963249, abs=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(6)))
def test_depth_asks_and_colour_answers(order: list[int]) -> None:
    """Depth's pixels carry their places into the result; colour is a set of answers without places."""
    car = filled(DepthCAR(8, 2))
    rgb, depth = formula((1, 8, 2, 3), 5), formula((1, 8, 2, 3), 6)

    def moved(maps: Tensor) -> Tensor:
        return maps.flatten(2)[:, :, list(order)].reshape(maps.shape)

    fused = car(rgb, depth)
    torch.testing.assert_close(car(moved(rgb), depth), fused, atol=1e-5, rtol=0)
    torch.testing.assert_close(car(rgb, moved(depth)), moved(fused), atol=1e-5, rtol=0)


def test_the_residual_stream_is_depth() -> None:
    car = filled(DepthCAR(8, 2))
    rgb, depth = formula((1, 8, 2, 3), 5), formula((1, 8, 2, 3), 6)
    assert not torch.equal(car(rgb.neg(), depth), car(rgb, depth))
    car.cross.attention.output.weight.zero_()
    assert torch.equal(car(rgb.neg(), depth), car(rgb, depth))
    assert not torch.equal(car(rgb, depth.neg()), car(rgb, depth))


def test_depth_car_is_torchs_attention() -> None:
    """The cross layer, written with PyTorch's own multi-head attention."""
    layer = filled(DepthCAR(24, 4)).cross
    asking, answering = formula((2, 6, 24), 7), formula((2, 9, 24), 8)
    judge = nn.MultiheadAttention(24, 4, batch_first=True).eval()
    own = layer.attention.state_dict()
    judge.load_state_dict(
        {
            "in_proj_weight": own["project.weight"],
            "in_proj_bias": own["project.bias"],
            "out_proj.weight": own["output.weight"],
            "out_proj.bias": own["output.bias"],
        }
    )
    attended = layer.norm1(asking + judge(asking, answering, answering)[0])
    expected = layer.norm2(attended + layer.mlp(attended))
    torch.testing.assert_close(layer(asking, answering), expected, atol=1e-5, rtol=0)


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match=r"^10 channels can't be shared out to 4 heads$"):
        DepthCAR(10, 4)


# Dilated stack and gather -----------------------------------------------------------------------------------


def test_dilated_stack_golden() -> None:
    out = filled(DilatedStack(12, 20))(3 * formula((2, 12, 7, 7), 9))
    assert out.shape == (2, 20, 7, 7)
    assert out.mean().item() == pytest.approx(0.139415, abs=1e-5)
    assert out[1, 7, 3, 2].item() == pytest.approx(0.033910, abs=1e-5)


def test_dilated_stack_reaches_six_pixels_in_steps_of_two() -> None:
    stack = filled(DilatedStack(4, 32))
    features = formula((1, 4, 17, 17), 10)
    touched = features.clone()
    touched[:, :, 8, 8] += 1
    changed = (stack(touched) != stack(features)).any(1)[0]
    expected = torch.zeros(17, 17, dtype=torch.bool)
    expected[2:15:2, 2:15:2] = True
    assert torch.equal(changed, expected)


def test_gather_takes_the_pixels_around_each_centre() -> None:
    """Not antialiased: of 8×8 pixels only the four around the centre count; the smallest stays."""
    large, small = formula((1, 2, 56, 56), 11), formula((1, 3, 7, 7), 12)
    joined = gather([large, small], small.shape[2:])
    centre = sum(large[:, :, i::8, j::8] for i in (3, 4) for j in (3, 4)) / 4
    torch.testing.assert_close(joined[:, :2], centre, atol=1e-6, rtol=0)
    assert torch.equal(joined[:, 2:], small)


def test_blocks_are_exported_for_any_size() -> None:
    """One exported graph, no size frozen in: what exporting to other runtimes stands on."""

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = TransformerCNNBridge(3, 16), TransformerCNNBridge(3, 16)
            self.car, self.dilated = DepthCAR(32, 4), DilatedStack(32, 8)

        def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
            joined = []
            for picture in (rgb, depth):
                half = F.avg_pool2d(picture, 2)
                joined.append(gather([self.fine(picture), self.coarse(half)], half.shape[2:]))
            return self.dilated(self.car(*joined)).mean((2, 3))

    blocks = filled(Blocks())
    inputs = (formula((2, 3, 20, 28), 13), formula((2, 3, 20, 28), 14))
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(blocks, inputs, dynamic_shapes=(free, free)).module()
    for shape in ((2, 3, 20, 28), (1, 3, 34, 18)):
        rgb, depth = 2 * formula(shape, 15), 2 * formula(shape, 16)
        torch.testing.assert_close(exported(rgb, depth), blocks(rgb, depth), atol=1e-6, rtol=0)


# The trunk --------------------------------------------------------------------------------------------------


def test_swin_is_transformers_swin(tmp_path: Path) -> None:
    """Stage by stage the same as transformers' Swin-T with the same weights.

    Not their SwinBackbone: that shifts the one window of the last stage, which the paper's network doesn't.
    """
    trunk = filled(SwinTiny())
    transformers.SwinConfig().save_pretrained(tmp_path)
    final_norm = {"swin.layernorm.weight": torch.ones(768), "swin.layernorm.bias": torch.zeros(768)}
    save_file(
        {**_as_transformers(trunk.state_dict()), **final_norm},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    judge = transformers.SwinModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    picture = 3 * formula((1, 3, 224, 224), 17)
    with torch.no_grad():
        expected = judge(picture, output_hidden_states=True)
    maps = [features.permute(0, 2, 3, 1) for features in trunk(picture)]
    # What leaves their stages is downsampled already, and normalised at the end.
    own = [stage.downsample(features) for stage, features in zip(trunk.layers[1:], maps, strict=False)]
    own.append(F.layer_norm(maps[3], (768,)))
    theirs = [*expected.hidden_states[1:4], expected.last_hidden_state]
    for mine, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(mine.flatten(1, 2), other, atol=1e-4, rtol=0)


def _as_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's names as transformers' checkpoints have them, where downsampling ends a stage."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        found = re.match(r"layers\.(\d)\.downsample\.(.*)", name)
        if found:
            renamed[f"swin.encoder.layers.{int(found[1]) - 1}.downsample.{found[2]}"] = tensor
            continue
        new = name
        for old, theirs in (
            ("patch_embed.proj", "swin.embeddings.patch_embeddings.projection"),
            ("patch_embed.norm", "swin.embeddings.norm"),
            ("layers.", "swin.encoder.layers."),
            ("norm1", "layernorm_before"),
            ("norm2", "layernorm_after"),
            ("attn.relative", "attention.self.relative"),
            ("attn.proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):
            new = new.replace(old, theirs)
        if "attn.qkv" in new:
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[new.replace("attn.qkv", f"attention.self.{part}")] = chunk.clone()
        else:
            renamed[new] = tensor
    return renamed


def test_swin_refuses_a_size_that_windows_do_not_fill() -> None:
    with pytest.raises(ValueError, match=r"^size must be a multiple of 224, not 256$"):
        SwinTiny(256)


def test_dropped_paths_keep_the_mean() -> None:
    torch.manual_seed(0)
    ones = torch.ones(4000, 1, 1, 1)
    assert DropPath(0.25).train()(ones).unique().tolist() == pytest.approx([0, 4 / 3])
    assert DropPath(0.25).train()(ones).mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(DropPath(0.25).eval()(ones), ones)


# The network ------------------------------------------------------------------------------------------------


def test_network_golden(network: DGIQA) -> None:
    scores = network(*formula_pictures(2))
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx([0.679201, 0.677581], abs=1e-5)


def test_alone_or_in_a_batch(network: DGIQA) -> None:
    color, depth = formula_pictures(2)
    alone = torch.cat([network(color[i : i + 1], depth[i : i + 1]) for i in (1, 0)]).flip(0)
    torch.testing.assert_close(network(color, depth), alone, atol=1e-5, rtol=0)


def test_normalises_colour_and_grey_depth(network: DGIQA) -> None:
    color, depth = formula_pictures(1)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    rgb = (color.permute(0, 3, 1, 2) / 255 - mean) / deviation
    grey = (torch.stack([depth] * 3, 1) / 255 - mean) / deviation
    torch.testing.assert_close(network.score(rgb, grey), network(color, depth), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["dgiqa.koniq10k", "dgiqa.kadid10k"])
def test_cards(name: str) -> None:
    card = find_card(name)
    with torch.device("meta"):
        module = build_network(card).eval()
        crops = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
        # The fused attention kernels are not counted; the plain one is.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            module(crops, crops[..., 0])
    assert sum(p.numel() for p in module.parameters()) == card.network.parameters == 102_878_829
    assert round(counter.get_total_flops() / 2e9, 2) == card.network.gmacs == 12.06
    assert (card.recipe.short_side, card.recipe.crop, card.recipe.count, card.recipe.seed) == (
        384,
        224,
        10,
        42,
    )
    assert find_card(card.recipe.depth).kind == "depth"
    assert card.licence.weights == "unstated"
    assert (card.weights["torch"].url, card.weights["torch"].sha256, card.measured) == ("", "", ())


# Conversion -------------------------------------------------------------------------------------------------


def test_official_names() -> None:
    with torch.device("meta"):
        state = DGIQA().state_dict()
    names = {name: official_name(name) for name in state}
    assert len(names) == len(set(names.values())) == 482
    for ours, theirs in {
        "color_trunk.layers.2.blocks.5.attn.qkv.weight": "backbone.layers_2.blocks.5.attn.qkv.weight",
        "depth_trunk.patch_embed.norm.bias": "depth_backbone.patch_embed.norm.bias",
        "color_bridges.0.project.weight": "tcb1.conv1.weight",
        "depth_bridges.3.gate.2.bias": "tcb4_depth.attention.2.bias",
        "depth_bridges.1.norm.running_var": "tcb2_depth.norm.running_var",
        "depth_car.cross.attention.project.bias": "depth_guided_cross_attention.multihead_attn.in_proj_bias",
        "depth_car.cross.mlp.2.weight": "depth_guided_cross_attention.fc.2.weight",
        "depth_car.refine.attention.output.bias": "refinement_attention.multihead_attn_spatial.out_proj.bias",
        "depth_car.refine.norm2.bias": "refinement_attention.norm2_spatial.bias",
        "depth_car.refine.mlp.0.bias": "refinement_attention.fc_spatial.0.bias",
        "dilated.norm2.num_batches_tracked": "dilated_stack.4.num_batches_tracked",
        "head.weight": "fc.weight",
    }.items():
        assert names[ours] == theirs


def light_checkpoint() -> dict[str, Tensor]:
    """The official names and shapes; each tensor repeats one number of its own, so the file is small."""
    with torch.device("meta"):
        state = to_official(DGIQA().state_dict())
    return {
        name: torch.tensor(i, dtype=tensor.dtype).expand(tensor.shape) for i, (name, tensor) in enumerate(state.items())
    }


def spell(change: Callable[[str], str]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {change(name): tensor for name, tensor in state.items()}


def _downsampling_ends_a_stage(name: str) -> str:
    name = re.sub(r"(backbone)\.layers_", r"\1.layers.", name)
    return re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name)


def _old_class(name: str) -> str:
    name = name.replace("tcb", "tsb").replace("depth_guided_cross_attention", "cross_spatialattention")
    return name.replace("refinement_attention", "spatialattention")


def _with_constants(state: dict[str, Tensor]) -> dict[str, Tensor]:
    extra = {
        "backbone.layers_0.blocks.1.attn_mask": torch.zeros(64, 49, 49),
        "depth_backbone.layers_3.blocks.0.attn.relative_position_index": torch.zeros(49, 49),
        "backbone.norm.weight": torch.zeros(768),
        "backbone.head.bias": torch.zeros(1000),
    }
    return {**state, **extra}


GENERATIONS: dict[str, tuple[Callable[..., object], int]] = {
    "timm 0.9 and later": (lambda state: state, 0),
    "timm's feature getter": (
        spell(lambda name: name.replace("backbone.", "backbone.model.").replace("layers_", "layers.")),
        0,
    ),
    "timm's plain names": (spell(lambda name: name.replace("layers_", "layers.")), 0),
    "downsampling ends a stage": (spell(_downsampling_ends_a_stage), 0),
    "constants saved too": (_with_constants, 4),
    "the authors' first code": (spell(_old_class), 0),
    "state_dict": (lambda state: {"epoch": 3, "state_dict": state}, 0),
    "model": (lambda state: {"model": state}, 0),
    "DataParallel": (spell(lambda name: f"module.{name}"), 0),
    "everything at once": (
        lambda state: {"state_dict": spell(lambda n: f"module.{_old_class(_downsampling_ends_a_stage(n))}")(state)},
        0,
    ),
}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_spelling_is_read(generation: str, tmp_path: Path) -> None:
    respell, extra = GENERATIONS[generation]
    path = tmp_path / "weights.pth"
    official = light_checkpoint()
    torch.save(respell(official), path)
    state, dropped = read_official(path)
    assert dropped == extra
    assert len(state) == 482
    for name, tensor in state.items():
        assert tensor.shape == official[official_name(name)].shape
        assert tensor.flatten()[0] == official[official_name(name)].flatten()[0], name


def test_convert_gives_back_the_network(network: DGIQA, tmp_path: Path) -> None:
    path, out = tmp_path / "weights.pth", tmp_path / "weights.safetensors"
    torch.save(to_official(network.state_dict()), path)
    assert convert([path], out) == {"tensors": 482, "parameters": 102_878_829, "dropped": 0}
    converted, state = load_file(out), network.state_dict()
    assert sorted(converted) == sorted(state)
    assert all(torch.equal(converted[name], state[name]) for name in state)
    assert [file.name for file in tmp_path.iterdir() if file != path] == ["weights.safetensors"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    path, out = tmp_path / "weights.pth", tmp_path / "nowhere" / "weights.safetensors"
    torch.save(light_checkpoint(), path)
    with pytest.raises(WeightsError) as error:
        convert([path], out)
    assert error.value.message.startswith(f"{out}: can't be written (")
    assert error.value.hint == "choose a folder that you may write to"


def test_faults_are_named(tmp_path: Path) -> None:
    state = light_checkpoint()
    del state["fc.bias"]
    state["tcb1.conv1.weight"] = torch.zeros(64, 95, 1, 1)
    state.update({f"head.{i}": torch.zeros(1) for i in range(7)})
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(WeightsError) as error:
        convert([path], tmp_path / "out.safetensors")
    assert str(error.value) == (
        f"{path}: not a checkpoint of the paper's network, tensors: 1 missing (fc.bias); "
        "7 unexpected (head.0, head.1, head.2, head.3, head.4, and 2 more); "
        "1 of another shape (tcb1.conv1.weight (64, 95, 1, 1) instead of (64, 96, 1, 1)); "
        "give the file as the authors publish it"
    )
    assert not (tmp_path / "out.safetensors").exists()


def test_a_tensor_spelt_twice_is_refused(tmp_path: Path) -> None:
    state = light_checkpoint()
    state["tsb1.conv1.bias"] = state["tcb1.conv1.bias"]
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(WeightsError) as error:
        read_official(path)
    assert str(error.value) == f"{path}: holds tcb1.conv1.bias twice, under different names"


class Trap:
    """Writes a file when it is unpickled carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    path, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    torch.save({"state_dict": Trap(sprung)}, path)
    with pytest.raises(WeightsError) as error:
        convert([path], tmp_path / "out.safetensors")
    assert str(error.value) == (
        f"{path}: holds more than tensors, and is not loaded because it could run code; "
        "save it anew as a plain state dict: torch.save(model.state_dict(), FILE)"
    )
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works, so its silence above means something


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(WeightsError, match=r"there is no such file$"):
        read_official(path)
    for content in (b"", b"\x80", b"<!DOCTYPE html><title>Dropbox</title>"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"can't be read as a PyTorch checkpoint"):
            read_official(path)
    torch.save(light_checkpoint(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"can't be read as a PyTorch checkpoint"):
        read_official(path)
    torch.save([torch.zeros(3)], path)
    with pytest.raises(WeightsError, match=r"holds no state dict \(a table of names and tensors\)"):
        read_official(path)

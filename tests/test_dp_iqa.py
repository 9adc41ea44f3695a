"""DP-IQA: student, teacher on a diffusion U-Net, prompts, conversion, the training step."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.efficientnet.modeling_efficientnet import EfficientNetBlock

from dgiqa.errors import CardError, RuntimeMissing, WeightsError
from dgiqa.export.onnx import TOLERANCE, export
from dgiqa.models import build_network, find_card
from dgiqa.models.dp_iqa import prompts
from dgiqa.models.dp_iqa.convert import PROMPTS, convert, official_name, read_official
from dgiqa.models.dp_iqa.efficientnet import MBConv
from dgiqa.models.dp_iqa.network import SmallStudent, Student, StudentHead, StudentJudge, join
from dgiqa.models.dp_iqa.teacher import (
    LATENTS,
    Latents,
    Prior,
    PriorUNet,
    QualityFeatureDecoder,
    SmallTeacher,
    Teacher,
    TeacherJudge,
    TextAdapter,
)
from dgiqa.training.small import RECIPE
from dgiqa.training.systems import dp_iqa as training
from formula import filled, formula

TINY: dict[str, Any] = {
    "block_out_channels": (8, 16, 16, 16),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 6,
    "sample_size": 16,
}


def pictures(count: int, side: int = 384) -> Tensor:
    return (255 * (formula((count, side, side, 3), 3) + 0.5)).to(torch.uint8)


def maps(count: int, seed: int = 5) -> list[Tensor]:
    shapes = ((32, 48), (96, 24), (320, 12))
    return [formula((count, c, s, s), seed + c) * 2 for c, s in shapes]


# Sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [("dp_iqa.student", 81_012_185, 27.01), ("dp_iqa.teacher", 1_015_170_557, 1156.53)],
)
def test_cards(name: str, parameters: int, gmacs: float) -> None:
    card = find_card(name)
    with torch.device("meta"):
        module = build_network(card).eval()
        view = torch.zeros(1, 512, 512, 3, dtype=torch.uint8)
        # The fused attention kernels are not counted; the plain one is.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            score, seen = module.read(view)
    assert (score.shape, seen.shape) == ((1,), (1, 8, 64, 64))
    assert sum(p.numel() for p in module.parameters()) == card.network.parameters == parameters
    assert round(counter.get_total_flops() / 2e9, 2) == card.network.gmacs == gmacs
    assert (card.weights["torch"].url, card.weights["torch"].sha256, card.measured) == ("", "", ())
    assert card.recipe.crop == 512


def test_parts_of_the_teacher() -> None:
    """Stable Diffusion 1.5's U-Net whole, the encoding half of its VAE, frozen."""
    with torch.device("meta"):
        teacher = Teacher()
    sizes = {name: sum(p.numel() for p in module.parameters()) for name, module in teacher.named_children()}
    assert sizes["vae"] == 34_163_664
    assert sum(p.numel() for p in teacher.prior.unet.parameters()) == 859_520_964
    assert not any(p.requires_grad for p in teacher.vae.parameters())
    trained = sum(p.numel() for p in teacher.parameters() if p.requires_grad)
    assert f"{trained} of the parameters are trained" in find_card("dp_iqa.teacher").network.input
    assert teacher.prompts.shape == (1485, 768)


def test_settings_choose_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("dp_iqa.student")
    found = {}
    with torch.device("meta"):
        for settings in ({}, {"size": "mobile"}, {"part": "teacher"}, {"size": "mobile", "part": "teacher"}):
            found[tuple(settings.values())] = type(build_network(dataclasses.replace(card, settings=settings)))
    assert list(found.values()) == [Student, SmallStudent, Teacher, SmallTeacher]
    for settings in ({"size": "large"}, {"part": "third"}, {"width": 3}):
        with pytest.raises(
            CardError,
            match=r"don't fit dp_iqa \((size is paper or mobile|part is student or teacher|.*unexpected keyword)",
        ):
            build_network(dataclasses.replace(card, settings=settings))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.delitem(sys.modules, "dgiqa.models.dp_iqa.teacher")
    with pytest.raises(RuntimeMissing) as error:
        build_network(find_card("dp_iqa.teacher"))
    assert str(error.value) == (
        "the network of dp_iqa.teacher needs diffusers, which is not installed; pip install 'dgiqa[diffusion]'"
    )


# The student --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outputs", "expansion"), [(8, 1), (8, 6), (12, 6)])
def test_mbconv_is_transformers_block(outputs: int, expansion: int) -> None:
    """Without a stride, where TensorFlow's padding and torchvision's are the same."""
    own = filled(MBConv(8, outputs, 5, 1, expansion))
    judge = EfficientNetBlock(
        transformers.EfficientNetConfig(), 8, outputs, 1, expansion, 5, 0.0, outputs != 8, False
    ).eval()
    theirs = [name for name in judge.state_dict() if not name.endswith("num_batches_tracked")]
    mine = [value for name, value in own.state_dict().items() if not name.endswith("num_batches_tracked")]
    judge.load_state_dict(dict(zip(theirs, mine, strict=True)), strict=False)
    x = formula((2, 8, 6, 6), 1)
    torch.testing.assert_close(own(x), judge(x), atol=1e-5, rtol=0)


def test_stages_of_efficientnet() -> None:
    with torch.device("meta"):
        trunk = Student().trunk
        x, shapes = torch.zeros(1, 3, 512, 512), []
        for stage in trunk.features:
            x = stage(x)
            shapes.append((x.shape[1], x.shape[2], len(stage)))
    assert shapes[1:-1] == [
        (32, 256, 4), (48, 128, 7), (80, 64, 7), (160, 32, 10), (224, 32, 10), (384, 16, 13), (640, 16, 4),
    ]  # fmt: skip
    assert (shapes[0][:2], shapes[-1][:2]) == ((64, 256), (2560, 16))
    # Squeezed to a quarter of a block's inputs; batch norm as TensorFlow had it; blocks dropped ever more often.
    assert trunk.features[2][0].block[2].fc1.out_channels == 8
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    rates = [block.drop.rate for stage in trunk.features[1:-1] for block in stage]
    assert rates == pytest.approx([0.2 * i / 55 for i in range(55)])


def test_student_head_by_hand() -> None:
    """Transposed convolution, ReLU, nearest pixels, then a perceptron over all places."""
    head = filled(StudentHead(5, 8, 7))
    features = formula((2, 5, 2, 2), 4)
    score, seen = head(features)
    raised = torch.zeros(2, 8, 4, 4)
    for n, c, i, j in np.ndindex(2, 5, 2, 2):
        for ki, kj in np.ndindex(3, 3):
            row, column = 2 * i - 1 + ki, 2 * j - 1 + kj
            if 0 <= row < 4 and 0 <= column < 4:
                raised[n, :, row, column] += features[n, c, i, j] * head.up.weight[c, :, ki, kj]
    raised = (raised + head.up.bias[:, None, None]).clamp(min=0)
    torch.testing.assert_close(seen, raised.repeat_interleave(2, 2).repeat_interleave(2, 3), atol=1e-6, rtol=0)
    hidden = (seen.flatten(1) @ head.score.fc1.weight.T + head.score.fc1.bias).clamp(min=0)
    hidden = (hidden @ head.score.fc2.weight.T + head.score.fc2.bias).clamp(min=0)
    torch.testing.assert_close(score, hidden @ head.score.fc3.weight[0] + head.score.fc3.bias, atol=1e-6, rtol=0)


def test_pixels_go_in_from_0_to_1() -> None:
    student = Student.__new__(Student)
    nn.Module.__init__(student)
    student.trunk, student.head = nn.Identity(), lambda x: (x.mean((1, 2, 3)), x)  # type: ignore[assignment]
    color = pictures(2, 32)
    torch.testing.assert_close(student(color), color.float().mean((1, 2, 3)) / 255)
    torch.testing.assert_close(student.read(color)[1][1, 2], color[1, ..., 2] / 255)


# The teacher --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unet() -> PriorUNet:
    torch.manual_seed(0)
    return PriorUNet(**TINY).eval().requires_grad_(False)


def test_read_is_what_diffusers_computes(unet: PriorUNet) -> None:
    """The outputs of the up blocks within diffusers' own forward, which draws residuals in as adapters' are."""
    latents, tokens = formula((2, 4, 16, 16), 1), formula((2, 7, 6), 2)
    time = torch.ones(2, dtype=torch.long)
    residuals = [formula((2, c, s, s), s) for c, s in zip(TINY["block_out_channels"], (16, 8, 4, 2), strict=True)]
    caught: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *call: caught.append(call[2])) for block in unet.up_blocks]
    for given in ([], residuals):
        caught.clear()
        unet(latents, time, tokens, down_intrablock_additional_residuals=list(given) or None)
        expected = list(caught)
        found = unet.read(latents, time, tokens, given)
        assert [x.shape[1:] for x in found] == [(16, 4, 4), (16, 8, 8), (16, 16, 16), (8, 16, 16)]
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs)
    for hook in hooks:
        hook.remove()
    without = unet.read(latents, time, tokens)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(found, without, strict=True))


def tiny_prior(unet: PriorUNet) -> Prior:
    prior = Prior(unet, TINY["block_out_channels"], words=6, width=16, narrow=(12, 10), side=16, hidden=9)
    for part in (prior.text_adapter, prior.decoder):
        filled(part)
    return prior.eval()


def test_prior_reads_at_time_1_without_noise(unet: PriorUNet) -> None:
    prior = tiny_prior(unet)
    latents, words = formula((2, 4, 16, 16), 1), formula((7, 6), 2)
    score, seen = prior(latents, words, [])
    tokens = prior.text_adapter(words).expand(2, -1, -1)
    read = unet.read(latents, torch.tensor([1, 1]), tokens)
    expected = prior.decoder([read[3], read[2], read[1], read[0]])
    torch.testing.assert_close((score, seen), expected)
    assert (score.shape, seen.shape) == ((2,), (2, 8, 16, 16))
    assert torch.equal(prior(latents, words, [])[0], score)
    alone = torch.cat([prior(latents[i : i + 1], words, [])[0] for i in range(2)])
    torch.testing.assert_close(alone, score, atol=1e-5, rtol=0)
    # Prompts are a set: their order says nothing; what they say does.
    torch.testing.assert_close(prior(latents, words.flip(0), [])[0], score, atol=1e-5, rtol=0)
    assert (prior(latents, 3 * words, [])[0] - score).abs().min() > 1e-5


def test_every_part_of_a_small_teacher_of_paper_kind(unet: PriorUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole teacher with a tiny VAE: from pixels, through both adapters; what is trained has a gradient."""
    from diffusers import AutoencoderKL
    from diffusers.models.adapter import FullAdapter

    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
    )
    teacher = Teacher.__new__(Teacher)
    nn.Module.__init__(teacher)
    teacher.vae = vae.requires_grad_(False)
    teacher.image_adapter = FullAdapter(channels=[8, 16, 16, 16], num_res_blocks=1)
    teacher.prior = tiny_prior(PriorUNet(**TINY))
    teacher.register_buffer("prompts", formula((7, 6), 2))
    color = pictures(2, 128)
    score, seen = teacher.read(color)
    assert (score.shape, seen.shape) == ((2,), (2, 8, 16, 16))
    picture = color.permute(0, 3, 1, 2) / 255
    latents = 0.18215 * vae.encode(picture).latent_dist.mean
    again = teacher.prior(latents, teacher.prompts, teacher.image_adapter(picture))
    torch.testing.assert_close((score, seen), again)
    score.sum().backward()
    silent = {n for n, p in teacher.named_parameters() if p.requires_grad and p.grad is None}
    assert {name.split(".")[2] for name in silent} == {"conv_norm_out", "conv_out"}  # they find noise, nothing else
    assert all(p.grad is None for p in vae.parameters())


def test_text_adapter_starts_as_almost_nothing() -> None:
    words = formula((5, 6), 1)
    adapter = TextAdapter(6)
    assert adapter.gamma.tolist() == pytest.approx([1e-4] * 6)
    assert (adapter(words) - words).abs().max() < 1e-3
    with torch.no_grad():
        adapter.gamma.fill_(2)
        by_hand = words + 2 * F.linear(
            F.gelu(F.linear(words, adapter.mlp[0].weight, adapter.mlp[0].bias)),
            adapter.mlp[2].weight,
            adapter.mlp[2].bias,
        )
    torch.testing.assert_close(adapter(words), by_hand)


def test_decoder_by_hand() -> None:
    decoder = filled(QualityFeatureDecoder((3, 5), 16, (6, 4), side=6, hidden=7))
    fine, coarse = formula((2, 3, 6, 6), 1), formula((2, 5, 3, 3), 2)

    def gated(conv: Any, x: Tensor) -> Tensor:
        y = F.conv2d(x, conv.conv.weight, conv.conv.bias, padding=1)
        weights = (y.mean((2, 3)) @ conv.gate[0].weight.T).clamp(min=0) @ conv.gate[2].weight.T
        return y * weights.sigmoid()[..., None, None]

    raised = F.interpolate(coarse, scale_factor=2, mode="bicubic")
    x = gated(decoder.fuse, torch.cat([gated(decoder.stages[0], fine), gated(decoder.stages[1], raised)], 1))
    for conv in decoder.narrow:
        x = torch.einsum("oi,nihw->nohw", conv.weight[..., 0, 0], x) + conv.bias[:, None, None]
        x = x.clamp(min=0)
    score, seen = decoder([fine, coarse])
    torch.testing.assert_close(seen, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(score, decoder.score(x), atol=1e-5, rtol=0)
    assert seen.shape == (2, 8, 6, 6)


# Prompts ------------------------------------------------------------------------------------------------------


def test_sentences() -> None:
    texts = prompts.sentences()
    assert len(texts) == len(set(texts)) == prompts.COUNT == 5 * 9 * 33 == 1485
    assert texts[0] == "a photo of a animal with jpeg2000 compression artifacts, which is of bad quality"
    assert texts[34] == "a photo of a cityscape with jpeg compression artifacts, which is of bad quality"
    assert texts[-1] == "a photo of a others with other realistic artifacts, which is of perfect quality"
    words = Counter(text.rsplit(" ", 2)[1] for text in texts)
    assert words == dict.fromkeys(("bad", "poor", "fair", "good", "perfect"), 297)


class Tokenizer:
    """Letters as tokens, padded by the last one, which ends a sentence."""

    def __call__(self, texts: list[str], **options: Any) -> dict[str, Tensor]:
        assert options == {"return_tensors": "pt", "padding": True, "truncation": True}
        rows = [[*(1 + ord(c) % 90 for c in text[:30]), 95] for text in texts]
        longest = max(map(len, rows))
        return {
            "input_ids": torch.tensor([row + [95] * (longest - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        }


def tiny_clip() -> Any:
    torch.manual_seed(0)
    settings = transformers.CLIPTextConfig(
        vocab_size=96, hidden_size=16, intermediate_size=24, projection_dim=12, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32, eos_token_id=95, bos_token_id=0, pad_token_id=95,
    )  # fmt: skip
    return transformers.CLIPTextModelWithProjection(settings)


def test_vectors_do_not_depend_on_the_batch() -> None:
    model, texts = tiny_clip(), ["a", "a longer text", *prompts.sentences()[:5]]
    together = prompts.embed(texts, model, Tokenizer())
    assert (together.shape, together.dtype) == ((7, 12), torch.float32)
    torch.testing.assert_close(prompts.embed(texts, model, Tokenizer(), batch=2), together, atol=1e-5, rtol=0)
    assert torch.pdist(together).min() > 1e-4
    ids = Tokenizer()(["a longer text"], return_tensors="pt", padding=True, truncation=True)["input_ids"]
    last = model.text_model(ids).last_hidden_state[0, -1]
    torch.testing.assert_close(model.text_projection(last), together[1], atol=1e-5, rtol=0)


def test_vectors_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_clip().save_pretrained(tmp_path / "clip")
    monkeypatch.setattr(transformers.CLIPTokenizer, "from_pretrained", lambda *a, **k: Tokenizer())
    monkeypatch.setattr(prompts, "sentences", lambda: ["good", "bad"])
    out = tmp_path / PROMPTS
    prompts.main([str(tmp_path / "clip"), str(out)])
    assert capsys.readouterr().out == f"{out}: 2 vectors of 12\n"
    expected = prompts.embed(["good", "bad"], tiny_clip(), Tokenizer())
    torch.testing.assert_close(load_file(out)["prompts"], expected, atol=1e-5, rtol=0)


# Conversion ---------------------------------------------------------------------------------------------------


def light(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor repeats one number of its own, so the file is small."""
    return {
        name: torch.tensor(float(i), dtype=tensor.dtype).expand(tensor.shape)
        for i, (name, tensor) in enumerate(state.items())
    }


@pytest.fixture(scope="module")
def student_state() -> dict[str, Tensor]:
    with torch.device("meta"):
        return Student().state_dict()


@pytest.fixture(scope="module")
def teacher_state() -> dict[str, Tensor]:
    with torch.device("meta"):
        return Teacher().state_dict()


def test_official_names(student_state: dict[str, Tensor], teacher_state: dict[str, Tensor]) -> None:
    for state in (student_state, teacher_state):
        assert len({official_name(name) for name in state}) == len(state)
    found = {name: official_name(name) for name in (*student_state, *teacher_state)}
    for ours, theirs in {
        "trunk.features.0.0.weight": "base_model.features.0.0.weight",
        "trunk.features.1.0.block.1.fc2.bias": "base_model.features.1.0.block.1.fc2.bias",
        "trunk.features.7.3.block.3.1.running_var": "base_model.features.7.3.block.3.1.running_var",
        "trunk.features.8.1.num_batches_tracked": "base_model.features.8.1.num_batches_tracked",
        "head.up.weight": "conv_transpose.weight",
        "head.score.fc2.bias": "fc2.bias",
        "vae.encoder.mid_block.attentions.0.to_out.0.bias": "vae.encoder.mid_block.attentions.0.to_out.0.bias",
        "vae.quant_conv.weight": "vae.quant_conv.weight",
        "prior.unet.up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight": (
            "unet.up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight"
        ),
        "prior.text_adapter.gamma": "gamma",
        "prior.text_adapter.mlp.2.weight": "text_adapter.fc.2.weight",
        "image_adapter.body.3.resnets.1.block2.bias": "img_adapter.body.3.resnets.1.block2.bias",
        "prior.decoder.stages.0.conv.weight": "QFD.conv1.weight",
        "prior.decoder.stages.3.gate.2.weight": "QFD.se4.fc.2.weight",
        "prior.decoder.fuse.conv.bias": "QFD.fuse_conv.bias",
        "prior.decoder.fuse.gate.0.weight": "QFD.se_fuse.fc.0.weight",
        "prior.decoder.narrow.2.bias": "QFD.conv_score3.bias",
        "prior.decoder.score.fc3.weight": "QFD.fc3.weight",
    }.items():
        assert found[ours] == theirs


def test_student_goes_there_and_back(tmp_path: Path, student_state: dict[str, Tensor]) -> None:
    state = light(student_state)
    official = {f"module.{official_name(name)}": tensor for name, tensor in state.items()}
    path, out = tmp_path / "koniq_student.pth", tmp_path / "student.safetensors"
    torch.save(official, path)
    assert convert([path], out) == {"tensors": 1206, "parameters": 81_012_185, "dropped": 0}
    converted = load_file(out)
    assert sorted(converted) == sorted(state)
    assert all(torch.equal(converted[name], state[name]) for name in state)
    assert [file.name for file in tmp_path.iterdir() if file != path] == ["student.safetensors"]


def test_teacher_goes_there_and_back(tmp_path: Path, teacher_state: dict[str, Tensor]) -> None:
    state = light(teacher_state)
    official = {official_name(name): tensor for name, tensor in state.items() if name != "prompts"}
    official |= {
        "vae.decoder.conv_in.weight": torch.zeros(2),
        "vae.post_quant_conv.bias": torch.zeros(2),
        "QFD.bnc1.running_mean": torch.zeros(2),
        "QFD.classifier_dist.weight": torch.zeros(2),
    }
    path = tmp_path / "koniq.pth"
    torch.save(official, path)
    with pytest.raises(WeightsError) as error:
        read_official(path)
    vectors = tmp_path / "dp_iqa_prompts.safetensors"
    assert str(error.value) == (
        f"{path}: a teacher needs the vectors of the prompts, and there is no {vectors}; "
        f"make it once: python -m dgiqa.models.dp_iqa.prompts CLIP-FOLDER {vectors}"
    )
    save_file({"words": torch.zeros(1)}, vectors)
    with pytest.raises(WeightsError, match="holds no tensor named prompts"):
        read_official(path)
    save_file({"prompts": formula((1485, 768), 1)}, vectors)
    found, dropped, network = read_official(path)
    assert (dropped, type(network)) == (4, Teacher)
    assert list(found) == list(state)
    for name, tensor in found.items():
        assert tensor.shape == state[name].shape
        if name != "prompts":
            assert tensor.flatten()[0] == state[name].flatten()[0], name
    torch.testing.assert_close(found["prompts"], formula((1485, 768), 1))


def test_faults_are_named(tmp_path: Path, student_state: dict[str, Tensor]) -> None:
    state = {official_name(name): tensor for name, tensor in light(student_state).items()}
    del state["fc3.bias"]
    state["conv_transpose.bias"] = torch.zeros(9)
    state["base_model.classifier.1.bias"] = torch.zeros(1000)
    path, out = tmp_path / "weights.pth", tmp_path / "out.safetensors"
    torch.save(state, path)
    with pytest.raises(WeightsError) as error:
        convert([path], out)
    assert str(error.value) == (
        f"{path}: not a checkpoint of the paper's student, tensors: 1 missing (fc3.bias); "
        "1 unexpected (base_model.classifier.1.bias); "
        "1 of another shape (conv_transpose.bias (9,) instead of (8,)); give the file as the authors publish it"
    )
    torch.save({"model": SimpleNamespace(run=1)}, path)
    with pytest.raises(WeightsError, match="holds more than tensors, and is not loaded because it could run code"):
        convert([path], out)
    assert not out.exists()


# The small networks -------------------------------------------------------------------------------------------


def test_exported_it_gives_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = dataclasses.replace(find_card("dp_iqa.student"), recipe=RECIPE, settings={"size": "mobile"})
    network = build_network(card)
    assert sum(p.numel() for p in network.judge.parameters()) == 453_137
    assert not any(p.requires_grad for p in network.trunk.parameters())
    assert export(network, card, tmp_path / "mobile.onnx") <= TOLERANCE


@pytest.mark.parametrize("judge", [StudentJudge, TeacherJudge])
def test_alone_or_in_a_batch(judge: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network, seen = judge().eval().requires_grad_(False), maps(2)
    score, taught = network(seen)
    alone = [network([m[i : i + 1] for m in seen]) for i in range(2)]
    torch.testing.assert_close(score, torch.cat([a[0] for a in alone]), atol=1e-5, rtol=0)
    torch.testing.assert_close(taught, torch.cat([a[1] for a in alone]), atol=1e-4, rtol=0)
    assert taught.shape == (2, 8, 12, 12)
    assert torch.equal(network(seen)[0], score)


def test_every_part_of_the_student_learns() -> None:
    torch.manual_seed(0)
    judge = StudentJudge()
    score, seen = judge(maps(4))
    (score.square().mean() + seen.square().mean()).backward()
    assert [n for n, p in judge.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_join_takes_means_of_blocks() -> None:
    fine, coarse = formula((2, 3, 8, 8), 1), formula((2, 5, 4, 4), 2)
    joined = join([fine, coarse])
    assert joined.shape == (2, 8, 4, 4)
    torch.testing.assert_close(joined[1, 2, 3, 1], fine[1, 2, 6:8, 2:4].mean())
    assert torch.equal(joined[:, 3:], coarse)


def test_latents_are_uncorrelated_and_of_variance_1() -> None:
    torch.manual_seed(0)
    sources = torch.randn(40, 4, 5, 5)
    joined = torch.einsum("oi,nihw->nohw", torch.randn(9, 4), sources) + 0.01 * torch.randn(40, 9, 5, 5) + 3
    encoder = Latents(9, 4)
    assert encoder.fit(joined) == pytest.approx(1, abs=0.01)
    rows = encoder(joined).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(rows), torch.eye(4), atol=1e-2, rtol=0)
    torch.testing.assert_close(rows.mean(1), torch.zeros(4), atol=1e-4, rtol=0)
    # All that the sources said is in them.
    assert torch.linalg.lstsq(rows.T, sources.transpose(0, 1).flatten(1).T).residuals.sum() < 0.01 * sources.numel()


def test_prompts_of_a_quality_are_some_of_all() -> None:
    words = TeacherJudge().prompts
    every = words().reshape(5, 33, -1)
    assert words().shape == (165, 32)
    torch.testing.assert_close(words.of(torch.tensor([3, 0])), every[[3, 0]])


# Training -----------------------------------------------------------------------------------------------------


def study_of(count: int) -> Any:
    features = maps(count)
    mos = np.random.default_rng(0).random(count).astype(np.float32)
    return SimpleNamespace(mos=mos, maps=lambda places: [own[places] for own in features])


def lowered(parts: nn.Module, loss: Any, steps: int = 25, share: float = 0.7) -> bool:
    parts.train()
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(parts.parameters(), lr=2e-3)
    found = []
    for _ in range(steps):
        value = loss(np.arange(4))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        found.append(value.item())
    return bool(np.mean(found[-5:]) < share * np.mean(found[:5]))


def test_noise_is_that_of_stable_diffusion() -> None:
    from diffusers import DDPMScheduler

    judge = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    np.testing.assert_allclose(training.kept_signal(), judge.alphas_cumprod.numpy(), rtol=1e-4)


def test_every_stage_lowers_its_loss() -> None:
    torch.manual_seed(0)
    study, rng = study_of(4), np.random.default_rng(0)
    teacher, student = TeacherJudge(), StudentJudge()
    teacher.latents.fit(join(study.maps(np.arange(4))))
    assert lowered(teacher.prior.unet, training.noise_loss(teacher, study, rng), 30, 0.9)
    assert lowered(teacher, training.score_loss(teacher, study, rng), 15)
    before = [p.clone() for p in teacher.parameters()]
    assert lowered(student, training.student_loss(student, teacher, study, rng), 15)
    assert not teacher.training
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


def test_student_loss_is_the_sum_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "mirror", lambda maps, rng: list(maps))
    torch.manual_seed(0)
    study, teacher, student = study_of(3), TeacherJudge().eval(), StudentJudge().eval()
    places = np.arange(3)
    taught, (score, seen) = teacher(study.maps(places))[1], student(study.maps(places))
    expected = (score - torch.from_numpy(study.mos)).square().mean() + (seen - taught).square().mean()
    loss = training.student_loss(student, teacher, study, np.random.default_rng(0))
    torch.testing.assert_close(loss(places), expected)


def test_noise_is_found_by_neither_adapter() -> None:
    teacher, study = TeacherJudge(), study_of(2)
    rng = SimpleNamespace(random=lambda: 0.9, integers=lambda high, size: np.full(size, 500))
    training.noise_loss(teacher, study, rng)(np.arange(2)).backward()  # type: ignore[arg-type]
    learnt = {name.split(".")[0] for name, p in teacher.named_parameters() if p.grad is not None}
    assert learnt == {"prompts", "prior"}
    assert all(p.grad is None for p in (*teacher.prior.decoder.parameters(), *teacher.prior.text_adapter.parameters()))


def test_qualities_are_fifths_of_the_scale() -> None:
    found = training.quality_of(np.array([0, 0.19, 0.21, 0.5, 0.79, 0.81, 1], np.float32))
    assert found.tolist() == [0, 0, 1, 2, 3, 4, 4]


def test_mirrored_left_to_right_all_alike() -> None:
    features = maps(2)
    for draw, flipped in ((0.4, True), (0.6, False)):
        found = training.mirror(features, SimpleNamespace(random=lambda draw=draw: draw))  # type: ignore[arg-type]
        assert all(torch.equal(f, m.flip(3) if flipped else m) for f, m in zip(found, features, strict=True))


def test_small_teacher_asks_all_prompts() -> None:
    """165 tokens at t = 1; 32 channels of latents of 12×12 pixels."""
    torch.manual_seed(0)
    teacher = TeacherJudge().eval()
    asked: list[tuple[int, ...]] = []
    for module in teacher.modules():
        if isinstance(module, Attention) and module.is_cross_attention:
            module.to_k.register_forward_hook(lambda *call: asked.append(tuple(call[1][0].shape)))
    teacher(maps(2))
    assert set(asked) == {(2, 165, 32)}
    assert teacher.denoise(formula((2, LATENTS, 12, 12), 1), torch.tensor([3, 900])).shape == (2, LATENTS, 12, 12)

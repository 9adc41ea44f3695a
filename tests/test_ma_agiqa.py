"""MA-AGIQA: gate and experts, vectors of a tiny multimodal model, scoring, conversion, the small network, training."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import scipy.stats
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import dgiqa
from dgiqa.cards import WeightsFile
from dgiqa.cli import main
from dgiqa.errors import CardError, DgiqaError, RuntimeMissing, UsageError, WeightsError
from dgiqa.export.onnx import TOLERANCE, export
from dgiqa.imaging.resize import resize
from dgiqa.models import build_network, find_card, official
from dgiqa.models.ma_agiqa import convert as conversion
from dgiqa.models.ma_agiqa import vectors
from dgiqa.models.ma_agiqa.convert import convert, official_name
from dgiqa.models.ma_agiqa.network import MAAGIQA, Experts, Judge, Questions, SmallJudge, SmallMAAGIQA
from dgiqa.models.ma_agiqa.vectors import FOLDER, LMM, PROMPTS, open_lmm, pad
from dgiqa.training.finish import write_card
from dgiqa.training.small import RECIPE
from dgiqa.training.systems import ma_agiqa as training
from dgiqa.types import UInt8
from formula import filled, formula

CHANNELS, SIDES = (4, 6, 12), (16, 8, 4)
#: Width of the tiny language model, and a network of the paper's plan that takes its vectors.
WIDTH = 24
NARROW = {"vectors": WIDTH, "side": 64, "width": 16, "heads": 2}
#: Constants that the authors' checkpoint holds.
CONSTANT = re.compile(r"attn_mask$|relative_position_index$")
CHAT = (
    "{% for message in messages %}{{ message['role'] }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}!{% endif %}"
)


def narrow() -> SmallJudge:
    return SmallJudge(CHANNELS, side=4, width=16)


def maps(count: int, seed: int = 1) -> list[Tensor]:
    return [3 * formula((count, c, s, s), seed + c) for c, s in zip(CHANNELS, SIDES, strict=True)]


def pictures(count: int, side: int = 384) -> Tensor:
    return (255 * (formula((count, side, side, 3), 3) + 0.5)).to(torch.uint8)


def calm(module: Any) -> Any:
    """Filled by a formula at half the scale: many residual sums would make activations grow to hundreds."""
    for parameter in filled(module).parameters():
        if parameter.ndim > 1:
            parameter.mul_(0.5)
    return module


def save_lmm(folder: Path, seed: int = 0) -> Path:
    """A LLaVA of two layers with random weights: characters are its words, 2×2 patches its picture."""
    torch.manual_seed(seed)
    words = ["<unk>", "<pad>", "<image>", *map(chr, range(32, 127))]
    characters = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    characters.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=characters,
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    size = {"height": 28, "width": 28}
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    shape = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**shape, image_size=28, patch_size=14),
        text_config=transformers.LlamaConfig(**shape, vocab_size=len(words), num_key_value_heads=2),
        image_token_index=2,
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lmm(tmp_path_factory.mktemp("lmm"))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and no model named unless a test names one."""
    monkeypatch.setenv("DGIQA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(FOLDER, raising=False)
    vectors._opened.cache_clear()


@pytest.fixture
def photograph(photographs: list[Path]) -> UInt8:
    return np.array(PIL.Image.open(photographs[3]).convert("RGB"))


# Gate and experts ---------------------------------------------------------------------------------------------


def test_experts_by_hand() -> None:
    """A gate of all three weighs them, without softmax; the expert of the places has no ReLU."""
    experts = filled(Experts(5, 4))
    experts.places.weight[::2] *= -1
    vectors, places = 9 * formula((2, 2, 5), 1), 9 * formula((2, 4), 2)
    semantic = (vectors[:, 0] @ experts.semantic.weight.T + experts.semantic.bias).clamp(min=0)
    coherence = (vectors[:, 1] @ experts.coherence.weight.T + experts.coherence.bias).clamp(min=0)
    own = places @ experts.places.weight.T + experts.places.bias
    gate = torch.cat([semantic, coherence, own], 1) @ experts.gate.weight.T + experts.gate.bias
    mixed = gate[:, :1] * semantic + gate[:, 1:2] * coherence + gate[:, 2:] * own
    wanted = (mixed @ experts.score.weight.T + experts.score.bias)[:, 0]
    torch.testing.assert_close(experts(vectors, places), wanted, atol=1e-5, rtol=0)
    assert own.min() < 0 < own.max()
    assert (experts(vectors.flip(1), places) - wanted).abs().min() > 1e-3


def test_an_expert_gets_the_score_of_each_place_times_its_weight() -> None:
    judge = filled(Judge(12, 16, side=4, vectors=5, hidden=8))
    features, vectors = formula((2, 12, 4, 4), 1), formula((2, 2, 5), 2)
    tokens = judge.maniqa(features).flatten(2).transpose(1, 2)

    def read(part: torch.nn.Sequential) -> Tensor:
        return part[3](part[0](tokens).relu()).squeeze(2)

    places = read(judge.head.score).relu() * read(judge.head.weight).sigmoid()
    torch.testing.assert_close(judge(features, vectors), judge.experts(vectors, places), atol=1e-5, rtol=0)
    assert places.shape == (2, 16)
    assert places.std() > 0.01


def test_places_are_read_row_by_row_of_blocks_6_to_9() -> None:
    network = filled(MAAGIQA(**NARROW))
    seen: list[Tensor] = []
    network.judge.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    squares = pictures(2, 64)
    network.score(squares, formula((2, 2, WIDTH), 2))
    tokens = network.vit.embed((squares.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5)
    blocks = []
    for block in network.vit.blocks:
        tokens = block(tokens)
        blocks.append(tokens)
    assert len(blocks) == 10
    wanted = torch.cat([block[:, 1 + 8 * 3 + 5] for block in blocks[6:]], 1)
    torch.testing.assert_close(seen[0][:, :, 3, 5], wanted, atol=1e-4, rtol=0)


# Sizes --------------------------------------------------------------------------------------------------------


def test_paper_size_is_what_the_card_says() -> None:
    """The authors' 164.5 M hold 43.3 M that nothing runs; 140 GMACs run the ViT's last two blocks and miss the products
    inside its attention.
    """
    card = find_card("ma_agiqa.agiqa3k")
    with torch.device("meta"):
        network = build_network(card).eval()
        squares, vectors = torch.zeros(1, 224, 224, 3, dtype=torch.uint8), torch.zeros(1, 2, 4096)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            assert network.score(squares, vectors).shape == (1,)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert sizes == {"vit": 71_630_592, "judge": 49_581_366}
    assert sum(p.numel() for p in network.judge.experts.parameters()) == 7_047_380
    assert sum(sizes.values()) == card.network.parameters == 121_211_958
    gmacs = counter.get_total_flops() / 2e9
    assert round(gmacs, 2) == card.network.gmacs == 138.39
    products, block = 2 * 785**2 * 768 / 1e9, 785 * 12 * 768**2 / 1e9
    assert round(gmacs + 2 * (block + products) - 12 * products, 1) == 140.0

    total = sum(math.prod(shape) for name, shape in authors_shapes().items() if not CONSTANT.search(name))
    assert total == 164_523_185
    assert total - 121_211_958 == 43_311_227
    assert (card.weights["torch"].url, card.weights["torch"].sha256, card.measured) == ("", "", ())
    assert [(p.srcc, p.plcc) for p in card.published if p.dataset == "AGIQA-3k"] == [(0.8939, 0.9273)]
    assert (card.calibration.apply(0), card.calibration.apply(5)) == (0, 100)


@pytest.mark.parametrize("given", [{"size": "large"}, {"size": "mobile", "vectors": 3}, {"depth": 3}, {"side": 100}])
def test_other_settings_are_refused(given: dict[str, Any]) -> None:
    card = dataclasses.replace(find_card("ma_agiqa.agiqa3k"), settings=given)
    with pytest.raises(CardError, match=r"^ma_agiqa\.agiqa3k: settings: .* don't fit ma_agiqa"):
        build_network(card)


# The vectors --------------------------------------------------------------------------------------------------


def test_vectors_are_means_of_the_last_hidden_state(folder: Path, photograph: UInt8) -> None:
    """By the model's own inner part, of a picture padded by Pillow; the prompt comes before the picture."""
    found = LMM(folder).describe(photograph)
    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.LlavaProcessor.from_pretrained(folder)
    mean = tuple(int(255 * m) for m in processor.image_processor.image_mean)
    height, width = photograph.shape[:2]
    square = PIL.Image.new("RGB", (width, width), mean)
    square.paste(PIL.Image.fromarray(photograph), (0, (width - height) // 2))
    assert height < width
    for row, prompt in zip(found, PROMPTS, strict=True):
        inputs = processor(text=f"user:{prompt}<image>!", images=square, return_tensors="pt")
        assert inputs["input_ids"].shape == (1, len(f"user:{prompt}!") + 4)
        with torch.no_grad():
            hidden = model.model(**inputs).last_hidden_state
        assert row == pytest.approx(hidden[0].mean(0).numpy(), abs=1e-3)
    assert found.dtype == np.float32
    assert np.array_equal(found, found.astype(np.float16))
    assert "semantic content" in PROMPTS[0], "the first expert is the semantic one"


@pytest.mark.parametrize(("height", "width", "top", "left"), [(2, 5, 1, 0), (4, 1, 0, 1), (3, 3, 0, 0)])
def test_the_picture_lies_in_the_middle_of_a_square(height: int, width: int, top: int, left: int) -> None:
    pixels = np.full((height, width, 3), 200, np.uint8)
    side = max(height, width)
    wanted = np.zeros((side, side, 3), np.uint8) + np.array([0, 127, 255], np.uint8)
    wanted[top : top + height, left : left + width] = 200
    assert np.array_equal(pad(pixels, (0.0, 0.5, 1.0)), wanted)
    assert set(pad(pixels, None).flatten()) <= {127, 200}


def test_each_picture_is_asked_about_once(folder: Path, photograph: UInt8, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    ask = LMM._ask

    def count(self: LMM, pixels: UInt8, device: Any) -> Any:
        calls.append(pixels.shape)
        return ask(self, pixels, device)

    monkeypatch.setattr(LMM, "_ask", count)
    other = photograph[:, ::-1]  # neither contiguous nor the same
    first = LMM(folder)
    vectors = [first.describe(photograph), first.describe(other), first.describe(photograph.copy())]
    assert len(calls) == 2
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])
    again = LMM(folder)
    assert np.array_equal(again.describe(photograph), vectors[0])
    assert again._loaded is None, "what is kept needs no model"
    for file in first._kept.rglob("*.npy"):
        assert np.load(file).dtype == np.float16
        file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(again.describe(other), vectors[1])
    assert len(calls) == 3, "a damaged file is made anew"
    again.describe(photograph.reshape(photograph.shape[1], -1, 3))
    assert len(calls) == 4, "the same numbers in another shape are another picture"
    assert [file.suffix for file in first._kept.rglob("*.*")] == [".npy"] * 3


def test_another_model_has_other_vectors(folder: Path, photograph: UInt8, tmp_path: Path) -> None:
    other = LMM(save_lmm(tmp_path / "other", seed=1))
    assert other.fingerprint != LMM(folder).fingerprint
    assert np.abs(other.describe(photograph) - LMM(folder).describe(photograph)).max() > 0.01
    before = other.fingerprint
    (other.folder / "chat_template.jinja").write_text(CHAT + " ")
    assert LMM(other.folder).fingerprint != before


def test_nothing_is_downloaded(folder: Path, photograph: UInt8, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"connected to {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert LMM(folder).describe(photograph).shape == (2, WIDTH)


def test_vectors_made_elsewhere_are_kept(tmp_path: Path, photograph: UInt8) -> None:
    """Of a model that transformers doesn't know, such as the authors'."""
    autos = ("AutoConfig", "AutoProcessor", "AutoModelForImageTextToText")
    config = {"model_type": "nobodys", "auto_map": dict.fromkeys(autos, "theirs.Theirs")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    lmm = LMM(tmp_path)
    with pytest.raises(WeightsError) as error:
        lmm.describe(photograph)
    assert str(error.value).startswith(f"{tmp_path}: transformers can't load a chat model that sees from here (")
    assert str(error.value).endswith("; take another model, or keep vectors that were made elsewhere: LMM.keep")
    assert not (tmp_path / "ran").exists(), "code of a model's own never runs"
    own = formula((2, 7), 1).numpy()
    lmm.keep(photograph, own)
    assert np.array_equal(LMM(tmp_path).describe(photograph), own.astype(np.float16))
    for wrong in (own[:1], own * np.nan, own * 1e6, own[0]):
        with pytest.raises(WeightsError, match=r"are no 2 vectors of numbers that 16 bits hold"):
            lmm.keep(photograph, wrong)


def test_what_is_missing_is_said(folder: Path, photograph: UInt8, tmp_path: Path, monkeypatch: Any) -> None:
    def message(act: Any) -> tuple[type, str]:
        with pytest.raises(DgiqaError) as error:
            act()
        return error.type, str(error.value)

    assert message(open_lmm) == (
        WeightsError,
        "ma_agiqa asks a large multimodal model about each picture, and none is named; "
        "set DGIQA_LMM to the folder of the model that the weights were fitted to",
    )
    monkeypatch.setenv(FOLDER, str(tmp_path / "none"))
    assert message(open_lmm) == (
        WeightsError,
        f"{tmp_path / 'none'}: holds no large multimodal model, there is no config.json; "
        "DGIQA_LMM must name the folder of a model as transformers saves it",
    )
    monkeypatch.setenv(FOLDER, str(folder))
    assert open_lmm() is open_lmm()
    assert open_lmm().folder == folder

    mute = save_lmm(tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    kind, text = message(lambda: LMM(mute).describe(photograph))
    assert kind is WeightsError
    assert text.startswith(f"{mute}: the model can't be asked about a picture (")
    text_only = tmp_path / "text"
    transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9)).save_pretrained(
        text_only
    )
    assert "can't load a chat model that sees" in message(lambda: LMM(text_only).describe(photograph))[1]

    (tmp_path / "cache").rename(tmp_path / "moved") if (tmp_path / "cache").exists() else None
    (tmp_path / "cache").write_text("a file in the place of the folder")
    kind, text = message(lambda: LMM(folder).describe(photograph))
    assert kind is WeightsError
    assert text.endswith("; set DGIQA_CACHE to a folder that you may write to")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert message(lambda: LMM(folder).describe(photograph)) == (
        RuntimeMissing,
        "asking a large multimodal model needs transformers, which is not installed; pip install 'dgiqa[multimodal]'",
    )


# Scoring ------------------------------------------------------------------------------------------------------


def write_narrow(folder: Path, lmm: Path) -> Path:
    """A card of one's own, of the paper's plan on the tiny model's vectors, with its weights; the card's path."""
    network = calm(MAAGIQA(**NARROW))
    network.judge.head.score[3].bias += 2  # so that not every place's score is cut off at 0
    network.asks.fill_(int(LMM(lmm).fingerprint, 16))
    save_file(network.state_dict(), folder / "narrow.safetensors")
    own = dataclasses.replace(
        find_card("ma_agiqa.agiqa3k"), settings=NARROW, weights={"torch": WeightsFile("narrow.safetensors")}
    )
    write_card(own, folder / "narrow.toml")
    return folder / "narrow.toml"


def test_it_scores_pictures(
    folder: Path, photographs: list[Path], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    card = write_narrow(tmp_path, folder)
    monkeypatch.setenv(FOLDER, str(folder))
    chosen = photographs[:3]
    scorer = dgiqa.load(card, "torch")
    alone = [scorer.score(path).raw for path in chosen]
    assert len(set(alone)) == 3
    again = dgiqa.load(card, "torch")
    assert alone == [result.raw for result in again.score_all(chosen[::-1], workers=2, batch=2)][::-1], "from the disk"
    (tmp_path / "cache").rename(tmp_path / "moved")
    assert alone == [result.raw for result in again.score_all(chosen, workers=2, batch=3)], "asked anew"

    network = scorer._judges[0].network._module
    pixels = np.array(PIL.Image.open(chosen[1]).convert("RGB"))
    squeezed = torch.from_numpy(resize(pixels, 64, 64, "cubic-opencv").copy())[None]
    vectors = torch.from_numpy(LMM(folder).describe(pixels))[None]
    with torch.inference_mode():
        assert network.score(squeezed, vectors).item() == alone[1]
        assert abs(network.score(squeezed, vectors.flip(1)).item() - alone[1]) > 1e-4
        assert abs(network.score(255 - squeezed, vectors).item() - alone[1]) > 1e-4
    assert main(["score", str(chosen[1]), "--model", str(card), "--runtime", "torch"]) == 0
    assert "1 scored, 0 failed; model ma_agiqa.narrow@1.0+" in capsys.readouterr().out


def test_another_models_vectors_are_refused(
    folder: Path, photographs: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    scorer = dgiqa.load(write_narrow(tmp_path, folder), "torch")
    other = save_lmm(tmp_path / "other", seed=1)
    monkeypatch.setenv(FOLDER, str(other))
    with pytest.raises(WeightsError) as error:
        scorer.score(photographs[0])
    assert str(error.value) == (
        f"{other}: is the large multimodal model {LMM(other).fingerprint}, and the weights were fitted to the vectors "
        f"of {LMM(folder).fingerprint}; give the folder of that model, with the files that it had"
    )
    network = MAAGIQA(**{**NARROW, "vectors": 9}).eval()
    network.asks.fill_(int(LMM(other).fingerprint, 16))
    with pytest.raises(WeightsError, match=rf"gives vectors of {WIDTH} numbers, and the network takes 9; set vectors"):
        network(pictures(1, 40))


# The authors' checkpoint --------------------------------------------------------------------------------------


class Shapes(dict[str, tuple[int, ...]]):
    """Names of layers to names and shapes of their tensors."""

    def linear(self, name: str, outputs: int, inputs: int, *kernel: int) -> None:
        self.update({f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)})

    def norm(self, name: str, channels: int) -> None:
        self.update({f"{name}.weight": (channels,), f"{name}.bias": (channels,)})

    def block(self, name: str, channels: int, hidden: int) -> None:
        self.norm(f"{name}.norm1", channels)
        self.linear(f"{name}.attn.qkv", 3 * channels, channels)
        self.linear(f"{name}.attn.proj", channels, channels)
        self.norm(f"{name}.norm2", channels)
        self.linear(f"{name}.mlp.fc1", hidden, channels)
        self.linear(f"{name}.mlp.fc2", channels, hidden)

    def swin(self, name: str, channels: int, places: int) -> None:
        self.linear(f"{name}.downsample", channels, channels, 3, 3)
        for layer in range(2):
            self.linear(f"{name}.layers.{layer}.conv", channels, channels, 3, 3)
            for i in range(2):
                block = f"{name}.layers.{layer}.blocks.{i}"
                self.block(block, channels, 768)
                self[f"{block}.attn.relative_position_bias_table"] = (49, 4)
                self[f"{block}.attn.relative_position_index"] = (16, 16)
            self[f"{block}.attn_mask"] = (places // 16, 16, 16)

    def other_trials(self) -> None:
        """What the authors save and never run, beside parts of the ViT and of Swin."""
        self.linear("fc39_784.0", 392, 39)
        self.linear("fc39_784.3", 784, 392)
        self["encoder_layer.self_attn.in_proj_weight"] = (3 * 784, 784)
        self["encoder_layer.self_attn.in_proj_bias"] = (3 * 784,)
        self.linear("encoder_layer.self_attn.out_proj", 784, 784)
        self.linear("encoder_layer.linear1", 2048, 784)
        self.linear("encoder_layer.linear2", 784, 2048)
        self.norm("encoder_layer.norm1", 784)
        self.norm("encoder_layer.norm2", 784)
        self.linear("fc_output.0", 392, 784)
        self.linear("fc_output.3", 1, 392)
        for letter, outputs in (("784_a", 784), ("784_b", 784), ("1024_a", 1024), ("1024_b", 1024)):
            self.linear(f"fc4096_{letter}", outputs, 4096)
        for name in ("quality", "fc784x3_1"):
            self.linear(f"{name}.0", 128, 3 * 784)
            self.linear(f"{name}.1", 1, 128)


def authors_shapes(inputs: int = 4096, side: int = 28, width: int = 768) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the authors' checkpoint, for vectors of ``inputs`` numbers."""
    shapes, places = Shapes(), side**2
    shapes["vit.cls_token"], shapes["vit.pos_embed"] = (1, 1, width), (1, 1 + places, width)
    shapes.linear("vit.patch_embed.proj", width, 3, 8, 8)
    for i in range(12):
        shapes.block(f"vit.blocks.{i}", width, 4 * width)
    shapes.norm("vit.norm", width)
    shapes.linear("vit.head", 1000, width)
    for part, read, channels in ((1, 4 * width, width), (2, width, width // 2)):
        for name in (f"tablock{part}.{i}.c_{query}" for i in range(2) for query in "qkv"):
            shapes.linear(name, places, places)
        shapes.linear(f"conv{part}", channels, read, 1, 1)
        shapes.swin(f"swintransformer{part}", channels, places)
    for head in ("fc_score", "fc_weight"):
        shapes.linear(f"{head}.0", width // 2, width // 2)
        shapes.linear(f"{head}.3", 1, width // 2)
    shapes.linear("fc4096_784_a2.0", places, inputs)
    shapes.linear("fc4096_784_b2.0", places, inputs)
    shapes.linear("fc784_784", places, places)
    shapes.linear("gating", 3, 3 * places)
    shapes.linear("output_fc", 1, places)
    shapes.other_trials()
    return shapes


def test_names() -> None:
    names = {
        "vit.blocks.9.attn.qkv.weight": "vit.blocks.9.attn.qkv.weight",
        "judge.maniqa.attention1.0.query.weight": "tablock1.0.c_q.weight",
        "judge.maniqa.attention2.1.key.bias": "tablock2.1.c_k.bias",
        "judge.maniqa.attention2.1.value.bias": "tablock2.1.c_v.bias",
        "judge.maniqa.conv2.weight": "conv2.weight",
        "judge.maniqa.stages1.stages.1.conv.bias": "swintransformer1.layers.1.conv.bias",
        "judge.maniqa.stages2.stages.0.blocks.1.mlp.fc1.weight": "swintransformer2.layers.0.blocks.1.mlp.fc1.weight",
        "judge.head.score.3.bias": "fc_score.3.bias",
        "judge.head.weight.0.weight": "fc_weight.0.weight",
        "judge.experts.semantic.weight": "fc4096_784_a2.0.weight",
        "judge.experts.coherence.bias": "fc4096_784_b2.0.bias",
        "judge.experts.places.weight": "fc784_784.weight",
        "judge.experts.gate.weight": "gating.weight",
        "judge.experts.score.bias": "output_fc.bias",
    }
    assert {name: official_name(name) for name in names} == names


def test_the_papers_checkpoint_fits(tmp_path: Path) -> None:
    """Every tensor of the network has one of the authors', of its shape."""
    network = official.blank(MAAGIQA)
    theirs = authors_shapes()
    state = network.state_dict()
    wanted = {official_name(name): tuple(tensor.shape) for name, tensor in state.items() if name != "asks"}
    assert wanted == {name: theirs[name] for name in wanted}
    unused = {re.sub(r"\d+", "", name.split(".")[0]) for name in theirs if name not in wanted}
    assert unused == {
        "vit",
        "swintransformer",
        "fc_",
        "fcx_",
        "fc__a",
        "fc__b",
        "encoder_layer",
        "fc_output",
        "quality",
    }


def test_the_authors_file_becomes_ours(
    folder: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A narrow one in the authors' names, through the command; a missing and a foreign tensor are refused."""
    monkeypatch.setattr(conversion, "MAAGIQA", lambda: MAAGIQA(**NARROW))
    shapes = authors_shapes(WIDTH, side=8, width=16)
    theirs = {name: formula(shape, number) for number, (name, shape) in enumerate(shapes.items())}
    checkpoint, out = tmp_path / "AGIQA_3k.pt", tmp_path / "narrow.safetensors"
    torch.save(theirs, checkpoint)
    config = folder / "config.json"
    assert main(["convert", "ma_agiqa.agiqa3k", str(checkpoint), str(config), "--out", str(out)]) == 0
    state = load_file(out)
    parameters = sum(p.numel() for p in MAAGIQA(**NARROW).parameters())
    assert capsys.readouterr().out == f"{out}: {len(state)} tensors, {parameters} parameters\n"
    network = MAAGIQA(**NARROW)
    network.load_state_dict(state)
    assert f"{int(network.asks):08x}" == LMM(folder).fingerprint
    assert all(torch.equal(state[name], theirs[official_name(name)]) for name in state if name != "asks")
    counts = convert([checkpoint, config], out)
    assert counts["dropped"] == len(theirs) + 1 - len(state)

    with pytest.raises(
        UsageError, match=r"^1 files are given, and 2 are needed: the authors' checkpoint, config\.json"
    ):
        convert([checkpoint], out)
    torch.save({"stranger": torch.zeros(1)} | {n: t for n, t in theirs.items() if n != "gating.bias"}, checkpoint)
    with pytest.raises(
        WeightsError, match=r"the paper's network, tensors: 1 missing \(gating\.bias\); 1 unexpected \(stranger\)"
    ):
        convert([checkpoint, config], out)
    torch.save({"gating.bias": theirs["gating.bias"], "run": print}, checkpoint)
    with pytest.raises(WeightsError, match="holds more than tensors, and is not loaded because it could run code"):
        convert([checkpoint, config], out)


# The small network --------------------------------------------------------------------------------------------


def test_questions_are_weighted_means() -> None:
    questions, features = filled(Questions(6)), 3 * formula((2, 6, 3, 4), 1)
    found = questions(features)
    for row in range(2):
        for prompt in range(2):
            places = features[row].flatten(1).T
            weights = torch.exp(places @ questions.ask.weight[prompt, :, 0, 0])
            wanted = (weights[:, None] * places).sum(0) / weights.sum()
            torch.testing.assert_close(found[row, prompt], wanted, atol=1e-5, rtol=0)


def test_small_judge_golden() -> None:
    judge = calm(narrow())
    judge.judge.head.score[3].bias += 2
    assert judge(maps(2)).tolist() == pytest.approx(GOLDEN, abs=1e-4)


GOLDEN = [-0.244317, -0.229360]


def test_channels_are_standardised_by_the_statistics() -> None:
    judge = narrow()
    judge.fit_statistics([5 + features for features in maps(40)])
    for own, features in zip(judge.standards, maps(40), strict=True):
        rows = 5 + features.transpose(0, 1).flatten(1)
        torch.testing.assert_close(own.mean, rows.mean(1), atol=1e-5, rtol=0)
        torch.testing.assert_close(own.deviation, rows.std(1) + 1e-3, atol=1e-5, rtol=0)
    torch.testing.assert_close(judge.eval()(maps(2)), judge(maps(2)), atol=0, rtol=0)


def test_in_training_whole_channels_are_left_out() -> None:
    torch.manual_seed(0)
    judge, seen = narrow().train(), []
    for module in (judge.questions, judge.judge):
        module.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    judge(maps(50))
    judge.eval()(maps(50))
    assert torch.equal(seen[0], seen[1]), "both branches see the same"
    kept = (seen[0] != 0).flatten(2).float().mean(2)
    assert set(kept.flatten().tolist()) == {0.0, 1.0}
    assert kept.mean().item() == pytest.approx(0.7, abs=0.05)
    torch.testing.assert_close(seen[0], seen[2] * kept[:, :, None, None] / 0.7)


def test_exported_it_gives_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = dataclasses.replace(find_card("ma_agiqa.agiqa3k"), recipe=RECIPE, settings={"size": "mobile"})
    network = build_network(card)
    assert isinstance(network, SmallMAAGIQA)
    assert sum(p.numel() for p in network.judge.parameters()) == 312_090
    assert not any(p.requires_grad for p in network.trunk.parameters())
    assert export(network, card, tmp_path / "mobile.onnx") <= TOLERANCE


def test_alone_or_in_a_batch() -> None:
    torch.manual_seed(0)
    network, color = SmallMAAGIQA().eval(), pictures(2)
    with torch.no_grad():
        together, alone = network(color), torch.cat([network(color[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert not torch.equal(together[0], together[1])


def test_every_part_of_the_judge_learns() -> None:
    torch.manual_seed(0)
    judge = narrow()
    F.mse_loss(judge(maps(4)), torch.tensor([0.1, 0.9, 0.4, 0.5])).backward()
    assert [n for n, p in judge.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


# Training -----------------------------------------------------------------------------------------------------


def study(count: int) -> Any:
    features, mos = maps(count), np.random.default_rng(0).random(count).astype(np.float32)
    return SimpleNamespace(mos=mos, maps=lambda places: [own[places] for own in features])


def test_the_loss_is_the_mean_squared_error_of_mirrored_maps() -> None:
    torch.manual_seed(0)
    judge, own, places = narrow().eval(), study(6), np.array([0, 3, 5])
    seen = [own.maps(places), [features.flip(3) for features in own.maps(places)]]
    with torch.no_grad():
        wanted = {round(float(np.mean((judge(m).numpy() - own.mos[places]) ** 2)), 5) for m in seen}
        loss = training.squares(judge, own, np.random.default_rng(0))
        found = {round(loss(places).item(), 5) for _ in range(20)}
    assert found == wanted
    assert len(found) == 2


def test_training_learns_the_order() -> None:
    torch.manual_seed(0)
    judge, own = narrow(), study(12)
    places = np.arange(12)
    judge.fit_statistics(own.maps(places))
    loss = training.squares(judge, own, np.random.default_rng(0))
    optimiser = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    found = []
    for _ in range(80):
        value = loss(places)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        found.append(value.item())
    assert np.mean(found[-10:]) < np.mean(found[:10]) / 3
    with torch.no_grad():
        raw = judge.eval()(own.maps(places)).numpy()
    assert scipy.stats.spearmanr(raw, own.mos).statistic > 0.8


def test_what_asks_another_model_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^ma_agiqa\.agiqa3k can't be exported: it asks another program"):
        export(official.blank(lambda: MAAGIQA(**NARROW)), find_card("ma_agiqa.agiqa3k"), tmp_path / "no.onnx")

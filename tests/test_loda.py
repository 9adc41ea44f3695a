"""LoDa: the extractor, injectors and cosine head, its loss, sizes, trunks with timm's names, training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dgiqa.errors import CardError  # noqa: E402
from dgiqa.export.onnx import TOLERANCE, export  # noqa: E402
from dgiqa.models import build_network, find_card  # noqa: E402
from dgiqa.models.loda.network import (  # noqa: E402
    Adapter,
    CosineHead,
    CrossAttention,
    Extractor,
    Injector,
    Judge,
    LoDa,
    SmallLoDa,
    pool,
)
from dgiqa.models.trunks.vit import ViT  # noqa: E402
from dgiqa.training import losses, start  # noqa: E402
from dgiqa.training.batches import Batch  # noqa: E402
from dgiqa.training.objective import objective  # noqa: E402
from dgiqa.training.optimiser import Scales, freeze, set_training  # noqa: E402
from dgiqa.training.recipe import Plan, read_recipe  # noqa: E402
from dgiqa.training.small import RECIPE  # noqa: E402
from dgiqa.training.systems import loda as training  # noqa: E402
from formula import filled, formula  # noqa: E402
from training_case import plan_of  # noqa: E402

RECIPE_FILE = Path(__file__).parents[1] / "recipes" / "loda.toml"
CHANNELS, SIDES = (4, 6, 12), (12, 6, 6)


def narrow() -> Judge:
    return Judge(CHANNELS, side=3, width=16, depth=2, heads=2, latent=8)


def maps(count: int, seed: int = 1) -> list[Tensor]:
    return [3 * formula((count, c, s, s), seed + c) for c, s in zip(CHANNELS, SIDES, strict=True)]


def pictures(count: int) -> Tensor:
    side = torch.arange(384)
    v, y, x = torch.meshgrid(torch.arange(count), side, side, indexing="ij")
    return torch.stack([(3 * x + 5 * y + 40 * v) % 256, (x * y // (7 + v)) % 256, (x + 90 * v) % 256], -1).to(
        torch.uint8
    )


# The extractor ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 14, 56])
def test_pooling_is_torchs_adaptive_one(size: int) -> None:
    features = formula((2, 3, size, size), 1)
    torch.testing.assert_close(pool(features, 7), F.adaptive_avg_pool2d(features, 7), atol=1e-6, rtol=0)


def test_pooling_refuses_unequal_blocks() -> None:
    with pytest.raises(ValueError, match=r"^a map of 12×12 has no 7×7 equal square blocks$"):
        pool(torch.zeros(1, 1, 12, 12), 7)
    with pytest.raises(ValueError, match=r"^a map of 14×7 has no 7×7 equal square blocks$"):
        pool(torch.zeros(1, 1, 14, 7), 7)


def test_extractor_gives_a_token_for_each_stage_and_place() -> None:
    """By the paper's own order: 1×1, GELU, 3×3 without bias, then means; tokens finest stage first, row by row."""
    extractor = filled(Extractor(CHANNELS, 8, 3))
    assert isinstance(extractor, Extractor)
    features = maps(2)
    tokens = extractor(features)
    assert tokens.shape == (2, 3 * 9, 8)
    for number, (stage, own) in enumerate(zip(extractor.stages, features, strict=True)):
        one, _, three = stage
        wide = F.conv2d(F.gelu(F.conv2d(own, one.weight, one.bias)), three.weight, padding=1)
        block = own.shape[2] // 3
        row, column = 2, 1
        there = wide[:, :, row * block : (row + 1) * block, column * block : (column + 1) * block].mean((2, 3))
        torch.testing.assert_close(tokens[:, 9 * number + 3 * row + column], there, atol=1e-6, rtol=0)


# The injector -----------------------------------------------------------------------------------------------


def test_cross_attention_is_torchs() -> None:
    own = filled(CrossAttention(24, 4))
    assert isinstance(own, CrossAttention)
    asking, answering = formula((2, 6, 24), 7), 2 * formula((2, 9, 24), 8)
    judge = nn.MultiheadAttention(24, 4, batch_first=True).eval()
    judge.load_state_dict(
        {
            "in_proj_weight": torch.cat([own.query.weight, own.key_value.weight]),
            "in_proj_bias": torch.zeros(72),
            "out_proj.weight": own.output.weight,
            "out_proj.bias": own.output.bias,
        }
    )
    torch.testing.assert_close(own(asking, answering), judge(asking, answering, answering)[0], atol=1e-5, rtol=0)


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match=r"^10 channels can't be shared out to 4 heads$"):
        CrossAttention(10, 4)


def test_injector_adds_what_it_scales() -> None:
    """The narrow tokens stay in the answer, and what is widened is added channel by channel, scaled."""
    injector = filled(Injector(16, 8, 4))
    assert isinstance(injector, Injector)
    tokens, local = formula((2, 5, 16), 1), formula((2, 9, 8), 2)
    one, _, two = injector.down
    small = F.linear(F.gelu(F.linear(tokens, one.weight, one.bias)), two.weight, two.bias)
    three, _, four = injector.up
    asked = small + injector.attention(small, local)
    up = F.linear(F.gelu(F.linear(asked, three.weight, three.bias)), four.weight, four.bias)
    torch.testing.assert_close(injector(tokens, local), tokens + injector.scale * up, atol=1e-6, rtol=0)
    injector.scale.zero_()
    assert torch.equal(injector(tokens, local), tokens)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(9)))
def test_local_tokens_are_a_set(order: list[int]) -> None:
    injector = filled(Injector(16, 8, 4))
    tokens, local = formula((2, 5, 16), 1), formula((2, 9, 8), 2)
    torch.testing.assert_close(injector(tokens, local[:, list(order)]), injector(tokens, local), atol=1e-6, rtol=0)


def test_injectors_start_small() -> None:
    torch.manual_seed(0)
    scale = torch.cat([Injector(768, 64, 4).scale for _ in range(4)]).detach()
    assert scale.std().item() == pytest.approx(0.02, rel=0.1)
    assert abs(scale.mean().item()) < 0.002


# Adapter and head -------------------------------------------------------------------------------------------


def borrowed() -> tuple[ViT, Adapter]:
    vit, adapter = filled(ViT(size=6, patch=2, width=16, depth=3, heads=2)), filled(Adapter(CHANNELS, **SMALL))
    assert isinstance(vit, ViT)
    assert isinstance(adapter, Adapter)
    return vit, adapter


SMALL = {"width": 16, "depth": 3, "latent": 8, "side": 3}


def test_an_injector_stands_before_each_block() -> None:
    vit, adapter = borrowed()
    picture, features = 2 * formula((2, 3, 6, 6), 5), maps(2)
    local = adapter.extractor(features)
    tokens = vit.embed(picture)
    for number in range(3):
        tokens = vit.blocks[number](adapter.injectors[number](tokens, local))
    class_token = vit.norm(tokens)[:, 0]
    expected = F.cosine_similarity(class_token, adapter.head.weight[None])
    torch.testing.assert_close(adapter(vit, picture, features), expected, atol=1e-6, rtol=0)


def test_without_injection_it_is_the_vit_alone() -> None:
    vit, adapter = borrowed()
    picture = 2 * formula((2, 3, 6, 6), 5)
    told = adapter(vit, picture, maps(2))
    for injector in adapter.injectors:
        injector.scale.zero_()
    alone = adapter(vit, picture, maps(2))
    torch.testing.assert_close(alone, adapter.head(vit(picture)[:, 0]), atol=1e-6, rtol=0)
    assert (told - alone).abs().min() > 1e-4


def test_the_head_is_a_cosine_of_any_length() -> None:
    torch.manual_seed(0)
    head, token = CosineHead(16), formula((5, 16), 1)
    assert head.weight.norm().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(head(token), F.cosine_similarity(token, head.weight[None]))
    torch.testing.assert_close(head(7 * token), head(token))
    ends = head(torch.stack([3 * head.weight, -2 * head.weight])).tolist()
    assert ends == pytest.approx([1, -1], abs=1e-6)


def test_judge_golden() -> None:
    judge = filled(narrow())
    assert judge(maps(2)).tolist() == pytest.approx(GOLDEN, abs=1e-5)


GOLDEN = [-0.032605, -0.02827]


def test_channels_are_standardised_by_the_statistics() -> None:
    judge, plain, features = narrow().eval(), narrow().eval(), [5 + own for own in maps(9)]
    judge.fit_statistics(features)
    for standard, own in zip(judge.standards, features, strict=True):
        rows = own.transpose(0, 1).flatten(1)
        torch.testing.assert_close(standard.mean, rows.mean(1), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(standard.deviation, rows.std(1) + 1e-3, rtol=1e-5, atol=1e-5)
    state = {n: v for n, v in judge.state_dict().items() if not n.startswith("standards.")}
    plain.load_state_dict(plain.state_dict() | state)
    done = [standard(own) for standard, own in zip(judge.standards, features, strict=True)]
    torch.testing.assert_close(judge(features), plain(done), atol=1e-5, rtol=0)


# Sizes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outline() -> LoDa:
    """The paper's network without memory for its numbers."""
    with torch.device("meta"):
        return LoDa().eval()


def test_paper_size_is_exact(outline: LoDa) -> None:
    """118.23 M parameters, 8.93 M of them trained, 22.9 GMACs without the products inside the ViT's attention."""
    card = find_card("loda.paper")
    with torch.device("meta"):
        assert type(build_network(card)) is LoDa
        view = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            outline(view)
    parameters = sum(p.numel() for p in outline.parameters())
    trained = sum(p.numel() for p in outline.parameters() if p.requires_grad)
    assert parameters == card.network.parameters == 118_234_176
    assert trained == 8_927_488
    assert str(trained) in card.network.input
    assert (round(parameters / 1e6, 2), round(trained / 1e6, 2)) == (118.23, 8.93)
    gmacs = counter.get_total_flops() / 2e9
    assert round(gmacs, 2) == card.network.gmacs == 23.63
    inside = 12 * 2 * 197**2 * 768 / 1e9  # queries × keys and weights × values: fused kernels are often not counted
    assert round(gmacs - inside, 1) == 22.9


def test_card() -> None:
    card = find_card("loda.paper")
    assert (card.recipe.short_side, card.recipe.crop, card.recipe.count) == (384, 224, 15)
    assert (card.weights["torch"].url, card.weights["torch"].sha256, card.measured) == ("", "", ())
    assert {line.dataset: (line.srcc, line.plcc) for line in card.published} == {
        "LIVE Challenge": (0.876, 0.899),
        "KonIQ-10k": (0.932, 0.944),
        "FLIVE": (0.578, 0.679),
        "SPAQ": (0.925, 0.928),
        "KADID-10k": (0.931, 0.936),
    }
    assert all("second-hand" in line.source for line in card.published)


def test_settings_are_the_size_alone() -> None:
    card = dataclasses.replace(find_card("loda.paper"), settings={"size": "huge"})
    with pytest.raises(CardError) as caught:
        build_network(card)
    assert caught.value.message == (
        "loda.paper: settings: {'size': 'huge'} don't fit loda (size is paper or mobile, not 'huge')"
    )


# Frozen trunks ----------------------------------------------------------------------------------------------


def test_only_the_adapter_is_trained(outline: LoDa) -> None:
    assert {name.split(".")[0] for name, p in outline.named_parameters() if p.requires_grad} == {"adapter"}
    set_training(outline)
    assert (outline.vit.training, outline.cnn.training, outline.adapter.training) == (False, False, True)
    assert not any(module.training for module in outline.cnn.modules())
    outline.eval()


def test_trunks_have_timms_state_names(outline: LoDa) -> None:
    vit, cnn = outline.vit.state_dict(), outline.cnn.state_dict()
    assert len(vit) == 150
    assert len(cnn) == 318
    for name, shape in {
        "cls_token": (1, 1, 768),
        "pos_embed": (1, 197, 768),
        "patch_embed.proj.weight": (768, 3, 16, 16),
        "blocks.11.attn.qkv.bias": (2304,),
        "blocks.3.mlp.fc1.weight": (3072, 768),
        "norm.weight": (768,),
    }.items():
        assert vit[name].shape == shape
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer3.5.bn2.running_var": (256,),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
    }.items():
        assert cnn[name].shape == shape


def test_trunk_files_go_in_by_timms_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outline: LoDa) -> None:
    """As ``model.trunks`` of a recipe; the classifiers of both files are left out."""
    files = {}
    for trunk, classifier in (("vit", "head"), ("cnn", "fc")):
        state = outline.get_submodule(trunk).state_dict() | {f"{classifier}.weight": torch.empty(1000, 8)}
        files[trunk] = tmp_path / f"{trunk}.pth"
        light = {n: torch.tensor(i, dtype=v.dtype).expand(v.shape) for i, (n, v) in enumerate(state.items())}
        torch.save(light, files[trunk])
    with torch.device("meta"):
        blank = LoDa()
    blank.to_empty(device="cpu")
    monkeypatch.setattr(start, "build_network", lambda card: blank)
    plan = read_recipe(RECIPE_FILE, [f"model.trunks.{name}={file}" for name, file in files.items()])
    network = start.start_network(plan)
    for trunk in files:
        values = network.get_submodule(trunk).state_dict().values()
        assert all(bool((value == i).all()) for i, value in enumerate(values)), trunk


# The recipe -------------------------------------------------------------------------------------------------


def test_recipe_has_the_papers_schedule(outline: LoDa) -> None:
    plan = read_recipe(RECIPE_FILE)
    train = plan.train
    assert isinstance(plan, Plan)
    assert (plan.model.arch, plan.model.settings, plan.model.recipe) == ("loda", {}, find_card("loda.paper").recipe)
    assert (train.rate, train.decay, train.batch, train.epochs) == (3e-4, 1e-2, 128, 3 * 10)
    assert (train.warmup, train.floor, train.clip, train.ema, train.select) == (0, 0.0, 0.0, 0.0, "last")
    assert {name: weight for name, weight in dataclasses.asdict(plan.loss).items() if weight} == {
        "plcc_mse": 1.0,
        "margin": 0.02,
        "scale": 0.1,
    }
    freeze(outline, plan.model.freeze)
    assert sum(p.numel() for p in outline.parameters() if p.requires_grad) == 8_927_488


# The loss ---------------------------------------------------------------------------------------------------


def columns(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.random(n)), torch.tensor(rng.random(n))


@given(st.integers(0, 10_000), st.integers(2, 20))
def test_loss_by_its_definition(seed: int, n: int) -> None:
    found, wanted = columns(n, seed)
    x, y = (scipy.stats.zscore(column.numpy()) for column in (found, wanted))
    rho = scipy.stats.pearsonr(x, y).statistic
    expected = (np.mean((x - y) ** 2) / 4 + np.mean((rho * x - y) ** 2) / 4) / 2
    value = losses.plcc_mse(found, wanted).item()
    assert value == pytest.approx(expected, abs=1e-6)
    assert value == pytest.approx((1 - rho) * (3 + rho) / 8, abs=1e-6)
    assert losses.plcc_mse(3 * found + 7, wanted).item() == pytest.approx(value, abs=1e-6)


def test_loss_from_the_best_to_the_worst() -> None:
    _, wanted = columns(9)
    assert losses.plcc_mse(2 * wanted + 1, wanted).item() == pytest.approx(0, abs=1e-6)
    assert losses.plcc_mse(-wanted, wanted).item() == pytest.approx(0.5, abs=1e-6)


def test_its_gradient_goes_through_the_correlation_too() -> None:
    found, wanted = columns(9)
    own, judge = found.clone().requires_grad_(True), found.clone().requires_grad_(True)
    losses.plcc_mse(own, wanted).backward()
    rho = torch.corrcoef(torch.stack([judge, wanted]))[0, 1]
    ((1 - rho) * (3 + rho) / 8).backward()
    torch.testing.assert_close(own.grad, judge.grad, atol=1e-8, rtol=1e-5)


def test_nothing_to_compare_is_no_loss_and_no_nan() -> None:
    x = torch.rand(1, requires_grad=True)
    loss = losses.plcc_mse(x, torch.rand(1))
    loss.backward()
    assert (loss.item(), x.grad.item()) == (0, 0)


@pytest.mark.parametrize("found", [[0.5, 0.5, 0.5], [0.1, 0.5, 0.9]])
@pytest.mark.parametrize("wanted", [[0.3, 0.3, 0.3], [0.1, 0.5, 0.9]])
def test_gradients_stay_finite_at_the_edges(found: list[float], wanted: list[float]) -> None:
    x = torch.tensor(found, requires_grad=True)
    losses.plcc_mse(x, torch.tensor(wanted)).backward()
    assert torch.isfinite(x.grad).all()


def test_a_recipe_weighs_it_for_each_set_by_itself(tmp_path: Path) -> None:
    """Shares of the batch, with each set's own correlation; the others' losses are as they were."""
    none = ("loss.mse=0", "loss.plcc=0", "loss.spread=0", "loss.ladder=0", "ladders.pairs=0")
    plan = plan_of(tmp_path, *none, "loss.plcc_mse=0.5")
    rng = np.random.default_rng(3)
    mos, nan = rng.random(7).astype(np.float32), np.full(7, np.nan, np.float32)
    owner = np.array([0, 0, 0, 0, 1, 1, 1])
    batch = Batch((), owner, mos, nan, nan, np.empty(0, np.float32))
    scores = torch.tensor(rng.random((7, 1)), dtype=torch.float32)
    total, parts = objective(scores, batch, Scales(2), plan)
    each = [losses.plcc_mse(scores[owner == k, 0], torch.from_numpy(mos[owner == k])).item() for k in (0, 1)]
    expected = (4 * each[0] + 3 * each[1]) / 7
    assert set(parts) == {"plcc_mse"}
    assert parts["plcc_mse"].item() == pytest.approx(expected, abs=1e-6)
    assert total.item() == pytest.approx(expected / 2, abs=1e-6)


# The small network ------------------------------------------------------------------------------------------


def test_exported_it_gives_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = dataclasses.replace(find_card("loda.paper"), recipe=RECIPE, settings={"size": "mobile"})
    network = build_network(card)
    assert isinstance(network, SmallLoDa)
    assert sum(p.numel() for p in network.judge.parameters()) == 576_744
    assert not any(p.requires_grad for p in network.trunk.parameters())
    assert export(network, card, tmp_path / "mobile.onnx") <= TOLERANCE


def test_alone_or_in_a_batch() -> None:
    network, color = filled(SmallLoDa()), pictures(2)
    together = network(color)
    torch.testing.assert_close(together, torch.cat([network(color[i : i + 1]) for i in range(2)]), atol=1e-5, rtol=0)
    assert together.dtype == torch.float32
    assert together.abs().max() <= 1
    assert (together[0] - together[1]).abs() > 1e-4


def test_every_part_of_the_judge_learns() -> None:
    torch.manual_seed(0)
    judge = narrow()
    losses.plcc_mse(judge(maps(4)), torch.tensor([0.1, 0.9, 0.4, 0.5])).backward()
    assert [n for n, p in judge.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


# Training ---------------------------------------------------------------------------------------------------


def test_mirrored_both_ways_all_alike() -> None:
    rng, features = np.random.default_rng(0), maps(2)
    ways: set[tuple[int, ...]] = set()
    for _ in range(30):
        mirrored = training.mirror(features, rng, (2, 3))
        way = next(axes for axes in ((), (2,), (3,), (2, 3)) if torch.equal(mirrored[0], features[0].flip(axes)))
        assert all(torch.equal(m, own.flip(way)) for m, own in zip(mirrored, features, strict=True))
        ways.add(way)
    assert len(ways) == 4


def test_training_learns_the_order() -> None:
    torch.manual_seed(0)
    judge = narrow()
    features = maps(16)
    mos = np.random.default_rng(0).random(16).astype(np.float32)
    study = SimpleNamespace(mos=mos, maps=lambda places: [own[places] for own in features])
    judge.fit_statistics(features)
    loss = training.correlation(judge, study, np.random.default_rng(0))  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    places, found = np.arange(16), []
    for _ in range(120):
        value = loss(places)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        found.append(value.item())
    assert np.mean(found[-10:]) < np.mean(found[:10]) / 3
    with torch.no_grad():
        raw = judge.eval()(features).numpy()
    assert scipy.stats.spearmanr(raw, mos).statistic > 0.8

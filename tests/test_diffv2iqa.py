"""DiffV2IQA: the denoiser, the schedule and the sampler of SR3; both branches; sizes; both stages of training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dgiqa.export.onnx import TOLERANCE, export  # noqa: E402
from dgiqa.models import build_network, find_card  # noqa: E402
from dgiqa.models.diffv2iqa.diffusion import (  # noqa: E402
    Attention,
    Denoiser,
    Restoration,
    cosine_schedule,
    encode_level,
    fixed_noise,
    posterior,
)
from dgiqa.models.diffv2iqa.network import (  # noqa: E402
    DIFFERENCE,
    Compensation,
    DiffV2IQA,
    Judge,
    MobileDiffV2IQA,
    ReferenceAttention,
    SoftHead,
    shrink,
)
from dgiqa.models.trunks.vit import ViT  # noqa: E402
from dgiqa.training.small import RECIPE  # noqa: E402
from dgiqa.training.systems import diffv2iqa as training  # noqa: E402
from formula import filled, formula  # noqa: E402


def tiny(prior: float = 0.0) -> Denoiser:
    return Denoiser(inner=4, multiples=(1, 2), attending=(1,), blocks=1, dropout=0.0, groups=2, prior=prior)


def narrow() -> Judge:
    """With random weights, in double precision."""
    torch.manual_seed(0)
    return Judge(12, side=4, width=16).eval().requires_grad_(False).double()


def joined_maps(count: int) -> tuple[Tensor, Tensor]:
    return 3 * formula((count, 12, 4, 4), 3).double(), 3 * formula((count, 4, 12, 4, 4), 4).double()


# The denoiser -----------------------------------------------------------------------------------------------------


def test_levels_are_sines_then_cosines() -> None:
    found = encode_level(torch.tensor([0.25, 1.0]), 6)
    for row, level in zip(found, (0.25, 1.0), strict=True):
        angles = [level * 10000 ** (-k / 3) for k in range(3)]
        assert row.tolist() == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)], abs=1e-6)


def test_attention_is_torchs_with_one_head() -> None:
    block, x = filled(Attention(8, groups=2)), 3 * formula((2, 8, 3, 4), 1)
    own = nn.MultiheadAttention(8, 1, batch_first=True).eval()
    own.load_state_dict(
        {
            "in_proj_weight": block.qkv.weight[:, :, 0, 0],
            "in_proj_bias": torch.zeros(24),
            "out_proj.weight": block.out.weight[:, :, 0, 0],
            "out_proj.bias": block.out.bias,
        }
    )
    tokens = nn.functional.group_norm(x, 2, block.norm.weight, block.norm.bias).flatten(2).transpose(1, 2)
    expected = x + own(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=0)


def test_denoiser_golden() -> None:
    """Level, spoiled and noisy picture all matter, and none is another's place."""
    denoiser = filled(tiny())
    spoiled, noisy, level = formula((1, 3, 8, 8), 1), formula((1, 3, 8, 8), 2), torch.tensor([0.6])
    found = denoiser(spoiled, noisy, level)
    assert found.shape == (1, 3, 8, 8)
    assert found[0, :, 3, 5].tolist() == pytest.approx(GOLDEN_NOISE, abs=1e-4)
    for other in (denoiser(noisy, spoiled, level), denoiser(spoiled, noisy, level / 2)):
        assert (other - found).abs().max() > 1e-3


GOLDEN_NOISE = [-0.17015, 1.79743, -0.49178]


def test_a_prior_guesses_the_noise_as_bayes_does() -> None:
    """A silent network leaves the formula: the mean of the noise, given the noisy picture, of normal errors."""
    denoiser = filled(tiny(prior=0.5))
    spoiled, noisy = formula((1, 3, 8, 8), 1), formula((1, 3, 8, 8), 2)
    denoiser.last[-1].weight.zero_()
    denoiser.last[-1].bias.zero_()
    root = 0.6
    covariance = math.sqrt(1 - root**2)  # of noise and noisy picture
    expected = covariance / (1 - root**2 + root**2 * 0.25) * (noisy - root * spoiled)
    torch.testing.assert_close(denoiser(spoiled, noisy, torch.tensor([root])), expected, atol=1e-6, rtol=0)
    denoiser.last[-1].bias += 1  # what is left to guess has the variance 1 - covariance² / variance
    left = math.sqrt(1 - covariance**2 / (1 - root**2 + root**2 * 0.25))
    torch.testing.assert_close(denoiser(spoiled, noisy, torch.tensor([root])), expected + left, atol=1e-6, rtol=0)


# The sampler ------------------------------------------------------------------------------------------------------


def test_schedule_is_the_cosine() -> None:
    left = cosine_schedule(50)

    def curve(t: int) -> float:
        return math.cos((t / 50 + 0.008) / 1.008 * math.pi / 2) ** 2

    assert left[:49] == pytest.approx([curve(t) / curve(0) for t in range(1, 50)], rel=1e-9)
    assert left[49] == pytest.approx(0.001 * left[48])  # the last step takes 0.999 and no more


def test_posterior_is_bayes() -> None:
    """Product of two normal densities: of the step before given the picture, and of this step given the one before."""
    now, then, clean, noisy = 0.5, 0.8, 0.3, -0.7
    alpha = now / then
    places = np.linspace(-6, 6, 200_001)
    density = np.exp(-((places - math.sqrt(then) * clean) ** 2) / (2 * (1 - then)))
    density *= np.exp(-((noisy - math.sqrt(alpha) * places) ** 2) / (2 * (1 - alpha)))
    density /= density.sum()
    mean = (places * density).sum()
    of_clean, of_noisy, spread = posterior(now, then)
    assert of_clean * clean + of_noisy * noisy == pytest.approx(mean, abs=1e-6)
    assert spread == pytest.approx(math.sqrt(((places - mean) ** 2 * density).sum()), abs=1e-6)
    assert posterior(now, 1.0) == (1, 0, 0)  # the last step gives the picture itself


def test_noise_is_normal_and_fixed() -> None:
    noise = fixed_noise((3, 64, 64))
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert (np.abs(noise) < 1).mean() == pytest.approx(0.6827, abs=0.01)
    assert (noise == noise.astype(np.float16)).all()
    assert noise[0, 0, :3].tolist() == pytest.approx(GOLDEN_START, abs=1e-3)


GOLDEN_START = [-0.10669, -0.32837, -1.89746]


class Knowing(Denoiser):
    """Tells the noise exactly, from an original that it knows."""

    def __init__(self, original: Tensor) -> None:
        super().__init__(inner=4, multiples=(1,), attending=(), blocks=1, groups=2)
        self.original = original

    def forward(self, spoiled: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        root = level[:, None, None, None]
        return (noisy - root * self.original) / (1 - root**2).sqrt()


def test_who_knows_the_noise_restores_the_original() -> None:
    """d0 is the original; d1 and d2 hold as much noise as the schedule says, d2 more than d1."""
    original = 0.3 * formula((1, 3, 64, 64), 1)
    samples = Restoration(Knowing(original), side=64, steps=12, every=2)(torch.zeros_like(original))
    torch.testing.assert_close(samples[0], original, atol=1e-5, rtol=0)
    left = cosine_schedule(12)
    for sample, share in ((samples[1], left[1]), (samples[2], left[3])):
        noise = sample - math.sqrt(share) * original
        assert noise.std().item() == pytest.approx(math.sqrt(1 - share), rel=0.06)


def test_samples_are_fixed_and_alone_or_in_a_batch() -> None:
    restoration = Restoration(filled(tiny(prior=0.3)), side=16, steps=5, every=1)
    spoiled = formula((2, 3, 16, 16), 1)
    found = restoration(spoiled)
    assert all(torch.equal(a, b) for a, b in zip(found, restoration(spoiled), strict=True))
    for i in range(2):
        for together, alone in zip(found, restoration(spoiled[i : i + 1]), strict=True):
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


def test_trained_restoration_depends_on_steps_and_nears_the_original() -> None:
    """A denoiser trained on one pair: loss falls, the restoration is nearer than the spoiled picture, steps matter."""
    torch.manual_seed(0)
    restoration = Restoration(tiny(prior=0.5), side=8, steps=6, every=1)
    original = (0.3 * torch.linspace(-1, 1, 8)).expand(1, 3, 8, 8)
    spoiled = original + 0.4
    optimiser = torch.optim.AdamW(restoration.parameters(), lr=1e-2)
    losses = []
    for _ in range(120):
        loss = restoration.loss(spoiled.expand(16, -1, -1, -1), original.expand(16, -1, -1, -1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:5])
    with torch.no_grad():
        few = restoration.eval()(spoiled)
        restoration.steps = 12
        many = restoration(spoiled)
    for d0, *_ in (few, many):
        assert (d0 - original).abs().mean() < 0.7 * (spoiled - original).abs().mean()
        assert d0.abs().max() <= 1
    assert (few[0] - many[0]).abs().max() > 1e-3


def test_what_the_sampler_refuses() -> None:
    with pytest.raises(ValueError, match=r"^10 steps don't give three samples that are 5 steps apart$"):
        Restoration(tiny(), side=16, steps=10, every=5)
    with pytest.raises(ValueError, match=r"^pictures of \(3, 8, 8\) don't fit noise of \(3, 16, 16\)$"):
        Restoration(tiny(), side=16, steps=5, every=1)(torch.zeros(1, 3, 8, 8))


# The branches -----------------------------------------------------------------------------------------------------


def test_distances_ask_are_asked_and_answer() -> None:
    block = filled(ReferenceAttention(5, 7))
    g, g0, g1, g2 = (3 * formula((2, 5), seed) for seed in range(4))
    query, key, value = block.query((g - g0).abs()), block.key((g - g1).abs()), block.value((g - g2).abs())
    for n in range(2):
        for i in range(7):
            weights = torch.softmax(query[n, i] * key[n] / 5**0.5, 0)
            expected = block.itself(g)[n, i] + (weights * value[n]).sum()
            torch.testing.assert_close(block(g, g0, g1, g2)[n, i], expected, atol=1e-5, rtol=0)


def test_each_picture_gives_its_blocks_and_its_level() -> None:
    trunk = ViT(size=4, patch=1, inputs=3, width=8, depth=3, heads=2)
    branch = filled(Compensation(trunk, ((0, 2), (1,)), inputs=8, width=8, noted=3, window=2, hidden=8))
    assert isinstance(branch, Compensation)
    pictures = [formula((2, 3, 4, 4), 1), formula((2, 3, 4, 4), 2)]
    found = branch.describe(pictures)
    assert found.shape == (2, 8 + 8 + 3 + 8 + 3, 4, 4)
    first, third = branch.trunk.after(pictures[0], (0, 2))
    (second,) = branch.trunk.after(pictures[1], (1,))
    for row, column in ((0, 0), (2, 3)):
        token = 1 + 4 * row + column  # the class token comes first
        expected = [first[:, token], third[:, token], branch.levels[:1].expand(2, -1)]
        expected += [second[:, token], branch.levels[1:].expand(2, -1)]
        torch.testing.assert_close(found[:, :, row, column], torch.cat(expected, 1), atol=1e-6, rtol=0)


def test_both_branches_move_the_score() -> None:
    judge = narrow()
    picture, restored = joined_maps(2)
    score = judge(picture, restored)
    compensation, difference = judge.branches(picture, restored)
    torch.testing.assert_close(score, compensation + DIFFERENCE * difference, atol=1e-6, rtol=0)
    assert DIFFERENCE == 5
    judge.compensation.head.score[-1].bias += 0.1
    moved = judge(picture, restored)
    assert (moved > score + 0.01).all()
    judge.difference.head.score[-1].bias += 0.1
    assert (judge(picture, restored) > moved + 0.01).all()


def test_small_heads_never_fall_silent() -> None:
    """Far below zero a score still has a gradient; before training it is about what is asked."""
    torch.manual_seed(0)
    head = SoftHead(8, 0.4)
    features = 0.01 * formula((1, 8, 3, 3), 1)
    assert head(features).item() == pytest.approx(0.4, abs=0.15)
    with torch.no_grad():
        head.score[-1].bias -= 10
    head(features).sum().backward()
    assert head.score[-1].bias.grad.item() > 0


def test_each_picture_moves_the_branches_that_read_it() -> None:
    """The full-size picture the compensation alone, the one made small the difference alone, d0, d1 and d2 both."""
    judge = narrow()
    picture, restored = joined_maps(1)
    before = judge.branches(picture, restored)

    def moved(picture: Tensor, restored: Tensor) -> list[bool]:
        after = judge.branches(picture, restored)
        return [abs((a - b).item()) > 1e-12 for a, b in zip(after, before, strict=True)]

    assert moved(picture.flip(3) + 0.1, restored) == [True, False]
    for number in range(4):
        other = restored.clone()
        other[:, number] += 0.5
        assert moved(picture, other) == [number > 0, True], number


def test_channels_are_standardised_by_the_statistics() -> None:
    judge = narrow()
    joined = 5 + 3 * formula((40, 12, 4, 4), 7).double()
    judge.fit_statistics(joined)
    rows = joined.permute(1, 0, 2, 3).flatten(1)
    np.testing.assert_allclose(judge.mean, rows.mean(1), rtol=1e-5)
    np.testing.assert_allclose(judge.deviation, rows.std(1) + 1e-3, rtol=1e-5)


def test_judge_golden() -> None:
    judge = filled(Judge(12, side=4, width=16))
    for parameter in judge.parameters():
        if parameter.ndim > 1:
            parameter.mul_(0.5)  # many residual sums: activations would grow to hundreds
    picture, restored = joined_maps(2)
    assert judge(picture.float(), restored.float()).tolist() == pytest.approx(GOLDEN_SCORES, abs=1e-4)


GOLDEN_SCORES = [2.62884, 3.37918]


# The networks -----------------------------------------------------------------------------------------------------


def test_paper_size_is_what_the_card_says() -> None:
    """The restoration has as many parameters as the SR3 code reports of its network."""
    card = find_card("diffv2iqa.paper")
    with torch.device("meta"):
        module = build_network(card).eval()
        assert isinstance(module, DiffV2IQA)
        picture = torch.zeros(1, 3, 224, 224)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as step, torch.no_grad():
            module.restoration.denoiser(picture, picture, torch.zeros(1))
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as rest, torch.no_grad():
            module.score([picture] * 4)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    assert sizes == {
        "restoration": 97_807_491,
        "compensation": 129_503_074,
        "classifier": 25_557_032,
        "difference": 3_141_378,
    }
    assert sum(sizes.values()) == card.network.parameters == 256_008_975
    restoration, quality = 50 * step.get_total_flops() / 2e9, rest.get_total_flops() / 2e9
    assert (round(restoration, 2), round(quality, 2)) == (7178.05, 477.08)
    assert card.network.gmacs == round(restoration + quality, 2) == 7655.12
    assert module.compensation.maniqa.conv1[0].weight.shape == (2304, 6912, 1, 1)
    assert (module.restoration.steps, module.restoration.every, module.restoration.noise.shape[1]) == (50, 5, 224)
    assert card.weights["torch"].sha256 == ""


def test_settings_reach_the_restoration() -> None:
    card = dataclasses.replace(find_card("diffv2iqa.paper"), settings={"size": "mobile", "steps": 9, "every": 4})
    network = build_network(card)
    assert isinstance(network, MobileDiffV2IQA)
    assert (network.restoration.steps, network.restoration.every) == (9, 4)


def pictures(count: int) -> Tensor:
    side = torch.arange(384)
    v, y, x = torch.meshgrid(torch.arange(count), side, side, indexing="ij")
    return torch.stack([(3 * x + 5 * y + 40 * v) % 256, (x * y // (7 + v)) % 256, (x + 90 * v) % 256], -1).to(
        torch.uint8
    )


def test_small_pictures_are_means_of_blocks() -> None:
    color = pictures(1)
    block = color[0, 4:8, 380:384].float().mean((0, 1)) / 127.5 - 1
    torch.testing.assert_close(shrink(color)[0, :, 1, 95], block, atol=1e-5, rtol=0)


def test_small_network_alone_or_in_a_batch() -> None:
    torch.manual_seed(0)
    network = MobileDiffV2IQA().eval()
    color = pictures(2)
    with torch.no_grad():
        alone = torch.cat([network(color[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(network(color), alone, atol=1e-5, rtol=0)
    assert alone[0] != alone[1]
    assert sum(p.numel() for p in network.judge.parameters()) == 420_620
    assert sum(p.numel() for p in network.restoration.parameters()) == 662_171
    assert not any(p.requires_grad for p in network.trunk.parameters())


def test_exported_it_gives_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {"size": "mobile", "steps": 3}
    card = dataclasses.replace(find_card("diffv2iqa.paper"), recipe=RECIPE, settings=settings)
    network = build_network(card)
    network.restoration.denoiser = tiny(prior=0.15)  # the same operations, fewer of them
    assert export(network, card, tmp_path / "mobile.onnx", half=True) <= TOLERANCE


# Training ---------------------------------------------------------------------------------------------------------


def test_crops_of_version_and_original_are_of_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pair 7 of three versions a picture is the second version of the third picture."""
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(spoiled: Tensor, original: Tensor) -> Tensor:
        seen.append((spoiled, original))
        return torch.zeros(())

    spoiled = np.arange(4 * 4, dtype=np.float32).reshape(4, 4, 1, 1, 1) + np.zeros((3, 50, 50), np.float32)
    spoiled = spoiled + 0.001 * np.arange(50, dtype=np.float32)
    monkeypatch.setattr(training, "CROP", 8)
    restoration = SimpleNamespace(loss=loss)
    training.denoising(restoration, spoiled, np.random.default_rng(0))(np.array([7, 0]))  # type: ignore[arg-type]
    ((versions, originals),) = seen
    assert versions.shape == originals.shape == (2, 3, 8, 8)
    torch.testing.assert_close(versions - originals, torch.tensor([2.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8))
    assert originals[0].floor().unique().tolist() == [8]


def test_comparison_says_what_the_restoration_gains() -> None:
    spoiled = np.zeros((2, 3, 3, 4, 4), np.float16)
    spoiled[:, 1:] = 0.2
    words = training.compare(lambda pictures: [pictures / 2], spoiled)  # type: ignore[arg-type, return-value]
    assert words == (
        "4 versions held out, PSNR to the original: spoiled 20.00 dB, restored 26.02 dB; 100% are nearer than before"
    )


def test_second_stage_learns() -> None:
    torch.manual_seed(0)
    judge = Judge(12, side=4, width=16)
    joined, restored = formula((8, 12, 4, 4), 1).numpy(), formula((8, 4, 12, 4, 4), 2).numpy()
    study = SimpleNamespace(mos=np.linspace(0.1, 0.9, 8, dtype=np.float32))
    loss = training.quality(judge, study, joined, restored)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        value = loss(np.arange(8))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert losses[-1] < losses[0] / 3
    judge.eval()
    with torch.no_grad():
        raw = judge(torch.from_numpy(joined), torch.from_numpy(restored)).numpy()
    assert np.corrcoef(raw, study.mos)[0, 1] > 0.8

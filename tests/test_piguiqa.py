"""PIGUIQA: water, maps of distortion, neighbourhood attention, sizes, training, and that more water scores lower."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dgiqa.distortions import _light, distort, underwater  # noqa: E402
from dgiqa.export.onnx import TOLERANCE, export  # noqa: E402
from dgiqa.models import build_network, find_card, list_models  # noqa: E402
from dgiqa.models.piguiqa.imaging import ImagingModel, Water, distortion_maps, form, to_linear  # noqa: E402
from dgiqa.models.piguiqa.neighbourhood import LocalModule, NeighbourhoodAttention  # noqa: E402
from dgiqa.models.piguiqa.network import Judge, SmallPIGUIQA, cells_of, pair  # noqa: E402
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2  # noqa: E402
from dgiqa.runtimes.torch import load_module  # noqa: E402
from dgiqa.scenes import render  # noqa: E402
from dgiqa.training.small import RECIPE, SIDE, trunk_state  # noqa: E402
from dgiqa.training.systems import piguiqa as training  # noqa: E402
from dgiqa.types import Float32, UInt8  # noqa: E402
from formula import filled, formula  # noqa: E402


def uniform(shape: tuple[int, ...], seed: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * (formula(shape, seed) + 0.5)


def pictures(count: int) -> Tensor:
    v, y, x = torch.meshgrid(torch.arange(count), torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    planes = [(3 * x + 5 * y + 40 * v) % 256, (x * y // (7 + v)) % 256, (x + 90 * v) % 256]
    return torch.stack(planes, -1).to(torch.uint8)


# The water


def test_light_is_the_distortions_light() -> None:
    rgb = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    found = to_linear(torch.from_numpy(rgb)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, _light.to_linear(rgb), atol=1e-6)


def test_the_formula_is_the_distortions_formula() -> None:
    """Daylight lost over the scene is the daylight left; one scattering for all colours; the water's own colour."""
    metres = uniform((9, 11), 1, 0.5, 12.0).numpy()
    for coast in (0.0, 0.3, 1.0):
        lost = ((1 - coast) * underwater.OCEAN + coast * underwater.COAST) * 1.7
        color = (1 - coast) * underwater.OCEAN_COLOR + coast * underwater.COAST_COLOR
        as_water = [torch.tensor(v, dtype=torch.float32)[None, :, None, None] for v in (
            np.exp(-lost * 2.5), lost, underwater.scattering(lost), color)]  # fmt: skip
        found = form(torch.from_numpy(metres)[None, None], *as_water)
        for ours, known in zip(found, underwater.column(metres, coast, 1.7, 2.5), strict=True):
            np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), known, atol=1e-6)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_the_distortion_is_its_column_laid_over_the_picture(severity: int) -> None:
    rgb = (255 * uniform((24, 32, 3), 2)).numpy().astype(np.uint8)
    metres = uniform((24, 32), 3, 1, 60).numpy()
    coast = np.random.default_rng([5, *b"underwater"]).uniform()
    parts = underwater.column(
        metres * np.float32(underwater.NEARER), coast, underwater.DENSITY[severity], underwater.OVER[severity]
    )
    found = distort(rgb, "underwater", severity, depth=metres, seed=5)
    assert np.array_equal(underwater.submerge(rgb, *parts), found)
    assert not np.array_equal(found, rgb)


def test_an_estimate_is_a_water_that_can_be() -> None:
    """Between 0 and 1; where more light is lost more is added, in every colour, since both follow one distance."""
    torch.manual_seed(0)
    model = ImagingModel((5, 7), 8).eval()
    features = [3 * formula((2, 5, 12, 12), 1), 3 * formula((2, 7, 6, 6), 2)]
    with torch.no_grad():
        water = model(uniform((2, 3, 24, 24), 3), features)
    assert water.transmission.shape == water.backscatter.shape == (2, 3, 24, 24)
    for part in water:
        assert part.min() >= 0
        assert part.max() <= 1
    for picture in range(2):
        by_loss = water.transmission[picture, 0].flatten().argsort(descending=True)
        for channel in range(3):
            assert (water.transmission[picture, channel].flatten()[by_loss].diff() <= 1e-6).all()
            assert (water.backscatter[picture, channel].flatten()[by_loss].diff() >= -1e-6).all()


def test_shares_of_a_patch_by_hand() -> None:
    """One patch of 2 × 2: scenes 0.2, 0.4, 0.6, 0.8, transmissions 0.5 and 0.25, water's light 0.1."""
    scene = torch.tensor([[0.2, 0.4], [0.6, 0.8]]).expand(1, 3, 2, 2)
    transmission = torch.tensor([[0.5, 0.5], [0.25, 0.25]]).expand(1, 3, 2, 2)
    backscatter = torch.full((1, 3, 2, 2), 0.1)
    maps = distortion_maps(scene * transmission + backscatter, Water(transmission, backscatter), 2)
    lost = (0.1 + 0.2 + 0.45 + 0.6) / 2.0
    added = 0.4 / (0.4 + 0.1 + 0.2 + 0.15 + 0.2)
    assert maps.flatten().tolist() == pytest.approx([lost] * 3 + [added] * 3, abs=1e-6)


def test_maps_of_distortion_follow_their_laws() -> None:
    light = uniform((2, 3, 12, 12), 1)
    ones = torch.ones_like(light)
    assert distortion_maps(light, Water(ones, 0 * ones), 4).abs().max() == 0  # dry: nothing lost, nothing added
    even = distortion_maps(light * 0.3, Water(0.3 * ones, 0 * ones), 4)
    torch.testing.assert_close(even[:, :3], torch.full((2, 3, 3, 3), 0.7), atol=1e-5, rtol=0)
    water = Water(uniform((2, 3, 12, 12), 2, 0.0, 1.0), uniform((2, 3, 12, 12), 3, 0.0, 0.5))
    maps = distortion_maps(light, water, 4)
    assert maps.shape == (2, 6, 3, 3)
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert torch.isfinite(distortion_maps(0 * light, water, 4)).all()  # a black picture has no shares
    more = Water(water.transmission, water.backscatter * 1.5)
    assert (distortion_maps(light, more, 4)[:, 3:] >= maps[:, 3:]).all()


# Neighbourhood attention


def attend_by_loops(layer: NeighbourhoodAttention, x: Tensor, window: int) -> Tensor:
    """Every place by itself: its window, shifted inside at edges, the bias by offset, a softmax over the window."""
    side, channels = x.shape[1], x.shape[3]
    width = channels // layer.heads
    out = torch.zeros_like(x)
    query, key, value = layer.qkv(x).split(channels, -1)
    for n in range(len(x)):
        for i in range(side):
            for j in range(side):
                top, left = (min(max(at - window // 2, 0), side - window) for at in (i, j))
                places = [(r, c) for r in range(top, top + window) for c in range(left, left + window)]
                for head in range(layer.heads):
                    part = slice(head * width, (head + 1) * width)
                    scores = torch.stack([
                        query[n, i, j, part] @ key[n, r, c, part] / math.sqrt(width)
                        + layer.rpb[head, r - i + window - 1, c - j + window - 1]
                        for r, c in places
                    ])  # fmt: skip
                    weights = scores.softmax(0)
                    out[n, i, j, part] = sum(
                        w * value[n, r, c, part] for w, (r, c) in zip(weights, places, strict=True)
                    )
    return layer.proj(out)


@pytest.mark.parametrize(("side", "window"), [(6, 3), (7, 5), (5, 5), (4, 1)])
def test_attention_is_that_of_a_loop_over_places(side: int, window: int) -> None:
    layer = filled(NeighbourhoodAttention(8, 2, side=side, window=window))
    assert isinstance(layer, NeighbourhoodAttention)
    x = 3 * formula((2, side, side, 8), 5)
    torch.testing.assert_close(layer(x), attend_by_loops(layer, x, window), atol=1e-5, rtol=0)


def test_each_place_has_as_many_neighbours_and_the_far_does_not_matter() -> None:
    layer = filled(NeighbourhoodAttention(8, 2, side=7, window=3))
    assert isinstance(layer, NeighbourhoodAttention)
    near = layer.bias().isfinite()
    assert (near.sum(2) == 9).all()
    assert near[0, 0].nonzero().flatten().tolist() == [0, 1, 2, 7, 8, 9, 14, 15, 16]  # the corner's window lies inside
    x = formula((1, 7, 7, 8), 5)
    moved = x.clone()
    moved[0, 5, 5] += 1
    changed = (layer(moved) - layer(x)).abs().amax(3)[0] > 0
    assert changed.nonzero().tolist() == [[i, j] for i in (4, 5, 6) for j in (4, 5, 6)]


def test_windows_and_heads_that_do_not_fit() -> None:
    for side, window in ((4, 5), (5, 2)):
        with pytest.raises(ValueError, match=rf"^a window of {window} must be odd, and fit a map of {side}$"):
            NeighbourhoodAttention(8, 2, side=side, window=window)
    with pytest.raises(ValueError, match=r"^8 channels can't be shared out to 3 heads$"):
        NeighbourhoodAttention(8, 3, side=5, window=3)


def test_the_local_module_sees_beyond_a_patch() -> None:
    local = filled(LocalModule(6, 16, 5, depth=1, heads=2, side=9, window=3))
    maps = uniform((1, 6, 9, 9), 1)
    assert local(maps).shape == (1, 5, 9, 9)
    moved = maps.clone()
    moved[0, 0, 4, 4] += 1
    changed = ((local(moved) - local(maps)).abs().amax(1)[0] > 1e-6).nonzero()
    assert changed.amin(0).tolist() == [2, 2]  # a 3 × 3 convolution, then a window of 3
    assert changed.amax(0).tolist() == [6, 6]


# The networks


def test_paper_size_is_what_the_card_says() -> None:
    card = find_card("piguiqa.paper")
    with torch.device("meta"):
        module = build_network(card).eval()
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            assert module(torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)).shape == (1,)
    assert sum(p.numel() for p in module.parameters()) == card.network.parameters == 26_613_444
    assert round(counter.get_total_flops() / 2e9, 2) == card.network.gmacs == 17.29
    # The ResNet reads the picture and the maps; its other tensors have ImageNet's names and shapes.
    assert module.trunk.conv1.weight.shape == (64, 9, 7, 7)
    assert sum(p.numel() for p in module.trunk.parameters()) == 25_557_032 - 2_049_000 + 6 * 64 * 49


def test_golden_numbers() -> None:
    judge = filled(Judge())
    maps = [3 * formula(shape, i) for i, shape in enumerate(((2, 32, 48, 48), (2, 96, 24, 24), (2, 320, 12, 12)))]
    light = uniform((2, 3, 48, 48), 9)
    assert judge(maps, light).tolist() == pytest.approx(GOLDEN, abs=1e-5)
    distortions = judge.distortions(pair(maps), light)
    assert distortions.mean((0, 2, 3)).tolist() == pytest.approx(GOLDEN_MAPS, abs=1e-5)


GOLDEN = [0.679598, 0.652895]
GOLDEN_MAPS = [0.646121, 0.767725, 0.770319, 0.44287, 0.309828, 0.335474]


@pytest.fixture(scope="module")
def small() -> SmallPIGUIQA:
    torch.manual_seed(0)
    network = SmallPIGUIQA().eval()
    network.trunk.load_state_dict(trunk_state())
    return network


def test_exported_it_gives_the_same(small: SmallPIGUIQA, tmp_path: Path) -> None:
    card = dataclasses.replace(find_card("piguiqa.paper"), recipe=RECIPE, settings={"size": "mobile"})
    assert isinstance(build_network(card), SmallPIGUIQA)
    assert sum(p.numel() for p in small.judge.parameters()) == 440_470
    assert not any(p.requires_grad for p in small.trunk.parameters())
    assert export(small, card, tmp_path / "mobile.onnx") <= TOLERANCE


def test_alone_or_in_a_batch(small: SmallPIGUIQA) -> None:
    color = pictures(2)
    with torch.no_grad():
        alone = torch.cat([small(color[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(small(color), alone, atol=1e-5, rtol=0)
    assert alone[0] != alone[1]


# Training


def scene(seed: int) -> tuple[UInt8, Float32, tuple[training.Column, ...]]:
    """A rendered picture, its depth, and three columns of water."""
    found = render(seed, size=(SIDE, SIDE))
    return found.pixels, found.depth, training.draw_columns(f"scene {seed}")


def test_columns_are_drawn_once_and_grow_in_one_thing_each() -> None:
    for key in ("a", "b", "c"):
        water, murkier, farther = training.draw_columns(key)
        assert training.draw_columns(key) == (water, murkier, farther)
        assert murkier == dataclasses.replace(water, density=murkier.density)
        assert farther == dataclasses.replace(water, nearer=farther.nearer)
        assert 1.7 <= murkier.density / water.density <= 3.5
        assert 1.7 <= farther.nearer / water.nearer <= 3.5
    assert len({training.draw_columns(key)[0].coast for key in "abc"}) == 3


def test_versions_are_under_the_water_that_is_told() -> None:
    rgb = (255 * uniform((16, 16, 3), 2)).numpy().astype(np.uint8)
    metres = uniform((16, 16), 3, 2, 40).numpy()
    pixels, transmission, backscatter = training.put_under(rgb, metres, training.draw_columns("a"))
    assert np.array_equal(pixels[0], rgb)
    assert (transmission[0] == 1).all()
    assert (backscatter[0] == 0).all()
    rebuilt = _light.to_linear(rgb) * transmission + backscatter
    assert np.abs(_light.to_linear(pixels) - rebuilt).max() < 0.005  # of 8 bits
    for more in (2, 3):
        assert (transmission[more] <= transmission[1]).all()
        assert (backscatter[more] >= backscatter[1]).all()


def test_what_is_kept_comes_back(small: SmallPIGUIQA) -> None:
    color = pictures(2)
    study = SimpleNamespace(look=lambda pixels: small.trunk(torch.from_numpy(pixels)))
    transmission = uniform((2, SIDE, SIDE, 3), 1).numpy()
    rows = training.pack(color.numpy(), transmission, transmission / 2, study)  # type: ignore[arg-type]
    light, water, features = training.unpack(rows)
    torch.testing.assert_close(light, cells_of(color), atol=1e-3, rtol=1e-3)
    cells = transmission.reshape(2, 48, 8, 48, 8, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(water.transmission.numpy(), cells, atol=1e-3)
    np.testing.assert_allclose(water.backscatter.numpy(), cells / 2, atol=1e-3)
    for found, known in zip(features, pair(small.trunk(color)), strict=True):
        torch.testing.assert_close(found, known, atol=0.02, rtol=2e-3)


def test_order_counts_pictures() -> None:
    scores = np.array(
        [[0.9, 0.8, 0.7, 0.6], [0.5, 0.6, 0.6, 0.1], [0.5, 0.4, 0.5, 0.4], [1, 0.5, 0.2, 0.3]], np.float32
    )
    assert training.order(scores) == {
        "dry above water": 0.75,
        "water above murkier": 0.5,  # equal is wrong
        "near above far": 0.75,
    }


class Trained:
    """A judge after a short training on some scenes under water, and how its losses went."""

    def __init__(self, trunk: FrozenMobileNetV2) -> None:
        looked = SimpleNamespace(look=lambda pixels: trunk(torch.from_numpy(pixels)))
        versions = [training.put_under(*scene(1000 + i)) for i in range(6)]
        with torch.no_grad():
            wet = np.stack([training.pack(*version, looked) for version in versions])  # type: ignore[arg-type]
            dry = trunk(torch.from_numpy(np.stack([pixels[0] for pixels, *_ in versions])))
        torch.manual_seed(0)
        self.judge = Judge()
        rows, rng = wet.reshape(-1, wet.shape[-1]), np.random.default_rng(0)
        water = training.water_loss(self.judge, rows)
        self.imaging = _losses(self.judge.imaging, lambda: water(rng.permutation(len(rows))[:12]))
        self.judge.imaging.requires_grad_(False)
        before = [p.clone() for p in self.judge.imaging.parameters()]
        # The rated pictures are the dry ones, with made-up ratings.
        study = SimpleNamespace(mos=np.linspace(0.3, 0.8, 6, dtype=np.float32), maps=lambda at: [m[at] for m in dry])
        rated = training.distortions_of(self.judge, wet[:, :1])[:, 0]
        quality = training.quality_loss(self.judge, study, rated, wet, rng)  # type: ignore[arg-type]
        self.quality = _losses(self.judge, lambda: quality(np.arange(6)))
        self.moved = [(p - q).abs().max() for p, q in zip(before, self.judge.imaging.parameters(), strict=True)]
        self.seen = training.score(self.judge, wet)


def _losses(module: nn.Module, loss: Callable[[], Tensor], steps: int = 30) -> list[float]:
    """The losses of a short training of ``module``."""
    module.train()
    optimiser = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for _ in range(steps):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    module.eval()
    return losses


@pytest.fixture(scope="module")
def trained(small: SmallPIGUIQA) -> Trained:
    return Trained(small.trunk)


def test_both_stages_learn(trained: Trained) -> None:
    """Their losses fall, and the second leaves the imaging model's weights as they are."""
    assert np.mean(trained.imaging[-5:]) < 0.6 * np.mean(trained.imaging[:5])
    assert np.mean(trained.quality[-5:]) < 0.6 * np.mean(trained.quality[:5])
    assert max(trained.moved) == 0
    assert min(training.order(trained.seen).values()) >= 0.75


@pytest.fixture(scope="module")
def best(trained: Trained) -> nn.Module:
    """The published network; one of a short training as long as there is none."""
    if any(card.name == "piguiqa.mobile" for card in list_models()):
        module: nn.Module = load_module(find_card("piguiqa.mobile")).eval()
        return module
    return training.whole(trained.judge)


def test_more_water_scores_lower(best: nn.Module) -> None:
    """On scenes that nothing was trained on. Whichever network it is, the same is asked of it."""
    scores = []
    with torch.no_grad():
        for seed in range(8):
            pixels, *_ = training.put_under(*scene(2000 + seed))
            scores.append(torch.cat([best(torch.from_numpy(p)[None]) for p in pixels]).numpy())
    shares = training.order(np.stack(scores))
    assert min(shares.values()) >= 0.75, shares


def test_the_whole_network_says_what_the_judge_says(trained: Trained) -> None:
    network, color = training.whole(trained.judge), pictures(1)
    with torch.no_grad():
        expected = trained.judge(network.trunk(color), cells_of(color))
        assert torch.equal(network(color), expected)


def test_folders_are_compared_with_raw(tmp_path: Path) -> None:
    for folder, values in {"raw": (10, 20, 30), "bright": (15, 10, 40, 50), "other": (1,)}.items():
        (tmp_path / folder).mkdir()
        for i, value in enumerate(values):
            name = f"{folder}.png" if folder == "other" else f"{i}.png"
            PIL.Image.new("L", (4, 4), value).save(tmp_path / folder / name)
    scorer = SimpleNamespace(score=lambda path: SimpleNamespace(quality=float(np.asarray(PIL.Image.open(path)).mean())))
    assert training.report_on(tmp_path, scorer).splitlines() == [  # type: ignore[arg-type]
        f"{tmp_path}:",
        "  raw: mean 20.0, n = 3",
        "  bright: mean 28.8, above raw 67 %, n = 4",
        "  other: mean 1.0, n = 1",
    ]

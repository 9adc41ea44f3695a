"""SPIPS: its maps against the NumPy measures, its laws, its sizes, its training step, BAPPS."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dgiqa.distortions import distort  # noqa: E402
from dgiqa.errors import UsageError  # noqa: E402
from dgiqa.export.onnx import TOLERANCE, export  # noqa: E402
from dgiqa.models import build_network, find_card  # noqa: E402
from dgiqa.models.full_reference import ms_ssim, psnr, ssim  # noqa: E402
from dgiqa.models.spips import maps  # noqa: E402
from dgiqa.models.spips.network import SPIPS, Judge  # noqa: E402
from dgiqa.models.spips.vgg import VGG16  # noqa: E402
from dgiqa.training import versions  # noqa: E402
from dgiqa.training.small import RECIPE  # noqa: E402
from dgiqa.training.systems import spips  # noqa: E402
from dgiqa.training.versions import Pairs, Version, judge, two_alternatives  # noqa: E402
from formula import filled, formula  # noqa: E402


def picture(height: int = 192, width: int = 192) -> np.ndarray:
    """Ramps, moiré and rings, smoothed by nothing: some detail everywhere."""
    y, x = np.mgrid[:height, :width]
    planes = [(3 * x + 5 * y) % 256, 127 + 100 * np.sin(x * y / 900), 127 + 90 * np.cos((x * x + 2 * y * y) / 3000)]
    return np.stack(planes, -1).astype(np.uint8)


def floats(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def small() -> SPIPS:
    torch.manual_seed(0)
    network = SPIPS(size="mobile").eval()
    assert isinstance(network, SPIPS)
    return network


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    original = picture()
    return distort(original, "noise", 3, seed=1), original


# The maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["noise", "gaussian_blur", "jpeg", "darken"])
def test_means_of_the_maps_are_the_measures(kind: str) -> None:
    original = picture(352, 416)  # SSIM looks at it whole, and MS-SSIM at five scales
    spoiled = distort(original, kind, 3, seed=1)
    x, y = floats(spoiled), floats(original)
    error = maps.squared_error(x, y).mean().item()
    assert -10 * np.log10(error + 1e-8) == pytest.approx(psnr.compare(spoiled, original), abs=1e-4)
    assert maps.similarity(x, y)[0].mean().item() == pytest.approx(ssim.compare(spoiled, original), abs=2e-5)
    means = torch.stack([scale.mean((2, 3))[0] for scale in maps.multi_scale(x, y)])  # (5, 3)
    whole = (means.clamp(min=0) ** torch.tensor(ms_ssim.WEIGHTS).unsqueeze(1)).prod(0).mean().item()
    assert whole == pytest.approx(ms_ssim.compare(spoiled, original), abs=2e-5)


def test_ssim_of_a_large_picture_is_of_its_blocks() -> None:
    original = picture(384, 384)
    spoiled = distort(original, "jpeg", 4, seed=1)
    inside = maps.similarity(*(torch.nn.functional.avg_pool2d(floats(p), 2) for p in (spoiled, original)))[0]
    assert inside.mean().item() == pytest.approx(ssim.compare(spoiled, original), abs=2e-5)
    # The network's map adds the edges, where no window fits, and is 0 for equal pictures: half of what lacks to 1.
    ours = 1 - 2 * maps.ssim_map(floats(spoiled), floats(original)).mean().item()
    assert ours == pytest.approx(ssim.compare(spoiled, original), abs=0.01)


def test_psnr_map_is_the_decibels_of_each_block() -> None:
    x, y = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    x[:, :, 8:16, 16:24] = 0.1  # 20 dB in one block of 8 by 8
    expected = torch.zeros(1, 1, 4, 4)
    expected[0, 0, 1, 2] = 0.75
    torch.testing.assert_close(maps.psnr_map(x, y), expected, atol=1e-5, rtol=0)


def test_features_are_compared_by_direction() -> None:
    """The same direction at any length is 0, a right angle one half, the opposite 1."""
    one = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    other = torch.tensor([0.0, 3.0]).reshape(1, 2, 1, 1)
    found = [maps._unlike(one, b).item() for b in (5 * one, other, -one)]
    assert found == pytest.approx([0, 0.5, 1], abs=1e-6)


def test_a_small_picture_has_fewer_scales() -> None:
    x = formula((1, 3, 64, 64), 1) + 0.5
    assert [tuple(scale.shape[2:]) for scale in maps.multi_scale(x, x)] == [(54, 54), (22, 22), (6, 6)]


# The network ------------------------------------------------------------------------------------------------


def test_equal_pictures_have_the_score_one(small: SPIPS, pair: tuple[np.ndarray, np.ndarray]) -> None:
    spoiled, original = (torch.from_numpy(p)[None] for p in pair)
    assert small.compare(original, original).abs().max() == 0
    assert small(original, original).item() == 1
    assert small(spoiled, original).item() < 1
    found = small.compare(spoiled, original)
    assert found.shape == (1, 5, 24, 24)
    assert found.min() >= 0
    assert found.max() <= 1


def test_alone_or_in_a_batch(small: SPIPS) -> None:
    original = picture(64, 64)
    spoiled = [distort(original, kind, 3, seed=1) for kind in ("noise", "jpeg", "blur")]
    color, reference = torch.from_numpy(np.stack(spoiled)), torch.from_numpy(np.stack([original] * 3))
    with torch.no_grad():
        alone = torch.cat([small(color[i : i + 1], reference[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(small(color, reference), alone, atol=1e-5, rtol=0)


def test_judge_golden() -> None:
    distances = filled(Judge(8))(formula((2, 5, 12, 12), 3) + 0.5)
    assert distances.tolist() == pytest.approx(GOLDEN, abs=1e-4)


GOLDEN = [0.40777, 0.40131]


def test_each_map_has_features_of_its_own_and_they_are_weighed() -> None:
    """With one map's weight far above the others', nothing but that map matters."""
    module = filled(Judge(8))
    assert isinstance(module, Judge)
    module.weights.copy_(torch.tensor([0.0, 0.0, 100.0, 0.0, 0.0]))
    found = formula((1, 5, 12, 12), 3) + 0.5
    for number in range(5):
        touched = found.clone()
        touched[:, number] *= 0.5
        assert torch.equal(module(touched), module(found)) == (number != 2)


def test_vgg_is_torchvisions_with_its_names() -> None:
    """Names, sizes, and the same as a plain sequence of torch's layers."""
    with torch.device("meta"):
        trunk = VGG16()
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert list(trunk.state_dict()) == [f"features.{i}.{kind}" for i in convolutions for kind in ("weight", "bias")]
    assert sum(p.numel() for p in trunk.parameters()) == 14_714_688
    trunk = filled(VGG16())
    layers: list[nn.Module] = []
    for number in range(30):
        module: nn.Module = nn.ReLU()
        if str(number) in trunk.features:
            module = trunk.features[str(number)]
        elif number in (4, 9, 16, 23):
            module = nn.MaxPool2d(2)
        layers.append(module)
    pixels = torch.from_numpy(picture(32, 32))[None]
    x, expected = trunk.normalise(pixels), []
    for number, layer in enumerate(layers):
        x = layer(x)
        if number in (3, 8, 15, 22, 29):
            expected.append(x)
    for mine, other in zip(trunk(pixels), expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_paper_size_is_what_the_card_says() -> None:
    card = find_card("spips.paper")
    with torch.device("meta"):
        module = build_network(card).eval()
        view = torch.zeros(1, card.recipe.crop, card.recipe.crop, 3, dtype=torch.uint8)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            module(view, view)
    assert sum(p.numel() for p in module.parameters()) == card.network.parameters == 14_914_245
    assert round(counter.get_total_flops() / 2e9, 2) == card.network.gmacs == 40.15
    assert card.reference == "full"


def test_exported_it_gives_the_same(small: SPIPS, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, short_side=192, crop=192)
    card = dataclasses.replace(find_card("spips.paper"), recipe=recipe, settings={"size": "mobile"})
    module = build_network(card)
    module.load_state_dict(small.state_dict())
    assert export(module, card, tmp_path / "mobile.onnx") <= TOLERANCE
    assert sum(p.numel() for p in small.judge.parameters()) == 55_781


# Judgements -------------------------------------------------------------------------------------------------


def test_what_says_which_version_is_nearer() -> None:
    low, high = np.array([20, -0.5, -0.5, -0.5], np.float32), np.array([40, -0.1, -0.1, -0.1], np.float32)
    noise = [Version("noise", severity, 1) for severity in range(6)]
    blur = [Version("blur", severity, 1) for severity in range(6)]
    # The same kind: the severity, whatever measures say.
    assert judge(noise[4], noise[2], high, low) == (1, 0)
    assert judge(noise[2], noise[4], low, high) == (0, 0)
    # Kinds with severities three apart: the severity; less apart: FSIM and VIF.
    assert judge(noise[5], blur[2], high, low) == (1, 1)
    assert judge(noise[4], blur[2], high, low) == (0, 2)
    assert judge(noise[4], blur[2], low, high) == (1, 2)
    torn = np.array([20, -0.5, -0.1, -0.9], np.float32)
    assert judge(noise[4], blur[4], low, torn) == (0.5, 2)


def test_two_alternatives_is_the_share_that_agrees() -> None:
    a, b = np.array([1, 0, 3], np.float32), np.array([2, -1, 3], np.float32)
    nearer = np.array([0.75, 0.25, 1], np.float32)
    assert two_alternatives(a, b, nearer) == pytest.approx((0.75 + 0.75 + 0.5) / 3)


def test_versions_are_drawn_by_name_and_leave_two_kinds_out() -> None:
    assert versions.draw("a.jpg") == versions.draw("a.jpg")
    assert versions.draw("a.jpg") != versions.draw("b.jpg")
    kinds = {version.kind for i in range(200) for version in versions.draw(f"{i}.jpg")}
    assert kinds == set(versions.SEEN)
    assert not kinds & set(versions.UNSEEN)
    drawn = versions.draw("a.jpg", versions.UNSEEN)
    assert [version.kind for version in drawn[6:]] == ["jpeg2000", "jpeg2000", "motion", "motion"]
    assert all(x.severity != y.severity and x.seed == y.seed for x, y in zip(drawn[::2], drawn[1::2], strict=True))


# Training ---------------------------------------------------------------------------------------------------


def test_the_ranking_step_learns_which_is_nearer(small: SPIPS) -> None:
    """The loss of eight pairs falls by half; the trunk stays as it was."""
    torch.manual_seed(0)
    network, ranker = SPIPS(size="mobile"), spips.Ranker()
    original, rows = picture(96, 96), []
    for kind in ("noise", "blur", "jpeg", "contrast"):
        spoiled = [distort(original, kind, severity, seed=1) for severity in (1, 4)]
        rows.append(spips.five_maps(small, np.stack([original, *spoiled])))
    found = np.stack(rows).astype(np.float16)
    place, swapped = np.arange(8) % 4, np.arange(8) // 4
    pairs = Pairs(place, swapped, 1 - swapped, swapped.astype(np.float32), np.zeros(8, np.intp), np.zeros(8, np.bool_))
    trunk = [p.clone() for p in network.trunk.parameters()]
    weights = [*network.judge.parameters(), *ranker.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=3e-3)
    losses = []
    for _ in range(60):
        loss = spips.ranking_loss(network, ranker, found, pairs, np.arange(8))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for p in weights)
    assert all(torch.equal(p, before) for p, before in zip(network.trunk.parameters(), trunk, strict=True))
    far = spips.distances(network, found)
    assert (far[:, 1] > far[:, 0]).all()


def bapps(folder: Path, count: int = 4) -> None:
    """A folder like BAPPS' with one part: the first version is a little noisy, the second much."""
    for kind in ("ref", "p0", "p1", "judge"):
        (folder / "traditional" / kind).mkdir(parents=True)
    for i in range(count):
        original = np.roll(picture(64, 64), 5 * i, 1)
        for kind, severity in (("ref", 0), ("p0", 1), ("p1", 5)):
            pixels = distort(original, "noise", severity, seed=i) if severity else original
            PIL.Image.fromarray(pixels).save(folder / "traditional" / kind / f"{i:06d}.png")
        np.save(folder / "traditional" / "judge" / f"{i:06d}.npy", np.array([0.25], np.float32))


def test_bapps_is_read_trained_on_and_judged(tmp_path: Path, small: SPIPS) -> None:
    bapps(tmp_path / "val")
    triplets = spips.read_bapps(tmp_path / "val")
    assert [t.original.name for t in triplets] == [f"{i:06d}.png" for i in range(4)]
    assert (triplets[0].a.parent.name, triplets[0].b.parent.name, triplets[0].nearer) == ("p0", "p1", 0.25)
    loss = spips.bapps_loss(small, spips.Ranker(), triplets, np.array([0, 2]))
    assert loss.item() > 0
    loss.backward()
    # Three of four judges find the first nearer, and so does the network; a tie is half of them.
    assert spips.judge_bapps(small, triplets, batch=3) == 0.75
    same = [dataclasses.replace(t, b=t.a) for t in triplets]
    assert spips.judge_bapps(small, same) == 0.5


def test_bapps_that_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no judgements there; name BAPPS' folder 2afc"):
        spips.read_bapps(tmp_path)
    bapps(tmp_path, 1)
    (tmp_path / "traditional" / "p1" / "000000.png").unlink()
    with pytest.raises(UsageError, match=r"p1/000000\.png is missing; get BAPPS whole"):
        spips.read_bapps(tmp_path)

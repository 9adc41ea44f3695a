"""FiFA: its blocks against formulas and torch's own operations, its sizes, and what its training does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dgiqa.errors import UsageError
from dgiqa.explain.landmarks import cut, open_landmarks, square_of
from dgiqa.export.onnx import export
from dgiqa.metrics.landmarks import nme
from dgiqa.models import build_network, find_card
from dgiqa.models.fifa.blocks import BlurPool, FrequencyFilter, Hourglass, Places
from dgiqa.models.fifa.network import FiFA, SmallFiFA, SmallHead
from dgiqa.scenes.faces import draw_face
from dgiqa.training.systems import fifa
from dgiqa.training.systems.fifa import SIDES, augment, cover, disagreement, heat_loss, square_side
from formula import filled, formula

# ---- blocks


def test_blur_pooling_is_a_binomial_filter_and_every_second_value() -> None:
    x = formula((2, 3, 8, 6), 1)
    line = torch.tensor([0.25, 0.5, 0.25])
    padded = F.pad(x, (1, 1, 1, 1), "reflect")
    blurred = sum(line[a] * line[b] * padded[:, :, a : a + 8, b : b + 6] for a in range(3) for b in range(3))
    torch.testing.assert_close(BlurPool(3)(x), blurred[:, :, ::2, ::2], atol=1e-6, rtol=0)
    stripes = torch.ones(1, 1, 8, 8)
    stripes[..., ::2] = -1  # the finest pattern, which plain thinning out would turn into a plain one
    assert BlurPool(1)(stripes).abs().max() < 1e-6


def test_the_frequency_filter_is_a_product_of_spectra() -> None:
    for side in (4, 7, 16):
        block = FrequencyFilter(3, side)
        x, start = formula((2, 3, side, side), 2), block.weight.detach().clone()
        start[0], start[1] = 1, 0
        block.load_state_dict({"weight": start})
        torch.testing.assert_close(block(x), x, atol=1e-5, rtol=0)
        filled(block)
        spectrum = torch.complex(block.weight[0], block.weight[1]) * torch.fft.rfft2(x)
        torch.testing.assert_close(block(x), torch.fft.irfft2(spectrum, s=(side, side)), atol=1e-5, rtol=0)


def test_places_are_means() -> None:
    heat = torch.full((1, 2, 8, 8), -50.0)
    heat[0, 0, 2, 5] = heat[0, 1, 7, 0] = heat[0, 1, 7, 1] = 50
    expected = torch.tensor([[[5.5 / 8, 2.5 / 8], [1 / 8, 7.5 / 8]]])
    torch.testing.assert_close(Places(8)(heat), expected, atol=1e-6, rtol=0)


def test_an_hourglass_sees_far() -> None:
    block = filled(Hourglass(8, 3))
    x = formula((1, 8, 16, 16), 3)
    moved = x.clone()
    moved[..., 0, 0] += 3
    assert block(x).shape == x.shape
    changed = (block(moved) - block(x)).abs().sum(1)[0] > 1e-6
    assert changed[15, 15], "through the narrow middle"


# ---- networks


@pytest.mark.parametrize(("name", "parameters", "gmacs"), [("paper", 90_496_964, 28.61), ("mobile", 1_037_908, 0.338)])
def test_sizes(name: str, parameters: int, gmacs: float) -> None:
    card = find_card(f"fifa.{name}")
    assert card.kind == "landmarks"
    with torch.device("meta"):
        module = build_network(card).eval()
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            found = module(torch.zeros(2, 256, 256, 3, dtype=torch.uint8))
    assert found.shape == (2, 68, 2)
    assert sum(p.numel() for p in module.parameters()) == card.network.parameters == parameters
    assert counter.get_total_flops() / 4e9 == pytest.approx(card.network.gmacs, rel=1e-3) == gmacs


@pytest.mark.parametrize("count", [98, 29])
def test_other_numbers_of_landmarks(count: int) -> None:
    with torch.device("meta"):
        for network in (FiFA(count), SmallFiFA(count)):
            assert network.eval()(torch.zeros(1, 256, 256, 3, dtype=torch.uint8)).shape == (1, count, 2)


def test_vit_has_the_public_names() -> None:
    with torch.device("meta"):
        names = set(FiFA().vit.state_dict())
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.11.attn.qkv.weight", "norm.bias"} <= names


def test_a_small_network_is_exported_and_alone_as_in_a_batch(tmp_path: Path) -> None:
    network = filled(SmallFiFA())
    views = torch.from_numpy(np.stack([cut(draw_face(s, size=64).pixels, (0, 0, 64), 256) for s in range(2)]))
    both = network(views)
    torch.testing.assert_close(both[1:], network(views[1:]), atol=1e-5, rtol=0)
    assert ((both > 0) & (both < 1)).all()
    assert export(network, find_card("fifa.mobile"), tmp_path / "a.onnx") < 1e-4


# ---- augmentation


def test_squares_shrink_and_are_gone() -> None:
    sides = [square_side(p) for p in np.linspace(0, 1, 101)]
    assert sides == sorted(sides, reverse=True)
    assert set(sides) == set(SIDES) == {5, 3, 1, 0}
    assert [square_side(p) for p in (0, 0.19, 0.21, 0.39, 0.41, 0.59, 0.6, 1)] == [5, 5, 3, 3, 1, 1, 0, 0]
    assert square_side(0, first=9) == 9
    assert square_side(0, until=0) == 0


def test_squares_lie_on_the_landmarks() -> None:
    pixels = np.full((40, 30, 3), 200, np.uint8)
    places = np.array([[10.5, 20.5], [0.2, 0.2], [29.9, 39.9], [-9.0, 5.0], [12.0, 60.0]], np.float32)
    covered = cover(pixels, places, 5)
    black = (covered == 0).all(2)
    assert black[18:23, 8:13].all()
    assert black[:3, :3].all()
    assert black[37:, 27:].all()
    assert black.sum() == 25 + 9 + 9
    assert (pixels == 200).all(), "a copy"
    assert np.array_equal(cover(pixels, places, 0), pixels)
    assert (cover(pixels, places[:1], 1) == 0).all(2).sum() == 1


def test_views_carry_their_landmarks() -> None:
    """The ends of the jaw, painted red and blue, are where the view's landmarks say, mirrored or not."""
    face = draw_face(2, size=320, spoil=False)
    dotted = np.full_like(face.pixels, 255)
    for place, color in ((0, (255, 0, 0)), (16, (0, 0, 255))):
        x, y = face.landmarks[place].astype(int)
        dotted[y - 4 : y + 5, x - 4 : x + 5] = color
    rng, mirrored = np.random.default_rng(0), []
    for _ in range(16):
        view, moved = augment(dotted, face.landmarks, rng)
        if ((moved[[0, 16]] > 2) & (moved[[0, 16]] < 254)).all():  # else an end is outside the view
            ends = [view[y - 1 : y + 2, x - 1 : x + 2].astype(int).mean((0, 1)) for x, y in moved[[0, 16]].astype(int)]
            red, blue = np.argmax([c[0] - c[2] for c in ends]), np.argmax([c[2] - c[0] for c in ends])
            assert {red, blue} == {0, 1}
            mirrored.append(bool(red))
    assert len(mirrored) > 6
    assert set(mirrored) == {False, True}


# ---- losses


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Canonical correlations, by orthogonal bases (Björck and Golub, 1973)."""
    bases = [np.linalg.qr(x - x.mean(0))[0] for x in (a, b)]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)


def test_disagreement_is_the_sum_of_canonical_correlations() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(200, 2))
    a = np.concatenate([shared, rng.normal(size=(200, 2))], 1) @ rng.normal(size=(4, 4))
    b = np.concatenate([shared + 0.3 * rng.normal(size=(200, 2)), rng.normal(size=(200, 2))], 1) @ rng.normal(
        size=(4, 4)
    )
    found = disagreement(torch.from_numpy(a), torch.from_numpy(b), ridge=1e-9).item()
    assert -found == pytest.approx(correlations(a, b).sum(), abs=1e-5)
    # Any invertible map of either view changes nothing; a ridge lowers the correlations.
    turned = torch.from_numpy(a @ rng.normal(size=(4, 4)) + 3)
    assert disagreement(turned, torch.from_numpy(b), ridge=1e-9).item() == pytest.approx(found, abs=1e-4)
    assert disagreement(torch.from_numpy(a), torch.from_numpy(b), ridge=1.0).item() > found
    # The same view twice agrees in full.
    assert disagreement(torch.from_numpy(a), torch.from_numpy(a), ridge=1e-9).item() == pytest.approx(-4, abs=1e-4)


def test_disagreement_has_a_gradient() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(30, 3, generator=rng, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(disagreement, (a, b))


def test_heat_is_least_wrong_at_the_landmark() -> None:
    true = torch.tensor([[[0.3, 0.6]]])
    at = (torch.arange(32) + 0.5) / 32

    def gaussian(x: float, y: float) -> torch.Tensor:
        return (-((at - y)[:, None] ** 2 + (at - x)[None] ** 2) * 32**2 / 2)[None, None]

    right = heat_loss(gaussian(0.3, 0.6), true)
    assert all(heat_loss(gaussian(x, y), true) > right + 0.1 for x, y in ((0.4, 0.6), (0.3, 0.5), (0.6, 0.3)))
    assert heat_loss(3 * gaussian(0.3, 0.6), true) > right, "the right spread, too"
    torch.testing.assert_close(Places(32)(gaussian(0.3, 0.6)), true, atol=1e-3, rtol=0)


def test_a_step_lowers_the_loss() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    count = 12
    views = fifa.Views(
        np.tile(rng.uniform(0.2, 0.8, (68, 2)).astype(np.float32), (count, 3, 1, 1)),
        rng.normal(size=(count, 3, 4, 32, 32, 32)).astype(np.float16),
        rng.normal(size=(count, 3, 4, 96, 16, 16)).astype(np.float16),
    )
    head = SmallHead(68, 16)
    losses = fifa.Losses(views, head, 8, seed=0)
    both = nn.ModuleList([head, losses.compare])
    optimiser = torch.optim.AdamW(both.parameters(), 1e-2)
    told = []
    for _ in range(8):
        loss = losses(np.arange(count))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        told.append(loss.item())
    assert told[-1] < 0.85 * told[0]
    assert losses.compare.weight.grad is not None
    assert losses.compare.weight.grad.abs().max() > 0


# ---- the checkpoint and where it looks


def test_the_square_about_a_box() -> None:
    assert square_of((10, 20, 30, 60), 1.5) == (-10.0, 10.0, 60.0)


def test_a_square_that_leaves_the_picture_goes_on_with_its_edge() -> None:
    ramp = np.repeat(np.tile(np.arange(40, dtype=np.uint8), (30, 1))[..., None], 3, 2)
    same = cut(ramp, (10, 5, 20), 20)
    assert np.array_equal(same, ramp[5:25, 10:30])
    beyond = cut(ramp, (-10, -10, 60), 60)
    assert beyond.shape == (60, 60, 3)
    assert (beyond[:, :10] == 0).all()
    assert (beyond[:, 50:] == 39).all()
    assert np.array_equal(beyond[30, 10:50, 0], ramp[0, :, 0])


def test_other_cards_find_no_landmarks() -> None:
    with pytest.raises(UsageError, match=r"gives depth, not landmarks; take fifa\.mobile"):
        open_landmarks("depth_mobile.rendered")


def test_boxes_that_hold_no_face() -> None:
    finder, pixels = open_landmarks(), np.zeros((50, 80, 3), np.uint8)
    for box, why in (
        ((10, 10, 10, 20), "face box 10,10,10,20 has no area"),
        ((80, 0, 90, 10), "lies beside the picture of 80×50 pixels"),
        ((-1e6, -1e6, 1e6, 1e6), "is far larger than the picture"),
    ):
        with pytest.raises(UsageError, match=why):
            finder(pixels, box)


def test_the_small_checkpoint_finds_the_landmarks_of_drawn_faces() -> None:
    finder, errors = open_landmarks(), []
    for seed in range(5_000_000, 5_000_012):  # not among those it was trained on
        face = draw_face(seed)
        box = (*face.landmarks.min(0).tolist(), *face.landmarks.max(0).tolist())
        errors.append(nme(finder(face.pixels, box)[None], face.landmarks[None])[0])  # type: ignore[arg-type]
    assert np.mean(errors) < 0.08

"""The embedded depth network on scenes with known depth, and how its map is made."""

from __future__ import annotations

import numpy as np
import pytest

from dgiqa.depth import DepthEstimator, open_depth
from dgiqa.models import find_card
from dgiqa.runtimes.fake import FakeNetwork
from dgiqa.scenes import demo_scenes, render


@pytest.fixture(scope="module")
def depth() -> DepthEstimator:
    return open_depth("depth_mobile.rendered")


def order(near: np.ndarray, metres: np.ndarray) -> float:
    """Share of random point pairs, 20 % or more apart, that the map orders right."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, near.size, (2, 4000))
    wanted, found = 1 / metres.ravel(), near.ravel().astype(int)
    apart = np.maximum(wanted[a], wanted[b]) > 1.2 * np.minimum(wanted[a], wanted[b])
    return float(((found[a] > found[b]) == (wanted[a] > wanted[b]))[apart].mean())


def test_nearer_is_larger_on_scenes_it_never_saw(depth: DepthEstimator) -> None:
    scenes = [render(seed, size=(256, 192)) for seed in range(8)] + list(demo_scenes((384, 256)).values())
    shares = [order(depth(scene.pixels), scene.depth) for scene in scenes]
    assert np.mean(shares) > 0.85, shares  # 0.5 is chance


def test_map_has_the_pictures_size_and_the_full_range(depth: DepthEstimator) -> None:
    scene = render(3, size=(200, 120))
    found = depth(scene.pixels)
    assert found.shape == (120, 200)
    assert found.dtype == np.uint8
    assert (found.min(), found.max()) == (0, 255)


def test_a_map_without_depth_is_zero() -> None:
    card = find_card("depth_mobile.rendered")
    flat = DepthEstimator(card, FakeNetwork(lambda views: np.full((1, 64, 64), 3.0, np.float32)))
    assert not flat(np.zeros((50, 70, 3), np.uint8)).any()

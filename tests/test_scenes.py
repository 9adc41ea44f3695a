"""The renderer: depth against closed form, occlusion, determinism, variety."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgiqa.errors import UsageError
from dgiqa.scenes import demo_scenes, render
from dgiqa.scenes.develop import Stage, develop
from dgiqa.scenes.geometry import FAR, Box, Ellipsoid, Frustum, Plane, Ridge, cast, pinhole
from dgiqa.scenes.kinds import KINDS
from dgiqa.scenes.materials import SIDE, Tile, material, noise_tile

LOOK = material(np.random.default_rng(0), "plain", (0.5, 0.4, 0.3))
SMALL = (96, 64)
angles = st.floats(-25, 25)


def rays(size: tuple[int, int], fov: float) -> tuple[np.ndarray, np.ndarray]:
    """x/z and y/z of every pixel's ray for a level camera, from the definition of a pinhole."""
    width, height = size
    focal = max(size) / 2 / np.tan(np.radians(fov) / 2)
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (height / 2 - np.arange(height) - 0.5) / focal
    return np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width))


@given(z=st.floats(2, 60), radius=st.floats(0.3, 1.5), x=st.floats(-1, 1), fov=st.floats(35, 85))
@settings(max_examples=40, deadline=None)
def test_a_sphere_has_the_depth_of_the_quadratic_formula(z: float, radius: float, x: float, fov: float) -> None:
    depth = cast(pinhole(SMALL, (0, 0, 0), fov=fov), [Ellipsoid(LOOK, (x, 0.2, z), (radius,) * 3)]).depth
    rx, ry = rays(SMALL, fov)
    a, b = rx**2 + ry**2 + 1, rx * x + ry * 0.2 + z
    c = x**2 + 0.2**2 + z**2 - radius**2
    inside = b**2 - a * c
    clear = np.abs(inside) > 1e-3 * z * z  # a grazing ray may fall on either side in float32
    assert np.array_equal(np.isfinite(depth)[clear], (inside > 0)[clear])
    hit = clear & (inside > 0)
    np.testing.assert_allclose(depth[hit], ((b - np.sqrt(np.maximum(inside, 0))) / a)[hit], rtol=2e-4)


@given(height=st.floats(0.4, 20), pitch=angles, fov=st.floats(35, 85))
@settings(max_examples=40, deadline=None)
def test_the_ground_has_the_depth_of_the_plane_equation(height: float, pitch: float, fov: float) -> None:
    view = pinhole(SMALL, (0, height, 0), fov=fov, pitch=pitch)
    depth = cast(view, [Plane(LOOK, (0, 0, 0), 1, 1)]).depth
    _, ry = rays(SMALL, fov)
    p = np.radians(pitch)
    down = -(ry * np.cos(p) + np.sin(p))  # how far a ray sinks per metre of depth
    expected = np.where(down > 0, height / np.where(down > 0, down, 1), np.inf)
    near = expected < 0.9 * FAR
    np.testing.assert_allclose(depth[near], expected[near], rtol=1e-3)
    assert np.isinf(depth[expected > 1.1 * FAR]).all()


@given(yaw=st.floats(-1.5, 1.5), x=st.floats(-1, 1))
@settings(max_examples=30, deadline=None)
def test_a_box_is_hit_on_its_surface_and_from_outside(yaw: float, x: float) -> None:
    box = Box(LOOK, (x, 0.1, 6), (1.0, 0.7, 0.4), yaw)
    view = pinhole(SMALL, (0, 0, 0), fov=60)
    depth = cast(view, [box]).depth.astype(np.float64)
    rx, ry = rays(SMALL, 60)
    hit = np.isfinite(depth)
    px, py, pz = (depth[hit] * r[hit] - c for r, c in zip((rx, ry, np.ones_like(rx)), box.centre, strict=True))
    local = np.stack([np.cos(yaw) * px - np.sin(yaw) * pz, py, np.sin(yaw) * px + np.cos(yaw) * pz])
    reach = (np.abs(local) / np.array(box.half)[:, None]).max(0)
    assert hit.sum() > 100
    np.testing.assert_allclose(reach, 1.0, atol=2e-3)


def test_a_cylinder_and_a_cone_are_hit_on_their_walls() -> None:
    rx, _ = rays(SMALL, 60)
    view = pinhole(SMALL, (0, 0, 0), fov=60)
    row = SMALL[1] // 2
    for upper, radius in ((0.5, 0.5), (0.0, 0.25)):
        depth = cast(view, [Frustum(LOOK, (0, -1, 5), 2.0, 0.5, upper)]).depth[row]
        hit = np.isfinite(depth)
        away = np.hypot(depth[hit] * rx[row][hit], depth[hit] - 5)
        assert hit.sum() > 3
        np.testing.assert_allclose(away, radius, atol=0.02)


def test_a_hillside_rises_with_its_slope_up_to_its_skyline() -> None:
    ridge = Ridge(LOOK, 50.0, 0.5, np.full(64, 10.0, np.float32))
    depth = cast(pinhole((64, 64), (0, 2, 0), fov=40), [ridge]).depth.astype(np.float64)
    rx, ry = rays((64, 64), 40)
    hit = np.isfinite(depth)
    away, level = depth * np.hypot(rx, 1), 2 + depth * ry
    assert hit.any()
    np.testing.assert_allclose(level[hit], 0.5 * (away[hit] - 50), atol=0.02)
    assert level[hit].max() <= 10.01


def test_the_nearer_of_two_bodies_hides_the_farther_in_either_order() -> None:
    near, far = Ellipsoid(LOOK, (0, 0, 4), (0.5,) * 3), Box(LOOK, (0, 0, 8), (2, 2, 0.5))
    view = pinhole((65, 65), (0, 0, 0), fov=60)
    one, other = cast(view, [near, far]), cast(view, [far, near])
    assert np.array_equal(one.depth, other.depth)
    assert one.owner[32, 32] == 0
    assert other.owner[32, 32] == 1
    assert one.depth[32, 32] == pytest.approx(3.5, abs=1e-3)
    assert one.depth[32, 44] == pytest.approx(7.5, abs=1e-3)


def test_sky_is_finite_and_far() -> None:
    pixels, depth = develop(Stage(primitives=[Plane(LOOK, (0, 0, 0), 1, 1)]), SMALL, np.random.default_rng(0))
    assert (depth[: SMALL[1] // 2 - 1] == FAR).all()
    assert depth[-1].max() < 10
    assert pixels.shape == (64, 96, 3)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_supersampling_moves_depth_by_less_than_a_pixel(samples: int) -> None:
    stage = Stage(primitives=[Box(LOOK, (0, 1.6, 5.5), (50, 50, 0.5)), Ellipsoid(LOOK, (0, 1.6, 3), (0.5,) * 3)])
    _, depth = develop(stage, SMALL, np.random.default_rng(0), samples=samples)
    assert depth[0, 0] == pytest.approx(5.0, abs=1e-4)
    assert depth[32, 48] == pytest.approx(2.5, abs=0.01)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_any_seed_gives_a_whole_scene(seed: int) -> None:
    scene = render(seed, size=(80, 56))
    assert scene.pixels.shape == (56, 80, 3)
    assert scene.pixels.dtype == np.uint8
    assert scene.depth.shape == (56, 80)
    assert scene.depth.dtype == np.float32
    assert np.isfinite(scene.depth).all()
    assert scene.depth.min() > 0
    assert scene.depth.max() <= FAR
    assert scene.pixels.std() > 2


def test_a_seed_is_a_scene_and_another_seed_another() -> None:
    one, again, other = render(5, size=SMALL), render(5, size=SMALL), render(6, size=SMALL)
    assert np.array_equal(one.pixels, again.pixels)
    assert np.array_equal(one.depth, again.depth)
    assert not np.array_equal(one.depth, other.depth)


def test_every_kind_is_reached_by_seeds_alone() -> None:
    assert {render(seed, size=(16, 16)).kind for seed in range(80)} == set(KINDS)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_can_be_asked_for_and_has_relief(kind: str) -> None:
    scenes = [render(seed, size=SMALL, kind=kind) for seed in range(4)]
    assert {scene.kind for scene in scenes} == {kind}
    assert np.median([scene.depth.max() / scene.depth.min() for scene in scenes]) > 1.5


def test_photographs_change_surfaces_but_never_the_determinism() -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    seeds = range(6)
    plain = [render(seed, size=SMALL, kind="room").pixels for seed in seeds]
    first = [render(seed, size=SMALL, kind="room", textures=[photograph]).pixels for seed in seeds]
    again = [render(seed, size=SMALL, kind="room", textures=[photograph]).pixels for seed in seeds]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, plain, strict=True))


def test_a_tile_fades_to_its_mean_where_pixels_are_large() -> None:
    values = np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float32)
    u = np.linspace(0, 1, 50, dtype=np.float32)
    far = Tile(values).sample(u, u, np.float32(4.0))
    np.testing.assert_allclose(far, values.mean(), atol=1e-5)


def test_a_tile_returns_its_texels_and_repeats() -> None:
    tile = noise_tile(0)
    at = np.array([3, 100, 255])
    u, v = ((at + 0.5) / SIDE).astype(np.float32), np.full(3, 7.5 / SIDE, np.float32)
    here = tile.sample(u, v, np.float32(1e-6))
    np.testing.assert_allclose(tile.sample(u + 2, v - 1, np.float32(1e-6)), here, atol=2e-3)
    np.testing.assert_allclose(here, tile._texels[7 * SIDE + at], atol=1e-4)


def test_haze_pales_what_is_far_and_shadows_darken_the_ground() -> None:
    ground, wall = Plane(LOOK, (0, 0, 0), 1, 1), Box(LOOK, (1.2, 1.5, 6), (0.8, 1.5, 0.3))
    stage = Stage(primitives=[ground, wall], sun=(1.0, 0.8, -0.1), vignette=0, noise=0)
    unlit, _ = develop(stage, SMALL, np.random.default_rng(0))
    stage.shadows, stage.shaded = 8.0, (0.0, 0.0, 6.0)
    shaded, depth = develop(stage, SMALL, np.random.default_rng(0))
    darker = (unlit.astype(int) - shaded).max(-1) > 15
    left, right = darker[40:, :40].sum(), darker[40:, 70:].sum()
    assert left > 30  # the sun stands on the right, so the wall's shadow falls to the left
    assert right == 0
    stage.haze, stage.air = 0.05, (1.0, 1.0, 1.0)
    hazy, _ = develop(stage, SMALL, np.random.default_rng(0))
    ground_rows = np.array([row for row in range(36, 64) if depth[row, 0] < 60])
    spread = [picture[ground_rows][:, :3].mean((1, 2)) for picture in (shaded, hazy)]
    assert spread[1][0] - spread[1][-1] > spread[0][0] - spread[0][-1] + 20


def test_defocus_blurs_the_far_and_spares_what_is_in_focus() -> None:
    checks = material(np.random.default_rng(0), "checks", (0.5, 0.5, 0.5), size=0.5, contrast=1.0)
    walls = [Box(checks, (-2, 1.6, 3), (2, 3, 0.1)), Box(checks, (6, 1.6, 12), (6, 6, 0.1))]
    stage = Stage(primitives=walls, noise=0, clouds=0, vignette=0)
    sharp, depth = develop(stage, (128, 96), np.random.default_rng(0))
    stage.focus, stage.aperture = 2.9, 0.15
    soft, _ = develop(stage, (128, 96), np.random.default_rng(0))
    change = (
        np.abs(np.diff(sharp.astype(float), axis=1)).mean(-1),
        np.abs(np.diff(soft.astype(float), axis=1)).mean(-1),
    )
    near, far = depth[:, 1:50] < 3.2, (depth[:, 75:] > 5) & (depth[:, 75:] < 100)
    assert change[1][:, 1:50][near].mean() > 0.8 * change[0][:, 1:50][near].mean()
    assert change[1][:, 74:][far].mean() < 0.6 * change[0][:, 74:][far].mean()


def test_the_demonstration_has_its_four_scenes() -> None:
    scenes = demo_scenes((120, 80))
    assert list(scenes) == ["street", "room", "portrait", "landscape"]
    assert all(scene.pixels.shape == (80, 120, 3) for scene in scenes.values())
    assert scenes["landscape"].depth.max() == FAR
    assert scenes["room"].depth.max() < 8
    assert scenes["portrait"].depth.min() < 2


def test_unknown_kinds_and_tiny_sizes_say_the_way_out() -> None:
    with pytest.raises(UsageError) as error:
        render(0, kind="beach")
    assert str(error.value) == (
        "scene kind: 'beach' is unknown; known kinds: street, park, landscape, room, corridor, portrait, "
        "tabletop, primitives"
    )
    with pytest.raises(UsageError) as error:
        render(0, size=(8, 100))
    assert str(error.value) == "scene size: 8×100 is too small; ask for at least 16×16"

"""The degradations: determinism, severities in order by a physical measure, depth really used."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dgiqa.distortions
from dgiqa.distortions import (
    KINDS,
    SEVERITIES,
    _light,
    blur,
    distort,
    flare,
    haze,
    jpeg,
    low_light,
    motion,
    noise,
)
from dgiqa.errors import UsageError
from dgiqa.scenes import Scene, demo_scenes
from dgiqa.types import Float32, UInt8

SEEDED = [kind for kind in KINDS if kind != "jpeg"]


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return demo_scenes((216, 144))


def mse(a: UInt8, b: UInt8) -> float:
    return float(((a.astype(float) - b) ** 2).mean())


def ladder(scene: Scene, kind: str, *, depth: bool = True, seed: int = 1) -> list[UInt8]:
    known = scene.depth if depth else None
    return [distort(scene.pixels, kind, severity, depth=known, seed=seed) for severity in SEVERITIES]


def rising(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def test_the_folder_is_the_list() -> None:
    files = Path(dgiqa.distortions.__file__).parent.glob("*.py")
    assert sorted(f.stem for f in files if f.stem[0] != "_") == list(KINDS)
    assert {"haze", "low_light", "flare", "blur", "noise", "jpeg", "motion"} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_same_arguments_same_picture_and_the_source_stays(kind: str, scenes: dict[str, Scene]) -> None:
    scene = scenes["street"]
    before = scene.pixels.copy()
    one = distort(scene.pixels, kind, 3, depth=scene.depth, seed=4)
    again = distort(scene.pixels, kind, 3, depth=scene.depth, seed=4)
    assert one.dtype == np.uint8
    assert one.shape == scene.pixels.shape
    assert np.array_equal(one, again)
    assert np.array_equal(scene.pixels, before)


@pytest.mark.parametrize("kind", SEEDED)
def test_seeds_differ(kind: str, scenes: dict[str, Scene]) -> None:
    scene = scenes["street"]
    different = {distort(scene.pixels, kind, 3, depth=scene.depth, seed=seed).tobytes() for seed in range(8)}
    assert len(different) >= 2


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_is_farther_from_the_source(kind: str, depth: bool, scenes: dict[str, Scene]) -> None:
    for scene in scenes.values():
        for seed in (0, 1):
            errors = [mse(scene.pixels, bad) for bad in ladder(scene, kind, depth=depth, seed=seed)]
            assert errors[0] > 0, scene.kind
            assert rising(errors), (scene.kind, errors)


@pytest.mark.parametrize("kind", KINDS)
def test_odd_and_tiny_pictures_pass(kind: str) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (7, 3), (33, 50)):
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        depth = rng.uniform(0.5, 40, shape).astype(np.float32)
        for known in (None, depth):
            assert distort(pixels, kind, 5, depth=known).shape == pixels.shape


# Haze


@given(metres=st.floats(0.5, 40), severity=st.sampled_from(SEVERITIES))
@settings(max_examples=30, deadline=None)
def test_haze_twice_as_far_squares_the_transmission(metres: float, severity: int) -> None:
    """Measured on the pictures: grey under haze gives t = (I - A)/(J - A), A from a picture at infinity."""
    grey = np.full((2, 2, 3), 20, np.uint8)

    def light(distance: float) -> float:
        known = np.full((2, 2), distance, np.float32)
        return float(_light.to_linear(distort(grey, "haze", severity, depth=known))[0, 0, 0])

    source, air = float(_light.to_linear(grey)[0, 0, 0]), light(1e6)
    once, twice = ((light(d) - air) / (source - air) for d in (metres, 2 * metres))
    assert twice == pytest.approx(once**2, abs=0.02)
    assert once == pytest.approx(np.exp(-haze.BETA[severity] * metres), abs=0.01)


def test_haze_lowers_contrast_and_hides_the_far_first(scenes: dict[str, Scene]) -> None:
    scene = scenes["landscape"]
    ground = scene.depth < 500
    contrast = [float(bad[ground].astype(float).std()) for bad in ladder(scene, "haze")]
    assert rising(contrast[::-1])
    near, far = scene.depth < 12, (scene.depth > 80) & ground
    bad = ladder(scene, "haze")[2].astype(float)
    kept = [bad[part].std() / scene.pixels[part].astype(float).std() for part in (near, far)]
    assert kept[0] > 2 * kept[1]


def test_haze_without_depth_takes_level_ground() -> None:
    ramp = haze.level_ground((100, 4))
    assert ramp[0, 0] == pytest.approx(haze.RAMP[1], rel=0.2)
    assert ramp[-1, 0] == pytest.approx(haze.RAMP[0], rel=0.02)
    assert (np.diff(ramp[:, 0]) < 0).all()
    pixels = np.random.default_rng(0).integers(0, 256, (100, 4, 3), dtype=np.uint8)
    assert np.array_equal(distort(pixels, "haze", 3), distort(pixels, "haze", 3, depth=ramp))


# Low light, noise, JPEG


def test_low_light_darkens_by_its_stops(scenes: dict[str, Scene]) -> None:
    source = _light.to_linear(scenes["room"].pixels) @ _light.LUMINANCE
    means = [float((_light.to_linear(bad) @ _light.LUMINANCE).mean()) for bad in ladder(scenes["room"], "low_light")]
    for severity, mean in zip(SEVERITIES, means, strict=True):
        lost, gained = low_light.STOPS[severity]
        assert mean == pytest.approx(float(source.mean()) * 2.0 ** (gained - lost), rel=0.08)
    assert rising(means[::-1])


def test_low_light_noise_grows_as_photons_grow_few() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    relative = []
    for severity in SEVERITIES:
        light = _light.to_linear(distort(grey, "low_light", severity))
        relative.append(float(light.std() / light.mean()))
    assert rising(relative)
    lost, _ = low_light.STOPS[3]
    electrons = float(_light.to_linear(grey)[0, 0, 0]) * low_light.FULL * 2.0**-lost
    expected = np.sqrt(electrons + low_light.READ**2) / electrons
    assert relative[2] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("severity", SEVERITIES[:3])
def test_noise_has_its_deviation_and_no_bias(severity: int) -> None:
    grey = np.full((160, 160, 3), 128, np.uint8)
    error = distort(grey, "noise", severity).astype(float) - 128
    assert error.std() == pytest.approx(noise.SIGMA[severity], rel=0.03)
    assert abs(error.mean()) < 0.4


def test_the_pattern_of_noise_is_one_for_all_severities() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    one, other = (distort(grey, "noise", severity).astype(float).ravel() - 128 for severity in (2, 3))
    assert np.corrcoef(one, other)[0, 1] > 0.99


def test_jpeg_quality_falls_with_severity_and_with_size() -> None:
    for factor in (0.5, 1.0, 3.0, 8.0):
        qualities = [jpeg.quality(severity, factor) for severity in SEVERITIES]
        assert rising([-q for q in qualities])
        assert qualities[-1] >= 1
    assert jpeg.quality(1, 4.0) < jpeg.quality(1, 1.0) == jpeg.QUALITY[1]


# Blur and motion


def gradient(pixels: UInt8) -> float:
    field = pixels.astype(float)
    return float((np.diff(field, axis=0) ** 2).mean() + (np.diff(field, axis=1) ** 2).mean())


@pytest.mark.parametrize("kind", ["blur", "motion"])
def test_blur_takes_gradient_energy(kind: str, scenes: dict[str, Scene]) -> None:
    for depth in (True, False):
        energies = [
            gradient(scenes["street"].pixels),
            *(gradient(b) for b in ladder(scenes["street"], kind, depth=depth)),
        ]
        assert rising(energies[::-1])


def textured(shape: tuple[int, int]) -> UInt8:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_defocus_by_depth_spares_what_is_in_focus() -> None:
    pixels = textured((128, 256))
    depth = np.full((128, 256), 2.0, np.float32)
    depth[:, 128:] = 30.0
    for near in (True, False):
        field = blur.confusion(depth, near=near)
        assert (field.min(), field.max()) == (0.0, 1.0)
        assert (field[0, 0] < field[0, -1]) is np.bool_(near)
    results = [distort(pixels, "blur", 4, depth=depth, seed=seed) for seed in range(6)]
    sharper = {bool(gradient(r[:, :110]) > gradient(r[:, 146:])) for r in results}
    assert sharper == {True, False}  # some seeds focus near, others far
    for result in results:
        kept = sorted(gradient(part) / gradient(pixels) for part in (result[:, :110], result[:, 146:]))
        assert kept[1] > 0.95
        assert kept[0] < 0.1


@given(radius=st.floats(0.1, 12))
@settings(max_examples=25, deadline=None)
def test_the_disc_keeps_light_and_has_its_radius(radius: float) -> None:
    kernel = _light.disc(radius)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    at = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    second = float((kernel * (at[:, None] ** 2 + at**2)).sum())
    # A disc's mean square distance from its centre is r²/2; sharing out to pixels adds at most 1/4 an axis.
    assert radius**2 / 2 - 0.02 <= second * 1.01
    assert second <= radius**2 / 2 * 1.01 + 0.5


@pytest.mark.parametrize("radius", [1.5, 4.0, 7.0, 13.0])
def test_wide_discs_agree_with_the_direct_sum(radius: float) -> None:
    point = np.zeros((97, 97, 1), np.float32)
    point[44:53, 44:53] = 1.0
    blurred = _light.disc_blur(point, radius)
    assert blurred.sum() == pytest.approx(point.sum(), rel=0.02)
    y, x = np.mgrid[:97, :97] - 48
    spread = float((blurred[..., 0] * (x**2 + y**2)).sum() / blurred.sum())
    square = 2 * (9**2 - 1) / 12
    assert spread == pytest.approx(radius**2 / 2 + square, rel=0.2)


@pytest.mark.parametrize("length", [3.0, 10.0, 37.0])
def test_a_stroke_of_motion_has_its_length_and_keeps_light(length: float) -> None:
    point = np.zeros((9, 129, 1), np.float32)
    point[:, 60] = 1.0
    smeared = motion._stroke(point, length, 0.0)[4, :, 0].astype(np.float64)
    at = np.arange(129) - 60
    mean = float((smeared * at).sum())
    variance = float((smeared * at**2).sum()) - mean**2
    assert smeared.sum() == pytest.approx(1.0, abs=1e-5)
    assert mean == pytest.approx(length / 2, abs=0.5)
    assert np.sqrt(12 * variance) == pytest.approx(length, rel=0.12, abs=0.6)


# Flare


def test_flare_only_adds_light_and_more_with_severity(scenes: dict[str, Scene]) -> None:
    pictures = [scenes["room"].pixels, *ladder(scenes["room"], "flare")]
    for dark, bright in pairwise(pictures):
        assert (bright >= dark).all()


def test_the_source_of_flare_stands_where_it_is_far(scenes: dict[str, Scene]) -> None:
    depth: Float32 = np.full((60, 90), 3.0, np.float32)
    depth[10:30, 5:40] = 500.0
    for seed in range(20):
        row, column = flare._source((60, 90), depth, np.random.default_rng(seed))
        assert depth[int(row), int(column)] == 500.0


# Size


@pytest.mark.parametrize("kind", ["blur", "motion", "haze", "flare"])
def test_a_picture_twice_as_large_degrades_alike(kind: str) -> None:
    """The error after halving the large result is near that of the small picture."""
    small = demo_scenes((192, 128))["room"]
    large = Scene(small.pixels.repeat(2, 0).repeat(2, 1), small.depth.repeat(2, 0).repeat(2, 1), small.kind)
    for severity in (2, 4):
        one = distort(small.pixels, kind, severity, depth=small.depth, seed=2)
        two = distort(large.pixels, kind, severity, depth=large.depth, seed=2)
        halved = two.reshape(128, 2, 192, 2, 3).mean((1, 3))
        assert float(((halved - small.pixels) ** 2).mean()) == pytest.approx(mse(one, small.pixels), rel=0.35)


def test_grain_of_a_large_picture_survives_being_looked_at_small() -> None:
    rng = np.random.default_rng(0)
    large = _light.grain(np.zeros((1536, 1536, 3), np.uint8), rng, 1)
    assert large.std() == pytest.approx(1.0, abs=0.02)
    looked_at = large.reshape(512, 3, 512, 3).mean((1, 3))
    assert looked_at.std() > 0.8


# Misuse


def test_misuse_says_the_way_out() -> None:
    pixels, depth = np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.float32)
    cases = [
        (("fog", 1), {}, f"distortion 'fog' is unknown; known kinds: {', '.join(KINDS)}"),
        (("haze", 6), {}, "severity 6 of haze is unknown; severities are 1 to 5"),
        (("haze", 1), {"seed": -1}, "seed -1 is negative; give 0 or more"),
        (
            ("haze", 1),
            {"depth": depth.T},
            "depth: shape (6, 4) is not the picture's (4, 6); give one depth in metres a pixel",
        ),
        (
            ("blur", 1),
            {"depth": 0 * depth},
            "depth: not every value is finite and above 0; give metres, and 1000 for sky",
        ),
    ]
    for (kind, severity), more, text in cases:
        with pytest.raises(UsageError) as error:
            distort(pixels, kind, severity, **more)
        assert str(error.value) == text
    with pytest.raises(UsageError) as error:
        distort(pixels.astype(float), "haze", 1)
    assert str(error.value) == "pixels: float64 of shape (4, 6, 3) is not a picture; give uint8 of shape (H, W, 3)"

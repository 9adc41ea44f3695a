"""The degradations: determinism, severities in order by a physical measure, depth really used."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import skimage.color
import skimage.filters
from hypothesis import given, settings
from hypothesis import strategies as st

import dgiqa.distortions
from dgiqa.distortions import (
    GROUPS,
    KINDS,
    SEVERITIES,
    _color,
    _filters,
    _light,
    brighten,
    color_noise,
    contrast,
    darken,
    defocus,
    denoise,
    distort,
    family,
    flare,
    glare,
    haze,
    impulse,
    jitter,
    jpeg,
    jpeg2000,
    kadid_number,
    kinds_of,
    low_light,
    mean_shift,
    motion,
    noise,
    palette,
    posterize,
    rain,
    rolling,
    saturation_hsv,
    saturation_lab,
    shake,
    speckle,
    underwater,
    uses_depth,
)
from dgiqa.errors import UsageError
from dgiqa.scenes import Scene, demo_scenes
from dgiqa.types import Float32, UInt8

#: Kinds in which nothing is random.
FIXED = {
    "blur", "brighten", "color_diffusion", "darken", "gaussian_blur", "jpeg", "jpeg2000", "overexpose", "palette",
    "pixelate", "posterize", "sharpen",
}  # fmt: skip
SEEDED = [kind for kind in KINDS if kind not in FIXED]
BY_DEPTH = [kind for kind in KINDS if uses_depth(kind)]


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return demo_scenes((216, 144))


@pytest.fixture(scope="module")
def photos(photographs: list[Path]) -> dict[str, UInt8]:
    """Real photographs, short side 160: small enough to try every kind on."""
    return {
        path.stem: np.asarray(PIL.Image.open(path).convert("RGB").resize((220, 160), PIL.Image.Resampling.LANCZOS))
        for path in photographs
    }


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


def test_the_groups_are_the_25_of_kadid_and_the_natural_ones() -> None:
    assert [kadid_number(kind) for kind in kinds_of("kadid")] == list(range(1, 26))
    assert set(kinds_of("natural")) == {
        "color_cast", "defocus", "flare", "glare", "haze", "low_light", "overexpose", "rain", "rolling", "shake",
        "underwater",
    }  # fmt: skip
    assert kinds_of("all") == KINDS
    assert sorted(kinds_of("kadid") + kinds_of("natural")) == list(KINDS)
    assert set(BY_DEPTH) == {"defocus", "flare", "haze", "rain", "underwater"}


def test_families_have_the_order_of_kadid() -> None:
    """Blurs 1-3, colour 4-8, compression 9-10, noise 11-15, brightness 16-18, spatial 19-23, contrast 24-25."""
    sizes = [("blur", 3), ("color", 5), ("compression", 2), ("noise", 5), ("brightness", 3), ("spatial", 5)]
    expected = [name for name, size in [*sizes, ("contrast", 2)] for _ in range(size)]
    assert [family(kind) for kind in kinds_of("kadid")] == expected
    assert {family(kind) for kind in kinds_of("natural")} == {"blur", "color", "exposure", "lens", "medium"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_whether_depth_and_seed_matter(kind: str) -> None:
    text = " ".join((dgiqa.distortions._module(kind).__doc__ or "").split())
    assert ("epth and seed play no part" in text) == (kind in FIXED)
    assert ("epth plays no part" in text) == (not uses_depth(kind) and kind not in FIXED)
    assert not uses_depth(kind) or "ithout depth" in text or "with depth" in text


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


@pytest.mark.parametrize("kind", sorted(FIXED))
def test_nothing_is_random_where_the_file_says_so(kind: str, scenes: dict[str, Scene]) -> None:
    one, other = (distort(scenes["room"].pixels, kind, 3, seed=seed) for seed in (0, 1))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_depth_matters_where_the_file_says_so(kind: str, scenes: dict[str, Scene]) -> None:
    scene = scenes["street"]
    near, far = (
        distort(scene.pixels, kind, 4, depth=depth, seed=2)
        for depth in (scene.depth, np.ascontiguousarray(scene.depth[:, ::-1]))
    )
    assert np.array_equal(near, far) is not uses_depth(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_is_farther_from_the_source(kind: str, scenes: dict[str, Scene]) -> None:
    """By mean squared error, on drawn scenes; the sign that a seed draws is kept, so one seed is one ladder."""
    for scene in scenes.values():
        for seed, depth in ((0, True), (1, True), (2, False)):
            errors = [mse(scene.pixels, bad) for bad in ladder(scene, kind, depth=depth, seed=seed)]
            assert errors[0] > 0, scene.kind
            assert rising(errors), (scene.kind, errors)


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_is_farther_from_the_photograph(kind: str, photos: dict[str, UInt8]) -> None:
    for name, pixels in photos.items():
        depth = _light.level_ground(pixels.shape[:2])[::-1].copy()
        errors = [mse(pixels, distort(pixels, kind, severity, depth=depth, seed=3)) for severity in SEVERITIES]
        assert errors[0] > 0, name
        assert rising(errors), (name, errors)


@pytest.mark.parametrize("kind", KINDS)
def test_odd_and_tiny_pictures_pass(kind: str) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (7, 3), (33, 50), (17, 900), (301, 19)):
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        depth = rng.uniform(0.5, 40, shape).astype(np.float32)
        for severity, known in ((1, depth), (5, None), (5, depth)):
            result = distort(pixels, kind, severity, depth=known)
            assert (result.shape, result.dtype) == (pixels.shape, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_and_grey_pictures_pass(kind: str) -> None:
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (40, 60, 1), dtype=np.uint8), 3, 2)
    for pixels in (grey, np.zeros_like(grey), np.full_like(grey, 255), np.full_like(grey, 97)):
        depth = np.full((40, 60), 3.0, np.float32)
        for severity in (1, 5):
            assert distort(pixels, kind, severity, depth=depth, seed=1).shape == pixels.shape
    if kind in ("saturation_hsv", "saturation_lab", "color_diffusion"):
        assert np.abs(distort(grey, kind, 5).astype(int) - grey).max() <= 1


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


def test_haze_leaves_what_is_at_hand() -> None:
    pixels = textured((30, 40))
    at_hand = np.full((30, 40), 1e-4, np.float32)
    for severity in SEVERITIES:
        assert np.array_equal(distort(pixels, "haze", severity, depth=at_hand), pixels)


@pytest.mark.parametrize("kind", ["haze", "defocus", "rain", "underwater"])
def test_without_depth_the_ground_is_level(kind: str) -> None:
    ramp = _light.level_ground((100, 4))
    assert ramp[0, 0] == pytest.approx(_light.RAMP[1], rel=0.2)
    assert ramp[-1, 0] == pytest.approx(_light.RAMP[0], rel=0.02)
    assert (np.diff(ramp[:, 0]) < 0).all()
    pixels = np.random.default_rng(0).integers(0, 256, (100, 4, 3), dtype=np.uint8)
    assert np.array_equal(distort(pixels, kind, 3), distort(pixels, kind, 3, depth=ramp))


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


@pytest.mark.parametrize("severity", SEVERITIES[:4])
@pytest.mark.parametrize("value", [90, 140, 200])
def test_low_light_has_the_variance_of_a_poisson_count(severity: int, value: int) -> None:
    """Against electrons drawn from Poisson's law itself, read out by a sensor with Gaussian noise."""
    grey = np.full((192, 192, 3), value, np.uint8)
    lost, gained = low_light.STOPS[severity]
    electrons = float(_light.to_linear(grey)[0, 0, 0]) * low_light.FULL * 2.0**-lost
    rng = np.random.default_rng(0)
    counted = rng.poisson(electrons, grey.shape) + rng.normal(0, low_light.READ, grey.shape)
    expected = np.clip(counted * 2.0**gained / low_light.FULL, 0, 1)
    light = _light.to_linear(distort(grey, "low_light", severity)).astype(np.float64)
    assert light.mean() == pytest.approx(expected.mean(), rel=0.02)
    assert light.std() == pytest.approx(expected.std(), rel=0.06)


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


@pytest.mark.parametrize("kind", ["blur", "gaussian_blur", "defocus", "motion", "shake"])
def test_blur_takes_gradient_energy(kind: str, scenes: dict[str, Scene]) -> None:
    for depth in (True, False):
        energies = [
            gradient(scenes["street"].pixels),
            *(gradient(b) for b in ladder(scenes["street"], kind, depth=depth)),
        ]
        assert rising(energies[::-1])


def textured(shape: tuple[int, int]) -> UInt8:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def near_and_far() -> tuple[UInt8, Float32]:
    """Red texture at 2 metres on the left, blue texture at 30 on the right."""
    pixels = textured((128, 256))
    pixels[:, :128, 1:], pixels[:, 128:, :2] = 0, 0
    depth = np.full((128, 256), 2.0, np.float32)
    depth[:, 128:] = 30.0
    return pixels, depth


@pytest.mark.parametrize("near", [True, False])
def test_the_circle_of_confusion_is_that_of_a_thin_lens(near: bool) -> None:
    """Radius over |1/d - 1/f| is one number (Potmesil & Chakravarty), where the table's radius doesn't cut it."""
    depth = np.geomspace(1, 100, 4000, dtype=np.float32).reshape(40, 100)
    size = defocus.confusion(depth, near=near)
    focus = float(depth.ravel()[np.abs(size).argmin()])
    assert (focus < 3) is near
    free = (np.abs(size) < 0.99) & (np.abs(size) > 0.05)
    ratio = size[free] / (1 / depth[free] - 1 / focus)
    assert ratio.std() < 0.03 * abs(ratio.mean())
    assert np.abs(size).max() == 1


def test_defocus_leaves_what_is_in_focus_as_it_is() -> None:
    pixels, depth = near_and_far()
    results = {seed: distort(pixels, "defocus", 5, depth=depth, seed=seed) for seed in range(6)}
    focused_near = {seed: np.array_equal(result[:, :128], pixels[:, :128]) for seed, result in results.items()}
    assert set(focused_near.values()) == {True, False}
    for seed, result in results.items():
        if focused_near[seed]:
            # The subject doesn't bleed into the background beside it, which is blurred.
            assert result[:, 128:, 0].max() == 0
            assert gradient(result[:, 150:]) < 0.1 * gradient(pixels[:, 150:])
        else:
            # The blurred subject spreads over the background, which is sharp beyond its reach.
            assert 10 < result[:, 129:132, 0].mean() < 120
            assert np.array_equal(result[:, 160:], pixels[:, 160:])
            assert gradient(result[:, :110]) < 0.1 * gradient(pixels[:, :110])


def test_defocus_of_one_distance_blurs_the_whole() -> None:
    pixels = textured((96, 128))
    depth = np.full((96, 128), 5.0, np.float32)
    assert gradient(distort(pixels, "defocus", 3, depth=depth)) < 0.2 * gradient(pixels)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_shaken_point_has_the_spread_of_the_table(severity: int) -> None:
    way = shake.path(np.random.default_rng(severity)) * shake.SPREAD[severity]
    kernel = shake.kernel(way).astype(np.float64)
    at = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    assert kernel.sum() == pytest.approx(1)
    assert (kernel.sum(1) * at).sum() == pytest.approx(0, abs=0.01)
    spread = (kernel.sum(1) * at**2).sum() + (kernel.sum(0) * at**2).sum()
    assert spread == pytest.approx(shake.SPREAD[severity] ** 2, abs=0.5)
    steps = np.hypot(*np.diff(way, axis=0).T)
    assert steps.max() < 0.2 * shake.SPREAD[severity]  # a path, not a cloud


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


def test_glare_is_a_veil_without_shapes(scenes: dict[str, Scene]) -> None:
    """Blacks are lifted and contrast falls; what is added is smooth."""
    scene = scenes["room"]
    bad = ladder(scene, "glare")
    black = [float(picture[scene.pixels.max(2) < 40].mean()) for picture in (scene.pixels, *bad)]
    assert rising(black)
    alone = distort(np.zeros((144, 216, 3), np.uint8), "glare", 4).astype(float)
    assert alone.min() > 20
    assert max(float(np.abs(np.diff(alone, axis=k)).max()) for k in (0, 1)) < 8


def test_stray_light_is_taken_from_where_it_was() -> None:
    """Without the source outside, glare only moves light: a bright square loses what the dark around it gains."""
    light = np.zeros((128, 128, 3), np.float32)
    light[40:88, 40:88] = 0.8
    spread = sum(_light.disc_blur(light, radius * 128 / 512) for radius in glare.RADII) / len(glare.RADII)
    assert spread.sum() == pytest.approx(light.sum(), rel=0.05)
    assert spread[64, 64].max() < 0.8 * 0.9


# Rain, rolling exposure, under water


def streaks(pixels: UInt8, severity: int, metres: float) -> int:
    plain = distort(pixels, "rain", severity, depth=np.full(pixels.shape[:2], metres, np.float32), seed=1)
    return int((plain.max(2) > plain.max(2).min() + 2).sum())


def test_rain_falls_in_front_of_what_is_far_alone() -> None:
    dark = np.full((256, 256, 3), 60, np.uint8)
    assert streaks(dark, 5, 0.5) == 0
    wet = [streaks(dark, 5, metres) for metres in (1.5, 3.0, 6.0, 12.0, 24.0)]
    assert wet[0] > 0
    assert rising([float(n) for n in wet])
    assert rising([float(streaks(dark, severity, 24.0)) for severity in SEVERITIES])


def test_streaks_of_near_drops_are_long_and_all_slant_alike() -> None:
    for distance, slant in ((1.0, 0.3), (4.0, -0.2)):
        stroke = rain.streak(rain.LENGTH / distance, rain.WIDTH, slant).astype(np.float64)
        down, across = np.nonzero(stroke > 0.5)
        assert np.ptp(down) == pytest.approx(1.25 * rain.LENGTH / distance, rel=0.15)
        assert np.polyfit(down, across, 1)[0] == pytest.approx(np.tan(slant), abs=0.03)


def test_rolling_exposure_dims_whole_rows_to_the_depth_of_its_bands() -> None:
    grey = np.full((400, 300, 3), 180, np.uint8)
    for severity in SEVERITIES:
        bad = distort(grey, "rolling", severity, seed=3)
        assert (bad == bad[:, :1]).all()
        rows = _light.to_linear(bad)[:, 0, 1] / _light.to_linear(grey)[0, 0, 1]
        assert rows.max() == pytest.approx(1, abs=0.02)
        assert rows.min() == pytest.approx(1 - rolling.BANDS[severity], abs=0.02)
        maxima = int(((rows[1:-1] > rows[:-2]) & (rows[1:-1] >= rows[2:]) & (rows[1:-1] > 0.98)).sum())
        assert 1 <= maxima <= 8


def test_the_rolling_shutter_moves_rows_no_farther_than_its_table() -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (256, 256))
    pixels = np.stack([ramp] * 3, -1)
    rng = np.random.default_rng(0)
    time = ((np.arange(512) + 0.5) / 512).astype(np.float32)
    way = rolling.wander(time, rng)
    assert np.abs(way).max() == pytest.approx(1)
    assert np.abs(np.diff(way)).max() < 0.05
    assert distort(pixels, "rolling", 5).shape == pixels.shape


def under_water(value: int, metres: float, severity: int, seed: int = 0) -> Float32:
    """(3,) linear light of a plain picture at one distance."""
    plain = np.full((2, 2, 3), value, np.uint8)
    known = np.full((2, 2), metres, np.float32)
    return _light.to_linear(distort(plain, "underwater", severity, depth=known, seed=seed))[0, 0]


@pytest.mark.parametrize("severity", SEVERITIES[:3])
@pytest.mark.parametrize("seed", range(4))
def test_red_is_lost_first_under_water(severity: int, seed: int) -> None:
    """White less black is the direct part: it falls by exp(-a d) in each channel, red fastest."""
    direct = {
        metres: under_water(255, metres, severity, seed) - under_water(0, metres, severity, seed)
        for metres in (1.0, 11.0, 21.0)
    }
    for near, far in pairwise(direct.values()):
        assert far[0] / near[0] < min(far[1] / near[1], far[2] / near[2])
    once, twice = direct[11.0][1:] / direct[1.0][1:], direct[21.0][1:] / direct[1.0][1:]
    assert twice == pytest.approx(once**2, abs=0.02)


def test_water_between_is_lit_and_hides_the_far() -> None:
    for seed in range(4):
        black = [float(under_water(0, metres, 3, seed)[1]) for metres in (1.0, 10.0, 40.0, 1000.0)]
        assert rising(black)
        lost, color = underwater.OCEAN, np.stack([underwater.OCEAN_COLOR, underwater.COAST_COLOR])
        assert (lost[0] > lost[1:]).all()
        far = under_water(255, 1e4, 3, seed)
        assert (far >= color.min(0) - 0.02).all()
        assert (far <= color.max(0) + 0.02).all()


# KADID's own


def test_color_spaces_agree_with_other_libraries(photos: dict[str, UInt8]) -> None:
    pixels = photos["astronaut"]
    assert np.abs(_color.to_lab(pixels) - skimage.color.rgb2lab(pixels)).max() < 0.2
    ycc = np.asarray(PIL.Image.fromarray(pixels).convert("YCbCr")).astype(float) - (0, 128, 128)
    assert np.abs(_color.to_ycc(pixels) - ycc).max() < 1.6
    assert np.array_equal(_color.from_lab(_color.to_lab(pixels)), pixels)
    assert np.array_equal(_color.from_ycc(_color.to_ycc(pixels)), pixels)


def test_filters_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    field = rng.random((41, 53, 2), dtype=np.float32)
    kernel = rng.random((7, 7), dtype=np.float32)
    for k in range(2):
        direct = scipy.ndimage.convolve(field[..., k], kernel, mode="nearest")
        assert _filters.convolved(field, kernel)[..., k] == pytest.approx(direct, abs=1e-4)
        means = scipy.ndimage.uniform_filter(field[..., k], 9, mode="nearest")
        assert _filters.box_mean(field, 4)[..., k] == pytest.approx(means, abs=1e-5)
        between = np.hypot(2.5, (1 / 6) ** 0.5)  # lines between pixels have a variance of 1/6
        blurred = scipy.ndimage.gaussian_filter(field[..., k], between, mode="nearest")
        assert _filters.gaussian(field, 2.5)[..., k] == pytest.approx(blurred, abs=0.003)
    rows, columns = rng.uniform(0, 40, (41, 53)), rng.uniform(0, 52, (41, 53))
    pixels = (field[..., [0, 1, 0]] * 255).astype(np.uint8)
    read = _filters.sampled(pixels, rows.astype(np.float32), columns.astype(np.float32))
    expected = scipy.ndimage.map_coordinates(pixels[..., 1].astype(float), [rows, columns], order=1)
    assert np.abs(read[..., 1] - expected).max() < 0.51


def colorful() -> UInt8:
    """(16, 16, 3) of middling saturation and value, so that nothing is clipped at a factor of 1.4."""
    return np.random.default_rng(0).integers(110, 160, (16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_saturation_is_multiplied_in_hsv_alone(seed: int) -> None:
    pixels = colorful()
    before, after = (skimage.color.rgb2hsv(p) for p in (pixels, distort(pixels, "saturation_hsv", 1, seed=seed)))
    ratio = float(after[..., 1].sum() / before[..., 1].sum())
    assert min(abs(ratio - table[1]) for table in (saturation_hsv.PALE, saturation_hsv.GARISH)) < 0.02
    assert np.abs(after[..., 2] - before[..., 2]).max() < 0.003
    turned = np.abs(after[..., 0] - before[..., 0])[before[..., 1] > 0.15]
    assert np.minimum(turned, 1 - turned).max() < 0.03


@pytest.mark.parametrize("seed", range(4))
def test_saturation_is_multiplied_in_lab_alone(seed: int) -> None:
    pixels = colorful()
    before, after = (skimage.color.rgb2lab(p) for p in (pixels, distort(pixels, "saturation_lab", 1, seed=seed)))
    ratio = float(np.hypot(*after[..., 1:].T).sum() / np.hypot(*before[..., 1:].T).sum())
    assert min(abs(ratio - table[1]) for table in (saturation_lab.PALE, saturation_lab.GARISH)) < 0.02
    assert np.abs(after[..., 0] - before[..., 0]).max() < 0.6


@pytest.mark.parametrize(("kind", "direction"), [("saturation_hsv", 1), ("saturation_lab", 1), ("contrast", 1)])
def test_the_sign_of_a_seed_is_kept_in_all_severities(kind: str, direction: int, photos: dict[str, UInt8]) -> None:
    pixels = photos["coffee"]

    def amount(picture: UInt8) -> float:
        return float(picture.std()) if kind == "contrast" else float(np.ptp(picture, axis=2).mean())

    signs = set()
    for seed in range(8):
        changes = {amount(distort(pixels, kind, s, seed=seed)) > amount(pixels) for s in SEVERITIES}
        assert len(changes) == 1
        signs |= changes
    assert signs == {True, False}


def test_a_mean_shift_adds_its_number_with_one_sign() -> None:
    grey = np.full((4, 4, 3), 128, np.uint8)
    signs = set()
    for seed in range(8):
        added = {s: int(distort(grey, "mean_shift", s, seed=seed)[0, 0, 0]) - 128 for s in SEVERITIES}
        assert {s: abs(value) for s, value in added.items()} == mean_shift.SHIFT
        signs |= {value > 0 for value in added.values()}
        assert len({value > 0 for value in added.values()}) == 1
    assert signs == {True, False}


def test_contrast_keeps_the_middle_and_its_curve_keeps_the_ends() -> None:
    at = np.array([-0.5, 0.0, 0.5])
    for severity in SEVERITIES:
        assert contrast.s_curve(at, contrast.GAIN[severity]) == pytest.approx(at)


@pytest.mark.parametrize(("kind", "sign"), [("brighten", 1), ("darken", -1)])
def test_lightness_is_bent_and_its_ends_stay(kind: str, sign: int) -> None:
    grey = np.stack([np.arange(256, dtype=np.uint8)] * 3, -1)[None]
    power = {1: 1 / brighten.GAMMA[3], -1: darken.GAMMA[3]}[sign]
    bad = distort(grey, kind, 3)
    assert (bad[0, 0, 0], bad[0, -1, 0]) == (0, 255)
    expected = 100 * (skimage.color.rgb2lab(grey)[0, :, 0] / 100) ** power
    assert np.abs(skimage.color.rgb2lab(bad)[0, :, 0] - expected).max() < 0.5


def test_color_shift_moves_green_alone_and_only_at_edges() -> None:
    pixels = np.full((200, 200, 3), 90, np.uint8)
    pixels[:, 100:] = 200
    moved = np.abs(distort(pixels, "color_shift", 5).astype(int) - pixels)
    assert moved[..., [0, 2]].max() == 0
    assert moved[:, 80:120, 1].max() > 80
    assert moved[:, :60].max() == moved[:, 140:].max() == 0


def test_color_diffusion_keeps_lightness(photos: dict[str, UInt8]) -> None:
    pixels = _light.to_srgb(0.2 + 0.3 * _light.to_linear(photos["chelsea"]))
    before, after = (skimage.color.rgb2lab(p) for p in (pixels, distort(pixels, "color_diffusion", 5)))
    assert np.abs(after[..., 0] - before[..., 0]).max() < 1.5
    assert gradient(after[..., 1:]) < 0.2 * gradient(before[..., 1:])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_palette_has_its_number_of_colors(severity: int, photos: dict[str, UInt8]) -> None:
    colors = np.unique(distort(photos["coffee"], "palette", severity).reshape(-1, 3), axis=0)
    assert 0.7 * palette.COLORS[severity] <= len(colors) <= palette.COLORS[severity]


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_levels_are_those_of_otsu(classes: int, photos: dict[str, UInt8]) -> None:
    channel = photos["coffee"][..., 1]
    histogram = np.bincount(channel.ravel(), minlength=256)
    table = posterize.levels(histogram, classes)
    thresholds = skimage.filters.threshold_multiotsu(channel, classes, nbins=256)
    judged = np.digitize(channel, thresholds, right=True)
    means = np.array([channel[judged == k].mean() for k in range(classes)])
    ours, theirs = (float(((channel - value) ** 2).mean()) for value in (table[channel].astype(float), means[judged]))
    assert ours <= theirs * 1.001 + 0.1
    assert len(np.unique(table[channel])) == classes


@given(st.lists(st.integers(0, 9), min_size=8, max_size=8).filter(any), st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_no_other_thresholds_do_better(counts: list[int], classes: int) -> None:
    histogram = np.zeros(256, np.intp)
    histogram[::32] = counts
    at = np.arange(256)[::32]

    def error(edges: tuple[int, ...]) -> float:
        parts = np.split(np.arange(8), edges)
        return sum(_scatter(at[part], histogram[::32][part]) for part in parts)

    best = min(error(edges) for edges in combinations(range(1, 8), classes - 1))
    table = posterize.levels(histogram, classes)[::32].astype(float)
    assert float((histogram[::32] * (at - table) ** 2).sum()) <= best + 0.25 * sum(counts) + 1e-6


def _scatter(values: Float32, weights: Float32) -> float:
    if not weights.sum():
        return 0.0
    return float((weights * (values - np.average(values, weights=weights)) ** 2).sum())


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg2000_keeps_to_its_size(severity: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (512, 640, 3), dtype=np.uint8)
    data = jpeg2000.compressed(pixels, severity)
    assert len(data) == pytest.approx(pixels.size / jpeg2000.RATIO[severity], rel=0.1, abs=300)
    assert PIL.Image.open(BytesIO(data)).format == "JPEG2000"


def test_noise_in_color_components_is_alike_in_each() -> None:
    grey = np.full((160, 160, 3), 128, np.uint8)
    error = _color.to_ycc(distort(grey, "color_noise", 3)) - _color.to_ycc(grey)
    assert error.reshape(-1, 3).std(0) == pytest.approx(np.full(3, color_noise.SIGMA[3]), rel=0.05)
    assert np.abs(np.corrcoef(error.reshape(-1, 3).T) - np.eye(3)).max() < 0.05


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulses_hit_their_share_half_of_it_white(severity: int) -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    bad = distort(grey, "impulse", severity)
    assert set(np.unique(bad)) == {0, 128, 255}
    share = impulse.SHARE[severity]
    assert (bad == 0).mean() == pytest.approx(share / 2, rel=0.12)
    assert (bad == 255).mean() == pytest.approx(share / 2, rel=0.12)


@pytest.mark.parametrize("kind", ["impulse", "color_blocks", "patches"])
def test_what_is_hit_stays_hit(kind: str) -> None:
    pixels = textured((200, 200))
    hit = [(distort(pixels, kind, severity, seed=2) != pixels).any(2) for severity in SEVERITIES]
    for fewer, more in pairwise(hit):
        assert (fewer & ~more).mean() < 0.002 + 0.02 * fewer.mean()  # patches may cover one another


def test_speckle_grows_with_the_value() -> None:
    deviation = {}
    for value in (40, 80, 120):
        grey = np.full((128, 128, 3), value, np.uint8)
        deviation[value] = float(distort(grey, "speckle", 2).astype(float).std())
        assert deviation[value] == pytest.approx(speckle.SIGMA[2] * value, rel=0.04)


def test_denoising_takes_most_noise_and_leaves_strong_edges() -> None:
    pixels = np.full((160, 160, 3), 70, np.uint8)
    pixels[:, 80:] = 190
    for severity in SEVERITIES[:3]:
        bad = distort(pixels, "denoise", severity).astype(float)
        assert bad[:, 8:70].std() < 0.45 * denoise.SIGMA[severity]
        step = bad[:, 82:86, 1].mean() - bad[:, 74:78, 1].mean()
        assert step > 80


def test_jitter_reads_as_far_away_as_its_table() -> None:
    """On a slope of one level a pixel, the error is the way itself, rounded."""
    ramp = np.concatenate([np.arange(256), np.arange(256)[::-1]]).astype(np.uint8)
    pixels = np.stack([np.broadcast_to(ramp, (512, 512))] * 3, -1)
    for severity in SEVERITIES:
        error = distort(pixels, "jitter", severity).astype(float) - pixels
        way = np.hypot(jitter.WAY[severity], (1 / 12) ** 0.5)
        assert error[:, 40:200].std() == pytest.approx(way, rel=0.03)


def test_pixels_become_cells_of_the_mean(photos: dict[str, UInt8]) -> None:
    pixels = np.asarray(PIL.Image.fromarray(photos["chelsea"]).resize((1024, 1024)))
    bad = distort(pixels, "pixelate", 5)
    borders = (np.diff(bad.astype(int), axis=1) != 0).any((0, 2)).sum()
    assert borders <= 1024 / (1 + 2 * 12) + 1
    assert bad.mean((0, 1)) == pytest.approx(pixels.mean((0, 1)), abs=1)


def test_sharpening_leaves_plain_parts_and_overshoots_at_edges() -> None:
    pixels = np.full((300, 300, 3), 100, np.uint8)
    pixels[:, 150:] = 150
    bad = distort(pixels, "sharpen", 4)
    assert np.array_equal(bad[:, :130], pixels[:, :130])
    assert bad[:, 140:150].min() < 60
    assert bad[:, 150:160].max() > 190


# Size


@pytest.mark.parametrize(
    "kind",
    [
        "blur", "color_blocks", "color_diffusion", "defocus", "flare", "gaussian_blur", "glare", "haze", "motion",
        "patches", "rolling", "shake", "underwater",
    ],
)  # fmt: skip
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
    calls: list[Callable[[str], object]] = [family, uses_depth, kadid_number]
    for call in calls:
        with pytest.raises(UsageError) as error:
            call("fog")
        assert str(error.value) == f"distortion 'fog' is unknown; known kinds: {', '.join(KINDS)}"
    with pytest.raises(UsageError) as error:
        kinds_of("tid")
    assert str(error.value) == f"group 'tid' of distortions is unknown; known groups: {', '.join(GROUPS)}"
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
            ("defocus", 1),
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


# The documentation


def test_the_documentation_has_every_kind_with_its_number_and_family() -> None:
    text = (Path(__file__).parents[1] / "docs" / "distortions.md").read_text(encoding="utf-8")
    for kind in kinds_of("kadid"):
        assert f"| {kadid_number(kind)} | `{kind}` | {family(kind)} |" in text
    for kind in kinds_of("natural"):
        assert f"| `{kind}` | {family(kind)} |" in text

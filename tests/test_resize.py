"""Resize kernels against their judges: OpenCV's own numbers, Pillow, torch, and a float64 reference."""

from __future__ import annotations

import tracemalloc

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgiqa.cards import Recipe
from dgiqa.imaging.resize import MAX_ASPECT, fit_size, resize, resize_float

# What opencv-python-headless 5.0.0 returns for ``ramp(width, height)``; its rounding in steps costs a level.
OPENCV = {
    (53, 37, 7, 5, "linear-opencv"): [
        [139, 154, 118, 60, 67, 126, 149],
        [71, 134, 139, 144, 186, 103, 93],
        [186, 115, 44, 229, 158, 87, 199],
        [118, 168, 146, 211, 20, 86, 151],
        [87, 76, 197, 193, 139, 84, 81],
    ],
    (53, 37, 7, 5, "cubic-opencv"): [
        [152, 180, 136, 52, 47, 136, 175],
        [39, 127, 155, 148, 209, 86, 99],
        [211, 122, 23, 229, 179, 80, 208],
        [120, 193, 152, 238, 0, 56, 158],
        [80, 62, 226, 201, 138, 76, 68],
    ],
    (4, 3, 6, 5, "linear-opencv"): [
        [29, 55, 91, 126, 161, 188],
        [44, 72, 109, 146, 183, 211],
        [66, 96, 136, 176, 216, 246],
        [88, 120, 163, 206, 172, 127],
        [103, 136, 181, 226, 142, 48],
    ],
    (4, 3, 6, 5, "cubic-opencv"): [
        [21, 47, 89, 119, 161, 187],
        [36, 63, 107, 138, 193, 231],
        [61, 90, 139, 173, 222, 251],
        [86, 118, 173, 221, 181, 121],
        [101, 134, 193, 252, 142, 10],
    ],
    (20, 8, 10, 4, "linear-opencv"): [
        [76, 189, 110, 159, 144, 129, 114, 99, 84, 133],
        [157, 106, 183, 132, 145, 94, 107, 120, 133, 82],
        [110, 151, 128, 169, 146, 123, 164, 141, 118, 95],
        [127, 132, 137, 142, 147, 88, 157, 98, 167, 108],
    ],
    (20, 8, 10, 4, "cubic-opencv"): [
        [67, 210, 89, 177, 130, 147, 98, 114, 53, 149],
        [176, 77, 211, 101, 176, 80, 107, 120, 147, 62],
        [88, 179, 97, 200, 146, 106, 190, 141, 120, 88],
        [121, 123, 160, 135, 142, 76, 171, 70, 181, 111],
    ],
    (1, 1, 3, 2, "linear-opencv"): [[29, 29, 29], [29, 29, 29]],
    (1, 1, 3, 2, "cubic-opencv"): [[29, 29, 29], [29, 29, 29]],
}
KERNELS = ("bilinear", "bicubic", "lanczos", "box", "box-bicubic", "linear-opencv", "cubic-opencv")
PILLOW_KERNELS = KERNELS[:4]
SIZES = st.integers(1, 40)


def ramp(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((y * 37 + x * 53 + x * y * 7 + 29) % 256).astype(np.uint8)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("case", OPENCV, ids=str)
def test_opencv_kernels_give_opencvs_numbers(case):
    width, height, new_width, new_height, kernel = case
    ours = resize(ramp(width, height), new_width, new_height, kernel)
    assert np.abs(ours.astype(int) - np.array(OPENCV[case])).max() <= 1


@pytest.mark.parametrize("kernel", PILLOW_KERNELS)
def test_pillow_kernels_are_pillows(kernel):
    pixels = noise(61, 47)
    judge = PIL.Image.fromarray(pixels).resize((23, 30), getattr(PIL.Image.Resampling, kernel.upper()))
    np.testing.assert_array_equal(resize(pixels, 23, 30, kernel), np.asarray(judge))


@pytest.mark.parametrize(("size", "side"), [((61, 47), 1), ((120, 92), 2), ((400, 300), 4), ((2000, 1500), 8)])
def test_box_bicubic_is_the_mean_of_squares_and_then_bicubic(size, side):
    """The largest of 2, 4 and 8 that leaves the short side at least as long as it will be."""
    pixels = noise(*size)
    height, width = (-(-n // side) * side for n in pixels.shape[:2])
    whole = np.pad(pixels.astype(float), ((0, height - size[1]), (0, width - size[0]), (0, 0)), constant_values=np.nan)
    means = np.nanmean(whole.reshape(height // side, side, width // side, side, 3), (1, 3))
    judge = PIL.Image.fromarray(np.floor(means + 0.5).astype(np.uint8)).resize((60, 45), PIL.Image.Resampling.BICUBIC)
    assert np.abs(resize(pixels, 60, 45, "box-bicubic").astype(int) - np.asarray(judge, int)).max() <= 1


@given(SIZES, SIZES, SIZES, SIZES, st.sampled_from(KERNELS))
@settings(max_examples=60, deadline=None)
def test_every_channel_is_resized_as_if_alone(width, height, new_width, new_height, kernel):
    pixels = noise(width, height, seed=width)
    color = resize(pixels, new_width, new_height, kernel)
    assert color.shape == (new_height, new_width, 3)
    assert color.dtype == np.uint8
    alone = resize(np.ascontiguousarray(pixels[..., 1]), new_width, new_height, kernel)
    np.testing.assert_array_equal(color[..., 1], alone)


@given(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES), st.sampled_from(KERNELS), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_a_flat_picture_stays_flat(size, new_size, kernel, value):
    pixels = np.full((*size, 3), value, np.uint8)
    assert (resize(pixels, *new_size, kernel) == value).all()


@given(SIZES, SIZES, SIZES, SIZES, st.sampled_from([kernel for kernel in KERNELS if not kernel.startswith("box")]))
@settings(max_examples=60, deadline=None)
def test_resizing_has_no_favoured_side(width, height, new_width, new_height, kernel):
    """Half-pixel centres: mirroring before or after is the same. (box breaks ties, squares have a first corner.)"""
    pixels = noise(width, height, seed=height)
    before = resize(np.ascontiguousarray(pixels[::-1, ::-1]), new_width, new_height, kernel)
    after = resize(pixels, new_width, new_height, kernel)[::-1, ::-1]
    assert np.abs(before.astype(int) - after.astype(int)).max() <= 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_same_size_is_the_same_pixels(kernel):
    pixels = noise(9, 7)
    assert resize(pixels, 9, 7, kernel) is pixels


def test_only_pillows_kernels_are_antialiased():
    checker = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (60, 60))
    assert np.ptp(resize(checker, 8, 8, "bicubic")) <= 2
    assert np.ptp(resize(checker, 24, 24, "cubic-opencv")) == 255  # five to one: it samples, it doesn't average


def test_many_rows_are_made_in_blocks_without_seams():
    """An affine ramp is exact under linear interpolation, so a seam between blocks would show."""
    column = np.linspace(0, 255, 700).round().astype(np.uint8)
    pixels = np.repeat(column[:, None], 3, axis=1)
    tall = resize(pixels, 3, 300, "linear-opencv")[:, 0].astype(float)
    expected = np.interp((np.arange(300) + 0.5) * 700 / 300 - 0.5, np.arange(700), column)
    np.testing.assert_allclose(tall, expected, atol=0.51)


@pytest.mark.parametrize("kernel", ["linear-opencv", "cubic-opencv"])
def test_a_large_picture_takes_no_large_temporaries(kernel):
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    tracemalloc.start()
    resize(pixels, 512, 384, kernel)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6  # as float32 the picture alone would be 144 MB


@given(SIZES, SIZES, SIZES, SIZES)
@settings(max_examples=60, deadline=None)
def test_float_maps_agree_with_torch(width, height, new_width, new_height):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(width * height).standard_normal((height, width)).astype(np.float32)
    judge = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], (new_height, new_width), mode="bilinear", align_corners=False
    )
    ours = resize_float(values, new_width, new_height)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, judge[0, 0].numpy(), atol=2e-5)


def recipe(short_side: int, multiple: int = 1) -> Recipe:
    return Recipe(short_side=short_side, kernel="bicubic", views="whole", multiple=multiple)


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from([(384, 1), (384, 32), (518, 14), (1, 1), (7, 7)]),
)
@settings(max_examples=300)
def test_fitted_sizes(width, height, numbers):
    short_side, multiple = numbers
    fitted = fit_size(width, height, recipe(short_side, multiple))
    assert min(fitted) == short_side
    assert short_side <= max(fitted) <= MAX_ASPECT * short_side
    assert max(fitted) % multiple == 0
    assert (fitted[0] >= fitted[1]) == (width >= height) or fitted[0] == fitted[1]
    exact = short_side * max(width, height) / min(width, height)
    if max(fitted) < MAX_ASPECT * short_side:
        assert abs(max(fitted) - exact) <= multiple / 2 + 1e-6
    assert fit_size(height, width, recipe(short_side, multiple)) == fitted[::-1]


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((4000, 3000), (512, 384)), ((3000, 4000), (384, 512)), ((1, 1), (384, 384)), ((5000, 1), (6144, 384))],
)
def test_fitted_sizes_by_example(size, fitted):
    assert fit_size(*size, recipe(384, 32)) == fitted

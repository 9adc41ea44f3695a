"""Views: every pixel is seen, depth is cut with colour, and nothing but size and seed decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgiqa.cards import Recipe
from dgiqa.imaging.resize import fit_size, resize
from dgiqa.imaging.views import make_boxes, make_views
from dgiqa.types import Image
from pictures import scene

SIZES = st.integers(1, 5000)


@st.composite
def recipes(draw, kinds=("whole", "grid", "random")):
    views = draw(st.sampled_from(kinds))
    multiple = draw(st.sampled_from([1, 2, 7]))
    short_side = multiple * draw(st.integers(1, 6))
    own = {
        "whole": lambda: {"max_aspect": draw(st.floats(1, 5))},
        "grid": lambda: {"crop": draw(st.integers(1, short_side))},
        "random": lambda: {
            "crop": draw(st.integers(1, short_side)),
            "count": draw(st.integers(1, 5)),
            "seed": draw(st.integers(0, 9)),
        },
    }[views]()
    kernel = draw(st.sampled_from(["bilinear", "box", "linear-opencv", "cubic-opencv"]))
    recipe = Recipe(short_side=short_side, kernel=kernel, views=views, multiple=multiple, **own)
    recipe.check()
    return recipe


@given(SIZES, SIZES, recipes(kinds=("whole", "grid")))
@settings(max_examples=300, deadline=None)
def test_whole_and_grid_see_every_pixel(width, height, recipe):
    width, height = fit_size(width, height, recipe)
    seen = np.zeros((height, width), bool)
    for left, top, right, bottom in make_boxes(width, height, recipe):
        seen[top:bottom, left:right] = True
    assert seen.all()


@given(SIZES, SIZES, recipes())
@settings(max_examples=300, deadline=None)
def test_boxes_lie_inside_and_are_of_one_shape(width, height, recipe):
    width, height = fit_size(width, height, recipe)
    boxes = make_boxes(width, height, recipe)
    assert all(0 <= left < right <= width and 0 <= top < bottom <= height for left, top, right, bottom in boxes)
    shapes = {(right - left, bottom - top) for left, top, right, bottom in boxes}
    assert len(shapes) == 1
    if recipe.views != "whole":
        assert shapes == {(recipe.crop, recipe.crop)}


@given(SIZES, SIZES, recipes(kinds=("whole", "grid")))
@settings(max_examples=200, deadline=None)
def test_no_fewer_views_would_do_and_they_are_even(width, height, recipe):
    width, height = fit_size(width, height, recipe)
    boxes = make_boxes(width, height, recipe)
    for low, high, length in ((0, 2, width), (1, 3, height)):
        part = boxes[0][high] - boxes[0][low]
        starts = sorted({box[low] for box in boxes})
        assert len(starts) == -(-length // part)
        assert starts[0] == 0
        assert starts[-1] == length - part
        gaps = np.diff(starts)
        assert not len(gaps) or np.ptp(gaps) <= 1


def test_whole_is_tiled_only_past_its_longest_side():
    recipe = Recipe(short_side=100, kernel="box", views="whole", max_aspect=2.3, multiple=10)
    assert make_boxes(230, 100, recipe) == ((0, 0, 230, 100),)
    assert make_boxes(240, 100, recipe) == ((0, 0, 230, 100), (10, 0, 240, 100))
    assert make_boxes(100, 500, recipe) == ((0, 0, 100, 230), (0, 135, 100, 365), (0, 270, 100, 500))


def test_random_crops_are_frozen():
    """Values of NumPy's PCG64 for the seed (7, 512, 384): a score with random crops repeats for ever."""
    recipe = Recipe(short_side=384, kernel="bicubic", views="random", crop=224, count=3, seed=7)
    lefts_tops = [box[:2] for box in make_boxes(512, 384, recipe)]
    assert lefts_tops == [(250, 63), (191, 55), (177, 140)]


@given(SIZES, SIZES, recipes(kinds=("random",)))
@settings(max_examples=50, deadline=None)
def test_random_crops_depend_on_seed_and_size_alone(width, height, recipe):
    size = fit_size(width, height, recipe)
    first = make_boxes(*size, recipe)
    np.random.seed(0)
    np.random.default_rng().random(7)
    assert make_boxes(*size, recipe) == first
    dark = make_views(Image(np.zeros((9, 13, 3), np.uint8), "dark"), recipe)
    bright = make_views(Image(np.full((9, 13, 3), 255, np.uint8), "bright"), recipe)
    assert dark.boxes == bright.boxes


def test_random_crops_differ_by_seed_and_by_size():
    def crops(seed, size):
        recipe = Recipe(short_side=384, kernel="bicubic", views="random", crop=224, count=5, seed=seed)
        return make_boxes(*size, recipe)

    assert len({crops(0, (512, 384)), crops(1, (512, 384)), crops(0, (384, 512)), crops(0, (511, 384))}) == 4


@given(st.integers(1, 60), st.integers(1, 60), recipes(), st.sampled_from(["picture", "resized"]))
@settings(max_examples=100, deadline=None)
def test_depth_is_cut_with_colour(width, height, recipe, depth_from):
    """A depth map that returns a colour channel must come out as that channel of every view."""
    recipe = Recipe(**{**vars(recipe), "depth_from": depth_from})
    seen = []

    def depth_map(pixels):
        seen.append(pixels.shape)
        return np.ascontiguousarray(pixels[..., 2])

    views = make_views(Image(scene(width, height), "scene"), recipe, depth_map)
    np.testing.assert_array_equal(views.depth, views.color[..., 2])
    resized = fit_size(width, height, recipe)[::-1]
    assert seen == [((height, width) if depth_from == "picture" else resized) + (3,)]
    assert len(views) == len(views.boxes) == len(views.color)


def test_views_hold_what_lies_in_their_boxes():
    recipe = Recipe(short_side=40, kernel="bicubic", views="grid", crop=32)
    picture = scene(150, 100)

    def coordinates(pixels):
        y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
        return (3 * x + 2 * y).astype(np.uint8)

    views = make_views(Image(picture, "scene"), recipe, coordinates)
    resized = resize(picture, 60, 40, "bicubic")
    assert views.boxes == ((0, 0, 32, 32), (28, 0, 60, 32), (0, 8, 32, 40), (28, 8, 60, 40))
    for color, depth, (left, top, right, bottom) in zip(views.color, views.depth, views.boxes, strict=True):
        np.testing.assert_array_equal(color, resized[top:bottom, left:right])
        assert depth[0, 0] == 3 * left + 2 * top
        assert depth[-1, -1] == 3 * (right - 1) + 2 * (bottom - 1)


@pytest.mark.parametrize("views", ["whole", "grid", "random"])
@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000)])
def test_the_smallest_and_thinnest_pictures_work(views, size):
    own = {"whole": {}, "grid": {"crop": 8}, "random": {"crop": 8, "count": 2}}[views]
    recipe = Recipe(short_side=12, kernel="cubic-opencv", views=views, **own)
    pixels = np.full((size[1], size[0], 3), (10, 20, 30), np.uint8)
    result = make_views(Image(pixels, "thin"), recipe, lambda seen: seen[..., 0])
    assert (result.color == (10, 20, 30)).all()
    assert (result.depth == 10).all()


@pytest.mark.parametrize("wrong", [np.zeros((3, 4), np.uint8), np.zeros((12, 12), np.float32)])
def test_a_depth_map_of_another_size_or_type_is_refused(wrong):
    recipe = Recipe(short_side=12, kernel="box", views="whole")
    with pytest.raises(ValueError, match=r"expected \(12, 12\) uint8"):
        make_views(Image(np.zeros((6, 6, 3), np.uint8), "x"), recipe, lambda _: wrong)

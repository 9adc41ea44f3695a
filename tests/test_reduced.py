"""Decoding at the size that is wanted: the same pixels where nothing is reduced, and said where it is."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import dgiqa
from dgiqa.cards import Recipe
from dgiqa.cli import main
from dgiqa.errors import ImageTooLarge, UsageError
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import fit
from dgiqa.models import find_card
from dgiqa.runtimes.fake import FakeNetwork

RECIPE = Recipe(short_side=64, kernel="bicubic", views="whole", multiple=32)


def picture(width: int, height: int, mode: str = "RGB") -> PIL.Image.Image:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 20 + k) * np.cos(columns / (15 + k)) for k in range(3)]
    return PIL.Image.fromarray(np.uint8(127 + 120 * np.stack(waves, 2))).convert(mode)


def encoded(image: PIL.Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(image: PIL.Image.Image, orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, exif=exif, quality=95)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(300, 200), (64, 64), (65, 700), (40, 30), (2400, 96)])
def test_what_comes_fitted_is_what_would_be_fitted(size: tuple[int, int], mode: str) -> None:
    for kernel in ("bicubic", "box", "box-bicubic", "cubic-opencv"):
        recipe = dataclasses.replace(RECIPE, kernel=kernel)
        for data in (encoded(picture(*size, mode)), encoded(picture(*size), "PNG"), encoded(picture(*size), "TIFF")):
            whole, fitted = decode(data), decode(data, fitted=[recipe])
            assert (fitted.width, fitted.height) == (whole.width, whole.height) == size
            assert np.array_equal(fit(fitted.pixels, recipe, fitted.full), fit(whole.pixels, recipe))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_too(orientation: int) -> None:
    for data in (
        turned(picture(300, 200), orientation),
        encoded(picture(300, 200), "TIFF", tiffinfo={274: orientation}),
    ):
        whole, fitted = decode(data), decode(data, fitted=[RECIPE])
        assert (fitted.width, fitted.height) == (whole.width, whole.height)
        assert np.array_equal(fit(fitted.pixels, RECIPE, fitted.full), fit(whole.pixels, RECIPE))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("size", "least", "decoded"), [
    ((800, 600), 300, (400, 300)),
    ((800, 600), 301, (800, 600)),
    ((803, 601), 300, (402, 301)),
    ((800, 600), 75, (100, 75)),
    ((800, 600), 10, (100, 75)),  # an eighth is the least there is
    ((801, 999), 200, (201, 250)),
])  # fmt: skip
def test_a_jpeg_is_reduced_as_far_as_its_short_side_allows(size, least, decoded, mode: str) -> None:
    for options in ({}, {"progressive": True}):
        found = decode(encoded(picture(*size, mode), **options), least_side=least)
        assert found.pixels.shape == (decoded[1], decoded[0], 3)
        assert (found.width, found.height) == size
        small = picture(*size, mode).convert("RGB").resize(decoded, PIL.Image.Resampling.BOX)
        assert np.abs(found.pixels.astype(int) - np.asarray(small)).mean() < 8  # odd sides are half a pixel off


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_picture_is_upright_with_its_whole_size(orientation: int) -> None:
    data = turned(picture(800, 600), orientation)
    whole, found = decode(data), decode(data, least_side=300)
    assert (found.width, found.height) == (whole.width, whole.height)
    assert found.pixels.shape[0] * 2 == whole.pixels.shape[0]
    small = np.asarray(PIL.Image.fromarray(whole.pixels).reduce(2))
    assert np.abs(found.pixels.astype(int) - small).mean() < 4


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("times", [2, 4, 8])
def test_box_bicubic_sees_the_same_of_a_reduced_picture(times: int, sampling: str) -> None:
    """The mean of a square and fewer cosines are nearly one thing; with bicubic alone they are not."""
    image = picture(160 * times, 120 * times)
    rough = np.asarray(image, np.int16) + np.random.default_rng(0).integers(-40, 41, (image.height, image.width, 1))
    image = PIL.Image.fromarray(rough.clip(0, 255).astype(np.uint8))
    data = encoded(image, quality=92, subsampling=sampling)
    apart = {}
    for kernel in ("bicubic", "box-bicubic"):
        recipe = dataclasses.replace(RECIPE, short_side=100, kernel=kernel)
        whole, reduced = decode(data, fitted=[recipe]), decode(data, fitted=[recipe], least_side=100)
        seen = [fit(found.pixels, recipe, found.full).astype(int) for found in (whole, reduced)]
        assert seen[0].shape == seen[1].shape
        apart[kernel] = np.abs(seen[0] - seen[1]).mean()
    decoded = decode(data, least_side=100).pixels.shape[0]
    assert decoded == (240 if sampling == "4:2:2" else 120)  # as fine again where colour is coarser across only
    assert apart["box-bicubic"] < 1.5
    assert apart["box-bicubic"] < apart["bicubic"] or decoded == 120 * times


def test_only_jpegs_from_outside_are_reduced_and_limits_are_of_the_whole() -> None:
    for kind in ("PNG", "WEBP", "TIFF"):
        assert decode(encoded(picture(800, 600), kind), least_side=100).full is None
    data = encoded(picture(800, 600))
    own = PIL.Image.open(io.BytesIO(data))
    assert decode(own, least_side=100).full is None
    assert own.size == (800, 600)  # nobody's image is changed
    with pytest.raises(ImageTooLarge):
        decode(data, least_side=100, max_megapixels=0.4)


def scorer(fast: bool) -> dgiqa.Scorer:
    card = find_card("dgiqa_mobile.biq2021")
    network = FakeNetwork(lambda views: views.color[:, ::2, ::2].std((1, 2, 3)).astype(np.float32) / 255)
    card = dataclasses.replace(card, interval=None)
    return dgiqa.Scorer(card, network, lambda pixels: np.zeros(pixels.shape[:2], np.uint8), fast=fast)


def test_fast_is_the_same_by_path_and_bytes_and_says_the_whole_size(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(encoded(picture(3000, 2200)))
    fast, whole = scorer(True), scorer(False)
    assert fast.score(path).raw == fast.score(path.read_bytes()).raw != whole.score(path).raw
    assert (fast.score(path).width, fast.score(path).height) == (3000, 2200)
    small = docs_picture()
    assert fast.score(small).raw == whole.score(small).raw  # not large enough to be reduced


def docs_picture() -> Path:
    return Path(__file__).parents[1] / "docs" / "pictures" / "room.jpg"


def test_fast_is_another_model_in_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert dgiqa.load(fast=True).model == dgiqa.load().model + "+fast"
    assert main(["score", str(docs_picture()), "--json", "--fast"]) == 0
    assert '+fast"' in capsys.readouterr().out
    with pytest.raises(UsageError, match="no decoding at a reduced scale"):
        dgiqa.load("dgiqa.koniq10k", None, fast=True)


def test_a_card_that_would_cut_views_from_a_reduced_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="reduce is 0, or at least 1"):
        dataclasses.replace(RECIPE, reduce=0.5).check()
    with pytest.raises(ValueError, match="for depth_from = 'resized'"):
        dataclasses.replace(RECIPE, reduce=2.0, depth="some.depth", depth_from="picture").check()

"""The decoder: one picture by every door, every odd file, and nothing but ImageError when it goes wrong."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

import pictures
from dgiqa.errors import (
    ImageError,
    ImageNeedsExtra,
    ImageNotFound,
    ImageTooLarge,
    ImageTooSmall,
    ImageUnreadable,
    ImageUnsupported,
)
from dgiqa.imaging.decode import decode
from dgiqa.imaging.sniff import HEAD, is_raw_tiff, sniff
from pictures import encode, scene

SCENE = scene(23, 17)
GREY = SCENE[..., 0]


def fault(kind: type[ImageError], source: object, **options: object) -> str:
    """The whole text of the error of just this kind that ``source`` raises."""
    with pytest.raises(ImageError) as caught:
        decode(source, **options)
    assert type(caught.value) is kind, caught.value
    return str(caught.value)


def write(folder, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


# One picture, every door


LOSSLESS = {
    "png": ("PNG", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "bmp": ("BMP", {}),
    "webp": ("WEBP", {"lossless": True}),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_path_bytes_pillow_and_array_are_the_same_pixels(name, tmp_path):
    kind, options = LOSSLESS[name]
    data = encode(SCENE, kind, **options)
    path = write(tmp_path, f"scene.{name}", data)
    sources = [path, tmp_path / f"scene.{name}", data, bytearray(data), memoryview(data), SCENE]
    for source in [*sources, PIL.Image.open(path), PIL.Image.fromarray(SCENE)]:
        image = decode(source)
        np.testing.assert_array_equal(image.pixels, SCENE)
        assert image.notes == ()
        assert (image.width, image.height) == (23, 17)


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "AVIF", "WEBP", "GIF"])
def test_lossy_formats_come_close_and_agree_between_doors(kind, tmp_path):
    data = encode(SCENE, kind, quality=95)
    by_path = decode(write(tmp_path, "scene", data)).pixels
    np.testing.assert_array_equal(by_path, decode(data).pixels)
    np.testing.assert_array_equal(by_path, decode(PIL.Image.open(io.BytesIO(data))).pixels)
    assert np.abs(by_path.astype(int) - SCENE).mean() < 8


def test_names():
    data = encode(SCENE, "PNG")
    assert decode(data).name == "<bytes>"
    assert decode(SCENE).name == "<array>"
    assert decode(PIL.Image.fromarray(SCENE)).name == "<image>"
    assert decode(data, name="scene 7").name == "scene 7"


@pytest.mark.parametrize("source", ["jpeg", "png", "array", "flipped", "image", "grey"])
def test_pixels_are_contiguous_read_only_and_nobody_elses(source):
    array = SCENE.copy()
    image = PIL.Image.fromarray(SCENE)
    given_source = {
        "jpeg": encode(SCENE, "JPEG"),
        "png": encode(SCENE, "PNG"),
        "array": array,
        "flipped": array[::-1, ::-1],
        "image": image,
        "grey": array[..., 0],
    }[source]
    pixels = decode(given_source).pixels
    before = pixels.copy()
    assert pixels.flags.c_contiguous
    assert not pixels.flags.writeable
    assert pixels.dtype == np.uint8
    assert pixels.shape == (17, 23, 3)
    array[:] = 0
    image.paste((0, 0, 0), (0, 0, 23, 17))
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("source", ["whole", "damaged"])
def test_files_are_closed(source, tmp_path, recwarn):
    data = encode(SCENE, "PNG")
    path = write(tmp_path, "a.png", data if source == "whole" else data[: len(data) // 2])
    descriptors = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        if source == "whole":
            decode(path)
        else:
            fault(ImageUnreadable, path)
    if descriptors:
        assert set(os.listdir("/proc/self/fd")) <= descriptors


def test_a_plain_jpeg_is_not_copied_needlessly(monkeypatch):
    """Pixels leave Pillow once, and no further picture is made on the way."""
    data = encode(SCENE, "JPEG")
    for name in ("convert", "copy", "transpose", "paste"):
        monkeypatch.setattr(PIL.Image.Image, name, lambda *_: pytest.fail("a copy"))
    decode(data)


def test_a_picture_is_known_by_its_content_not_its_name(tmp_path):
    path = write(tmp_path, "really_png.jpg", encode(SCENE, "PNG"))
    np.testing.assert_array_equal(decode(path).pixels, SCENE)


# Orientation


TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF"])
def test_exif_orientation_turns_the_pixels(kind, orientation, tmp_path):
    plain = decode(encode(SCENE, kind, quality=90)).pixels
    data = encode(SCENE, kind, quality=90, exif=pictures.exif(orientation))
    for source in (data, write(tmp_path, "a", data), PIL.Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(decode(source).pixels, TURNS[orientation](plain))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("block", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", pictures.exif(9), b"\0"])
def test_damaged_exif_costs_no_picture(block):
    data = encode(SCENE, "JPEG", exif=block)
    np.testing.assert_array_equal(decode(data).pixels, decode(encode(SCENE, "JPEG")).pixels)


# Colour profiles


def from_matrix_profile(pixels: np.ndarray, primaries, gamma: float) -> np.ndarray:
    """What a matrix profile means, in floating point: to XYZ, to linear sRGB, through the sRGB curve."""
    linear = (pixels / 255.0) ** gamma @ np.array(primaries) @ np.linalg.inv(pictures.SRGB)
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_wide_profile_is_converted_to_srgb(kind):
    muted = 90 + SCENE // 4  # inside both gamuts
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode(encode(muted, kind, icc_profile=pictures.rgb_profile(), **options))
    expected = from_matrix_profile(muted, pictures.DISPLAY_P3, 2.2)
    assert np.abs(image.pixels - expected).max() <= 2
    assert np.abs(image.pixels - muted.astype(int)).max() >= 4  # it does something
    assert image.notes == ("ICC profile 'wide test' converted to sRGB",)


def test_threads_share_a_profile():
    """It is opened once; whoever uses it at the same time gets the colours of whoever is alone."""
    random = np.random.default_rng(0).integers(0, 256, (4, 400, 500, 3), np.uint8)
    sources = [encode(picture, "PNG", icc_profile=pictures.rgb_profile()) for picture in random]
    alone = [decode(source).pixels for source in sources]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda source: decode(source).pixels, sources * 5))
    for k, found in enumerate(together):
        np.testing.assert_array_equal(found, alone[k % 4])


def test_a_profile_that_is_srgb_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = decode(encode(SCENE, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(image.pixels, SCENE)
    assert image.notes == ()


def test_a_grey_profile_is_applied():
    flat = np.full((4, 4), 128, np.uint8)
    image = decode(encode(flat, "PNG", icc_profile=pictures.grey_profile(1.0)))
    assert (np.abs(image.pixels.astype(int) - 188) <= 1).all()  # half the light
    assert image.notes == ("ICC profile 'grey test' converted to sRGB",)


def test_grey_pixels_with_a_colour_profile_go_through_it():
    image = decode(encode(np.full((4, 4), 100, np.uint8), "PNG", icc_profile=pictures.rgb_profile(gamma=1.0)))
    expected = from_matrix_profile(np.full((1, 3), 100), pictures.DISPLAY_P3, 1.0)
    assert np.abs(image.pixels - expected).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_cmyk_profile_is_applied(kind):
    inks = np.zeros((32, 32, 4), np.uint8)
    inks[:16, :, 0] = 255
    inks[16:, :16, 1] = 255
    picture = PIL.Image.fromarray(inks, "CMYK")
    image = decode(encode(picture, kind, icc_profile=pictures.cmyk_profile(), quality=100))
    assert np.abs(image.pixels[4, 4].astype(int) - 119).max() <= 3  # L* 50
    assert np.abs(image.pixels[-4, 4].astype(int) - 59).max() <= 3  # L* 25
    assert image.pixels[-4, -4].min() >= 252
    assert image.notes == ("ICC profile 'press test' converted to sRGB",)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_not_inverted(kind):
    inks = np.zeros((32, 32, 4), np.uint8)
    inks[:, :16, 0] = 255
    pixels = decode(encode(PIL.Image.fromarray(inks, "CMYK"), kind, quality=100)).pixels
    assert np.abs(pixels[16, 4].astype(int) - (0, 255, 255)).max() <= 4
    assert pixels[16, -4].min() >= 250


@pytest.mark.parametrize(
    "profile", [b"nonsense", pictures.rgb_profile()[:200], pictures.rgb_profile()[:128] + bytes(400)]
)
def test_a_damaged_profile_is_ignored_with_a_note(profile):
    image = decode(encode(SCENE, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(image.pixels, SCENE)
    assert image.notes == ("damaged ICC profile ignored",)


def test_a_profile_for_other_channels_is_ignored_with_a_note():
    image = decode(encode(SCENE, "PNG", icc_profile=pictures.cmyk_profile()))
    np.testing.assert_array_equal(image.pixels, SCENE)
    assert image.notes == ("ICC profile for CMYK ignored on RGB pixels",)


# Pixel modes


def wide_png(values: np.ndarray, *extra: bytes) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    color = 0 if values.ndim == 2 else 2
    return pictures.png(values.shape[1], values.shape[0], 16, color, rows, *extra)


def test_sixteen_bit_grey_is_scaled_never_clipped():
    values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    expected = np.repeat(np.rint(values / 257).astype(np.uint8)[..., None], 3, 2)
    sources = [wide_png(values), encode(PIL.Image.fromarray(values), "TIFF")]
    sources += [PIL.Image.fromarray(values), PIL.Image.fromarray(values.astype(np.int32))]
    sources.append(PIL.Image.frombytes("I;16B", (32, 32), values.astype(">u2").tobytes()))
    for source in sources:
        np.testing.assert_array_equal(decode(source).pixels, expected)


def test_sixteen_bit_colour_keeps_eight_bit_values():
    np.testing.assert_array_equal(decode(wide_png(SCENE.astype(np.uint16) * 257)).pixels, SCENE)


def test_grey_where_white_is_zero():
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    image = PIL.Image.fromarray(values)
    data = encode(image, "TIFF", tiffinfo={262: 0})
    pixels = decode(data).pixels
    assert pixels[0, 0, 0] == 255
    assert pixels[-1, -1, 0] == 1


@pytest.mark.parametrize("value", [-1, 65536, 2**31 - 1])
def test_wide_integers_out_of_range_are_refused(value):
    low, high = min(0, value), max(0, value)
    values = np.array([[0, value]], np.int32)
    for source in (PIL.Image.fromarray(values), encode(PIL.Image.fromarray(values), "TIFF")):
        assert fault(ImageUnsupported, source, name="x.tif") == (
            f"x.tif: grey values from {low} to {high}, outside the 16-bit range 0 to 65535; "
            "scale them to 0..65535, or save 8 or 16 bits a channel"
        )


def test_float_tiff_is_taken_as_zero_to_one():
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    pixels = decode(encode(PIL.Image.fromarray(values), "TIFF")).pixels
    np.testing.assert_array_equal(pixels[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize(("value", "shown"), [(-0.5, "from -0.5 to 0.5"), (255, "from 0.5 to 255"), (np.nan, "nan")])
def test_floats_outside_zero_to_one_are_refused(value, shown):
    values = np.array([[0.5, value]], np.float32)
    text = fault(ImageUnsupported, encode(PIL.Image.fromarray(values), "TIFF"), name="x.tif")
    assert text.startswith("x.tif: floating-point values")
    assert shown in text


@pytest.mark.parametrize(
    "mode", ["L", "1", "P", "LA", "PA", "RGBA", "RGBX", "RGBa", "La", "YCbCr", "HSV", "LAB", "CMYK"]
)
def test_every_pillow_mode_comes_out_as_rgb(mode):
    source = PIL.Image.fromarray(np.stack([GREY] * 3, -1))
    if mode in ("P", "PA", "RGBa", "La", "LAB"):
        image = {
            "P": lambda: source.quantize(256),
            "PA": lambda: source.quantize(256).convert("PA"),
            "RGBa": lambda: source.convert("RGBA").convert("RGBa"),
            "La": lambda: source.convert("LA").convert("La"),
            "LAB": lambda: ImageCms.profileToProfile(
                source, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
            ),
        }[mode]()
    else:
        image = source.convert(mode)
    pixels = decode(image).pixels.astype(int)
    assert pixels.shape == (17, 23, 3)
    if mode == "1":
        assert set(np.unique(pixels)) <= {0, 255}
    else:
        assert np.abs(pixels - GREY[..., None]).max() <= (3 if mode in ("YCbCr", "HSV", "LAB", "P", "PA") else 0)


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 30)])
def test_transparency_is_composited_on_the_background(background):
    layers = np.dstack([SCENE, np.full(GREY.shape, 255, np.uint8)])
    layers[:5, :, 3] = 0
    layers[5:10, :, 3] = 128
    expected = SCENE.astype(float)
    expected[:5] = background
    expected[5:10] = SCENE[5:10] * (128 / 255) + np.array(background) * (127 / 255)
    for source in (encode(layers, "PNG"), layers, PIL.Image.fromarray(layers)):
        image = decode(source, background=background)
        assert np.abs(image.pixels - expected).max() <= 1
        np.testing.assert_array_equal(image.pixels[:5], np.broadcast_to(background, (5, 23, 3)))
        np.testing.assert_array_equal(image.pixels[10:], SCENE[10:])
        assert image.notes == ("transparency composited on #{:02x}{:02x}{:02x}".format(*background),)


def test_an_opaque_alpha_channel_is_no_news():
    image = decode(np.dstack([SCENE, np.full(GREY.shape, 255, np.uint8)]))
    np.testing.assert_array_equal(image.pixels, SCENE)
    assert image.notes == ()


def test_transparent_palette_entries_and_colours():
    palette = PIL.Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for kind in ("PNG", "GIF"):
        pixels = decode(encode(palette, kind, transparency=1), background=(9, 8, 7)).pixels
        assert pixels[0].tolist() == [[255, 0, 0], [9, 8, 7], [0, 0, 255]]
    soft = decode(encode(palette, "PNG", transparency=bytes([255, 128, 0])), background=(0, 0, 0)).pixels
    assert soft[0].tolist() == [[255, 0, 0], [0, 128, 0], [0, 0, 0]]
    keyed = pictures.png(2, 1, 8, 0, b"\0\x10\x20", pictures.png_chunk(b"tRNS", b"\0\x20"))
    assert decode(keyed, background=(1, 2, 3)).pixels.tolist() == [[[16, 16, 16], [1, 2, 3]]]
    wide = wide_png(np.array([[257, 771]], np.uint16), pictures.png_chunk(b"tRNS", b"\x03\x03"))
    assert decode(wide, background=(1, 2, 3)).pixels.tolist() == [[[1, 1, 1], [1, 2, 3]]]


def test_profile_and_transparency_together():
    """The background is an sRGB colour already: only the picture goes through the profile."""
    layers = np.dstack([SCENE, np.full(GREY.shape, 255, np.uint8)])
    layers[:5, :, 3] = 0
    image = decode(encode(layers, "PNG", icc_profile=pictures.rgb_profile()), background=(200, 60, 60))
    opaque = decode(encode(SCENE, "PNG", icc_profile=pictures.rgb_profile()))
    np.testing.assert_array_equal(image.pixels[5:], opaque.pixels[5:])
    assert (image.pixels[:5] == (200, 60, 60)).all()


# Several pictures in one file


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {}), ("AVIF", {})]
)
def test_the_first_frame_is_taken_and_said(kind, options):
    frames = [PIL.Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (250, 120, 10)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    image = decode(data)
    assert image.notes == ("first of 3 frames",)
    assert np.abs(image.pixels.astype(int) - 250).max() <= 3


def test_a_pillow_image_is_taken_at_the_frame_it_stands_on():
    frames = [PIL.Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (250, 120, 10)]
    source = PIL.Image.open(io.BytesIO(encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])))
    source.seek(1)
    image = decode(source)
    assert image.notes == ("frame 2 of 3",)
    assert (image.pixels == 120).all()
    assert source.tell() == 1


# HEIC and camera RAW


@pytest.mark.parametrize("turned", [False, True])
def test_heic_is_upright_and_turned_once(turned, tmp_path):
    pytest.importorskip("pi_heif")
    red, green, blue, white = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    corners = (blue, red, white, green) if turned else (red, green, blue, white)
    for source in (pictures.heic(turned=turned), write(tmp_path, "a.jpg", pictures.heic(turned=turned))):
        image = decode(source)
        assert image.pixels.shape == ((64, 32, 3) if turned else (32, 64, 3))
        shown = [image.pixels[y, x].astype(int) for y in (4, -4) for x in (4, -4)]
        assert np.abs(np.array(shown) - corners).max() <= 3
    assert fault(ImageTooLarge, pictures.heic(), max_megapixels=0.002).startswith("<bytes>: 64×32 is 0.0 ")


@pytest.mark.parametrize("marked", [True, False])
def test_a_raw_is_developed_and_never_its_thumbnail(marked, tmp_path):
    pytest.importorskip("rawpy")
    data = pictures.dng(marked=marked)
    image = decode(data)
    assert image.pixels.shape == (48, 64, 3)
    red, green, blue = image.pixels[10:-10, 10:-10].reshape(-1, 3).mean(0)
    if marked:
        assert green > max(red, blue) + 30  # the thumbnail is magenta
    else:
        assert max(red, green, blue) - min(red, green, blue) < 3  # no camera balance: evened out
    assert image.notes == ("RAW developed with the camera's white balance",)
    np.testing.assert_array_equal(image.pixels, decode(write(tmp_path, "shot.tif", data)).pixels)
    assert fault(ImageTooLarge, data, max_megapixels=0.003).startswith("<bytes>: 64×48 is 0.0 ")


@pytest.mark.parametrize("marked", [True, False])
def test_a_raw_that_pillow_opened_is_refused(marked):
    assert fault(ImageUnsupported, PIL.Image.open(io.BytesIO(pictures.dng(marked=marked)))) == (
        "<image>: only the thumbnail of a camera RAW; pass the path or the bytes of the file"
    )


def test_an_unknown_raw_is_an_image_error():
    pytest.importorskip("rawpy")
    assert "FUJIFILM" not in fault(ImageUnsupported, b"FUJIFILMCCD-RAW " + bytes(500), name="x.raf")


@pytest.mark.parametrize(
    ("module", "data", "text"),
    [
        ("pi_heif", pictures.heic(), "a: HEIC needs the package pi-heif; pip install 'dgiqa[heif]'"),
        ("rawpy", pictures.dng(), "a: camera RAW needs the package rawpy; pip install 'dgiqa[raw]'"),
    ],
)
def test_a_missing_extra_says_what_to_install(module, data, text, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert fault(ImageNeedsExtra, data, name="a") == text


# What goes wrong


def test_no_such_file():
    assert fault(ImageNotFound, "no/such.jpg") == "no/such.jpg: no such file; check the path"
    assert fault(ImageNotFound, "nul\0.jpg", name="nul").startswith("nul: no such file")


def test_a_folder(tmp_path):
    assert fault(ImageUnreadable, tmp_path) == (f"{tmp_path}: a folder, not a file; list its pictures with dgiqa.find")


def test_a_pipe_is_refused_not_waited_for(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    assert fault(ImageUnsupported, path) == f"{path}: not a regular file; pass the bytes that it delivers"


def test_a_forbidden_file(tmp_path, monkeypatch):
    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, "a.png", encode(SCENE, "PNG"))
    monkeypatch.setattr("builtins.open", forbidden)
    assert fault(ImageUnreadable, path) == (
        f"{path}: can't be read (Permission denied); check the permissions of the file and its folder"
    )


def test_an_empty_file(tmp_path):
    path = write(tmp_path, "a.jpg", b"")
    assert fault(ImageUnreadable, path) == f"{path}: empty (0 bytes); get a fresh copy of it, or leave it out"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"Dear diary,\n", "text"),
        (b"%PDF-1.7\n\x80", "a PDF document"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video or sound"),
        (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "markup text"),
        (b"\x00\x01\x02\x03", "unknown bytes"),
    ],
)
def test_what_is_no_picture(data, what, tmp_path):
    path = write(tmp_path, "a.jpg", data)
    assert fault(ImageUnsupported, path) == (
        f"{path}: {what}, not a picture; formats that are decoded: "
        "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, HEIC, camera RAW"
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_truncated_files(kind):
    data = encode(scene(64, 64), kind)
    for part in (0.5, 0.9):
        text = fault(ImageUnreadable, data[: int(len(data) * part)], name="cut")
        assert text.startswith("cut: ")
        assert "get a fresh copy of it" in text
        assert "object at" not in text


def test_a_damaged_header():
    data = encode(SCENE, "PNG")
    assert fault(ImageUnreadable, data[:12] + b"XXXX" + data[16:], name="x.png") == (
        "x.png: begins as PNG, but is damaged or of a variant not decoded here; "
        "get a fresh copy of it, or save it again as an 8-bit PNG or JPEG"
    )


def jpeg_of_height_zero() -> bytes:
    data = encode(SCENE, "JPEG")
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + b"\0\0" + data[frame + 7 :]


@pytest.mark.parametrize(
    "source",
    [
        pictures.png(0, 5, 8, 2),
        jpeg_of_height_zero(),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 0), np.uint8),
        PIL.Image.new("RGB", (0, 3)),
    ],
    ids=["png", "jpeg", "array", "grey array", "image"],
)
def test_pictures_without_pixels(source):
    assert fault(ImageTooSmall, source, name="x").startswith("x: ")


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((4, 4, 3), np.float32), "an array of float32, not uint8"),
        (np.zeros((4, 4), np.uint16), "an array of uint16, not uint8"),
        (np.zeros((4, 4, 2), np.uint8), "an array of shape (4, 4, 2)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "an array of shape (1, 4, 4, 3)"),
        (np.zeros(4, np.uint8), "an array of shape (4,)"),
    ],
)
def test_arrays_that_are_no_picture(array, text):
    assert fault(ImageUnsupported, array).startswith(f"<array>: {text}; ")


def test_grey_arrays():
    for source in (GREY, GREY[..., None]):
        np.testing.assert_array_equal(decode(source).pixels, np.stack([GREY] * 3, -1))


def test_other_types_are_an_image_error_too():
    assert fault(ImageUnsupported, 7) == (
        "<int>: not a kind of source that is decoded; pass a path, the bytes of a file, a Pillow image or a uint8 array"
    )


def test_a_closed_pillow_image(tmp_path):
    source = PIL.Image.open(write(tmp_path, "a.png", encode(SCENE, "PNG")))
    source.close()
    assert fault(ImageUnreadable, source).startswith("<image>: truncated or damaged (")


# The limit on megapixels


def test_a_bomb_is_refused_from_its_header():
    assert fault(ImageTooLarge, pictures.png(100_000, 100_000, 8, 2), name="bomb.png") == (
        "bomb.png: 100000×100000 is 10000.0 megapixels, over the limit of 250; "
        "raise it with --max-megapixels or max_megapixels=, or leave the picture out"
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "AVIF"])
def test_the_limit_is_checked_for_every_format_and_can_be_moved(kind):
    data = encode(scene(40, 30), kind)  # 0.0012 megapixels
    fault(ImageTooLarge, data, max_megapixels=0.001)
    assert decode(data, max_megapixels=0.0012).width == 40


@pytest.mark.parametrize("source", [SCENE, PIL.Image.fromarray(SCENE)], ids=["array", "image"])
def test_the_limit_holds_by_every_door(source):
    fault(ImageTooLarge, source, max_megapixels=0.0001)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "AVIF"])
def test_pillows_own_limit_neither_stops_nor_warns_nor_changes(kind, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    data = encode(scene(40, 30), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).width == 40
        fault(ImageTooLarge, data, max_megapixels=0.001)
        fault(ImageUnreadable, data[: len(data) // 2])
    assert PIL.Image.MAX_IMAGE_PIXELS == 100


def test_pillows_limit_survives_threads(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    data = encode(scene(40, 30), "TIFF")
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.extend(decode(data).width for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [40] * 200
    assert PIL.Image.MAX_IMAGE_PIXELS == 100


def test_a_tile_larger_than_its_picture_counts():
    """A tile is decoded whole, so a tiny picture can hide an enormous one."""
    fault(ImageTooLarge, pictures.tiff_with_tile(100_000))
    assert decode(pictures.tiff_with_tile(16)).pixels.shape == (4, 4, 3)


# No byte string does worse than an ImageError


def _small_files() -> list[bytes]:
    picture = scene(12, 9)
    frames = [PIL.Image.fromarray(picture), PIL.Image.fromarray(picture[::-1].copy())]
    block = pictures.exif(6)
    return [
        encode(picture, "JPEG", exif=block, icc_profile=pictures.rgb_profile()),
        encode(picture, "JPEG", progressive=True),
        encode(picture, "PNG", exif=block, icc_profile=pictures.rgb_profile()),
        wide_png(np.arange(12, dtype=np.uint16).reshape(3, 4), pictures.png_chunk(b"tRNS", b"\0\x03")),
        wide_png(np.arange(24, dtype=np.uint16).reshape(2, 4, 3), pictures.png_chunk(b"tRNS", b"\1\1\2\2\3\3")),
        encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encode(frames[0].quantize(4), "GIF", transparency=1),
        encode(picture, "TIFF", exif=block),
        encode(picture, "TIFF", compression="tiff_lzw"),
        encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        encode(PIL.Image.fromarray(np.ones((3, 4), np.float32)), "TIFF"),
        encode(picture, "WEBP", lossless=True, exif=block),
        encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        encode(picture, "BMP"),
        encode(picture, "AVIF"),
    ]


SMALL_FILES = _small_files()


@st.composite
def mutated_files(draw):
    data = bytearray(draw(st.sampled_from(SMALL_FILES)))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, about damaged metadata
@given(st.one_of(mutated_files(), mutated_files(), mutated_files(), st.binary(max_size=64)))
@settings(max_examples=400, deadline=None)
def test_only_image_errors_escape_for_any_bytes(data):
    problem = None
    try:
        image = decode(data, name="fuzz", max_megapixels=1)
    except ImageError as error:
        problem = error
    if problem is not None:
        assert problem.message.startswith("fuzz: ")
        assert problem.hint
    else:
        assert image.pixels.dtype == np.uint8
        assert image.pixels.ndim == 3
        assert image.pixels.shape[2] == 3


def test_small_files_are_whole():
    assert all(decode(data).pixels.size for data in SMALL_FILES)


# Sniffing


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"II*\0\x08\0\0\0", "tiff"),
        (b"MM\0+\0\x08\0\0", "tiff"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "heif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", None),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", None),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\0\0\0\0AVI LIST", None),
        (b"BM letters that begin with BM", None),
        (b"%PDF-1.4", None),
        (b"", None),
    ],
)
def test_sniff(head, kind):
    assert sniff(head) == kind


@pytest.mark.parametrize(
    ("data", "raw"),
    [
        (pictures.dng(), True),
        (pictures.dng(reduced=False), True),
        (pictures.dng(marked=False, reduced=False), True),  # sensor data in a second directory
        (encode(SCENE, "TIFF", tiffinfo={254: 1}), True),  # a thumbnail of something
        (encode(SCENE, "TIFF", tiffinfo={254: 1}, big_tiff=True), True),
        (encode(PIL.Image.new("I;16B", (3, 2)), "TIFF", tiffinfo={254: 1}), True),  # big-endian
        (encode(SCENE, "TIFF", tiffinfo={50706: b"\1\4\0\0"}), True),
        (pictures.tiff_with_tile(16, compression=34713), True),  # Nikon's
        (pictures.tiff_with_tile(16), False),
        (encode(SCENE, "TIFF", tiffinfo={254: 2}), False),  # a page of several
        (encode(SCENE, "TIFF", big_tiff=True), False),
        (b"II*\0", False),
        (b"II*\0\xff\xff\xff\xff", False),
    ],
)
def test_raw_in_a_tiff_container_is_told_apart(data, raw):
    stream = io.BytesIO(data)
    assert is_raw_tiff(stream) is raw
    assert stream.tell() == 0


@pytest.mark.parametrize("data", [*SMALL_FILES, pictures.heic(), pictures.dng()])
def test_sniff_knows_what_decodes(data):
    assert sniff(data[:HEAD]) is not None


def test_a_jpeg_of_very_many_scans_is_refused_at_once():
    """Each goes over all pixels: a megabyte of them took minutes."""
    stream = io.BytesIO()
    PIL.Image.new("RGB", (1500, 1000), "red").save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    assert decode(data).pixels.shape == (1000, 1500, 3)
    last = data.rindex(b"\xff\xda")
    many = data[:-2] + data[last:-2] * 5000 + data[-2:]
    start = time.perf_counter()
    with pytest.raises(ImageUnsupported, match=r"a JPEG of 50\d\d scans"):
        decode(many)
    assert time.perf_counter() - start < 1


def test_what_follows_a_jpeg_or_lies_in_its_thumbnail_are_no_scans_of_it():
    """A film, say, behind a progressive JPEG has the two bytes of a scan's marker every 65,536."""
    stream = io.BytesIO()
    image = PIL.Image.new("RGB", (64, 48), "red")
    image.save(stream, "JPEG", progressive=True, exif=b"Exif\0\0" + b"\xff\xda\xff\xd9" * 200)
    assert decode(stream.getvalue() + b"\xff\xda" * 1000).pixels.shape == (48, 64, 3)


def test_very_many_frames_are_not_counted():
    """Counting those of a TIFF takes a time that grows with their square."""
    stream = io.BytesIO()
    one = PIL.Image.new("L", (8, 8))
    one.save(stream, "TIFF", save_all=True, append_images=[one] * 300)
    image = decode(stream.getvalue())
    assert image.notes == ("first of more than 100 frames",)
    stream = io.BytesIO()
    one.save(stream, "TIFF", save_all=True, append_images=[one] * 4)
    assert decode(stream.getvalue()).notes == ("first of 5 frames",)

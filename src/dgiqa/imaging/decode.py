"""One decoder: a path, bytes, a Pillow image or an array becomes an upright 8-bit sRGB picture.

The format follows from the content, never from the name, so the same picture gives the same pixels by any
door. Pillow decodes all but HEIC (pi_heif) and camera RAW (rawpy), which are optional extras. Whatever goes
wrong with a source is an :class:`dgiqa.errors.ImageError` that names it and says the way out.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

from dgiqa.cards import Recipe
from dgiqa.errors import (
    ImageError,
    ImageNeedsExtra,
    ImageNotFound,
    ImageTooLarge,
    ImageTooSmall,
    ImageUnreadable,
    ImageUnsupported,
)
from dgiqa.imaging.color import to_srgb
from dgiqa.imaging.resize import fit_picture
from dgiqa.imaging.sniff import FORMAT_NAMES, HEAD, declares_no_area, describe, is_raw_tiff, sniff
from dgiqa.types import Image, UInt8

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | PIL.Image.Image | npt.NDArray[Any]

#: EXIF orientation → what makes the picture upright.
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

#: Those that swap width and height.
_ON_ITS_SIDE = (5, 6, 7, 8)

#: Scans of a progressive JPEG, and frames of a TIFF that are counted.
MOST_SCANS, MOST_PAGES = 100, 100
#: What a JPEG says between and after the scans: not a byte 255 of theirs, a restart, or padding.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FRESH_COPY = "get a fresh copy of it, or leave it out"


@dataclass(frozen=True)
class _Job:
    """What one call carries along: the name, the terms, and the notes so far."""

    name: str
    background: tuple[int, int, int]
    max_megapixels: float
    least_side: int = 0
    fitted: Sequence[Recipe] = ()
    notes: list[str] = field(default_factory=list)
    full: list[tuple[int, int]] = field(default_factory=list)  # upright, where it is more than the pixels
    others: list[UInt8] = field(default_factory=list)  # at the sizes of the second recipe and those after it

    def check_size(self, width: int, height: int, megapixels: float | None = None) -> None:
        if width < 1 or height < 1:
            raise ImageTooSmall(f"{self.name}: {width}×{height} has no pixels", hint="leave it out")
        megapixels = width * height / 1e6 if megapixels is None else megapixels
        if megapixels > self.max_megapixels:
            raise ImageTooLarge(
                f"{self.name}: {width}×{height} is {megapixels:.1f} megapixels, "
                f"over the limit of {self.max_megapixels:g}",
                hint="raise it with --max-megapixels or max_megapixels=, or leave the picture out",
            )


def decode(
    source: Source,
    *,
    name: str | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    max_megapixels: float = 250.0,
    least_side: int = 0,
    fitted: Sequence[Recipe] = (),
) -> Image:
    """One picture, upright, as 8-bit sRGB.

    Args:
        source: a path; the bytes of a file; a Pillow image (taken at the frame it stands on); or a uint8
            array, (H, W) or (H, W, 1) grey, (H, W, 3) RGB, (H, W, 4) RGB and alpha.
        name: how messages and rows call it; else the path, ``<bytes>``, ``<image>`` or ``<array>``.
        background: sRGB colour under transparent pixels.
        max_megapixels: limit on width × height / 10⁶, checked before pixels are decoded.
        least_side: a JPEG may be decoded at a half, a quarter or an eighth of its size as long as its short side keeps
            this many pixels; 0 for never. What is in memory already stays as it is.
        fitted: the recipes that will resize it, if nothing wants all its pixels: it may come at the first one's size,
            and at the others' beside it (:meth:`Image.at`), with the pixels that resizing it later would give.

    Returns:
        Image whose pixels are a contiguous, read-only (H, W, 3) uint8 array shared with nobody. Its notes say
        what a reader should know, such as ``first of 12 frames``.

    Raises:
        ImageNotFound, ImageUnreadable, ImageUnsupported, ImageTooLarge, ImageTooSmall: never anything else
            for a source of a type named above.
    """
    job = _Job(name or name_of(source), background, max_megapixels, least_side, fitted)
    with _as_image_error(job.name):
        if isinstance(source, np.ndarray):
            pixels = _from_array(source, job)
        elif isinstance(source, PIL.Image.Image):
            _refuse_thumbnail(source, job.name)
            pixels = _from_pillow(source, job)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            pixels = _from_stream(io.BytesIO(source), job)
        elif isinstance(source, (str, os.PathLike)):
            with _open_file(os.fspath(source), job.name) as stream:
                pixels = _from_stream(stream, job)
        else:
            raise ImageUnsupported(
                f"{job.name}: not a kind of source that is decoded",
                hint="pass a path, the bytes of a file, a Pillow image or a uint8 array",
            )
    pixels.setflags(write=False)
    for each in job.others:
        each.setflags(write=False)
    return Image(pixels, job.name, tuple(job.notes), next(iter(job.full), None), tuple(job.others))


def name_of(source: Source) -> str:
    """How messages and rows call a source that was given no name."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, PIL.Image.Image):
        return "<image>"
    return "<bytes>" if isinstance(source, (bytes, bytearray, memoryview)) else f"<{type(source).__name__}>"


@contextmanager
def _as_image_error(name: str) -> Iterator[None]:
    """Decoders fail in every way there is; here each becomes one picture's fault."""
    try:
        yield
    except ImageError:
        raise
    except (MemoryError, PIL.Image.DecompressionBombError) as error:
        raise ImageTooLarge(
            f"{name}: too large to decode ({error or 'out of memory'})", hint="leave the picture out"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageUnreadable(f"{name}: truncated or damaged ({reason})", hint=_FRESH_COPY) from error


def _open_file(path: str, name: str) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageNotFound(f"{name}: no such file", hint="check the path") from error
    except OSError as error:
        raise ImageUnreadable(
            f"{name}: can't be read ({error.strerror})",
            hint="check the permissions of the file and its folder",
        ) from error
    if stat.S_ISDIR(mode):
        raise ImageUnreadable(f"{name}: a folder, not a file", hint="list its pictures with dgiqa.find")
    raise ImageUnsupported(f"{name}: not a regular file", hint="pass the bytes that it delivers")


def _from_stream(stream: BinaryIO, job: _Job) -> UInt8:
    head = stream.read(HEAD)
    if not head:
        raise ImageUnreadable(f"{job.name}: empty (0 bytes)", hint=_FRESH_COPY)
    kind = sniff(head)
    if kind is None:
        raise ImageUnsupported(
            f"{job.name}: {describe(head)}, not a picture",
            hint=f"formats that are decoded: {', '.join(FORMAT_NAMES.values())}",
        )
    stream.seek(0)
    if kind == "raw" or (kind == "tiff" and is_raw_tiff(stream)):
        return _from_raw(stream, job)
    if kind == "heif":
        return _from_heif(stream, job)
    try:
        with _without_pillow_limit():
            image = PIL.Image.open(stream, formats=(kind,))  # a JPEG may turn out as MPO
    except PIL.UnidentifiedImageError:
        if declares_no_area(kind, head):
            raise ImageTooSmall(f"{job.name}: its width or height is 0", hint="leave the picture out") from None
        raise ImageUnreadable(
            f"{job.name}: begins as {FORMAT_NAMES[kind]}, but is damaged or of a variant not decoded here",
            hint="get a fresh copy of it, or save it again as an 8-bit PNG or JPEG",
        ) from None
    _refuse_many_scans(image, stream, job.name)
    return _from_pillow(image, job, own=True)


def _refuse_many_scans(image: PIL.Image.Image, stream: BinaryIO, name: str) -> None:
    """Each scan of a progressive JPEG goes over all of its pixels: a small file of many would take hours."""
    if not image.info.get("progressive"):
        return
    here = stream.tell()
    stream.seek(0)
    scans = _scans(stream.read())
    stream.seek(here)
    if scans > MOST_SCANS:
        raise ImageUnsupported(f"{name}: a JPEG of {scans} scans; a real one has some 10", hint="save it again")


def _scans(data: bytes) -> int:
    """How many scans a JPEG has: up to its end, since anything may follow, and without those of its thumbnails."""
    place, scans = 0, 0
    while (marker := _MARKER.search(data, place)) and marker[0] != b"\xff\xd9":
        scans += marker[0] == b"\xff\xda"
        alone = marker[0] in (b"\xff\xd8", b"\xff\x01")  # all others say how long what they begin is
        place = marker.end() if alone else marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2]))
    return scans


def _from_pillow(image: PIL.Image.Image, job: _Job, own: bool = False) -> UInt8:
    """The pixels of ``image``, which is nobody else's if it is ``own``."""
    megapixels, declared = _megapixels(image), image.size
    job.check_size(*declared, megapixels)
    _note_frames(image, job.notes)
    if own and job.least_side and image.format in ("JPEG", "MPO"):
        _reduce(image, job.least_side)
    reduced = image.size != declared
    _load(image, megapixels)
    orientation = _orientation(image, job.notes)
    full = declared if reduced else image.size  # Pillow turns a TIFF while it loads
    full = full[::-1] if orientation in _ON_ITS_SIDE else full
    image = to_srgb(image, job.name, job.background, job.notes, own=own)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    fitted = [fit_picture(image, recipe, full) for recipe in job.fitted] or [image]
    if any(each.size != full for each in fitted):
        job.full.append(full)
    once = {id(each): each for each in fitted}  # several may leave the picture as it is
    pixels = {key: np.asarray(each) for key, each in once.items()}
    first, *others = [pixels[id(each)] for each in fitted]
    job.others.extend(others)
    return first


def _reduce(image: PIL.Image.Image, least_side: int) -> None:
    """Has a JPEG decoded at 1/2, 1/4 or 1/8, by fewer of its cosines, while its short side keeps ``least_side``.

    Where colour is coded coarser in one direction only, as in 4:2:2, the decoder leaves it so at a reduced scale, too:
    twice the size is decoded, and resizing evens that out.
    """
    sampling = [layer[1:3] for layer in getattr(image, "layer", ())]
    if sampling and any(across * sampling[0][1] != down * sampling[0][0] for across, down in sampling):
        least_side *= 2
    short = min(image.size)
    if short >= 2 * least_side:
        width, height = (max(1, side * least_side // short) for side in image.size)
        image.draft(None, (width, height))


def _load(image: PIL.Image.Image, megapixels: float) -> None:
    """The one place where Pillow decodes pixels."""
    limit = PIL.Image.MAX_IMAGE_PIXELS
    with _without_pillow_limit() if limit is not None and megapixels * 1e6 > limit else nullcontext():
        image.load()


_limit_lock = threading.Lock()


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Pillow's own bomb limit is one setting for the whole process: lifted under a lock, then put back."""
    with _limit_lock:
        before = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before


def _megapixels(image: PIL.Image.Image) -> float:
    """What decoding takes: a TIFF's tile may be far larger than its picture."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(322, 0), tags.get(323, 0)
    tile_area = tile[0] * tile[1] if all(isinstance(side, int) for side in tile) else 0
    return max(image.width * image.height, tile_area) / 1e6


def _note_frames(image: PIL.Image.Image, notes: list[str]) -> None:
    here = image.tell() if hasattr(image, "tell") else 0
    try:
        frames = _pages(image) if image.format == "TIFF" else getattr(image, "n_frames", 1)
    except Exception:  # a damaged tail can't be counted; the first frame may still be whole
        image.seek(here)
        notes.append("first of several frames")
        return
    if frames > MOST_PAGES:
        notes.append(f"first of more than {MOST_PAGES} frames")
    elif frames > 1:
        notes.append(f"frame {here + 1} of {frames}" if here else f"first of {frames} frames")


def _pages(image: PIL.Image.Image) -> int:
    """Frames of a TIFF, counted so far only: Pillow's own count takes a time that grows with their square."""
    here = image.tell()
    try:
        for page in range(here + 1, MOST_PAGES + 2):
            image.seek(page)
    except EOFError:
        return image.tell() + 1
    finally:
        image.seek(here)
    return MOST_PAGES + 1


def _orientation(image: PIL.Image.Image, notes: list[str]) -> int:
    """EXIF orientation, 1 to 8. Asked after loading: Pillow itself turns TIFF while it loads."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # EXIF blocks break in many ways, none of which touches the pixels
        notes.append("damaged EXIF ignored")
        return 1
    return value if isinstance(value, int) else 1


def _refuse_thumbnail(image: PIL.Image.Image, name: str) -> None:
    """Pillow opens a camera RAW in a TIFF container as the thumbnail that such a file begins with."""
    tags = getattr(image, "tag_v2", {})
    if 50706 in tags or (tags.get(254) == 1 and image.tell() == 0):  # DNG version; a reduced version comes first
        raise ImageUnsupported(
            f"{name}: only the thumbnail of a camera RAW", hint="pass the path or the bytes of the file"
        )


def _from_heif(stream: BinaryIO, job: _Job) -> UInt8:
    try:
        import pi_heif
    except ImportError as error:
        raise ImageNeedsExtra(
            f"{job.name}: HEIC needs the package pi-heif", hint="pip install 'dgiqa[heif]'"
        ) from error
    file = pi_heif.open_heif(stream)  # 10 and 12 bits scaled to 8; pixels are decoded later
    job.check_size(*file.size)
    if len(file) > 1:
        job.notes.append(f"primary of {len(file)} pictures")
    return _from_pillow(file.to_pillow(), job, own=True)  # libheif has turned it, and pi_heif reset its EXIF


def _from_raw(stream: BinaryIO, job: _Job) -> UInt8:
    """Developed as dcraw does by default, with the camera's white balance, sRGB primaries and gamma."""
    try:
        import rawpy
    except ImportError as error:
        raise ImageNeedsExtra(
            f"{job.name}: camera RAW needs the package rawpy", hint="pip install 'dgiqa[raw]'"
        ) from error
    try:
        with rawpy.imread(stream) as raw:
            job.check_size(raw.sizes.width, raw.sizes.height)
            pixels = raw.postprocess(
                use_camera_wb=True,
                output_color=rawpy.ColorSpace.sRGB,
                gamma=(2.4, 12.92),
                output_bps=8,
            )
    except rawpy.LibRawFileUnsupportedError as error:
        raise ImageUnsupported(
            f"{job.name}: a camera RAW that LibRaw {'.'.join(map(str, rawpy.libraw_version))} doesn't know",
            hint="develop it to TIFF or JPEG, or update rawpy",
        ) from error
    job.notes.append("RAW developed with the camera's white balance")
    return _three_channels(pixels)


def _from_array(array: npt.NDArray[Any], job: _Job) -> UInt8:
    if array.dtype != np.uint8:
        raise ImageUnsupported(
            f"{job.name}: an array of {array.dtype}, not uint8",
            hint="scale it to 0..255 and convert it with .round().astype('uint8')",
        )
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ImageUnsupported(
            f"{job.name}: an array of shape {array.shape}",
            hint="pass (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGB and alpha, one picture at a time",
        )
    job.check_size(array.shape[1], array.shape[0])
    if array.shape[2:] == (4,):
        return _from_pillow(PIL.Image.fromarray(np.ascontiguousarray(array)), job)
    return _three_channels(array)


def _three_channels(array: UInt8) -> UInt8:
    """Grey or RGB as a (H, W, 3) copy."""
    grey_or_rgb = array[..., None] if array.ndim == 2 else array
    return np.array(np.broadcast_to(grey_or_rgb, (*array.shape[:2], 3)), order="C")

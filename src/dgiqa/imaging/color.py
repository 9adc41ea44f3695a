"""From any Pillow mode to 8-bit sRGB: wide grey, alpha, embedded ICC profiles.

The order is fixed: to 8 bits (scaled, never clipped), alpha set aside, colours through the embedded profile
to sRGB, and only then composited on the background, which is an sRGB colour.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from dgiqa.errors import ImageUnsupported
from dgiqa.types import Float32, UInt8

#: Luma of sRGB values, as JPEG has it (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


def luma(pixels: UInt8) -> Float32:
    """(H, W, 3) uint8 sRGB to (H, W) float32, 0 to 255."""
    return np.asarray(pixels @ _LUMA, np.float32)


def to_srgb(
    image: PIL.Image.Image, name: str, background: tuple[int, int, int], notes: list[str], *, own: bool = False
) -> PIL.Image.Image:
    """A loaded image of any mode as 8-bit sRGB of mode RGB; ``image`` itself where nothing is to be done.

    Args:
        image: loaded, any mode.
        name: what errors call it.
        background: sRGB colour that shows through transparent pixels.
        notes: gets what a reader should know.
        own: whether ``image`` may be changed, which saves a copy.

    Raises:
        ImageUnsupported: integers or floats outside the range that can be scaled.
    """
    profile = image.info.get("icc_profile")
    image = _to_8bit(image, name)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        alpha = image.getchannel("A")
        image = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
    if image.mode not in _SPACES:
        image = image.convert("L" if image.mode == "1" else "RGB")
    image = _apply_profile(image, profile, notes, own)
    if alpha is None or np.min(alpha.getextrema()) == 255:
        return image
    notes.append("transparency composited on #{:02x}{:02x}{:02x}".format(*background))
    canvas = PIL.Image.new("RGB", image.size, background)
    canvas.paste(image, mask=alpha)
    return canvas


def _to_8bit(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """Grey of 16 bits, 32 bits or floats as mode L (LA where one grey value means transparent)."""
    if image.mode not in ("F", "I") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # of TIFF
    peak, grey = _scaled(values, 4095 if tags.get(258) in (12, (12,)) else 65535, name)
    if tags.get(262) == 0 and image.mode != "I":  # white is zero: Pillow leaves that to us in these modes
        grey = 255 - grey
    result = PIL.Image.fromarray(grey)
    key = image.info.get("transparency")
    if isinstance(key, int) and peak > 1:
        result.putalpha(PIL.Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return result


def _scaled(values: npt.NDArray[Any], peak: int, name: str) -> tuple[int, npt.NDArray[np.uint8]]:
    """The value that stands for white, and the values scaled to 0..255 and rounded."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # NaN fails too
            raise ImageUnsupported(
                f"{name}: floating-point values from {low:g} to {high:g}, outside 0 to 1",
                hint="scale them to 0..1, or save 8 or 16 bits a channel",
            )
        return 1, np.rint(values * np.float32(255)).astype(np.uint8)
    if low < 0 or high > peak:
        raise ImageUnsupported(
            f"{name}: grey values from {low} to {high}, outside the 16-bit range 0 to {peak}",
            hint="scale them to 0..65535, or save 8 or 16 bits a channel",
        )
    return peak, ((values.astype(np.uint32) * 255 + peak // 2) // peak).astype(np.uint8)


def _apply_profile(image: PIL.Image.Image, profile: Any, notes: list[str], own: bool) -> PIL.Image.Image:
    """L, RGB or CMYK through the embedded profile to sRGB; without a usable one by the plain formula."""
    if profile:
        try:
            return _through_profile(image, bytes(profile), notes, own)
        except Exception:  # whatever a damaged profile provokes: the pixels are still there
            notes.append("damaged ICC profile ignored")
    return image if image.mode == "RGB" else image.convert("RGB")


def _through_profile(image: PIL.Image.Image, data: bytes, notes: list[str], own: bool) -> PIL.Image.Image:
    from PIL import ImageCms

    profile = _profile(data)
    if image.mode == "L" and profile.space == "RGB":
        image = image.convert("RGB")
    if _SPACES[image.mode] != profile.space:
        notes.append(f"ICC profile for {profile.space} ignored on {_SPACES[image.mode]} pixels")
        return image if image.mode == "RGB" else image.convert("RGB")
    transform = _transform(data, image.mode)
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    in_place = own and image.mode == "RGB"
    converted = ImageCms.applyTransform(image, transform, inPlace=in_place) or image
    if converted is image and not in_place:
        raise ValueError("no image came out of the transform")
    notes.append(f"ICC profile {profile.description!r} converted to sRGB")
    return converted


@dataclass(frozen=True)
class _Profile:
    """An embedded profile: its colour space, what it calls itself, and Pillow's own object."""

    space: str
    description: str
    opened: Any


@lru_cache(maxsize=8)  # pictures of one camera have one profile
def _profile(data: bytes) -> _Profile:
    from PIL import ImageCms

    opened = ImageCms.ImageCmsProfile(io.BytesIO(data))
    description = " ".join(ImageCms.getProfileDescription(opened).split())[:60]
    return _Profile(opened.profile.xcolor_space.strip(), description, opened)


@lru_cache(maxsize=8)
def _transform(data: bytes, mode: str) -> Any:
    """From the profile's colours to sRGB; None where that is sRGB already. Threads may share it."""
    from PIL import ImageCms

    transform = ImageCms.buildTransform(_profile(data).opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: Any, mode: str) -> bool:
    """Whether a profile is sRGB itself, judged by what it does to a lattice of colours."""
    from PIL import ImageCms

    steps = np.arange(0, 256, 17, dtype=np.uint8)
    if mode == "RGB":
        probe = PIL.Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(64, 64, 3))
    else:
        probe = PIL.Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    after = np.asarray(ImageCms.applyTransform(probe, transform), np.int16)
    before = np.asarray(probe.convert("RGB"), np.int16)
    return bool(np.abs(after - before).max() <= 1)

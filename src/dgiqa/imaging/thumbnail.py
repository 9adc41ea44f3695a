"""Small copies of pictures, to be part of a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import PIL.Image

from dgiqa.errors import ImageError
from dgiqa.imaging.decode import decode
from dgiqa.types import UInt8

#: Longest side of a thumbnail in pixels, and its JPEG quality.
SIDE, JPEG_QUALITY = 200, 80


def thumbnail(source: str | Path, side: int = SIDE, quality: int = JPEG_QUALITY) -> tuple[str, int, int] | None:
    """The picture as a JPEG ``data:`` URI of at most ``side`` pixels, with its width and height; None if it can't be
    read.
    """
    try:
        pixels = decode(source, least_side=2 * side).pixels
    except ImageError:
        return None
    return jpeg_uri(pixels, side, quality)


def jpeg_uri(pixels: UInt8, side: int, quality: int = JPEG_QUALITY) -> tuple[str, int, int]:
    """(H, W, 3) uint8 as a JPEG ``data:`` URI of at most ``side`` pixels, with its width and height."""
    small = PIL.Image.fromarray(pixels)
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}", small.width, small.height

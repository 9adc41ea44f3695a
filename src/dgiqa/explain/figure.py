"""An explanation as one picture: the photograph, depth, attention and quality side by side, the faults below."""

from __future__ import annotations

import io
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from dgiqa.explain import Explanation, FaceSharpness
from dgiqa.imaging.color import luma
from dgiqa.imaging.thumbnail import jpeg_uri
from dgiqa.types import UInt8

Font: TypeAlias = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont

#: Height of a panel in pixels, space around it, and height of a line of text.
PANEL, MARGIN, LINE = 260, 12, 18
#: How much of a coloured map over a photograph is map.
SHARE = 0.6
#: Nine steps of the colour map viridis (van der Walt, Smith, 2015; CC0): even in lightness, for the colour-blind, too.
_VIRIDIS = np.array(
    [[68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140], [40, 174, 128], [94, 201, 98],
     [173, 220, 48], [253, 231, 37]],
    np.float32,
)  # fmt: skip
_INK, _PAPER, _QUIET, _BAR = (20, 24, 32), (255, 255, 255), (96, 104, 116), (44, 114, 142)
_DOT = (94, 255, 98)


def as_png(explanation: Explanation) -> bytes:
    """The figure as PNG."""
    return encoded(draw_figure(explanation))


def encoded(picture: PIL.Image.Image) -> bytes:
    """As PNG, rather soon than small."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def draw_figure(explanation: Explanation) -> PIL.Image.Image:
    """The figure: four panels at most, those that the model has, and the text below."""
    panels = [(name, _panel(pixels)) for name, pixels in maps(explanation).items()]
    font = PIL.ImageFont.load_default(13)
    lines = max(len(explanation.faults) + 1, 6 if explanation.landmarks is None else 7)
    width = sum(panel.width + MARGIN for _, panel in panels) + MARGIN
    width = max(width, 640)
    figure = PIL.Image.new("RGB", (width, PANEL + LINE * (lines + 1) + 3 * MARGIN), _PAPER)
    draw = PIL.ImageDraw.Draw(figure)
    left = MARGIN
    for name, panel in panels:
        draw.text((left, MARGIN - 2), name, _INK, font)
        figure.paste(panel, (left, MARGIN + LINE))
        if name == "picture" and explanation.landmarks is not None:
            _dot(draw, explanation.landmarks * (PANEL / len(explanation.picture)) + (left, MARGIN + LINE))
        left += panel.width + MARGIN
    top = PANEL + LINE + 2 * MARGIN
    _write_faults(draw, explanation, top, font)
    _write_score(draw, explanation, top, max(width // 2, 330), font)
    return figure


def maps(explanation: Explanation) -> dict[str, UInt8]:
    """(H, W, 3) uint8 by name: ``picture``, and ``depth``, ``attention`` and ``quality`` where there are any.

    Depth is light where it is near; attention lies over the picture from 0 (dark blue) to twice the mean (yellow);
    quality from 0 (dark blue) to 100 (yellow).
    """
    found = {"picture": explanation.picture}
    if explanation.depth is not None:
        found["depth"] = np.repeat(explanation.depth[..., None], 3, 2)
    if explanation.attention is not None:
        found["attention"] = _over(explanation.picture, explanation.attention / np.float32(2))
    if explanation.quality is not None:
        found["quality"] = _over(explanation.picture, explanation.quality / np.float32(100))
    return found


def as_uris(explanation: Explanation, side: int) -> dict[str, str]:
    """The maps as JPEG ``data:`` URIs of at most ``side`` pixels, to be part of a page."""
    return {name: jpeg_uri(pixels, side, 85)[0] for name, pixels in maps(explanation).items()}


def colored(values: npt.NDArray[np.floating]) -> UInt8:
    """(H, W) of 0..1 to (H, W, 3) uint8, dark blue to yellow."""
    at = np.arange(256) / 255 * (len(_VIRIDIS) - 1)
    table = np.stack([np.interp(at, np.arange(len(_VIRIDIS)), channel) for channel in _VIRIDIS.T], 1)
    index = np.clip(values * 255, 0, 255).astype(np.uint8)
    colors: UInt8 = np.rint(table).astype(np.uint8)[index]
    return colors


def _over(picture: UInt8, values: npt.NDArray[np.floating]) -> UInt8:
    """The map in colour over the picture in grey."""
    mixed: UInt8 = (SHARE * colored(values) + (1 - SHARE) * luma(picture)[..., None]).astype(np.uint8)
    return mixed


def _panel(pixels: UInt8) -> PIL.Image.Image:
    height, width = pixels.shape[:2]
    return PIL.Image.fromarray(pixels).resize(
        (max(round(width * PANEL / height), 1), PANEL), PIL.Image.Resampling.BILINEAR
    )


def _dot(draw: PIL.ImageDraw.ImageDraw, places: npt.NDArray[np.floating]) -> None:
    """Small rings at (K, 2) places."""
    for x, y in places.tolist():
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), outline=_DOT)


def _write_faults(
    draw: PIL.ImageDraw.ImageDraw,
    explanation: Explanation,
    top: int,
    font: Font,
) -> None:
    if not explanation.faults:
        draw.text((MARGIN, top), "this model tells no faults", _QUIET, font)
        return
    draw.text((MARGIN, top), "fault", _QUIET, font)
    draw.text((MARGIN + 250, top), "probability   severity", _QUIET, font)
    for row, fault in enumerate(explanation.faults, 1):
        y = top + row * LINE
        draw.text((MARGIN, y), fault.words, _INK if fault.found else _QUIET, font)
        draw.rectangle((MARGIN + 115, y + 3, MARGIN + 115 + round(120 * fault.probability), y + 13), _BAR)
        severity = f"{fault.severity:.1f} of 5" if fault.found else ""
        draw.text((MARGIN + 250, y), f"{fault.probability:.2f}", _INK if fault.found else _QUIET, font)
        draw.text((MARGIN + 330, y), severity, _INK, font)


def _write_score(
    draw: PIL.ImageDraw.ImageDraw,
    explanation: Explanation,
    top: int,
    left: int,
    font: Font,
) -> None:
    score, sharp = explanation.score, explanation.sharpness
    inside = "" if score.low is None else f"   ({score.low:.0f} to {score.high:.0f})"
    parts = (("subject", sharp.subject), ("background", sharp.background), ("picture", sharp.picture))
    told = [f"{name} {value:.2f}" for name, value in parts if value is not None]
    none = "" if explanation.none is None else f"no fault: {explanation.none:.2f}"
    lines = [f"quality {score.quality:.1f} of 100{inside}", none, "sharpness: " + (", ".join(told) or "no edges")]
    if isinstance(sharp, FaceSharpness):
        lines.append(f"sharpness of the face: {sharp.words}")
    first = len(lines)
    lines += [f"{score.width} by {score.height} pixels", score.model, score.path]
    for row, line in enumerate(lines):
        draw.text((max(left, MARGIN + 420), top + row * LINE), line, _INK if row < first else _QUIET, font)

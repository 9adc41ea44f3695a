"""What surfaces look like: tiles with a mip pyramid, coloured by a ramp, or photographs.

A tile is a repeating picture; a surface asks for it at texture coordinates in metres together with the size
of a pixel's footprint there, and gets the level of the pyramid that fits (Williams, "Pyramidal
Parametrics", SIGGRAPH 1983), so that far ground blurs to its mean and doesn't alias. Noise has a power-law
spectrum, as natural surfaces have (Field, JOSA A 1987). Colours are linear light, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from PIL import Image as Pillow

from dgiqa.types import Float32, UInt8

Colour: TypeAlias = tuple[float, float, float]

SIDE = 256
NOISES = 8


class Tile:
    """A repeating square picture and its halvings. ``pixels`` is (S, S) or (S, S, 3) float32, S a power of
    two."""

    def __init__(self, pixels: Float32) -> None:
        levels = [pixels.astype(np.float32)]
        while levels[-1].shape[0] > 1:
            a = levels[-1]
            levels.append((a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2]) * np.float32(0.25))
        self.side = pixels.shape[0]
        self.top = len(levels) - 1
        self._start = np.cumsum([0, *(level.shape[0] ** 2 for level in levels[:-1])]).astype(np.int32)
        self._texels = np.concatenate([level.reshape(-1, *pixels.shape[2:]) for level in levels])

    def sample(self, u: Float32, v: Float32, footprint: Float32 | np.float32) -> Float32:
        """Values at (u, v) in repetitions of the tile; ``footprint`` is a pixel's size in the same unit."""
        level = np.rint(np.log2(np.maximum(footprint * self.side, 1e-6)))
        level = np.clip(level, 0, self.top).astype(np.int32)
        side, start = self.side >> level, self._start[level]
        x, y = (u - np.floor(u)) * side - 0.5, (v - np.floor(v)) * side - 0.5
        left, low = np.floor(x), np.floor(y)
        fx, fy = (x - left).astype(np.float32), (y - low).astype(np.float32)
        mask = side - 1
        x0, y0 = left.astype(np.int32), low.astype(np.int32)
        x1, y1 = (x0 + 1) & mask, (y0 + 1) & mask
        x0, y0 = x0 & mask, y0 & mask
        if self._texels.ndim == 2:
            fx, fy = fx[..., None], fy[..., None]
        t = self._texels
        row0, row1 = start + y0 * side, start + y1 * side
        below = t[row0 + x0] * (1 - fx) + t[row0 + x1] * fx
        above = t[row1 + x0] * (1 - fx) + t[row1 + x1] * fx
        value: Float32 = below * (1 - fy) + above * fy
        return value


@dataclass(frozen=True)
class Material:
    """A tile laid on a surface.

    Attributes:
        tile: a grey tile, coloured through ``ramp``, or a colour tile (a photograph). size: metres a
        repetition, (along u, along v). ramp: (256, 3) linear colours from the tile's 0 to its 1; a factor
        on a colour tile when of shape (1, 3).
        blotches: strength of slow noise over the surface, which hides the repetition.
        glow: light that the surface gives off, as a multiple of its colour.
    """

    tile: Tile
    size: tuple[float, float]
    ramp: Float32
    blotches: float = 0.25
    glow: float = 0.0

    def colours(self, u: Float32, v: Float32, footprint: Float32) -> Float32:
        """(N, 3) linear colours at (N,) coordinates and pixel footprints in metres."""
        value = self.tile.sample(u / self.size[0], v / self.size[1], footprint / min(self.size))
        colours = value * self.ramp if value.ndim == 2 else self.ramp[np.clip(value * 255, 0, 255).astype(np.int32)]
        if self.blotches and len(u) > 800:
            reach = 5.3 * max(self.size)
            slow = noise_tile(3).sample(u / reach, v / reach, footprint / reach)
            colours = colours * (1 + self.blotches * (2 * slow - 1))[:, None]
        result: Float32 = colours
        return result


def ramp(*stops: Colour) -> Float32:
    """(256, 3) colours, evenly spread between the stops."""
    at = np.linspace(0, len(stops) - 1, 256)
    table = np.asarray(stops, np.float32)
    return np.stack([np.interp(at, np.arange(len(stops)), table[:, i]) for i in range(3)], 1).astype(np.float32)


def hue(h: float, saturation: float, value: float) -> Colour:
    """Linear colour of a hue (0 to 1), saturation and value, both of the linear colour."""
    rgb = np.clip(np.abs((h * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    r, g, b = value * (1 - saturation * (1 - rgb))
    return float(r), float(g), float(b)


#: Families of colour: hue from, to; saturation from, to; value from, to.
FAMILIES: dict[str, tuple[float, float, float, float, float, float]] = {
    "any": (0.0, 1.0, 0.0, 0.85, 0.03, 0.8),
    "grass": (0.18, 0.34, 0.45, 0.8, 0.08, 0.3),
    "leaf": (0.16, 0.38, 0.5, 0.85, 0.04, 0.22),
    "autumn": (0.02, 0.14, 0.6, 0.9, 0.12, 0.45),
    "earth": (0.05, 0.12, 0.3, 0.65, 0.08, 0.4),
    "sand": (0.08, 0.13, 0.2, 0.5, 0.35, 0.7),
    "stone": (0.04, 0.65, 0.0, 0.18, 0.12, 0.55),
    "asphalt": (0.5, 0.7, 0.0, 0.12, 0.04, 0.14),
    "brick": (0.0, 0.07, 0.5, 0.8, 0.15, 0.4),
    "plaster": (0.02, 0.65, 0.02, 0.35, 0.4, 0.9),
    "wood": (0.04, 0.1, 0.45, 0.75, 0.08, 0.45),
    "skin": (0.03, 0.08, 0.35, 0.6, 0.15, 0.75),
    "snow": (0.55, 0.65, 0.0, 0.08, 0.75, 0.95),
    "rock": (0.05, 0.7, 0.05, 0.25, 0.1, 0.35),
    "metal": (0.5, 0.65, 0.0, 0.1, 0.2, 0.6),
}


def colour(rng: np.random.Generator, family: str = "any") -> Colour:
    """A random colour of a family."""
    h0, h1, s0, s1, v0, v1 = FAMILIES[family]
    return hue(rng.uniform(h0, h1) % 1, rng.uniform(s0, s1), rng.uniform(v0, v1))


def scaled(base: Colour, factor: float) -> Colour:
    """A colour, darker or lighter."""
    r, g, b = (min(max(c * factor, 0.0), 1.0) for c in base)
    return r, g, b


def material(
    rng: np.random.Generator,
    pattern: str,
    base: Colour,
    *,
    size: float = 2.0,
    contrast: float = 0.5,
    glow: float = 0.0,
) -> Material:
    """A pattern in shades of one colour. ``size`` in metres a repetition; ``contrast`` 0 plain to 1
    strong."""
    drift = np.array(base) * rng.uniform(0.8, 1.2, 3)
    dark = scaled((float(drift[0]), float(drift[1]), float(drift[2])), 1 - 0.85 * contrast)
    light = scaled(base, 1 + 0.7 * contrast)
    return Material(tile(pattern, rng), (size, size), ramp(dark, base, light), 0.35 * contrast, glow)


def photograph(pixels: UInt8) -> Material:
    """A photograph (H, W, 3) uint8 sRGB as a surface of 1 m; mirrored, so that its edges meet."""
    small = _linear(pixels, SIDE // 2)
    mirrored = np.concatenate([small, small[:, ::-1]], 1)
    return Material(Tile(np.concatenate([mirrored[::-1], mirrored], 0)), (1, 1), np.ones((1, 3), np.float32), 0.0)


def panel(pixels: UInt8, width: float, height: float) -> Material:
    """A photograph that fills a panel of the given size in metres once, upright."""
    return Material(Tile(_linear(pixels, SIDE)[::-1]), (width, height), np.ones((1, 3), np.float32), 0.0)


def _linear(pixels: UInt8, side: int) -> Float32:
    """(side, side, 3) linear light of a photograph, squeezed into a square."""
    square = Pillow.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Pillow.Resampling.BOX)
    curve = (np.arange(256, dtype=np.float32) / 255) ** 2.2
    light: Float32 = curve[np.asarray(square)]
    return light


def tile(pattern: str, rng: np.random.Generator) -> Tile:
    """A grey tile of a pattern: one of :data:`PATTERNS`."""
    if pattern == "noise":
        return noise_tile(int(rng.integers(NOISES)))
    return _pattern_tile(pattern, int(rng.integers(3)))


@cache
def noise_tile(index: int) -> Tile:
    """Power-law noise between 0 and 1; the index chooses slope and sample."""
    return Tile(_noise(1000 + index, (1.2, 1.8, 2.4, 2.8)[index % 4]))


@cache
def _pattern_tile(pattern: str, index: int) -> Tile:
    rng = np.random.default_rng([index, *pattern.encode()])
    return Tile(np.clip(PATTERNS[pattern](rng), 0, 1).astype(np.float32))


def _noise(seed: int, slope: float, stretch: float = 1.0) -> Float32:
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(SIDE)[:, None] * SIDE, np.fft.rfftfreq(SIDE)[None] * SIDE
    radius = np.sqrt((fx * stretch) ** 2 + (fy / stretch) ** 2)
    radius[0, 0] = 1.0
    spectrum = rng.standard_normal(radius.shape) + 1j * rng.standard_normal(radius.shape)
    spectrum *= radius ** (-slope / 2 - 0.5)
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, (SIDE, SIDE))
    low, high = np.percentile(field, (1.5, 98.5))
    return _float32(np.clip((field - low) / (high - low), 0, 1))


def _float32(values: object) -> Float32:
    return np.asarray(values, np.float32)


def _grid() -> tuple[Float32, Float32]:
    at = (np.arange(SIDE) + 0.5) / SIDE
    x, y = np.meshgrid(at, at)
    return _float32(x), _float32(y)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 30))


def _plain(rng: np.random.Generator) -> Float32:
    return _float32(0.5 + 0.18 * (_noise(_seed(rng), 1.6) - 0.5))


def _stripes(rng: np.random.Generator) -> Float32:
    x, y = _grid()
    along = x if rng.random() < 0.5 else y
    count = int(rng.integers(3, 9))
    value = 0.5 + 0.5 * np.sin(2 * np.pi * count * along)
    return _float32(np.clip(2 * value - 0.5, 0, 1) * 0.8 + 0.2 * _noise(_seed(rng), 1.5))


def _checks(rng: np.random.Generator) -> Float32:
    x, y = _grid()
    count = 2 * int(rng.integers(1, 4))
    value = (np.floor(x * count) + np.floor(y * count)) % 2
    return _float32(0.15 + 0.6 * value + 0.25 * (_noise(_seed(rng), 1.5) - 0.3))


def _cells(rng: np.random.Generator, rows: int, columns: int, gap: float, offset: float) -> Float32:
    """Bricks or tiles: each cell its own shade, joints dark."""
    x, y = _grid()
    row = np.floor(y * rows)
    shifted = x * columns + offset * (row % 2)
    shade = rng.uniform(0.45, 0.9, (rows, columns))
    value = shade[row.astype(int), np.floor(shifted).astype(int) % columns]
    inside = (np.abs(shifted % 1 - 0.5) < 0.5 - gap) & (np.abs(y * rows % 1 - 0.5) < 0.5 - gap * columns / rows * 2)
    return _float32(np.where(inside, value, 0.12) + 0.2 * (_noise(_seed(rng), 1.4) - 0.5))


def _bricks(rng: np.random.Generator) -> Float32:
    return _cells(rng, 8, 4, 0.04, 0.5)


def _tiles(rng: np.random.Generator) -> Float32:
    return _cells(rng, 4, 4, 0.02, 0.0)


def _planks(rng: np.random.Generator) -> Float32:
    return _float32(_cells(rng, 8, 2, 0.006, 0.5) * 0.6 + 0.4 * _noise(_seed(rng), 1.8, 4.0))


def _wood(rng: np.random.Generator) -> Float32:
    x, y = _grid()
    warp = _noise(_seed(rng), 2.4, 2.5)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (6 * y + 2.5 * warp))
    return _float32(0.55 * rings + 0.45 * _noise(_seed(rng), 1.5, 4.0) + 0 * x)


def _grassy(rng: np.random.Generator) -> Float32:
    fine = _noise(_seed(rng), 0.6)
    slow = _noise(_seed(rng), 2.0)
    return _float32(0.65 * fine + 0.35 * slow)


def _leafy(rng: np.random.Generator) -> Float32:
    clumps = _noise(_seed(rng), 1.0)
    return _float32(np.where(clumps > 0.42, clumps, 0.35 * clumps))


def _spots(rng: np.random.Generator) -> Float32:
    value = _noise(_seed(rng), 1.8)
    return _float32(np.clip((value - 0.5) * 7 + 0.5, 0, 1) * 0.8 + 0.2 * _noise(_seed(rng), 1.2))


def _windows(rng: np.random.Generator) -> Float32:
    """A façade: four storeys by four bays; glass dark with a few lit panes, walls light."""
    x, y = _grid()
    wide, tall = rng.uniform(0.2, 0.38), rng.uniform(0.25, 0.38)
    cx, cy = x * 4 % 1 - 0.5, y * 4 % 1 - 0.52
    glass = (np.abs(cx) < wide) & (np.abs(cy) < tall)
    frame = (np.abs(cx) < wide + 0.05) & (np.abs(cy) < tall + 0.05)
    bar = (np.abs(cx) < 0.02) | (np.abs(cy + 0.05) < 0.02)
    pane = rng.choice([0.02, 0.06, 0.12, 0.3], (4, 4), p=[0.4, 0.3, 0.2, 0.1])
    shade = pane[(y * 4).astype(int), (x * 4).astype(int)] + 0.1 * (cy + 0.4)
    wall = 0.68 + 0.14 * (_noise(_seed(rng), 1.5) - 0.5) - 0.08 * (np.abs(y * 4 % 1 - 0.02) < 0.03)
    return _float32(np.where(glass & ~bar, shade, np.where(frame, 0.95, wall)))


def _glassy(rng: np.random.Generator) -> Float32:
    """An office front: bands of glass."""
    x, y = _grid()
    bar = (np.abs(x * 8 % 1 - 0.5) > 0.46) | (y * 8 % 1 < 0.18)
    shade = rng.uniform(0.15, 0.45, (8, 8))[(y * 8).astype(int), (x * 8).astype(int)]
    return _float32(np.where(bar, 0.85, shade + 0.08 * _noise(_seed(rng), 2.0)))


def _weave(rng: np.random.Generator) -> Float32:
    x, y = _grid()
    value = 0.5 + 0.25 * np.sin(2 * np.pi * 32 * x) + 0.25 * np.sin(2 * np.pi * 32 * y)
    return _float32(0.6 * value + 0.4 * _noise(_seed(rng), 1.4))


def _books(rng: np.random.Generator) -> Float32:
    """Shelves of spines: four shelves, each with spines of many widths and heights."""
    value = np.full((SIDE, SIDE), 0.05, np.float32)
    rows = SIDE // 4
    for shelf in range(4):
        at = 2
        while at < SIDE - 10:
            thick = int(rng.integers(4, 12))
            tall = int(rng.integers(rows * 6 // 10, rows - 6))
            value[shelf * rows + 5 : shelf * rows + 5 + tall, at : at + thick - 1] = rng.uniform(0.15, 1)
            at += thick
        value[shelf * rows : shelf * rows + 5] = 0.5
    return value


PATTERNS = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "bricks": _bricks,
    "tiles": _tiles,
    "planks": _planks,
    "wood": _wood,
    "grass": _grassy,
    "leaves": _leafy,
    "spots": _spots,
    "windows": _windows,
    "glass": _glassy,
    "weave": _weave,
    "books": _books,
}

#: Patterns that suit any surface.
ANYWHERE: Sequence[str] = (
    "noise", "noise", "noise", "plain", "stripes", "checks", "bricks",
    "tiles", "planks", "wood", "spots", "weave", "leaves", "grass",
)  # fmt: skip

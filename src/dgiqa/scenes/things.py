"""Things to put into scenes, each a list of primitives: buildings, trees, people, cars, furniture.

Sizes in metres, of ordinary things: depth networks learn scale from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import copysign

import numpy as np

from dgiqa.scenes.geometry import Box, Ellipsoid, Frustum, Point, Primitive, Ridge
from dgiqa.scenes.materials import (
    ANYWHERE,
    Colour,
    Material,
    colour,
    material,
    panel,
    photograph,
    ramp,
    scaled,
    tile,
)
from dgiqa.types import UInt8


@dataclass
class Kit:
    """What things are made from: a random generator and photographs that may serve as surfaces."""

    rng: np.random.Generator
    photographs: Sequence[UInt8] = ()
    photograph_share: float = 0.35
    _tiles: list[Material] = field(default_factory=list)

    def pick(self, *options: str) -> str:
        return str(options[int(self.rng.integers(len(options)))])

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def surface(self, pattern: str, family: str, *, size: float = 2.0, contrast: float = 0.5) -> Material:
        """A pattern in a colour of a family; now and then a photograph instead, where there are any."""
        if self.photographs and self.chance(self.photograph_share):
            return self.photograph(size)
        return material(self.rng, pattern, colour(self.rng, family), size=size, contrast=contrast)

    def photograph(self, size: float) -> Material:
        """A part of a photograph as a surface; at most three different ones a scene, since they cost time."""
        tint = tuple(float(t) for t in self.rng.uniform(0.6, 1.2, 3))
        if len(self._tiles) < 3:
            whole = self.one()
            height, width = whole.shape[:2]
            share = self.between(0.3, 1.0)
            h, w = max(int(height * share), 1), max(int(width * share), 1)
            top, left = int(self.rng.integers(height - h + 1)), int(self.rng.integers(width - w + 1))
            self._tiles.append(photograph(whole[top : top + h, left : left + w]))
        base = self._tiles[int(self.rng.integers(len(self._tiles)))]
        side = size * self.between(1.0, 2.5)
        return Material(base.tile, (side, side), np.asarray([tint], np.float32), 0.0)

    def one(self) -> UInt8:
        return self.photographs[int(self.rng.integers(len(self.photographs)))]

    def anything(self, size: float) -> Material:
        family = self.pick("any", "any", "plaster", "stone", "wood", "earth", "brick")
        return self.surface(self.pick(*ANYWHERE), family, size=size, contrast=self.between(0.1, 0.9))


def plain(kit: Kit, base: Colour, contrast: float = 0.2) -> Material:
    return material(kit.rng, "plain", base, size=0.5, contrast=contrast)


def building(kit: Kit, x: float, z: float, size: Point) -> list[Primitive]:
    """A house of (width, height, depth) with windows, a plinth, a roof edge, and doors towards x = 0."""
    width, height, deep = size
    wall = colour(kit.rng, kit.pick("plaster", "brick", "stone", "plaster"))
    storey = kit.between(2.8, 3.6)
    if kit.chance(0.2) and height > 14:
        pattern, rise = "glass", storey * 4
    else:
        pattern, rise = "windows", storey * 4
    stops = ramp(scaled(wall, 0.08), scaled(wall, 0.45), wall, scaled(wall, 1.35))
    bay = rise * kit.between(0.7, 1.1)
    front = Material(tile(pattern, kit.rng), (bay, rise), stops, 0.1)
    if kit.photographs and kit.chance(0.25):
        front = kit.photograph(rise)
    half = (width / 2, height / 2, deep / 2)
    parts: list[Primitive] = [Box(front, (x, height / 2, z), half)]
    if z > 70:
        return parts
    trim = plain(kit, scaled(wall, kit.between(0.5, 1.3)))
    parts.append(Box(trim, (x, height + 0.25, z), (half[0] + 0.3, 0.25, half[2] + 0.3)))
    parts.append(Box(plain(kit, colour(kit.rng, "stone"), 0.5), (x, 0.4, z), (half[0] + 0.06, 0.4, half[2] + 0.06)))
    inward = -copysign(1, x) * (half[0] + 0.05)
    for _ in range(int(kit.rng.integers(1, 4))):
        at = z + kit.between(-0.85, 0.85) * half[2]
        door = plain(kit, colour(kit.rng), 0.4)
        parts.append(Box(door, (x + inward, 1.15, at), (0.06, 1.15, kit.between(0.5, 1.4))))
        if kit.chance(0.4):
            awning = material(kit.rng, "stripes", colour(kit.rng), size=1.5, contrast=0.7)
            parts.append(Box(awning, (x + inward * 1.08, 2.7, at), (0.7, 0.1, 1.6)))
    return parts


def tree(
    kit: Kit, x: float, z: float, height: float, family: str = "leaf", *, conifers: float = 0.25
) -> list[Primitive]:
    """A trunk and a blobby crown, or (that often) a conifer."""
    bark = kit.surface("wood", "wood", size=0.8, contrast=0.6)
    base = colour(kit.rng, family)
    if kit.chance(conifers):
        needles = [material(kit.rng, "leaves", scaled(base, f), size=height * 0.35, contrast=0.8) for f in (0.5, 0.7)]
        cone: list[Primitive] = [Frustum(bark, (x, 0, z), height * 0.3, height * 0.03, height * 0.02)]
        for k in range(4):
            low, wide = height * (0.15 + 0.2 * k), height * (0.24 - 0.05 * k)
            cone.append(Frustum(needles[k % 2], (x, low, z), height * 0.3, wide, 0.02))
        return cone
    trunk, crown = height * kit.between(0.3, 0.45), height * kit.between(0.25, 0.36)
    parts: list[Primitive] = [Frustum(bark, (x, 0, z), trunk * 1.5, height * 0.035, height * 0.018)]
    centre = height - crown
    leaves = [material(kit.rng, "leaves", scaled(base, f), size=height * 0.3, contrast=0.85) for f in (0.75, 1.0, 1.3)]
    for k in range(int(kit.rng.integers(5, 9)) if z < 40 else 3):
        away = kit.rng.normal(0, 0.42, 3) * crown if k else np.zeros(3)
        r = crown * (kit.between(0.45, 0.7) if k else 0.85)
        middle = (float(x + away[0]), float(centre + 0.7 * away[1]), float(z + away[2]))
        parts.append(Ellipsoid(leaves[k % 3], middle, (r, r * 0.85, r), rough=0.8))
    return parts


def bush(kit: Kit, x: float, z: float, size: float) -> list[Primitive]:
    base = material(kit.rng, "leaves", colour(kit.rng, kit.pick("leaf", "grass")), size=size, contrast=0.8)
    return [
        Ellipsoid(base, (x + kit.between(-0.5, 0.5) * size, size * 0.4, z + kit.between(-0.4, 0.4) * size),
                  (size * kit.between(0.4, 0.7), size * 0.6, size * 0.5), rough=0.7)
        for _ in range(3)
    ]  # fmt: skip


def person(kit: Kit, x: float, z: float, *, foot: float = 0.0, height: float = 1.7) -> list[Primitive]:
    """A standing figure: legs, coat, arms, head and hair."""
    k = height / 1.75
    tone = colour(kit.rng, "skin")
    skin, lips, eye = (
        plain(kit, tone),
        plain(kit, (tone[0] * 0.8, tone[1] * 0.45, tone[2] * 0.5)),
        plain(kit, (0.02, 0.015, 0.01)),
    )
    coat = kit.surface(
        kit.pick("plain", "weave", "stripes", "checks"), "any", size=0.35, contrast=kit.between(0.1, 0.6)
    )
    legs = plain(kit, colour(kit.rng, kit.pick("any", "asphalt")), 0.3)
    hair = material(kit.rng, "wood", scaled(colour(kit.rng, "wood"), kit.between(0.15, 1.3)), size=0.2, contrast=0.6)
    step, side = kit.between(-0.12, 0.12), kit.between(0.09, 0.14)
    return [
        Frustum(legs, (x - side * k, foot, z + step), 0.85 * k, 0.06 * k, 0.1 * k),
        Frustum(legs, (x + side * k, foot, z - step), 0.85 * k, 0.06 * k, 0.1 * k),
        Frustum(coat, (x, foot + 0.8 * k, z), 0.45 * k, 0.19 * k, 0.21 * k),
        Ellipsoid(coat, (x, foot + 1.26 * k, z), (0.25 * k, 0.2 * k, 0.15 * k)),
        Ellipsoid(coat, (x - 0.235 * k, foot + 1.05 * k, z + step), (0.065 * k, 0.36 * k, 0.08 * k)),
        Ellipsoid(coat, (x + 0.235 * k, foot + 1.05 * k, z - step), (0.065 * k, 0.36 * k, 0.08 * k)),
        Frustum(skin, (x, foot + 1.4 * k, z), 0.12 * k, 0.06 * k, 0.05 * k),
        Ellipsoid(skin, (x, foot + 1.6 * k, z), (0.09 * k, 0.13 * k, 0.11 * k)),
        Ellipsoid(hair, (x, foot + 1.665 * k, z + 0.03 * k), (0.1 * k, 0.1 * k, 0.11 * k)),
        *(
            Ellipsoid(eye, (x + s * 0.035 * k, foot + 1.62 * k, z - 0.093 * k), (0.014 * k, 0.009 * k, 0.015 * k))
            for s in (-1, 1)
        ),
        Ellipsoid(skin, (x, foot + 1.585 * k, z - 0.108 * k), (0.014 * k, 0.028 * k, 0.022 * k)),
        Ellipsoid(lips, (x, foot + 1.54 * k, z - 0.095 * k), (0.028 * k, 0.008 * k, 0.012 * k)),
    ]


def car(kit: Kit, x: float, z: float, *, across: bool = False) -> list[Primitive]:
    """A car standing along the street (or across it)."""
    paint = plain(kit, colour(kit.rng), 0.15)
    glass = plain(kit, (0.03, 0.035, 0.045), 0.4)
    tyre = plain(kit, (0.015, 0.015, 0.015))
    long, wide, tall = kit.between(1.9, 2.4), kit.between(0.8, 0.95), kit.between(0.28, 0.45)

    def half(a: float, b: float, c: float) -> tuple[float, float, float]:
        return (c, b, a) if across else (a, b, c)

    def at(a: float, b: float, c: float) -> tuple[float, float, float]:
        return (x + c, b, z + a) if across else (x + a, b, z + c)

    red, white = plain(kit, (0.5, 0.01, 0.01)), plain(kit, (0.9, 0.9, 0.8))
    parts: list[Primitive] = [
        Box(paint, at(0, 0.35 + tall, 0), half(wide, tall, long)),
        Box(glass, at(0, 0.55 + 2 * tall, long * 0.08), half(wide * 0.86, 0.24, long * 0.5)),
        Box(paint, at(0, 0.82 + 2 * tall, long * 0.08), half(wide * 0.84, 0.04, long * 0.44)),
        Box(red, at(-wide * 0.75, 0.45 + tall, -long), half(0.14, 0.08, 0.03)),
        Box(red, at(wide * 0.75, 0.45 + tall, -long), half(0.14, 0.08, 0.03)),
        Box(white, at(0, 0.25 + tall, -long), half(0.26, 0.07, 0.02)),
    ]
    for a in (-wide * 0.92, wide * 0.92):
        for c in (-long * 0.62, long * 0.62):
            parts.append(Ellipsoid(tyre, at(a, 0.34, c), half(0.12, 0.34, 0.34)))
    return parts


def lamp_post(kit: Kit, x: float, z: float) -> list[Primitive]:
    metal = plain(kit, scaled(colour(kit.rng, "metal"), 0.4))
    tall = kit.between(4, 7)
    return [
        Frustum(metal, (x, 0, z), tall, 0.09, 0.05),
        Box(metal, (x - copysign(1, x) * 0.5, tall, z), (0.6, 0.04, 0.05)),
        Ellipsoid(plain(kit, (0.9, 0.9, 0.8)), (x - copysign(1, x) * 1.0, tall - 0.1, z), (0.28, 0.1, 0.14)),
    ]


def rock(kit: Kit, x: float, z: float, size: float) -> list[Primitive]:
    stone = kit.surface("noise", "rock", size=size * 2, contrast=0.7)
    flat = kit.between(0.4, 0.9)
    return [Ellipsoid(stone, (x, size * flat * 0.3, z), (size, size * flat, size * kit.between(0.6, 1.1)), rough=0.25)]


def fence(kit: Kit, x0: float, x1: float, z0: float, z1: float) -> list[Primitive]:
    """Posts and rails between two ground points."""
    wood = material(kit.rng, "wood", colour(kit.rng, "wood"), size=0.6, contrast=0.5)
    length = float(np.hypot(x1 - x0, z1 - z0))
    yaw = float(np.arctan2(-(z1 - z0), x1 - x0))
    count = min(int(length / 2.2) + 2, 14)
    parts: list[Primitive] = [
        Box(
            wood,
            (x0 + (x1 - x0) * k / (count - 1), 0.55, z0 + (z1 - z0) * k / (count - 1)),
            (0.06, 0.55, 0.06),
        )
        for k in range(count)
    ]
    middle = ((x0 + x1) / 2, (z0 + z1) / 2)
    parts += [Box(wood, (middle[0], y, middle[1]), (length / 2, 0.06, 0.025), yaw) for y in (0.45, 0.9)]
    return parts


def ridge(kit: Kit, distance: float, height: float, surface: Material, *, jagged: float = 1.0) -> Ridge:
    """Hills: a skyline of 1-D noise with the given mean height."""
    n = 512
    spectrum = kit.rng.standard_normal(n // 2 + 1) + 1j * kit.rng.standard_normal(n // 2 + 1)
    frequency = np.arange(n // 2 + 1, dtype=np.float64)
    frequency[0] = 1
    spectrum *= frequency ** (-2.1 + 0.55 * jagged) * (frequency >= 2)
    noise = np.fft.irfft(spectrum, n)
    noise = noise / (noise.std() + 1e-9)
    profile = np.maximum(height * (1 + 0.45 * noise), 0.02 * height).astype(np.float32)
    # Steep enough that the top lies before the farthest depth.
    slope = max(kit.between(0.35, 0.9), float(profile.max()) / (950 - distance))
    return Ridge(surface, distance, slope, profile)


def table(kit: Kit, x: float, z: float, half: tuple[float, float], height: float) -> list[Primitive]:
    """A table with four legs; ``half`` sizes along x and z."""
    half_x, half_z = half
    wood = kit.surface(kit.pick("wood", "planks", "plain"), kit.pick("wood", "plaster"), size=1.2)
    legs: list[Primitive] = [
        Box(wood, (x + sx * (half_x - 0.06), height / 2, z + sz * (half_z - 0.06)), (0.03, height / 2, 0.03))
        for sx in (-1, 1)
        for sz in (-1, 1)
    ]
    return [Box(wood, (x, height - 0.02, z), (half_x, 0.02, half_z)), *legs]


def chair(kit: Kit, x: float, z: float, yaw: float) -> list[Primitive]:
    wood = kit.surface("wood", "wood", size=0.6)
    cloth = kit.surface(kit.pick("weave", "plain", "stripes"), "any", size=0.3)
    c, s = float(np.cos(yaw)), float(np.sin(yaw))

    def at(a: float, y: float, b: float) -> tuple[float, float, float]:
        return x + c * a + s * b, y, z + c * b - s * a

    legs: list[Primitive] = [
        Box(wood, at(a, 0.22, b), (0.02, 0.22, 0.02), yaw) for a in (-0.2, 0.2) for b in (-0.2, 0.2)
    ]
    return [
        *legs,
        Box(cloth, at(0, 0.46, 0), (0.23, 0.03, 0.23), yaw),
        Box(wood, at(0, 0.72, 0.22), (0.22, 0.2, 0.02), yaw),
    ]


def sofa(kit: Kit, x: float, z: float, wide: float, yaw: float) -> list[Primitive]:
    cloth = kit.surface(kit.pick("weave", "plain", "stripes", "checks"), "any", size=0.5, contrast=0.4)
    c, s = float(np.cos(yaw)), float(np.sin(yaw))

    def at(a: float, y: float, b: float) -> tuple[float, float, float]:
        return x + c * a + s * b, y, z + c * b - s * a

    cushion = plain(kit, colour(kit.rng), 0.3)
    return [
        Box(cloth, at(0, 0.22, 0), (wide, 0.22, 0.42), yaw),
        Box(cloth, at(0, 0.55, 0.36), (wide, 0.4, 0.12), yaw),
        Box(cloth, at(-wide, 0.33, 0), (0.11, 0.33, 0.45), yaw),
        Box(cloth, at(wide, 0.33, 0), (0.11, 0.33, 0.45), yaw),
        Box(cushion, at(-wide * 0.6, 0.58, 0.12), (0.2, 0.18, 0.08), yaw + 0.2),
    ]


def shelf(kit: Kit, x: float, z: float, yaw: float) -> list[Primitive]:
    tall, wide = kit.between(1.4, 2.1), kit.between(0.4, 0.8)
    stops = [scaled(colour(kit.rng), 1.2) for _ in range(5)]
    books = Material(tile("books", kit.rng), (kit.between(0.7, 1.2), 1.3), ramp((0.02, 0.015, 0.01), *stops), 0.1)
    wood = kit.surface("wood", "wood", size=1.0)
    c, s = float(np.cos(yaw)), float(np.sin(yaw))
    frame: list[Primitive] = [
        Box(wood, (x + c * a * wide, tall / 2, z - s * a * wide), (0.025, tall / 2, 0.17), yaw) for a in (-1.0, 1.0)
    ]
    return [Box(books, (x, tall / 2, z), (wide, tall / 2, 0.14), yaw), *frame,
            Box(wood, (x, tall, z), (wide + 0.03, 0.03, 0.17), yaw)]  # fmt: skip


def picture(kit: Kit, centre: tuple[float, float, float], half: tuple[float, float, float]) -> list[Primitive]:
    """A framed picture flat on a wall: the thinnest half size says which wall."""
    frame = plain(kit, scaled(colour(kit.rng, "wood"), kit.between(0.3, 2.0)))
    thin = int(np.argmin(half))
    wide = half[2] if thin == 0 else half[0]
    if kit.photographs:
        canvas = panel(kit.one(), 2 * wide, 2 * half[1])
    else:
        stops = [colour(kit.rng) for _ in range(4)]
        pattern = kit.pick("noise", "spots", "stripes", "checks")
        canvas = Material(tile(pattern, kit.rng), (2 * wide, 2 * half[1]), ramp(*stops), 0.1)
    outer = [h + 0.04 for h in half]
    outer[thin] = half[thin]
    inner = list(half)
    inner[thin] = half[thin] + 0.012
    return [
        Box(frame, centre, (outer[0], outer[1], outer[2])),
        Box(canvas, centre, (inner[0], inner[1], inner[2])),
    ]


def vessel(kit: Kit, x: float, y: float, z: float, size: float) -> list[Primitive]:
    """Something that stands on a table: a bottle, a cup, a fruit, a box, a vase with a plant."""
    look = kit.surface(
        kit.pick("plain", "stripes", "noise", "spots", "checks", "weave"),
        "any",
        size=size,
        contrast=kit.between(0.1, 0.7),
    )
    which = int(kit.rng.integers(6))
    if which == 0:
        r = size * 0.16
        return [
            Frustum(look, (x, y, z), size * 0.62, r, r),
            Frustum(look, (x, y + size * 0.62, z), size * 0.14, r, r * 0.4),
            Frustum(look, (x, y + size * 0.76, z), size * 0.24, r * 0.4, r * 0.4),
        ]
    if which == 1:
        return [Frustum(look, (x, y, z), size * 0.45, size * 0.18, size * 0.24)]
    if which in (2, 3):
        r = size * kit.between(0.16, 0.28)
        return [Ellipsoid(look, (x, y + r * 0.95, z), (r, r * kit.between(0.8, 1.0), r))]
    if which == 4:
        h = size * kit.between(0.08, 0.5)
        return [
            Box(
                look,
                (x, y + h, z),
                (size * kit.between(0.15, 0.4), h, size * kit.between(0.1, 0.3)),
                kit.between(-1, 1),
            )
        ]
    leaf = material(kit.rng, "leaves", colour(kit.rng, "leaf"), size=size * 0.5, contrast=0.8)
    parts: list[Primitive] = [Frustum(look, (x, y, z), size * 0.4, size * 0.13, size * 0.2)]
    for _ in range(5):
        a = kit.rng.normal(0, 0.14, 3) * size
        parts.append(
            Ellipsoid(
                leaf,
                (x + float(a[0]), y + size * 0.65 + float(a[1]), z + float(a[2])),
                (size * 0.17,) * 3,
                rough=0.6,
            )
        )
    return parts

"""Views, primitives and the z-buffer: where every ray ends.

World coordinates in metres: x right, y up, z ahead. A ray is ``origin + t * direction`` with a direction
whose component along the viewing axis is 1, so ``t`` is the depth along that axis (the z-buffer's usual
depth). Intersections are the textbook ones (Glassner, "An Introduction to Ray Tracing", 1989, chapter 2),
vectorised over the pixels that a primitive's bounding box can cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from dgiqa.scenes.materials import Material, noise_tile
from dgiqa.types import Float32

#: A coordinate of many rays, or one number where all rays share it.
Part: TypeAlias = Float32 | float
Triple: TypeAlias = tuple[Part, Part, Part]
Point: TypeAlias = tuple[float, float, float]
Window: TypeAlias = tuple[slice, slice]

NEAR = 0.05
FAR = 1000.0


@dataclass(frozen=True)
class View:
    """A bundle of rays, one a pixel: a pinhole camera, or parallel rays (``parallel``) for shadows.

    Attributes:
        origin, direction: three parts each, of shape (H, W) or one number.
        axes: (3, 3), rows right, up, ahead.
        centre: the eye, or the middle of the plane that parallel rays start from.
        scale: pixels per unit of x/z (pinhole), pixels per metre (parallel).
    """

    origin: Triple
    direction: Triple
    shape: tuple[int, int]
    axes: Float32
    centre: Float32
    scale: float
    parallel: bool

    def project(self, x: Part, y: Part, z: Part) -> tuple[Float32, Float32, Float32]:
        """Column, row (in pixels, 0 at the picture's edge) and depth of world points."""
        px, py, pz = x - self.centre[0], y - self.centre[1], z - self.centre[2]
        right, up, ahead = (a[0] * px + a[1] * py + a[2] * pz for a in self.axes)
        per = self.scale if self.parallel else self.scale / np.where(np.abs(ahead) < 1e-6, 1e-6, ahead)
        height, width = self.shape
        return width / 2 + right * per, height / 2 - up * per, ahead

    def window(self, corners: Float32 | None) -> Window | None:
        """The pixels that a convex body with these (N, 3) corners can cover; None when there are none."""
        height, width = self.shape
        if corners is None:
            return slice(0, height), slice(0, width)
        columns, rows, depth = self.project(corners[:, 0], corners[:, 1], corners[:, 2])
        if not self.parallel:
            if depth.max() < NEAR:
                return None
            if depth.min() < NEAR:
                return slice(0, height), slice(0, width)
        left, right = max(int(columns.min()) - 1, 0), min(int(columns.max()) + 2, width)
        top, bottom = max(int(rows.min()) - 1, 0), min(int(rows.max()) + 2, height)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _take(parts: Triple, index: Window | Float32) -> Triple:
    a, b, c = (p[index] if isinstance(p, np.ndarray) else p for p in parts)
    return a, b, c


def pinhole(
    size: tuple[int, int],
    position: Point,
    *,
    fov: float,
    pitch: float = 0.0,
    roll: float = 0.0,
    yaw: float = 0.0,
) -> View:
    """A camera. ``size`` is (width, height) in pixels; angles in degrees; ``fov`` spans the longer side.

    Positive pitch looks up, positive yaw to the right, positive roll turns the picture clockwise.
    """
    width, height = size
    focal = max(width, height) / 2 / np.tan(np.radians(fov) / 2)
    axes = _axes(np.radians(yaw), np.radians(pitch), np.radians(roll))
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / focal
    y = -(np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) / focal
    dx, dy, dz = ((x * axes[0, i] + y * axes[1, i] + axes[2, i]).astype(np.float32) for i in range(3))
    centre = np.asarray(position, np.float32)
    return View(position, (dx, dy, dz), (height, width), axes, centre, float(focal), parallel=False)


def parallel(toward: Point, centre: Point, radius: float, pixels: int) -> View:
    """Parallel rays along ``toward``, covering a square of 2 ``radius`` metres around ``centre``."""
    ahead = np.asarray(toward, np.float32)
    ahead = ahead / np.linalg.norm(ahead)
    aside = np.array([1.0, 0.0, 0.0] if abs(ahead[0]) < 0.9 else [0.0, 0.0, 1.0], np.float32)
    right = np.cross(aside, ahead)
    right /= np.linalg.norm(right)
    up = np.cross(ahead, right)
    start = np.asarray(centre, np.float32) - ahead * 4 * radius
    step = (np.arange(pixels, dtype=np.float32) + 0.5 - pixels / 2) * (2 * radius / pixels)
    ox, oy, oz = ((start[i] + step * right[i] - step[:, None] * up[i]).astype(np.float32) for i in range(3))
    direction = (float(ahead[0]), float(ahead[1]), float(ahead[2]))
    axes = np.stack([right, up, ahead]).astype(np.float32)
    scale = pixels / (2 * radius)
    return View((ox, oy, oz), direction, (pixels, pixels), axes, start, scale, parallel=True)


def _axes(yaw: float, pitch: float, roll: float) -> Float32:
    ahead = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    up = np.cross(ahead, right)
    right, up = right * np.cos(roll) + up * np.sin(roll), up * np.cos(roll) - right * np.sin(roll)
    return np.stack([right, up, ahead]).astype(np.float32)


class Primitive(Protocol):
    """A shape with a material."""

    @property
    def material(self) -> Material: ...

    def corners(self) -> Float32 | None:
        """(N, 3) points whose convex hull holds the shape; None when it has no bounds."""

    def hit(self, origin: Triple, direction: Triple) -> Float32:
        """``t`` of the first hit beyond :data:`NEAR`, infinity where the ray misses."""

    def surface(self, x: Float32, y: Float32, z: Float32) -> tuple[Triple, Float32, Float32]:
        """Unit normal and texture coordinates in metres at points on the surface."""


@dataclass(frozen=True)
class Hits:
    """Where the rays end. ``owner`` is the primitive's index, -1 for none; ``depth`` is infinite there."""

    depth: Float32
    owner: np.ndarray[tuple[int, ...], np.dtype[np.int16]]


def cast(view: View, primitives: Sequence[Primitive]) -> Hits:
    """The nearest hit of every ray."""
    depth = np.full(view.shape, np.inf, np.float32)
    owner = np.full(view.shape, -1, np.int16)
    with np.errstate(all="ignore"):
        for index, primitive in enumerate(primitives):
            window = view.window(primitive.corners())
            if window is None:
                continue
            t = primitive.hit(_take(view.origin, window), _take(view.direction, window))
            nearer = t < depth[window]
            np.copyto(depth[window], t, where=nearer)
            np.copyto(owner[window], np.int16(index), where=nearer)
    return Hits(depth, owner)


def _box_corners(low: Point, high: Point) -> Float32:
    return np.array(
        [(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])],
        np.float32,
    )


@dataclass(frozen=True)
class Plane:
    """An endless one-sided plane through ``point``, seen from the side its axis-aligned normal points to.

    ``axis`` is 0, 1 or 2 and ``sign`` +1 or -1: ``Plane(grass, (0, 0, 0), 1, 1)`` is the ground.
    """

    material: Material
    point: Point
    axis: int
    sign: float

    def corners(self) -> Float32 | None:
        return None

    def hit(self, origin: Triple, direction: Triple) -> Float32:
        along = direction[self.axis]
        t = np.asarray((self.point[self.axis] - origin[self.axis]) / along, np.float32)
        seen = (t > NEAR) & (t < FAR) & (np.asarray(along) * self.sign < 0)
        return np.where(seen, t, np.inf).astype(np.float32)

    def surface(self, x: Float32, y: Float32, z: Float32) -> tuple[Triple, Float32, Float32]:
        normal = [0.0, 0.0, 0.0]
        normal[self.axis] = self.sign
        u, v = ((z, y), (x, z), (x, y))[self.axis]
        return (normal[0], normal[1], normal[2]), u, v


@dataclass(frozen=True)
class Box:
    """A box standing at ``centre`` with half sizes ``half``, turned by ``yaw`` radians about the vertical."""

    material: Material
    centre: Point
    half: Point
    yaw: float = 0.0

    def corners(self) -> Float32 | None:
        reach = _box_corners((-self.half[0], -self.half[1], -self.half[2]), self.half)
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        x, y, z = reach.T
        turned = np.stack([c * x + s * z, y, c * z - s * x], 1) + np.asarray(self.centre, np.float32)
        return turned.astype(np.float32)

    def _local(self, x: Part, y: Part, z: Part) -> Triple:
        c, s = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        return c * x - s * z, y, s * x + c * z

    def hit(self, origin: Triple, direction: Triple) -> Float32:
        o = self._local(*(a - b for a, b in zip(origin, self.centre, strict=True)))
        d = self._local(*direction)
        enter: Part = -np.inf
        leave: Part = np.inf
        for a, b, half in zip(o, d, self.half, strict=True):
            inverse = 1.0 / np.where(np.abs(b) < 1e-7, np.float32(1e-7), b)
            middle, reach = -a * inverse, half * np.abs(inverse)
            enter = np.maximum(enter, middle - reach)
            leave = np.minimum(leave, middle + reach)
        return np.where((enter <= leave) & (enter > NEAR), enter, np.inf).astype(np.float32)

    def surface(self, x: Float32, y: Float32, z: Float32) -> tuple[Triple, Float32, Float32]:
        px, py, pz = self._local(x - self.centre[0], y - self.centre[1], z - self.centre[2])
        out = np.abs(np.stack([px / self.half[0], py / self.half[1], pz / self.half[2]]))
        face = out.argmax(0)
        sx, sy, sz = (np.asarray(np.where(face == i, np.sign(p), 0), np.float32) for i, p in enumerate((px, py, pz)))
        c, s = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        # Texture starts at the box's left bottom edge, so that windows and bricks meet its outline.
        u = np.where(face == 0, pz + self.half[2], px + self.half[0])
        v = np.where(face == 1, pz + self.half[2], py + self.half[1])
        return (c * sx + s * sz, sy, c * sz - s * sx), np.asarray(u, np.float32), np.asarray(v, np.float32)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with half axes ``radii``. ``rough`` (0 to 1) bites noise out of its outline, as foliage
    has."""

    material: Material
    centre: Point
    radii: Point
    rough: float = 0.0

    def corners(self) -> Float32 | None:
        low = tuple(c - r for c, r in zip(self.centre, self.radii, strict=True))
        high = tuple(c + r for c, r in zip(self.centre, self.radii, strict=True))
        return _box_corners((low[0], low[1], low[2]), (high[0], high[1], high[2]))

    def hit(self, origin: Triple, direction: Triple) -> Float32:
        o = [(a - c) / r for a, c, r in zip(origin, self.centre, self.radii, strict=True)]
        d = [b / r for b, r in zip(direction, self.radii, strict=True)]
        square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        nearest = -(o[0] * d[0] + o[1] * d[1] + o[2] * d[2]) / square
        # From the point nearest to the centre: stable in float32 where b² - ac is not.
        px, py, pz = (a + nearest * b for a, b in zip(o, d, strict=True))
        gap = 1.0 - (px * px + py * py + pz * pz)
        if self.rough:
            tile = noise_tile(0)
            size = max(self.radii)
            # Across and up: cameras look ahead, more or less, so these two hardly ever fall together.
            bite = tile.sample(
                np.asarray(px * size * 0.35 + self.centre[0], np.float32),
                np.asarray(py * size * 0.35 + self.centre[2], np.float32),
                np.float32(1 / 256),
            )
            gap = gap - self.rough * np.clip(1.9 * bite - 0.5, 0, 1)
        t = nearest - np.sqrt(gap / square)
        return np.where((gap > 0) & (t > NEAR), t, np.inf).astype(np.float32)

    def surface(self, x: Float32, y: Float32, z: Float32) -> tuple[Triple, Float32, Float32]:
        px, py, pz = ((a - c) / r for a, c, r in zip((x, y, z), self.centre, self.radii, strict=True))
        nx, ny, nz = px / self.radii[0], py / self.radii[1], pz / self.radii[2]
        length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
        u = np.arctan2(px, -pz) * (self.radii[0] + self.radii[2]) / 2
        v = np.arcsin(np.clip(py, -1, 1)) * self.radii[1]
        return (nx / length, ny / length, nz / length), u, v


@dataclass(frozen=True)
class Frustum:
    """An upright round body from ``foot`` of radius ``lower`` to ``height`` metres above of radius ``upper``:
    cylinder, cone, cup, trunk or post. Closed by a disc at the top and at the bottom."""

    material: Material
    foot: Point
    height: float
    lower: float
    upper: float

    def corners(self) -> Float32 | None:
        x, y, z = self.foot
        r = max(self.lower, self.upper)
        return _box_corners((x - r, y, z - r), (x + r, y + self.height, z + r))

    def hit(self, origin: Triple, direction: Triple) -> Float32:
        ox, oy, oz = (a - b for a, b in zip(origin, self.foot, strict=True))
        dx, dy, dz = direction
        slope = (self.upper - self.lower) / self.height
        ra, rb = self.lower + slope * oy, slope * dy
        a = dx * dx + dz * dz - rb * rb
        a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
        b = ox * dx + oz * dz - ra * rb
        root = np.sqrt(b * b - a * (ox * ox + oz * oz - ra * ra))
        best: Part = np.inf
        for t in ((-b - root) / a, (-b + root) / a):
            level = oy + t * dy
            ok = (t > NEAR) & (level >= 0) & (level <= self.height)
            best = np.where(ok & (t < best), t, best)
        for level, radius in ((0.0, self.lower), (self.height, self.upper)):
            t = (level - oy) / np.where(np.abs(dy) < 1e-9, np.float32(1e-9), dy)
            ok = (t > NEAR) & ((ox + t * dx) ** 2 + (oz + t * dz) ** 2 <= radius * radius)
            best = np.where(ok & (t < best), t, best)
        return np.asarray(best, np.float32)

    def surface(self, x: Float32, y: Float32, z: Float32) -> tuple[Triple, Float32, Float32]:
        px, py, pz = x - self.foot[0], y - self.foot[1], z - self.foot[2]
        slope = (self.upper - self.lower) / self.height
        away = np.sqrt(px * px + pz * pz) + 1e-9
        wall = self.lower + slope * py
        cap = (away < wall * 0.985) & ((py < self.height * 0.02) | (py > self.height * 0.98))
        side = float(1.0 / np.sqrt(1 + slope * slope))
        nx = np.where(cap, 0.0, px / away * side)
        nz = np.where(cap, 0.0, pz / away * side)
        ny = np.where(cap, np.where(py > self.height / 2, 1.0, -1.0), -slope * side)
        u = np.where(cap, px, np.arctan2(px, -pz) * max(self.lower, self.upper))
        v = np.where(cap, pz, py)
        return (nx, ny, nz), u, v


@dataclass(frozen=True)
class Ridge:
    """A range of hills round the origin: from ``distance`` metres on the ground rises by ``slope`` up to a
    skyline ``profile`` (heights in metres over the azimuth from -90 to 90 degrees)."""

    material: Material
    distance: float
    slope: float
    profile: Float32

    def corners(self) -> Float32 | None:
        return None

    def _azimuth(self, dx: Part, dz: Part) -> Float32:
        turn = np.arctan2(dx, dz) / np.pi + 0.5
        return np.asarray(np.clip(turn, 0, 1) * (len(self.profile) - 1.001), np.float32)

    def _skyline(self, place: Float32) -> Float32:
        left = place.astype(np.int32)
        part = place - left
        heights: Float32 = self.profile[left] * (1 - part) + self.profile[left + 1] * part
        return heights

    def hit(self, origin: Triple, direction: Triple) -> Float32:
        dx, dy, dz = direction
        flat = np.sqrt(dx * dx + dz * dz) + 1e-9
        rise = dy / flat
        away = (origin[1] + self.slope * self.distance) / (self.slope - rise)
        level = origin[1] + away * rise
        top = self._skyline(self._azimuth(dx, dz))
        ok = (rise < self.slope) & (away > self.distance) & (level <= top) & (np.asarray(dz) > 0)
        return np.where(ok & (away / flat < FAR), away / flat, np.inf).astype(np.float32)

    def surface(self, x: Float32, y: Float32, z: Float32) -> tuple[Triple, Float32, Float32]:
        away: Float32 = np.asarray(np.sqrt(x * x + z * z) + 1e-9, np.float32)
        fold = noise_tile(1).sample(x / self.distance * 1.5, y / self.distance * 3.0, np.float32(1 / 128)) - 0.5
        nx: Float32 = np.asarray(2.2 * fold - x / away * self.slope, np.float32)
        nz: Float32 = np.asarray(-z / away * self.slope, np.float32)
        up: Float32 = np.asarray(1 / np.sqrt(nx * nx + nz * nz + 1), np.float32)
        return (nx * up, up, nz * up), x, away

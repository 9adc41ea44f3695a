"""Drawn faces with known landmarks: heads of formulas, painted, lit and photographed before a background.

    draw_face(seed) → Face(pixels, landmarks)

These are drawings, not photographs of people. A head is a surface (x, y, z) over an angle and a height, with relief for
nose, lips, sockets and chin; skin, eyes, brows, lips and hair are painted on it in front view; then it is turned, lit
and projected, and what is nearest is seen. The 68 landmarks are places of that surface in the order of iBUG 300-W
(Sagonas et al., ICCV workshops 2013, figure 4): jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67; those of
the jaw lie on the visible outline, as people annotate them ("landmark marching", Zhu et al., CVPR 2015). Proportions
are round numbers around those of adults, drawn wider than nature (domain randomisation, as for the other scenes).

Units of the head: the distance of the outer corners of the eyes is 1; x to the picture's right, y up, z to the viewer;
the origin lies between the eyes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter

from dgiqa.errors import UsageError
from dgiqa.scenes.things import Kit
from dgiqa.types import Float32, UInt8

#: Coordinates and colours: floats of either width.
Array: TypeAlias = npt.NDArray[Any]

#: Side of the picture in which the drawn numbers below are meant, in pixels.
SIDE = 320
#: The painted front view reaches from -WIDE to WIDE and from LOW to HIGH; pixels a unit.
_WIDE, _LOW, _HIGH, _FINE = 1.1, -1.9, 1.7, 160
#: Heights of the jaw's points as shares of the chin's, from the ear down.
_JAW = np.array([0.02, 0.2, 0.365, 0.53, 0.69, 0.81, 0.91, 0.975])
#: Skin from light to dark, hair, and irises; 0..255.
_SKIN = np.array([[246, 216, 198], [228, 184, 156], [198, 146, 112], [146, 98, 68], [88, 58, 44]], np.float32)
_HAIR = np.array(
    [[28, 24, 22], [62, 42, 30], [110, 74, 44], [176, 136, 84], [150, 70, 40], [176, 174, 172]], np.float32
)
_IRIS = np.array([[70, 44, 28], [96, 72, 40], [88, 110, 82], [92, 124, 150], [40, 28, 22]], np.float32)


@dataclass(frozen=True)
class Face:
    """A drawn face.

    Attributes:
        pixels: (S, S, 3) uint8 sRGB.
        landmarks: (68, 2) float32, x and y in pixels from the picture's upper left corner.
    """

    pixels: UInt8
    landmarks: Float32


def draw_face(seed: int, *, size: int = SIDE, backgrounds: Sequence[UInt8] = (), spoil: bool = True) -> Face:
    """A random face about the middle of a picture, the same for the same arguments.

    Args:
        seed: chooses everything: proportions, expression, pose, skin, hair, glasses, light, background, faults.
        size: side of the picture in pixels.
        backgrounds: photographs, (H, W, 3) uint8 sRGB each, a part of one of which is behind the head; without any the
            background is smooth noise.
        spoil: whether the picture may also be blurred, noisy, small, grey or compressed, as photographs are.

    Raises:
        UsageError: a size below 64 pixels.
    """
    if size < 64:
        raise UsageError(f"face size: {size} pixels is too small", hint="ask for at least 64")
    kit = Kit(np.random.default_rng([seed, *b"face"]), backgrounds)
    head = _Head(kit)
    points, colors, normals = (np.concatenate(parts) for parts in zip(*_surfaces(head, kit), strict=True))
    camera = _Camera(kit, head, size)
    landmarks = camera.project(_on_outline(head, camera))[:, :2]
    lit = _lit(colors, normals @ camera.turn.T, kit)
    pixels = _splat(camera.project(points), lit, _background(kit, size))
    pixels = _occluded(pixels, landmarks, kit)
    return Face(_spoiled(pixels, kit) if spoil else np.rint(pixels).astype(np.uint8), landmarks.astype(np.float32))


class _Head:
    """The numbers of one head, and its surface."""

    def __init__(self, kit: Kit) -> None:
        b = kit.between
        self.width, self.chin, self.top = b(0.76, 0.94), b(1.18, 1.46), b(1.1, 1.35)
        self.jaw, self.round = b(1.9, 2.9), b(1.4, 2.0)
        self.depth, self.flat = b(0.9, 1.1), b(2.1, 2.6)
        self.nose, self.nose_wide, self.nose_low = b(0.22, 0.4), b(0.85, 1.3), b(0.5, 0.62)
        laugh = b(0.2, 1) if kit.chance(0.5) else 0.0
        self.open = max(0.0, b(-0.1, 0.25) if laugh else b(-0.5, 0.3))  # the lips' distance
        self.smile, self.mouth_wide = b(-0.03, 0.04) + 0.1 * laugh, b(0.27, 0.34) + 0.11 * laugh
        self.mouth_low, self.lip = self.nose_low + b(0.19, 0.28), b(0.6, 1.4)
        self.chin = max(self.chin, self.mouth_low + 0.4) + 0.55 * self.open
        self.eye = (b(0.03, 0.075) if kit.chance(0.9) else b(0.0, 0.02)) * (1 - 0.4 * laugh)  # half the opening
        self.slant, self.inner = b(-0.03, 0.03), b(0.19, 0.24)
        self.brow, self.brow_arch, self.brow_tilt = b(0.17, 0.3), b(0.0, 0.07), b(-0.05, 0.05)
        self.lop = kit.rng.normal(0, 0.012, (68, 2))  # no face is symmetrical
        self.flatland = self._places()

    def outline(self, y: Array) -> Array:
        """Half the head's width at a height."""
        down = np.clip(-y / self.chin, 0, 1) ** self.jaw
        up = np.clip(y / self.top, 0, 1) ** 2.4
        share = np.where(y < 0, (1 - down) ** (1 / self.round), np.sqrt(1 - up))
        return np.asarray(self.width * share, np.float32)

    def at(self, angle: Array, y: Array) -> Array:
        """(..., 3) points of the surface; the angle is 0 in front and π/2 at the picture's right side."""
        x = self.outline(y) * np.sin(angle)
        deep = self.depth * (1 - 0.14 * np.clip(-y / self.chin, 0, 1) ** 2)
        deep *= np.sqrt(np.clip(1 - np.clip(y / self.top, 0, 1) ** 3, 0, 1)) * (1 - np.clip(-y / self.chin, 0, 1) ** 24)
        cos = np.cos(angle)
        front = np.sign(cos) * (1 - np.abs(np.sin(angle)) ** self.flat) ** (1 / self.flat)
        z = deep * front + self.relief(x, y) * np.clip(2 * cos, 0, 1)
        return np.stack(np.broadcast_arrays(x, y, z), -1).astype(np.float32)

    def facing(self, places: Array) -> Array:
        """(N, 3) points of the front at (N, 2) places x, y."""
        x, y = places.T
        angle = np.arcsin(np.clip(x / np.maximum(self.outline(y), 1e-3), -0.995, 0.995))
        return self.at(angle, y)

    def relief(self, x: Array, y: Array) -> Array:
        """How far the face stands out over the smooth head."""
        side = np.abs(x)
        low = self.nose_low
        along = np.clip((0.12 - y) / (low - 0.04), 0, 1)
        ridge = self.nose * along**1.2 * _step((y + low + 0.02) / 0.1)
        out = ridge * np.exp(-((x / (0.07 + 0.06 * along)) ** 2))
        out += 0.1 * self.nose_wide * _bump(side - 0.12 * self.nose_wide, y + low - 0.06, 0.07, 0.08)
        out -= 0.13 * _bump(side - 0.35, y - 0.02, 0.19, 0.13)
        out += 0.05 * _bump(side - 0.36, y, 0.12, 0.08)  # the eyeball
        out += 0.05 * _bump(side - 0.3, y - self.brow, 0.3, 0.07)
        out += 0.05 * _bump(side - 0.46, y + 0.35, 0.2, 0.2)
        gap = self.open / 2
        for centre in (self.mouth_low + gap, self.mouth_low + 0.1 + gap):
            out += 0.05 * self.lip * _bump(x, y + centre - 0.05, 0.22, 0.05)
        out += 0.09 * _bump(x, y + self.chin - 0.14, 0.22, 0.12)
        return np.asarray(out, np.float32)

    def _places(self) -> Array:
        """(68, 2) the landmarks in front view; the jaw's are replaced by the visible outline."""
        half = np.array([[-self.outline(np.array(-s * self.chin)), -s * self.chin] for s in _JAW])
        jaw = np.concatenate([half, [[0, -0.985 * self.chin]], half[::-1] * (-1, 1)])
        t = np.linspace(0, 1, 5)
        arch = self.brow + self.brow_arch * np.sin(np.pi * t) - self.brow_tilt * (t - 0.5) - 0.07 * (t < 0.1)
        brow = np.stack([-0.66 + 0.52 * t, arch], 1)
        low = self.nose_low
        bridge = np.stack([np.zeros(4), np.linspace(0.02, -low + 0.12, 4)], 1)
        wide = 0.17 * self.nose_wide
        base = np.stack([np.linspace(-wide, wide, 5), [-low + 0.03, -low, -low - 0.025, -low, -low + 0.03]], 1)
        inner, outer = np.array([-self.inner, -self.slant]), np.array([-0.5, self.slant])
        s = np.array([0.3, 0.7])
        lids = outer + s[:, None] * (inner - outer)
        lift = np.array([[0, 1.0]])
        eye = np.concatenate([[outer], lids + 1.05 * self.eye * lift, [inner], lids[::-1] - 0.8 * self.eye * lift])
        right_eye = (eye * (-1, 1))[[3, 2, 1, 0, 5, 4]]
        mouth = self._mouth()
        together = np.concatenate([jaw, brow, brow[::-1] * (-1, 1), bridge, base, eye, right_eye, mouth])
        return np.asarray(together + self.lop * (np.arange(68) > 16)[:, None], np.float32)

    def _mouth(self) -> Array:
        w, y, gap = self.mouth_wide, -self.mouth_low, self.open / 2
        corner = y + self.smile - gap
        x = np.linspace(-w, w, 7)
        thick = 0.075 * self.lip
        bow = np.array([0, 0.6, 1, 0.85, 1, 0.6, 0])
        upper = corner * (bow == 0) + (bow > 0) * (y + 0.35 * self.smile * (np.abs(x) / w) ** 2 + thick * bow)
        under = np.array([0.55, 0.9, 1, 0.9, 0.55])
        lower = y - 2 * gap * np.array([0.75, 1, 1, 1, 0.75]) - 1.25 * thick * under
        lower += 0.5 * self.smile * (np.abs(x[1:6]) / w) ** 2
        inside = np.array([-0.4, 0, 0.4]) * w
        top = y + 0.01 + 0 * inside
        bottom = y - 2 * gap * np.array([0.85, 1, 0.85]) - 0.015
        return np.concatenate(
            [
                np.stack([x, upper], 1),
                np.stack([x[5:0:-1], lower[::-1]], 1),
                [[-0.88 * w, corner]],
                np.stack([inside, top], 1),
                [[0.88 * w, corner]],
                np.stack([inside[::-1], bottom], 1),
            ]
        ).astype(np.float32)


class _Camera:
    """A turned head in a picture: where its points are seen."""

    def __init__(self, kit: Kit, head: _Head, size: int) -> None:
        wild = kit.chance(0.4)
        yaw = kit.rng.normal(0, 24 if wild else 12)
        pitch, roll = kit.rng.normal(0, 11 if wild else 7), kit.rng.normal(0, 10)
        self.turn = _turned(*np.deg2rad(np.clip([yaw, pitch, roll], -50, 50)))
        self.far = kit.between(5, 16)
        centre = head.facing(np.array([[0, 0.25 - head.chin / 2]], np.float32))[0] * (1, 1, 0.5)
        self.scale = size * kit.between(0.29, 0.34) / (head.chin / 1.36)
        self.middle = size * (0.5 + kit.rng.uniform(-0.03, 0.03, 2))
        self.centre = centre

    def project(self, points: Array) -> Array:
        """(N, 3) points to (N, 3): x and y in pixels, and the height towards the viewer."""
        x, y, z = ((points - self.centre) @ self.turn.T).T
        near = self.scale * self.far / (self.far - z)
        return np.stack([self.middle[0] + near * x, self.middle[1] - near * y, z], 1).astype(np.float32)


def _on_outline(head: _Head, camera: _Camera) -> Array:
    """(68, 3) the landmarks on the head; those of the jaw where it ends for the viewer, but not behind the ear."""
    points = head.facing(head.flatland)
    angles = np.deg2rad(np.linspace(25, 88, 40)).astype(np.float32)
    across = camera.turn[0]
    for i in range(17):
        if i != 8:
            side = -1 if i < 8 else 1
            row = head.at(side * angles, np.full_like(angles, head.flatland[i, 1]))
            points[i] = row[np.argmax(side * (row @ across))]
    return points


def _surfaces(head: _Head, kit: Kit) -> list[tuple[Array, Array, Array]]:
    """Points, colours 0..255 and normals of the face, the back of the head, ears, neck and shoulders."""
    tone = kit.between(0, len(_SKIN) - 1)
    skin = np.array([np.interp(tone, np.arange(len(_SKIN)), c) for c in _SKIN.T], np.float32)
    skin = skin * kit.rng.uniform(0.94, 1.06, 3).astype(np.float32)
    dark = kit.rng.integers(2) if tone > 2.2 else kit.rng.integers(len(_HAIR))
    hair = _HAIR[dark] * np.float32(kit.between(0.7, 1.2))
    painted = _painted(head, skin, hair, kit)
    # The face.
    y = np.concatenate([np.linspace(-1, -0.9, 50) * head.chin, np.linspace(-0.9 * head.chin, head.top, 330)])
    angle, level = np.meshgrid(np.deg2rad(np.linspace(-100, 100, 330)), y.astype(np.float32))
    front = head.at(angle.astype(np.float32), level)
    column = np.clip((front[..., 0] + _WIDE) * _FINE, 0, painted.shape[1] - 1).astype(np.intp)
    row = np.clip((_HIGH - front[..., 1]) * _FINE, 0, painted.shape[0] - 1).astype(np.intp)
    surfaces = [_cloud(front, painted[row, column])]
    # Hair, or the bald back of the head: the same surface a little larger, cut along the hairline.
    bald = kit.chance(0.12)
    long = kit.chance(0.45) and not bald
    thick = 0.0 if bald else kit.between(0.03, 0.16)
    y = np.linspace(-0.9 if long else -0.55, 1, 200, dtype=np.float32) * np.float32(head.top)
    angle, level = np.meshgrid(np.deg2rad(np.linspace(-180, 180, 420)), y)
    shell = head.at(angle.astype(np.float32), level) * np.float32(1 + thick)
    fringe = kit.between(0.45, 0.95) - (0.2 if kit.chance(0.15) else 0)
    turned = np.abs(np.rad2deg(angle))
    edge = np.interp(turned, [0, 45, 68, 84, 96], [fringe, fringe, fringe - 0.2, 0.0, -3.0 if long else -0.45])
    edge = edge + 0.05 * np.sin(angle * kit.between(3, 40) + kit.between(0, 6))
    kept = (level > edge) | (turned > 100)
    strands = kit.rng.normal(0, 1, (1, 420)) * 0.12 + kit.rng.normal(0, 1, level.shape) * 0.06
    cover = skin * np.ones((*level.shape, 1), np.float32) if bald else hair * (1 + strands[..., None])
    points, colors, normals = _cloud(shell, cover.astype(np.float32))
    chosen = kept.ravel()
    surfaces.append((points[chosen], colors[chosen], normals[chosen]))
    if not long:
        for side in (-1, 1):
            place = (side * 1.03 * head.width, -0.12, -0.1)
            surfaces.append(_ball(place, (0.09, 0.27, 0.17), 40, skin * (0.95, 0.88, 0.86)))
    neck = 0.55 * head.width / 0.8
    angle, level = np.meshgrid(np.linspace(-2, 2, 200), np.linspace(-2.6, -0.6, 200))
    tube = np.stack([neck * np.sin(angle), level, neck * np.cos(angle) - 0.35 - 0.1 * level], -1)
    surfaces.append(_cloud(tube.astype(np.float32), (0.82 * skin) * np.ones((*level.shape, 1), np.float32)))
    cloth = kit.rng.uniform(10, 240, 3).astype(np.float32)
    surfaces.append(_ball((0, -head.chin - 1.35, -0.5), (2.1, 0.85, 0.75), 300, cloth))
    return surfaces


def _painted(head: _Head, skin: Array, hair: Array, kit: Kit) -> Array:
    """(H, W, 3) the front view of the skin with all that is painted on it."""
    size = round(2 * _WIDE * _FINE), round((_HIGH - _LOW) * _FINE)
    places = head.flatland
    base = skin * (1 + kit.between(0.01, 0.05) * _noise(kit, size[::-1], 12)[..., None])
    base *= 1 + kit.between(0.0, 0.04) * kit.rng.normal(0, 1, (*size[::-1], 1))
    canvas = Pillow.fromarray(np.clip(base, 0, 255).astype(np.uint8))
    paint = _Brush(canvas)
    red = tuple(np.clip(skin * (1.05, 0.8, 0.78), 0, 255))
    for x in (-0.45, 0.45):
        paint.spot((x, -0.4), 0.24, red, kit.between(0, 0.45), 20)
    paint.spot((0, -head.nose_low + 0.1), 0.12, red, kit.between(0, 0.4), 8)
    shade = tuple(skin * 0.55)
    for eye in (places[36:42], places[42:48]):
        paint.spot(tuple(eye.mean(0) + _up(0.03)), 0.2, shade, kit.between(0.1, 0.5), 10)
    if kit.chance(0.3):  # a beard, or its shadow
        cheek = places[[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]] * 1.03
        line = [(0.45, -head.mouth_low + 0.15), (0.2, -head.nose_low - 0.06)]
        area = [*map(tuple, cheek), *line, *[(-x, y) for x, y in line[::-1]]]
        paint.area(area, tuple(hair), kit.between(0.15, 0.95), 7)
    for side in (-1, 1):  # from the nostrils to the mouth's corners
        fold = [(side * 0.2, -head.nose_low + 0.02), (side * (head.mouth_wide + 0.1), -head.mouth_low + 0.02)]
        paint.line(fold, shade, kit.between(0, 0.5), 0.02, 3)
        hole = (side * 0.085 * head.nose_wide, -head.nose_low + 0.005)
        paint.spot(hole, 0.04, (38, 20, 18), kit.between(0.5, 1), 1.5, flat=0.55)
    paint.line(places[31:36], shade, kit.between(0.2, 0.7), 0.02, 2)
    thick = kit.between(0.03, 0.1)
    for brow in (places[17:22], places[22:27]):
        paint.line(_curve(brow) - _up(0.25 * thick), tuple(hair * 0.8), kit.between(0.45, 1), thick, 1.5)
    _paint_eyes(paint, head, skin, kit)
    _paint_mouth(paint, head, skin, kit)
    if kit.chance(0.18):
        _paint_glasses(paint, head, kit)
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(0.6)), np.float32)


def _paint_eyes(paint: _Brush, head: _Head, skin: Array, kit: Kit) -> None:
    iris = tuple(_IRIS[kit.rng.integers(len(_IRIS))])
    gaze = kit.rng.normal(0, 0.035, 2) * (1, 0.3)
    radius, lashes = kit.between(0.065, 0.08), kit.between(0.012, 0.03)
    white = tuple(np.array([232, 224, 218]) * kit.between(0.6, 1))
    for eye in (head.flatland[36:42], head.flatland[42:48]):
        outline = np.concatenate([_curve(eye[:4]), _curve(eye[[3, 4, 5, 0]])])
        ball = Pillow.new("RGB", paint.canvas.size, _colour(white))
        over = _Brush(ball)
        centre = tuple(eye.mean(0) + gaze)
        over.spot(centre, radius, iris, 1, 0.8)
        over.spot(centre, 0.45 * radius, (8, 6, 6), 1, 0.6)
        over.spot((centre[0] + 0.02, centre[1] + 0.025), 0.016, (255, 255, 255), kit.between(0.4, 1), 0.4)
        over.line(_curve(eye[:4]), tuple(skin * 0.25), 0.5, 0.05, 3)
        paint.area(list(map(tuple, outline)), ball, 1, 0.6)
        paint.line(_curve(eye[:4]), tuple(skin * 0.2), kit.between(0.5, 1), lashes, 0.8)
        paint.line(_curve(eye[[3, 4, 5, 0]]), tuple(skin * 0.45), kit.between(0.2, 0.7), 0.012, 0.8)
        paint.line(_curve(eye[:4]) + _up(0.05), tuple(skin * 0.5), kit.between(0.1, 0.6), 0.015, 1.5)


def _paint_mouth(paint: _Brush, head: _Head, skin: Array, kit: Kit) -> None:
    mouth = head.flatland[48:]
    red = np.array([kit.between(0.75, 1.1), kit.between(0.5, 0.8), kit.between(0.5, 0.85)])
    lips = np.concatenate([_curve(mouth[:7]), _curve(mouth[[6, 7, 8, 9, 10, 11, 0]])])
    paint.area(list(map(tuple, lips)), tuple(skin * red), kit.between(0.5, 1), 1.2)
    inside = np.concatenate([_curve(mouth[[12, 13, 14, 15, 16]]), _curve(mouth[[16, 17, 18, 19, 12]])])
    dark = (56, 22, 22)
    if head.open > 0.02:
        paint.area(list(map(tuple, inside)), dark, 1, 0.8)
        if kit.chance(0.7):
            teeth = inside.copy()
            middle = mouth[13:16, 1].mean() - min(0.07, 0.6 * head.open)
            teeth[:, 1] = np.maximum(teeth[:, 1], middle)
            paint.area(list(map(tuple, teeth * (0.92, 1))), (232, 226, 214), kit.between(0.6, 1), 0.8)
    else:
        paint.line(_curve(mouth[[12, 13, 14, 15, 16]]) - _up(0.005), dark, kit.between(0.5, 0.95), 0.018, 0.8)


def _paint_glasses(paint: _Brush, head: _Head, kit: Kit) -> None:
    frame = tuple(kit.rng.uniform(5, 120, 3))
    wide, high = kit.between(0.2, 0.27), kit.between(0.13, 0.22)
    tint = kit.between(0.7, 1) if kit.chance(0.2) else kit.between(0, 0.15)
    turn = np.linspace(0, 2 * np.pi, 40)
    power = kit.between(0.5, 1)
    ring = np.stack([np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power * wide,
                     np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power * high], 1)  # fmt: skip
    for centre in ((-0.36, -0.03), (0.36, -0.03)):
        paint.area(list(map(tuple, ring + centre)), (24, 24, 28), tint, 0.6)
        paint.line(ring + centre, frame, 1, kit.between(0.015, 0.05), 0.5)
    paint.line([(-0.36 + wide, 0), (0.36 - wide, 0)], frame, 1, 0.03, 0.5)
    for side in (-1, 1):
        paint.line([(side * (0.36 + wide), 0.02), (side * 1.1, 0.04)], frame, 1, 0.03, 0.5)


class _Brush:
    """Paints on a front view, in its units."""

    def __init__(self, canvas: Pillow.Image) -> None:
        self.canvas = canvas

    def area(self, outline: Sequence[tuple[float, float]], paint: object, share: float, soft: float) -> None:
        """Fills a polygon with a colour or another picture; edges are ``soft`` pixels wide."""
        mask = Pillow.new("L", self.canvas.size)
        ImageDraw.Draw(mask).polygon(self._pixels(outline), fill=round(255 * share))
        self._put(mask, paint, soft)

    def line(self, along: object, paint: object, share: float, width: float, soft: float) -> None:
        mask = Pillow.new("L", self.canvas.size)
        ImageDraw.Draw(mask).line(
            self._pixels(along), fill=round(255 * share), width=max(1, round(width * _FINE)), joint="curve"
        )
        self._put(mask, paint, soft)

    def spot(
        self, centre: tuple[float, ...], radius: float, paint: object, share: float, soft: float, flat: float = 1.0
    ) -> None:
        (x, y), r = self._pixels([centre])[0], radius * _FINE
        mask = Pillow.new("L", self.canvas.size)
        ImageDraw.Draw(mask).ellipse((x - r, y - flat * r, x + r, y + flat * r), fill=round(255 * share))
        self._put(mask, paint, soft)

    def _pixels(self, places: object) -> list[tuple[float, float]]:
        return [((x + _WIDE) * _FINE, (_HIGH - y) * _FINE) for x, y in np.asarray(places, np.float64)]

    def _put(self, mask: Pillow.Image, paint: object, soft: float) -> None:
        box = mask.getbbox()
        if box is None:
            return
        margin = int(3 * soft) + 2
        box = (max(box[0] - margin, 0), max(box[1] - margin, 0), box[2] + margin, box[3] + margin)
        box = (*box[:2], min(box[2], mask.width), min(box[3], mask.height))
        part = mask.crop(box).filter(ImageFilter.GaussianBlur(soft))
        source = paint.crop(box) if isinstance(paint, Pillow.Image) else _colour(paint)
        if isinstance(source, tuple):
            source = Pillow.new("RGB", part.size, source)
        self.canvas.paste(source, box, part)


def _colour(values: object) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.rint(np.asarray(values, np.float64)), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def _cloud(grid: Array, colors: Array) -> tuple[Array, Array, Array]:
    """(H, W, 3) points of a surface with their colours, as lists with normals, which look outwards."""
    across, along = np.gradient(grid, axis=1), np.gradient(grid, axis=0)
    normals = np.cross(across, along)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    return tuple(a.reshape(-1, 3).astype(np.float32) for a in (grid, colors, normals))  # type: ignore[return-value]


def _ball(
    centre: tuple[float, float, float], radii: tuple[float, float, float], count: int, color: Array
) -> tuple[Array, Array, Array]:
    angle, level = np.meshgrid(np.linspace(-np.pi / 2, np.pi / 2, 2 * count), np.linspace(-1.55, 1.55, count))
    unit = np.stack([np.sin(angle) * np.cos(level), np.sin(level), np.cos(angle) * np.cos(level)], -1)
    return _cloud((unit * radii + centre).astype(np.float32), color * np.ones((*level.shape, 1), np.float32))


def _lit(colors: Array, normals: Array, kit: Kit) -> Array:
    """Colours under a lamp, light from around and a little gloss (Blinn, SIGGRAPH 1977)."""
    lamp = np.array([kit.rng.normal(0, 0.7), kit.between(-0.2, 0.9), kit.between(0.4, 1.2)])
    lamp /= np.linalg.norm(lamp)
    around = kit.between(0.25, 0.8)
    wrap = kit.between(0, 0.4)
    facing = np.clip((normals @ lamp + wrap) / (1 + wrap), 0, 1)
    half = lamp + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    gloss = kit.between(0, 60) * np.clip(normals @ half, 0, 1) ** kit.between(10, 50)
    below = 0.85 + 0.15 * normals[:, 1]
    light = kit.between(0.75, 1.2) * (around * below + (1 - around) * 1.25 * facing)
    tint = kit.rng.uniform(0.9, 1.1, 3)
    return np.asarray(np.clip(colors * light[:, None] * tint + gloss[:, None], 0, 255), np.float32)


def _splat(seen: Array, colors: Array, background: Array) -> Array:
    """The picture of points (x, y, towards the viewer): in each pixel the mean of those that are nearest."""
    height, width = background.shape[:2]
    column, row = np.floor(seen[:, 0]).astype(np.intp), np.floor(seen[:, 1]).astype(np.intp)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place, z, colors = (row * width + column)[inside], seen[inside, 2], colors[inside]
    nearest = np.full(height * width, -np.inf, np.float32)
    order = np.argsort(z, kind="stable")
    nearest[place[order]] = z[order]
    front = z > nearest[place] - 0.05
    place = place[front]
    count = np.bincount(place, minlength=height * width)
    sums = [np.bincount(place, colors[front, c], height * width) for c in range(3)]
    drawn = (np.stack(sums, 1) / np.maximum(count, 1)[:, None]).reshape(height, width, 3)
    nearest = nearest.reshape(height, width)
    for _ in range(2):
        drawn, nearest = _closed(drawn, nearest)
    cover = np.isfinite(nearest)
    soft = Pillow.fromarray((255 * cover).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    alpha = np.asarray(soft, np.float32)[..., None] / 255 * cover[..., None]
    return np.asarray(drawn * alpha + background * (1 - alpha), np.float32)


def _closed(drawn: Array, nearest: Array) -> tuple[Array, Array]:
    """Pixels that no point of the surface fell into, so that one sees through, get the mean of what is around them."""
    h, w = nearest.shape
    near = [(slice(a, a + h), slice(b, b + w)) for a in range(3) for b in range(3) if (a, b) != (1, 1)]
    colors, depth = np.pad(drawn, ((1, 1), (1, 1), (0, 0))), np.pad(nearest, 1, constant_values=-np.inf)
    before = np.stack([depth[s] > nearest + 0.06 for s in near])
    count = before.sum(0)
    holes = count >= 4
    mean = sum(colors[s] * b[..., None] for s, b in zip(near, before, strict=True)) / np.maximum(count, 1)[..., None]
    around = np.max([np.where(b, depth[s], -np.inf) for s, b in zip(near, before, strict=True)], 0)
    return np.where(holes[..., None], mean, drawn), np.where(holes, around, nearest)


def _background(kit: Kit, size: int) -> Array:
    if not kit.photographs:
        tint = kit.rng.uniform(20, 235, 3)
        wave = np.stack([_noise(kit, (size, size), int(kit.rng.integers(2, 12))) for _ in range(3)], -1)
        return np.asarray(np.clip(tint + 35 * wave, 0, 255), np.float32)
    whole = kit.one()
    side = max(round(min(whole.shape[:2]) * kit.between(0.3, 1)), 8)
    top, left = (int(kit.rng.integers(n - side + 1)) for n in whole.shape[:2])
    part = Pillow.fromarray(whole[top : top + side, left : left + side]).resize((size, size), Pillow.Resampling.BICUBIC)
    if kit.chance(0.5):
        part = part.filter(ImageFilter.GaussianBlur(kit.between(0.5, 6)))
    return np.asarray(part, np.float32)


def _occluded(pixels: Array, landmarks: Array, kit: Kit) -> Array:
    """Now and then something is in front: a part of a photograph, or one colour, on a corner of the face."""
    if not kit.chance(0.12):
        return pixels
    size = len(pixels)
    x, y = landmarks[kit.rng.integers(68)] + kit.rng.normal(0, 0.1 * size, 2)
    wide, high = kit.rng.uniform(0.04, 0.16, 2) * size
    mask = Pillow.new("L", (size, size))
    ImageDraw.Draw(mask).ellipse((x - wide, y - high, x + wide, y + high), fill=255)
    share = np.asarray(mask.filter(ImageFilter.GaussianBlur(1)), np.float32)[..., None] / 255
    return np.asarray(pixels * (1 - share) + share * _background(kit, size), np.float32)


def _spoiled(pixels: Array, kit: Kit) -> UInt8:
    """What happens to photographs: light, contrast, size, focus, noise, JPEG."""
    size = len(pixels)
    gamma, gain = kit.between(0.7, 1.5), kit.rng.uniform(0.85, 1.15, 3)
    pixels = np.clip(255 * (np.clip(pixels, 0, 255) / 255) ** gamma * gain, 0, 255)
    if kit.chance(0.12):
        pixels = np.repeat(pixels.mean(2, keepdims=True), 3, 2)
    picture = Pillow.fromarray(pixels.astype(np.uint8))
    if kit.chance(0.4):
        small = round(size * kit.between(0.2, 0.8))
        picture = picture.resize((small, small), Pillow.Resampling.BOX).resize((size, size), Pillow.Resampling.BICUBIC)
    if kit.chance(0.4):
        picture = picture.filter(ImageFilter.GaussianBlur(kit.between(0.3, 2.2)))
    noisy: Array = np.asarray(picture, np.float32)
    if kit.chance(0.5):
        noisy = noisy + kit.rng.normal(0, kit.between(1, 14), noisy.shape)
    noisy = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if kit.chance(0.4):
        stream = io.BytesIO()
        Pillow.fromarray(noisy).save(stream, "JPEG", quality=int(kit.rng.integers(25, 90)))
        noisy = np.asarray(Pillow.open(stream))
    return np.asarray(noisy, np.uint8)


def _up(height: float) -> Array:
    return np.array([0, height])


def _curve(points: Array, steps: int = 6) -> Array:
    """A smooth line through points (Catmull and Rom, 1974)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    parts = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(np.concatenate([parts.reshape(-1, 2), points[-1:]]), np.float32)


def _noise(kit: Kit, shape: tuple[int, int], cells: int) -> Array:
    """(H, W) smooth noise with a deviation of about 1."""
    coarse = kit.rng.normal(0, 1.3, (cells + 2, cells + 2)).astype(np.float32)
    picture = Pillow.fromarray(coarse).resize(shape[::-1], Pillow.Resampling.BICUBIC)
    return np.asarray(picture, np.float32)


def _bump(x: Array, y: Array, wide: float, high: float) -> Array:
    return np.asarray(np.exp(-((x / wide) ** 2) - (y / high) ** 2), np.float32)


def _step(x: Array) -> Array:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(x, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _turned(yaw: float, pitch: float, roll: float) -> Array:
    """(3, 3) the rotation about y, then x, then z."""
    (sy, cy), (sp, cp), (sr, cr) = ((np.sin(a), np.cos(a)) for a in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y, np.float32)

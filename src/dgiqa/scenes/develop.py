"""From a stage to a photograph: rays, light, air, lens and sensor.

Lambert shading under a sun (with a shadow map: Williams, SIGGRAPH 1978) and a sky, or under lamps in a
room; aerial haze by Koschmieder's law; defocus by the thin lens's circle of confusion; then exposure,
vignette, noise and the sRGB curve. All light is linear until the last step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image as Pillow

from dgiqa.scenes.geometry import FAR, Hits, Plane, Point, Primitive, Ridge, View, cast, parallel, pinhole
from dgiqa.scenes.materials import Colour, noise_tile
from dgiqa.types import Float32, UInt8


@dataclass
class Stage:
    """Everything a picture is made from. Metres, degrees, linear colours.

    Attributes:
        position, fov, pitch, roll, yaw: the camera, as :func:`dgiqa.scenes.geometry.pinhole` takes them.
        primitives: what stands in the scene. zenith, horizon, clouds: the sky's colours and its cloud cover
        (0 to 1). sun: direction towards the sun; ``sunlight`` its colour, ``skylight`` the light from all
        around. shadows: half side in metres of the square that the shadow map covers; 0 for none.
        ``shaded`` is its centre.
        lamps: point lights of a room with 1/r² decay.
        room: low and high corner of a room, whose corners darken.
        haze: extinction a metre; ``air`` the colour of the haze, the horizon's when None.
        focus: metres to the plane in focus, 0 for everything sharp; ``aperture`` is the blur at infinity as a
            fraction of the picture's width when focused at 1 m.
        exposure: mean luminance of the finished linear picture.
        tint: white balance error, a factor on each channel.
        vignette, noise: darkening in the corners; standard deviation of the sensor's noise in sRGB, 0 to 1.
    """

    position: Point = (0.0, 1.6, 0.0)
    fov: float = 60.0
    pitch: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0
    primitives: list[Primitive] = field(default_factory=list)
    zenith: Colour = (0.12, 0.28, 0.65)
    horizon: Colour = (0.6, 0.7, 0.8)
    clouds: float = 0.5
    sun: Point = (0.4, 0.7, -0.5)
    sunlight: Colour = (1.0, 0.93, 0.8)
    skylight: Colour = (0.35, 0.42, 0.55)
    shadows: float = 0.0
    shaded: Point = (0.0, 0.0, 10.0)
    lamps: list[Point] = field(default_factory=list)
    room: tuple[Point, Point] | None = None
    haze: float = 0.0
    air: Colour | None = None
    focus: float = 0.0
    aperture: float = 0.0
    exposure: float = 0.22
    tint: Colour = (1.0, 1.0, 1.0)
    vignette: float = 0.15
    noise: float = 0.008


def develop(
    stage: Stage, size: tuple[int, int], rng: np.random.Generator, *, samples: int = 1
) -> tuple[UInt8, Float32]:
    """The picture (H, W, 3) uint8 sRGB and its depth (H, W) float32 in metres.

    ``samples`` rays a side per pixel. With one, pixels at outlines are mixed with their neighbours, as a
    sensor does; depth is never mixed: it is that of a ray through the pixel.
    """
    width, height = size
    view = pinhole(
        (width * samples, height * samples), stage.position,
        fov=stage.fov, pitch=stage.pitch, roll=stage.roll, yaw=stage.yaw,
    )  # fmt: skip
    hits = cast(view, stage.primitives)
    light = _shade(stage, view, hits)
    depth = np.minimum(hits.depth, np.float32(FAR))
    light = _haze(stage, light, depth)
    if samples > 1:
        light = light.reshape(height, samples, width, samples, 3).mean((1, 3))
        depth = np.ascontiguousarray(depth[samples // 2 :: samples, samples // 2 :: samples])
    else:
        light = _soften_outlines(light, hits)
    if stage.focus:
        light = _defocus(light, depth, stage.focus, stage.aperture * width)
    return _expose(stage, light, rng), depth


def _shade(stage: Stage, view: View, hits: Hits) -> Float32:
    """(H, W, 3) linear light leaving what each ray hits."""
    height, width = view.shape
    light = np.empty((height * width, 3), np.float32)
    owner = hits.owner.ravel()
    order = np.argsort(owner, kind="stable")
    present, starts = np.unique(owner[order], return_index=True)
    ends = [*starts[1:], len(order)]
    dx, dy, dz = (np.broadcast_to(np.asarray(p, np.float32), view.shape).ravel() for p in view.direction)
    depth = hits.depth.ravel()
    shadow = _shadow_map(stage)
    for index, start, end in zip(present, starts, ends, strict=True):
        at = order[start:end]
        ax, ay, az, t = dx[at], dy[at], dz[at], depth[at]
        if index < 0:
            light[at] = _sky(stage, ax, ay, az)
            continue
        primitive = stage.primitives[index]
        x, y, z = (o + t * a for o, a in zip(stage.position, (ax, ay, az), strict=True))
        (nx, ny, nz), u, v = primitive.surface(x, y, z)
        length = np.sqrt(ax * ax + ay * ay + az * az)
        facing = np.abs(nx * ax + ny * ay + nz * az) / length
        footprint = t * length / view.scale / np.sqrt(np.maximum(facing, 0.02))
        albedo = primitive.material.colours(
            np.asarray(u, np.float32), np.asarray(v, np.float32), footprint.astype(np.float32)
        )
        lit = _light(stage, primitive, (x, y, z), (nx, ny, nz), shadow)
        light[at] = albedo * (lit + np.float32(primitive.material.glow))
    return light.reshape(height, width, 3)


def _light(
    stage: Stage,
    primitive: Primitive,
    place: tuple[Float32, Float32, Float32],
    normal: tuple[Float32 | float, Float32 | float, Float32 | float],
    shadow: tuple[View, Float32] | None,
) -> Float32:
    """(N, 3) light arriving at points."""
    x, y, z = place
    nx, ny, nz = normal
    open_to_sky = 0.62 + 0.38 * np.asarray(ny)
    if not isinstance(primitive, Plane | Ridge):
        # Light doesn't reach the foot of things well: the contact shadow.
        open_to_sky = open_to_sky * (1 - 0.45 * np.exp(-np.maximum(y, 0) / 0.35))
    around = np.broadcast_to(np.asarray(open_to_sky, np.float32), x.shape)
    if stage.room:
        for value, low, high, n in zip(place, *stage.room, (nx, ny, nz), strict=True):
            across = np.abs(np.asarray(n)) < 0.5
            near = np.exp(-np.maximum(value - low, 0) / 0.4) + np.exp(-np.maximum(high - value, 0) / 0.4)
            around = around * (1 - 0.35 * across * np.minimum(near, 1))
    lit = around[:, None] * np.asarray(stage.skylight, np.float32)
    sun = _unit(stage.sun)
    direct = np.maximum(nx * sun[0] + ny * sun[1] + nz * sun[2], 0) * np.ones_like(x)
    if shadow is not None and not isinstance(primitive, Ridge):
        direct = direct * _sunlit(shadow, x, y, z)
    lit = lit + direct[:, None] * np.asarray(stage.sunlight, np.float32)
    for lamp in stage.lamps:
        lx, ly, lz = lamp[0] - x, lamp[1] - y, lamp[2] - z
        square = lx * lx + ly * ly + lz * lz + 0.15
        fall = np.maximum((nx * lx + ny * ly + nz * lz) / np.sqrt(square), 0) * 4.0 / (square + 2.0)
        lit = lit + fall[:, None] * np.array([1.0, 0.86, 0.66], np.float32)
    result: Float32 = lit.astype(np.float32)
    return result


def _unit(v: Point) -> Point:
    length = float(np.hypot(np.hypot(v[0], v[1]), v[2]))
    return v[0] / length, v[1] / length, v[2] / length


def _shadow_map(stage: Stage, pixels: int = 160) -> tuple[View, Float32] | None:
    if not stage.shadows:
        return None
    casters = [p for p in stage.primitives if not isinstance(p, Plane | Ridge)]
    sun = stage.sun
    view = parallel((-sun[0], -sun[1], -sun[2]), stage.shaded, stage.shadows, pixels)
    return view, cast(view, casters).depth


def _sunlit(shadow: tuple[View, Float32], x: Float32, y: Float32, z: Float32) -> Float32:
    """The part (0 to 1) of the sun's light that arrives: 2×2 percentage-closer filtering."""
    view, depth = shadow
    columns, rows, ahead = view.project(x, y, z)
    columns, rows = columns - 0.5, rows - 0.5
    left, top = np.floor(columns), np.floor(rows)
    fx, fy = columns - left, rows - top
    side = depth.shape[0] - 2
    inside = (left >= 0) & (top >= 0) & (left <= side) & (top <= side)
    i, j = np.clip(top, 0, side).astype(np.int32), np.clip(left, 0, side).astype(np.int32)
    limit = ahead - 3.0 / view.scale
    lit = (
        (depth[i, j] > limit) * (1 - fx) * (1 - fy)
        + (depth[i, j + 1] > limit) * fx * (1 - fy)
        + (depth[i + 1, j] > limit) * (1 - fx) * fy
        + (depth[i + 1, j + 1] > limit) * fx * fy
    )
    return np.where(inside, lit, 1.0).astype(np.float32)


def _sky(stage: Stage, dx: Float32, dy: Float32, dz: Float32) -> Float32:
    length = np.sqrt(dx * dx + dy * dy + dz * dz)
    up = dy / length
    blend = np.clip(up, 0, 1)[:, None] ** 0.55
    zenith, horizon = np.asarray(stage.zenith, np.float32), np.asarray(stage.horizon, np.float32)
    sky = horizon + (zenith - horizon) * blend
    sun = _unit(stage.sun)
    toward = np.clip((dx * sun[0] + dy * sun[1] + dz * sun[2]) / length, 0, 1)
    sky = sky + (0.35 * toward**8 + 6.0 * toward**900)[:, None] * np.asarray(stage.sunlight, np.float32)
    if stage.clouds:
        # Clouds lie on a sheet overhead, so they crowd towards the horizon.
        lift = np.maximum(up, 0.03) + 0.06
        u, v = dx / length / lift * 0.16 + stage.sun[0], dz / length / lift * 0.16
        foot = (0.0015 / lift).astype(np.float32)
        cover = noise_tile(5).sample(u, v, foot) * 0.75 + noise_tile(4).sample(u * 3.1, v * 3.1, 3 * foot) * 0.25
        thick = np.clip((cover - (1 - stage.clouds) * 0.8) * 3.2, 0, 1) * np.clip(up * 8, 0, 1)
        white = 0.55 + 0.45 * np.clip(1.4 - thick, 0, 1)
        bright = max(float(horizon.max()), 0.3) * 1.25
        sky = sky + (bright * white[:, None] - sky) * thick[:, None]
    result: Float32 = sky
    return result


def _haze(stage: Stage, light: Float32, depth: Float32) -> Float32:
    if not stage.haze:
        return light
    through = np.exp(-stage.haze * np.where(depth >= FAR, 0, depth))[..., None].astype(np.float32)
    air = np.asarray(stage.horizon if stage.air is None else stage.air, np.float32)
    return light * through + air * (1 - through)


def _soften_outlines(light: Float32, hits: Hits) -> Float32:
    owner = hits.owner
    edge = np.zeros(owner.shape, bool)
    across, down = owner[:, 1:] != owner[:, :-1], owner[1:] != owner[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    i, j = np.nonzero(edge)
    if len(i):
        h, w = owner.shape
        up, low = np.maximum(i - 1, 0), np.minimum(i + 1, h - 1)
        left, right = np.maximum(j - 1, 0), np.minimum(j + 1, w - 1)
        mixed = light[i, j] * 0.5 + (light[up, j] + light[low, j] + light[i, left] + light[i, right]) * 0.125
        light = light.copy()
        light[i, j] = mixed
    return light


def _defocus(light: Float32, depth: Float32, focus: float, reach: float) -> Float32:
    """Blur by the circle of confusion, from a pyramid. Sharp pixels don't bleed into blurred ones."""
    radius = reach * np.abs(1 / np.maximum(depth, 0.05) - 1 / focus) / 2
    radius = np.minimum(radius, light.shape[1] / 24).astype(np.float32)
    result, size = light, 1
    while size / 2 < radius.max():
        share = np.clip(radius / size, 0.002, 1)[..., None]
        stack = _coarse(np.concatenate([light * share, share], -1), size)
        blurred = stack[..., :3] / np.maximum(stack[..., 3:], 1e-6)
        blend = np.clip((radius - size / 2) / (size / 2), 0, 1)[..., None]
        result = result + (blurred - result) * blend
        size *= 2
    return result


def _coarse(field: Float32, cell: int) -> Float32:
    """(H, W, C), averaged over 3×3 cells of ``cell`` pixels and brought back to full size."""
    height, width = field.shape[:2]
    small = (max(width // cell, 1), max(height // cell, 1))
    channels = []
    for k in range(field.shape[2]):
        layer = Pillow.fromarray(np.ascontiguousarray(field[..., k]))
        a = np.pad(np.asarray(layer.resize(small, Pillow.Resampling.BOX)), 1, mode="edge")
        a = a[:-2] + a[1:-1] + a[2:]
        a = (a[:, :-2] + a[:, 1:-1] + a[:, 2:]) / np.float32(9)
        back = Pillow.fromarray(a).resize((width, height), Pillow.Resampling.BILINEAR)
        channels.append(np.asarray(back, np.float32))
    return np.stack(channels, -1)


def _expose(stage: Stage, light: Float32, rng: np.random.Generator) -> UInt8:
    height, width = light.shape[:2]
    light = light * np.asarray(stage.tint, np.float32)
    light *= np.float32(stage.exposure / max(float(light.mean()), 1e-4))
    if stage.vignette:
        y = (np.arange(height, dtype=np.float32)[:, None] / height - 0.5) * 2
        x = (np.arange(width, dtype=np.float32) / width - 0.5) * 2
        light *= (1 - stage.vignette * (x * x + y * y) / 2)[..., None]
    # A soft shoulder instead of a hard clip.
    bright = light > 0.7
    light[bright] = 1 - 0.3 * np.exp((0.7 - light[bright]) / 0.3)
    srgb = np.sqrt(np.sqrt(np.maximum(light, 0))) ** np.float32(1.8)
    if stage.noise:
        srgb += rng.standard_normal(srgb.shape, np.float32) * np.float32(stage.noise)
    return (np.clip(srgb, 0, 1) * 255 + 0.5).astype(np.uint8)

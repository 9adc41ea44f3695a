"""Four scenes set by hand, for the demonstration: a street, a room, a portrait and a landscape."""

from __future__ import annotations

from math import pi

import numpy as np

from dgiqa.scenes import things
from dgiqa.scenes.develop import Stage
from dgiqa.scenes.geometry import Box, Frustum, Plane
from dgiqa.scenes.materials import Material, material, ramp, tile
from dgiqa.scenes.things import Kit


def street() -> Stage:
    """A street at noon."""
    kit = Kit(np.random.default_rng(7))
    rng = kit.rng
    stage = Stage(position=(-0.9, 1.7, 0), fov=62, yaw=4, pitch=2, exposure=0.27, haze=0.0012, clouds=0.5)
    stage.sun, stage.sunlight, stage.skylight = (-0.7, 0.9, -0.35), (1.7, 1.55, 1.3), (0.36, 0.42, 0.52)
    stage.zenith, stage.horizon = (0.16, 0.34, 0.72), (0.72, 0.82, 0.95)
    stage.shadows, stage.shaded, stage.noise = 34, (0, 0, 26), 0.004
    out = stage.primitives
    out.append(Plane(material(rng, "noise", (0.16, 0.15, 0.13), size=4, contrast=0.3), (0, 0, 0), 1, 1))
    out.append(Box(material(rng, "noise", (0.09, 0.09, 0.1), size=5, contrast=0.25), (0, 0, 150), (4.2, 0.01, 190)))
    white = things.plain(kit, (0.85, 0.85, 0.8))
    out.extend(Box(white, (0, 0.015, float(z)), (0.08, 0.01, 1.2)) for z in np.arange(4, 90, 6))
    out.extend(Box(white, (x, 0.015, 9.5), (0.28, 0.01, 1.5)) for x in np.arange(-3.6, 4.0, 1.2))
    paving = material(rng, "tiles", (0.42, 0.4, 0.37), size=2.4, contrast=0.3)
    for side in (-1, 1):
        out.append(Box(paving, (side * 5.7, 0.07, 150), (1.5, 0.07, 190)))
        z = -6.0
        while z < 130:
            deep = kit.between(9, 15)
            out.extend(things.building(kit, side * 12.3, z + deep / 2, (10, kit.between(9, 18), deep - 0.1)))
            z += deep
        for z in range(13, 70, 11):
            out.extend(things.tree(kit, side * 5.1, z + 2.0 * side, kit.between(5.0, 6.5), conifers=0))
        for z in range(8, 60, 22):
            out.extend(things.lamp_post(kit, side * 4.6, float(z)))
    for side, z in ((1, 12.5), (1, 19.0), (1, 33.0), (-1, 16.0), (-1, 27.0), (-1, 41.0)):
        out.extend(things.car(kit, side * 3.1, z))
    for x, z in ((-5.4, 7.5), (-5.9, 12.0), (5.2, 9.0), (5.8, 15.0), (1.2, 9.6), (-5.6, 24.0)):
        out.extend(things.person(kit, x, z, foot=0.14 if abs(x) > 4 else 0, height=kit.between(1.6, 1.85)))
    return stage


def room() -> Stage:
    """A living room."""
    kit = Kit(np.random.default_rng(12))
    rng = kit.rng
    stage = Stage(position=(-0.5, 1.5, -0.4), fov=70, yaw=6, pitch=-7, exposure=0.26, clouds=0, noise=0.004)
    stage.room, stage.lamps = ((-2.6, 0.0, -1.5), (2.6, 2.7, 5.2)), [(0.2, 2.3, 2.2), (1.9, 1.6, 4.3)]
    stage.skylight, stage.sunlight, stage.sun = (0.5, 0.5, 0.5), (0.25, 0.25, 0.27), (0.15, 1.0, 0.1)
    stage.shadows, stage.shaded = 4.5, (0, 0, 2.5)
    wall = material(rng, "plain", (0.72, 0.66, 0.54), size=2, contrast=0.05)
    floor = material(rng, "planks", (0.3, 0.17, 0.08), size=1.6, contrast=0.45)
    out = stage.primitives
    out += [
        Plane(floor, (0, 0, 0), 1, 1),
        Plane(things.plain(kit, (0.85, 0.84, 0.8)), (0, 2.7, 0), 1, -1),
        Plane(wall, (-2.6, 0, 0), 0, 1),
        Plane(wall, (2.6, 0, 0), 0, -1),
        Plane(wall, (0, 0, 5.2), 2, -1),
        Plane(wall, (0, 0, -1.5), 2, 1),
    ]
    white = things.plain(kit, (0.8, 0.8, 0.78))
    for half, centre in (
        ((0.03, 0.06, 3.4), (2.6, 0.06, 1.8)),
        ((0.03, 0.06, 3.4), (-2.6, 0.06, 1.8)),
        ((2.6, 0.06, 0.03), (0, 0.06, 5.2)),
    ):
        out.append(Box(white, centre, half))
    sky = Material(white.tile, (1.6, 1.3), ramp((0.55, 0.7, 0.9), (0.9, 0.95, 1.0)), 0.0, glow=1.6)
    out.append(Box(sky, (0.9, 1.55, 5.2), (0.75, 0.62, 0.02)))
    out += [Box(white, (0.9, 1.55, 5.2), h) for h in ((0.03, 0.62, 0.05), (0.75, 0.02, 0.04))]
    out += [Box(white, (0.9 + s * 0.77, 1.55, 5.2), (0.05, 0.7, 0.06)) for s in (-1, 1)]
    out += [Box(white, (0.9, 1.55 + s * 0.65, 5.2), (0.82, 0.05, 0.08)) for s in (-1, 1)]
    curtain = material(rng, "stripes", (0.4, 0.12, 0.1), size=0.5, contrast=0.4)
    out += [Box(curtain, (0.9 + s * 1.0, 1.3, 5.1), (0.2, 1.1, 0.05)) for s in (-1, 1)]
    out.append(
        Box(
            material(rng, "wood", (0.4, 0.24, 0.12), size=1, contrast=0.3),
            (-1.6, 1.03, 5.2),
            (0.45, 1.03, 0.05),
        )
    )
    out.append(Box(things.plain(kit, (0.7, 0.6, 0.3)), (-1.25, 1.0, 5.1), (0.06, 0.02, 0.05)))
    rug = Material(tile("checks", rng), (0.9, 0.9), ramp((0.3, 0.05, 0.05), (0.55, 0.4, 0.25)), 0.1)
    out.append(Box(rug, (0.1, 0, 2.7), (1.3, 0.015, 0.95)))
    out.extend(things.table(kit, 0.1, 2.7, (0.6, 0.36), 0.45))
    for x, z, size in ((-0.2, 2.6, 0.34), (0.25, 2.8, 0.26), (0.45, 2.55, 0.22)):
        out.extend(things.vessel(kit, x, 0.45, z, size))
    out.extend(things.sofa(kit, 2.0, 2.8, 0.95, pi / 2))
    out.extend(things.shelf(kit, -2.42, 2.6, pi / 2))
    out.extend(things.shelf(kit, -2.42, 4.0, pi / 2))
    out.extend(things.chair(kit, -0.9, 3.4, -0.9))
    out.extend(things.picture(kit, (2.6, 1.7, 2.8), (0.02, 0.35, 0.5)))
    out.extend(things.picture(kit, (-0.45, 1.65, 5.2), (0.3, 0.38, 0.02)))
    brass = things.plain(kit, (0.35, 0.28, 0.12))
    shade = Material(white.tile, (1, 1), ramp((0.9, 0.75, 0.5), (1.0, 0.9, 0.7)), 0.0, glow=1.2)
    out += [
        Frustum(brass, (2.25, 0, 4.5), 1.4, 0.02, 0.02),
        Frustum(shade, (2.25, 1.4, 4.5), 0.3, 0.22, 0.14),
    ]
    out += [
        Frustum(brass, (0.2, 2.3, 2.4), 0.4, 0.01, 0.01),
        Frustum(shade, (0.2, 2.1, 2.4), 0.22, 0.24, 0.1),
    ]
    return stage


def portrait() -> Stage:
    """Two people before a park out of focus."""
    kit = Kit(np.random.default_rng(5))
    rng = kit.rng
    stage = Stage(position=(0, 1.45, 0), fov=46, pitch=-1, exposure=0.24, haze=0.001, clouds=0.4, noise=0.004)
    stage.sun, stage.sunlight, stage.skylight = (-0.6, 0.8, -0.9), (1.5, 1.35, 1.1), (0.38, 0.42, 0.48)
    stage.focus, stage.aperture = 1.75, 0.06
    stage.shadows, stage.shaded = 14, (0, 0, 8)
    out = stage.primitives
    out.append(Plane(material(rng, "grass", (0.1, 0.2, 0.05), size=3, contrast=0.5), (0, 0, 0), 1, 1))
    out.append(
        Box(
            material(rng, "noise", (0.45, 0.38, 0.28), size=3, contrast=0.3),
            (1.5, 0, 30),
            (1.3, 0.02, 40),
            0.1,
        )
    )
    out.extend(things.person(kit, -0.24, 1.75, height=1.72))
    out.extend(things.person(kit, 0.36, 1.95, height=1.62))
    for x, z, tall in (
        (-5, 9, 6),
        (4.5, 12, 7),
        (-9, 16, 9),
        (8, 19, 8),
        (0.5, 26, 8),
        (-4, 24, 8),
        (13, 26, 9),
    ):
        out.extend(things.tree(kit, x, z, tall, conifers=0))
    out.extend(things.fence(kit, -12, 12, 14, 17))
    out.append(things.ridge(kit, 90, 9, material(rng, "leaves", (0.06, 0.12, 0.04), size=20, contrast=0.5), jagged=0.6))
    return stage


def landscape() -> Stage:
    """Meadow, forest edge and mountains that pale with distance."""
    kit = Kit(np.random.default_rng(21))
    rng = kit.rng
    stage = Stage(position=(0, 3.0, 0), fov=64, pitch=3, exposure=0.27, haze=0.0013, clouds=0.55, noise=0.004)
    stage.sun, stage.sunlight, stage.skylight = (-0.8, 0.55, -0.5), (1.7, 1.45, 1.1), (0.34, 0.42, 0.56)
    stage.zenith, stage.horizon, stage.air = (0.14, 0.32, 0.72), (0.74, 0.82, 0.92), (0.62, 0.72, 0.88)
    stage.shadows, stage.shaded = 40, (0, 0, 30)
    out = stage.primitives
    out.append(Plane(material(rng, "grass", (0.16, 0.26, 0.06), size=4, contrast=0.5), (0, 0, 0), 1, 1))
    path = material(rng, "noise", (0.42, 0.34, 0.24), size=3, contrast=0.4)
    out.append(Box(path, (-2.2, 0, 30), (1.0, 0.015, 45), -0.06))
    looks = (
        (85, 7, "leaves", (0.07, 0.13, 0.04), 18, 0.5),
        (190, 26, "leaves", (0.09, 0.13, 0.07), 40, 0.8),
        (380, 90, "noise", (0.2, 0.2, 0.2), 90, 1.2),
        (620, 230, "noise", (0.3, 0.3, 0.33), 160, 1.5),
    )
    for distance, height, pattern, base, size, jagged in looks:
        look = material(rng, pattern, base, size=size, contrast=0.5)
        out.append(things.ridge(kit, distance, height, look, jagged=jagged))
    for x, z, tall in (
        (7, 15, 7),
        (-11, 22, 8),
        (14, 30, 9),
        (-5, 42, 8),
        (10, 48, 9),
        (-22, 50, 10),
        (25, 55, 9),
    ):
        out.extend(things.tree(kit, x, z, tall))
    for side, ahead, wide in ((2.5, 8, 0.5), (3.4, 9, 0.3), (-5, 11, 0.6), (9, 20, 0.8)):
        out.extend(things.rock(kit, side, ahead, wide))
    out.extend(things.fence(kit, 1.0, 16, 26, 19))
    return stage


STAGES = {"street": street, "room": room, "portrait": portrait, "landscape": landscape}

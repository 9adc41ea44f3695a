"""The kinds of scene: each a function that sets a stage from a random generator.

Numbers are drawn wide on purpose (domain randomisation: Tobin et al., IROS 2017): heights, lenses, weather
and materials vary more than in photographs, so that what is learnt on these scenes is geometry.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dgiqa.scenes import things
from dgiqa.scenes.develop import Stage
from dgiqa.scenes.geometry import Box, Ellipsoid, Frustum, Plane, Point, Primitive
from dgiqa.scenes.materials import Colour, Material, colour, hue, material, scaled
from dgiqa.scenes.things import Kit


def street(kit: Kit) -> Stage:
    """A road between two rows of houses, with cars, people, trees and lamp posts."""
    stage = _outdoors(kit)
    rng, out = kit.rng, stage.primitives
    road = kit.between(3.0, 6.0)
    walk = road + kit.between(1.5, 4.0)
    out.append(
        Plane(
            kit.surface(kit.pick("tiles", "grass", "noise"), kit.pick("stone", "grass", "earth"), size=3),
            (0, 0, 0),
            1,
            1,
        )
    )
    out.append(
        Box(
            material(rng, "noise", colour(rng, "asphalt"), size=4, contrast=0.5),
            (0, 0, 150),
            (road, 0.01, 190),
        )
    )
    paving = kit.surface("tiles", "stone", size=2.4, contrast=0.4)
    for side in (-1, 1):
        out.append(Box(paving, (side * (road + walk) / 2, 0.07, 150), ((walk - road) / 2, 0.07, 190)))
        z = kit.between(-8, 2)
        while z < 130:
            wide, deep = kit.between(8, 14), kit.between(7, 18)
            if kit.chance(0.88):
                x = side * (walk + kit.between(0, 2) + wide / 2)
                out.extend(things.building(kit, x, z + deep / 2, (wide, kit.between(5, 22), deep)))
            z += deep + (0 if kit.chance(0.5) else kit.between(0.5, 8))
        for z in np.arange(kit.between(2, 9), 60, kit.between(9, 18)):
            x = side * (road + 0.8)
            out.extend(
                things.lamp_post(kit, x, float(z))
                if kit.chance(0.5)
                else things.tree(kit, x, float(z), kit.between(4, 8))
            )
        z = kit.between(4, 14)
        while z < 70 and kit.chance(0.85):
            out.extend(things.car(kit, side * (road - 1.1), z))
            z += kit.between(5.5, 16)
    if kit.chance(0.7):
        dashes = things.plain(kit, (0.8, 0.8, 0.75))
        out.extend(Box(dashes, (0, 0.015, float(z)), (0.08, 0.01, 1.2)) for z in np.arange(2, 70, 6))
    for _ in range(int(rng.integers(1, 7))):
        x = kit.between(road + 0.4, walk) * (1 if kit.chance(0.5) else -1)
        out.extend(
            things.person(
                kit,
                x if kit.chance(0.8) else kit.between(-2, 2),
                kit.between(3, 28),
                height=kit.between(1.5, 1.9),
            )
        )
    if kit.chance(0.5):
        out.append(_hills(kit, 260, kit.between(10, 60)))
    stage.position = (kit.between(-0.8, 0.8) * walk, _eye(kit, 1.7, 8), 0.0)
    stage.yaw, stage.pitch = kit.between(-22, 22), kit.between(-14, 12)
    stage.shadows, stage.shaded = (26, (0.0, 0.0, 16.0)) if kit.chance(0.6) else (0, stage.shaded)
    return stage


def park(kit: Kit) -> Stage:
    """Meadow with trees, bushes, people, animals, a path and perhaps a house or a fence."""
    stage = _outdoors(kit)
    rng, out = kit.rng, stage.primitives
    out.append(_ground(kit, kit.pick("grass", "grass", "earth", "sand", "snow")))
    season = kit.pick("leaf", "leaf", "leaf", "autumn")
    if kit.chance(0.5):
        path = kit.surface("noise", kit.pick("sand", "earth", "stone"), size=3)
        out.append(Box(path, (kit.between(-4, 4), 0.0, 60), (kit.between(0.6, 2), 0.02, 80), kit.between(-0.3, 0.3)))
    for _ in range(int(rng.integers(5, 16))):
        z = 3 + 70 * rng.random() ** 1.6
        out.extend(things.tree(kit, kit.between(-0.75, 0.75) * (z + 5), z, kit.between(3.5, 11), season))
    for _ in range(int(rng.integers(0, 6))):
        z = 2.5 + 25 * float(rng.random())
        out.extend(things.bush(kit, kit.between(-0.7, 0.7) * (z + 3), z, kit.between(0.4, 1.4)))
    for _ in range(int(rng.integers(0, 5))):
        z = 2 + 18 * float(rng.random()) ** 1.5
        out.extend(things.person(kit, kit.between(-0.45, 0.45) * (z + 1), z, height=kit.between(1.1, 1.9)))
    for _ in range(int(rng.integers(0, 4))):
        z = kit.between(2, 20)
        out.extend(things.rock(kit, kit.between(-0.6, 0.6) * (z + 2), z, kit.between(0.2, 1.2)))
    if kit.chance(0.3):
        z = kit.between(5, 25)
        out.extend(things.fence(kit, kit.between(-14, -4), kit.between(4, 14), z, z + kit.between(-3, 8)))
    if kit.chance(0.35):
        out.extend(
            things.building(kit, kit.between(-20, 20), kit.between(25, 60), (kit.between(7, 14), kit.between(4, 9), 9))
        )
    if kit.chance(0.3):
        out.extend(things.car(kit, kit.between(-4, 4), kit.between(6, 20), across=True))
    if kit.chance(0.7):
        out.append(_hills(kit, kit.between(90, 250), kit.between(6, 40)))
    stage.position = (0.0, _eye(kit, 1.5, 4), 0.0)
    stage.pitch = kit.between(-18, 10)
    stage.shadows = 24 if kit.chance(0.6) else 0
    return stage


def landscape(kit: Kit) -> Stage:
    """Ground and layered ridges that pale with distance; sometimes a lake."""
    stage = _outdoors(kit)
    rng, out = kit.rng, stage.primitives
    kind = kit.pick("grass", "grass", "sand", "snow", "earth", "water")
    if kind == "water":
        out.append(Plane(_water(kit, stage.horizon), (0, 0, 0), 1, 1))
    else:
        out.append(_ground(kit, kind))
    distance, height = kit.between(25, 90), kit.between(2, 14)
    for k in range(int(rng.integers(2, 6))):
        family = (
            kit.pick("leaf", "leaf", "grass", "rock", "autumn") if k < 2 else kit.pick("rock", "rock", "leaf", "snow")
        )
        look = kit.surface(kit.pick("leaves", "noise", "grass"), family, size=distance * 0.25, contrast=0.7)
        out.append(things.ridge(kit, distance, height, look, jagged=kit.between(0.2, 1.6)))
        distance = min(distance * kit.between(1.4, 2.4), 820)
        height = min(height * kit.between(1.3, 3.0), 0.45 * distance)
    for _ in range(int(rng.integers(0, 8)) if kind != "water" else 0):
        z = 4 + 30 * float(rng.random()) ** 1.3
        x = kit.between(-0.8, 0.8) * z
        make = (
            things.tree(kit, x, z, kit.between(2, 9))
            if kit.chance(0.5)
            else things.rock(kit, x, z, kit.between(0.3, 1.6))
        )
        out.extend(make)
    if kind == "water" and kit.chance(0.7):
        bank = kit.surface("grass", kit.pick("grass", "sand", "rock"), size=2)
        out.append(
            Ellipsoid(
                bank,
                (kit.between(-6, 6), -0.5, kit.between(2, 5)),
                (kit.between(6, 14), 0.9, kit.between(2, 4)),
                rough=0.1,
            )
        )
    stage.haze = float(np.exp(kit.between(np.log(0.0008), np.log(0.012))))
    stage.position = (0.0, _eye(kit, 1.7, 25), 0.0)
    stage.pitch = kit.between(-12, 12)
    stage.shadows = 24 if kit.chance(0.4) else 0
    return stage


def room(kit: Kit) -> Stage:
    """A furnished room."""
    stage, wide, deep, high = _indoors(kit, (1.6, 3.6), (3.0, 8.0), (2.3, 3.3))
    rng, out = kit.rng, stage.primitives
    back = deep
    if kit.chance(0.6):
        carpet = kit.surface(
            kit.pick("weave", "stripes", "checks", "spots", "noise"), "any", size=kit.between(0.4, 1.5)
        )
        out.append(
            Box(
                carpet,
                (kit.between(-0.4, 0.4), 0, back * 0.6),
                (wide * kit.between(0.3, 0.7), 0.012, back * 0.2),
            )
        )
    for side in (-1, 1):
        z = kit.between(0.8, 2.0)
        while z < back - 0.6:
            what = int(rng.integers(6))
            x = side * (wide - 0.25)
            if what == 0:
                out.extend(things.shelf(kit, x, z, float(np.pi / 2)))
            elif what == 1:
                out.extend(things.sofa(kit, side * (wide - 0.55), z, kit.between(0.5, 1.0), side * float(np.pi / 2)))
            elif what == 2:
                out.extend(_cupboard(kit, side * (wide - 0.32), z))
            elif what == 3:
                out.extend(things.vessel(kit, side * (wide - 0.4), 0, z, kit.between(0.5, 1.6)))
            if kit.chance(0.5):
                out.extend(
                    things.picture(
                        kit,
                        (side * wide, kit.between(1.4, 1.8), z),
                        (0.02, kit.between(0.2, 0.45), kit.between(0.2, 0.6)),
                    )
                )
            z += kit.between(0.8, 2.0)
    _back_wall(kit, out, wide, back, high)
    if kit.chance(0.75):
        x, z = kit.between(-0.5, 0.5) * wide, kit.between(1.8, max(2.0, back - 1.2))
        hx, hz, tall = kit.between(0.35, 0.9), kit.between(0.3, 0.6), kit.between(0.4, 0.8)
        out.extend(things.table(kit, x, z, (hx, hz), tall))
        for _ in range(int(rng.integers(0, 4))):
            out.extend(
                things.vessel(
                    kit,
                    x + kit.between(-0.7, 0.7) * hx,
                    tall,
                    z + kit.between(-0.7, 0.7) * hz,
                    kit.between(0.15, 0.45),
                )
            )
        for _ in range(int(rng.integers(0, 4))):
            a = kit.between(0, 6.28)
            out.extend(things.chair(kit, x + (hx + 0.25) * float(np.sin(a)), z + (hz + 0.25) * float(np.cos(a)), a))
    if kit.chance(0.3):
        out.extend(
            things.person(
                kit,
                kit.between(-0.6, 0.6) * wide,
                kit.between(1.6, back - 0.5),
                height=kit.between(1.3, 1.85),
            )
        )
    stage.position = (kit.between(-0.5, 0.5) * wide, kit.between(0.9, 1.9), 0.0)
    stage.yaw, stage.pitch = kit.between(-25, 25), kit.between(-22, 10)
    return stage


def corridor(kit: Kit) -> Stage:
    """A hall or corridor with doors and columns."""
    stage, wide, deep, high = _indoors(kit, (0.9, 5.0), (10, 40), (2.4, 6.0))
    rng, out = kit.rng, stage.primitives
    step = kit.between(2.0, 4.5)
    door, post = things.plain(kit, colour(rng, kit.pick("wood", "any"))), kit.anything(1.0)
    columns = wide > 2.2 and kit.chance(0.6)
    for z in np.arange(kit.between(1.0, 3.0), deep - 0.5, step):
        for side in (-1, 1):
            if kit.chance(0.7):
                out.append(Box(door, (side * wide, 1.02, float(z)), (0.05, 1.02, 0.46)))
            if columns:
                out.append(Frustum(post, (side * wide * 0.6, 0, float(z) + 1), high, 0.25, 0.22))
            if kit.chance(0.25):
                out.extend(things.picture(kit, (side * wide, 1.6, float(z) + step / 2), (0.02, 0.35, 0.45)))
    glow = Material(door.tile, (1, 1), np.full((256, 3), 0.9, np.float32), 0.0, glow=kit.between(2, 5))
    for z in np.arange(2.0, deep, kit.between(2.5, 5)):
        out.append(Box(glow, (0, high, float(z)), (0.25, 0.03, 0.6)))
    _back_wall(kit, out, wide, deep, high)
    for _ in range(int(rng.integers(0, 5))):
        out.extend(
            things.person(
                kit, kit.between(-0.6, 0.6) * wide, kit.between(2.0, deep * 0.8), height=kit.between(1.4, 1.9)
            )
        )
    stage.lamps = [(0.0, high - 0.2, float(z)) for z in np.linspace(2, deep - 1, 4)]
    stage.position = (kit.between(-0.4, 0.4) * wide, kit.between(1.0, 1.9), 0.0)
    stage.yaw, stage.pitch = kit.between(-16, 16), kit.between(-12, 8)
    return stage


def portrait(kit: Kit) -> Stage:
    """A person, an animal-like group of blobs or an object close to the camera, before a far, soft
    background."""
    stage = _background(kit)
    rng, out = kit.rng, stage.primitives
    z = kit.between(0.7, 2.6)
    eye = kit.between(1.1, 1.7)
    inside = stage.room is not None
    out[:] = [p for p in out if not _in_the_way(p, z + 0.6)]
    what = kit.pick("person", "person", "people", "blobs", "thing")
    if what in ("person", "people"):
        height = eye + 0.12 + kit.between(-0.15, 0.2)
        for k in range(1 if what == "person" else int(rng.integers(2, 4))):
            x = kit.between(-0.25, 0.25) * z + 0.55 * k * (1 if k % 2 else -1)
            out.extend(things.person(kit, x, z + 0.25 * k, height=height + kit.between(-0.1, 0.1)))
    elif what == "blobs":
        look = kit.surface(
            kit.pick("noise", "grass", "spots", "leaves", "weave"),
            kit.pick("any", "earth", "wood"),
            size=0.4,
            contrast=kit.between(0.2, 0.8),
        )
        for _ in range(int(rng.integers(3, 9))):
            a, r = rng.normal(0, 0.16, 3) * z, z * rng.uniform(0.08, 0.22, 3)
            out.append(
                Ellipsoid(
                    look,
                    (float(a[0]), eye - 0.15 * z + float(a[1]), z + float(a[2]) * 0.7),
                    _point(r),
                    rough=0.3 if kit.chance(0.3) else 0.0,
                )
            )
    else:
        out.extend(things.vessel(kit, kit.between(-0.2, 0.2) * z, eye - 0.45 * z, z, z * kit.between(0.5, 1.0)))
    stage.position = (0.0, eye, 0.0)
    stage.pitch = kit.between(-10, 6)
    stage.yaw = kit.between(-6, 6)
    stage.fov = kit.between(35, 60)
    if kit.chance(0.75):
        stage.focus, stage.aperture = z, kit.between(0.01, 0.07) * z
    stage.shadows, stage.shaded = (0 if inside or kit.chance(0.5) else 8), (0.0, 1.0, z)
    return stage


def tabletop(kit: Kit) -> Stage:
    """Things on a table, from near."""
    stage, wide, deep, high = _indoors(kit, (1.5, 3.0), (2.5, 6.0), (2.3, 3.0))
    rng, out = kit.rng, stage.primitives
    _back_wall(kit, out, wide, deep, high)
    z, tall = kit.between(0.7, 1.1), 0.75
    out.extend(things.table(kit, 0, z, (kit.between(0.5, 0.9), kit.between(0.35, 0.6)), tall))
    if kit.chance(0.4):
        cloth = kit.surface(kit.pick("checks", "stripes", "weave", "plain"), "any", size=kit.between(0.1, 0.4))
        out.append(
            Box(
                cloth,
                (kit.between(-0.1, 0.1), tall, z),
                (kit.between(0.2, 0.4), 0.004, kit.between(0.2, 0.3)),
                kit.between(-0.6, 0.6),
            )
        )
    for _ in range(int(rng.integers(3, 10))):
        out.extend(things.vessel(kit, kit.between(-0.4, 0.4), tall, z + kit.between(-0.3, 0.3), kit.between(0.15, 0.5)))
    stage.position = (kit.between(-0.2, 0.2), tall + kit.between(0.12, 0.6), 0.0)
    stage.pitch = float(np.degrees(np.arctan2(tall + 0.1 - stage.position[1], z))) + kit.between(-5, 8)
    stage.yaw = kit.between(-8, 8)
    stage.fov = kit.between(40, 65)
    stage.sun, stage.sunlight, stage.shadows, stage.shaded = (
        (kit.between(-0.6, 0.6), 1.0, -0.5),
        (0.8, 0.75, 0.65),
        1.0,
        (0.0, tall, z),
    )
    if kit.chance(0.6):
        stage.focus, stage.aperture = z + kit.between(-0.2, 0.2), kit.between(0.005, 0.04)
    return stage


def primitives(kit: Kit) -> Stage:
    """Any shapes anywhere, floating or standing, before any background."""
    stage = _outdoors(kit)
    rng, out = kit.rng, stage.primitives
    reach = kit.between(4, 40)
    if kit.chance(0.7):
        out.append(Plane(kit.anything(kit.between(1, 6)), (0, kit.between(-2.0, 0.0), 0), 1, 1))
    if kit.chance(0.6):
        out.append(Plane(kit.anything(kit.between(1, 8)), (0, 0, reach * kit.between(1, 2)), 2, -1))
    for _ in range(int(rng.integers(6, 28))):
        z = 1.2 + reach * float(rng.random()) ** 1.4
        x, y = kit.between(-0.8, 0.8) * z, 1.5 + kit.between(-0.6, 0.6) * z
        size = z * kit.between(0.03, 0.22)
        look = kit.anything(size * kit.between(0.5, 2))
        which, spread = int(rng.integers(4)), rng.uniform(0.3, 1.3, 3) * size
        if which == 0:
            out.append(Box(look, (x, y, z), _point(spread), kit.between(-1.5, 1.5)))
        elif which == 1:
            out.append(Ellipsoid(look, (x, y, z), _point(spread), rough=0.5 if kit.chance(0.3) else 0.0))
        elif which == 2:
            out.append(
                Frustum(
                    look,
                    (x, y, z),
                    size * kit.between(0.5, 4),
                    size * kit.between(0.1, 0.6),
                    size * kit.between(0.05, 0.6),
                )
            )
        else:
            thin = list(spread * 1.6)
            thin[int(rng.integers(3))] = 0.02 * size
            out.append(Box(look, (x, y, z), (float(thin[0]), float(thin[1]), float(thin[2])), kit.between(-1.5, 1.5)))
    stage.position = (0.0, 1.5, 0.0)
    stage.pitch = kit.between(-25, 25)
    stage.shadows = reach if kit.chance(0.5) else 0
    stage.shaded = (0.0, 0.0, reach / 2)
    if kit.chance(0.25):
        stage.focus, stage.aperture = kit.between(1.5, reach), kit.between(0.02, 0.1)
    return stage


#: Name to (stage setter, how often of the whole).
KINDS: dict[str, tuple[Callable[[Kit], Stage], float]] = {
    "street": (street, 0.16),
    "park": (park, 0.16),
    "landscape": (landscape, 0.13),
    "room": (room, 0.15),
    "corridor": (corridor, 0.07),
    "portrait": (portrait, 0.15),
    "tabletop": (tabletop, 0.08),
    "primitives": (primitives, 0.10),
}


def _outdoors(kit: Kit) -> Stage:
    """Weather, light and lens, without anything in it."""
    rng = kit.rng
    stage = _lens(kit)
    weather = kit.pick("fair", "fair", "fair", "grey", "evening", "white")
    turn = kit.between(0, 2 * np.pi)
    stage.sun = (float(np.sin(turn)), kit.between(0.35, 1.6), float(np.cos(turn)))
    stage.clouds = kit.between(0.15, 0.85)
    if weather == "fair":
        stage.zenith = hue(kit.between(0.56, 0.64), kit.between(0.55, 0.85), kit.between(0.4, 0.8))
        stage.horizon = hue(kit.between(0.52, 0.6), kit.between(0.1, 0.4), kit.between(0.7, 1.0))
        stage.sunlight = (1.6, 1.5, 1.3)
    elif weather == "evening":
        stage.zenith = hue(kit.between(0.58, 0.75), kit.between(0.3, 0.7), kit.between(0.15, 0.4))
        stage.horizon = hue(kit.between(0.02, 0.12), kit.between(0.3, 0.7), kit.between(0.7, 1.0))
        stage.sun = (stage.sun[0], kit.between(0.15, 0.4), stage.sun[2])
        stage.sunlight, stage.skylight = (1.3, 0.85, 0.5), (0.3, 0.28, 0.35)
    else:
        grey = kit.between(0.6, 1.0) if weather == "white" else kit.between(0.35, 0.7)
        stage.zenith, stage.horizon = (grey * 0.8,) * 3, (grey, grey, grey * 1.02)
        stage.clouds *= float(kit.chance(0.5))
        stage.sunlight, stage.skylight = (0.25, 0.25, 0.25), (0.75, 0.77, 0.8)
    stage.haze = float(np.exp(kit.between(np.log(0.0002), np.log(0.006))))
    if kit.chance(0.08):
        stage.haze = kit.between(0.01, 0.06)
    if kit.chance(0.1):
        stage.focus, stage.aperture = kit.between(2, 12), kit.between(0.02, 0.08)
    stage.exposure = float(np.exp(rng.normal(np.log(0.22), 0.35)))
    return stage


def _lens(kit: Kit) -> Stage:
    stage = Stage(fov=kit.between(35, 85), roll=float(kit.rng.normal(0, 2.5)))
    tint = np.exp(kit.rng.normal(0, 0.07, 3))
    stage.tint = (float(tint[0]), float(tint[1]), float(tint[2]))
    stage.vignette = kit.between(0, 0.4)
    stage.noise = kit.between(0.0, 0.02)
    return stage


def _indoors(
    kit: Kit, wide: tuple[float, float], deep: tuple[float, float], high: tuple[float, float]
) -> tuple[Stage, float, float, float]:
    """An empty room around the camera: the stage, half width, depth ahead of the camera and height."""
    stage = _lens(kit)
    w, d, h = kit.between(*wide), kit.between(*deep), kit.between(*high)
    floor = kit.surface(
        kit.pick("planks", "tiles", "checks", "wood", "noise", "weave"),
        kit.pick("wood", "stone", "any"),
        size=kit.between(0.8, 2.4),
        contrast=kit.between(0.2, 0.7),
    )
    wall = kit.surface(
        kit.pick("plain", "plain", "stripes", "bricks", "tiles", "noise"),
        kit.pick("plaster", "plaster", "any"),
        size=kit.between(0.6, 2.5),
        contrast=kit.between(0.05, 0.4),
    )
    ceiling = things.plain(kit, colour(kit.rng, "plaster"))
    back = -kit.between(0.5, 3)
    stage.primitives += [
        Plane(floor, (0, 0, 0), 1, 1),
        Plane(ceiling, (0, h, 0), 1, -1),
        Plane(wall, (-w, 0, 0), 0, 1),
        Plane(wall, (w, 0, 0), 0, -1),
        Plane(kit.anything(2) if kit.chance(0.2) else wall, (0, 0, d), 2, -1),
        Plane(wall, (0, 0, back), 2, 1),
    ]
    stage.room = ((-w, 0.0, back), (w, h, d))
    stage.lamps = [
        (kit.between(-0.6, 0.6) * w, h - 0.3, kit.between(0.2, 0.9) * d) for _ in range(int(kit.rng.integers(1, 3)))
    ]
    stage.skylight = scaled((0.5, 0.47, 0.42), kit.between(0.35, 1.2))
    stage.sun = (kit.between(-1, 1), 0.5, kit.between(-1.0, 0.2))
    stage.sunlight = scaled((0.3, 0.3, 0.3), kit.between(0, 1))
    stage.clouds = 0.0
    stage.exposure = float(np.exp(kit.rng.normal(np.log(0.2), 0.35)))
    return stage, w, d, h


def _background(kit: Kit) -> Stage:
    return (street, park, landscape, room, primitives)[int(kit.rng.choice(5, p=[0.25, 0.3, 0.15, 0.2, 0.1]))](kit)


def _in_the_way(primitive: Primitive, near: float) -> bool:
    """Whether a bounded thing stands between the camera and the depth ``near``, off the ground."""
    corners = primitive.corners()
    if corners is None:
        return False
    low, high = corners.min(0), corners.max(0)
    return bool(low[2] < near and high[1] > 0.3 and low[0] < near and high[0] > -near and high[2] > -0.5)


def _back_wall(kit: Kit, out: list[Primitive], wide: float, deep: float, high: float) -> None:
    """A door, a window or pictures on the wall opposite."""
    x = kit.between(-0.6, 0.6) * wide
    if kit.chance(0.4):
        out.append(Box(things.plain(kit, colour(kit.rng, "wood")), (x, 1.03, deep), (0.45, 1.03, 0.04)))
    elif kit.chance(0.6):
        light = hue(kit.between(0.5, 0.65), kit.between(0, 0.4), 0.95)
        pane = Material(
            things.plain(kit, light).tile,
            (1, 1),
            np.tile(np.asarray(light, np.float32), (256, 1)),
            0.1,
            kit.between(0.5, 3),
        )
        frame = things.plain(kit, (0.8, 0.8, 0.78))
        hx, hy = kit.between(0.4, 1.0), kit.between(0.4, 0.65)
        out.append(Box(pane, (x, 1.5, deep), (hx, hy, 0.02)))
        out.append(Box(frame, (x, 1.5, deep), (0.03, hy, 0.04)))
        out.extend(Box(frame, (x, 1.5 + s * hy, deep), (hx + 0.05, 0.04, 0.05)) for s in (-1, 1))
        out.extend(Box(frame, (x + s * hx, 1.5, deep), (0.04, hy, 0.05)) for s in (-1, 1))
    if kit.chance(0.5):
        out.extend(
            things.picture(
                kit,
                (kit.between(-0.8, 0.8) * wide, min(1.6, high - 0.6), deep),
                (kit.between(0.2, 0.6), kit.between(0.2, 0.4), 0.02),
            )
        )


def _cupboard(kit: Kit, x: float, z: float) -> list[Primitive]:
    look = kit.surface(kit.pick("wood", "plain", "planks"), kit.pick("wood", "plaster", "any"), size=1.0)
    tall, wide = kit.between(0.35, 1.05), kit.between(0.3, 0.6)
    out: list[Primitive] = [Box(look, (x, tall, z), (0.28, tall, wide))]
    if tall < 0.6:
        for _ in range(2):
            out.extend(things.vessel(kit, x, 2 * tall, z + kit.between(-0.7, 0.7) * wide, kit.between(0.2, 0.5)))
    return out


def _ground(kit: Kit, family: str) -> Plane:
    pattern = "grass" if family == "grass" else kit.pick("noise", "grass", "spots")
    return Plane(
        kit.surface(pattern, family, size=kit.between(2, 5), contrast=0.3 if family == "snow" else 0.6),
        (0, 0, 0),
        1,
        1,
    )


def _water(kit: Kit, sky: Colour) -> Material:
    deep = scaled(sky, kit.between(0.35, 0.7))
    base = material(kit.rng, "noise", (deep[0] * 0.7, deep[1] * 0.9, deep[2]), size=3, contrast=0.35)
    return Material(base.tile, (kit.between(4, 9), 1.5), base.ramp, 0.2)


def _hills(kit: Kit, distance: float, height: float) -> Primitive:
    look = kit.surface(
        kit.pick("leaves", "noise"), kit.pick("leaf", "grass", "rock"), size=distance * 0.2, contrast=0.6
    )
    return things.ridge(kit, distance, height, look, jagged=kit.between(0.2, 1.0))


def _eye(kit: Kit, usual: float, highest: float) -> float:
    """Height of the camera: mostly at the eye, sometimes low or far up."""
    if kit.chance(0.7):
        return usual * kit.between(0.8, 1.15)
    return kit.between(0.4, 1.2) if kit.chance(0.4) else kit.between(usual, highest)


def _point(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])

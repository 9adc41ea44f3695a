"""Under water: colours are absorbed on the way, and lit water lies between camera and scene.

The model of Jaffe (1990) and McGlamery (1980) without its forward scattering, a channel at a time in linear light:

    I = J exp(-a (d + h)) + B (1 - exp(-b d))

d: metres to the scene; h: metres of water that daylight came through; a: attenuation, b: scattering into the view, both
a metre; B: the water's own colour. Red is absorbed first. The seed draws the water between clear ocean and green coast
(after Jerlov's types, Akkaynak & Treibitz, CVPR 2018); severity makes it denser and deeper, its colour stays.

Without depth the picture is taken for level ground: inverse depth falls linearly from 1/4 a metre in the bottom row to
1/100 a metre in the top row. Under water nobody sees 100 metres: distances are taken at a tenth.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dgiqa.distortions._light import level_ground, to_linear, to_srgb
from dgiqa.types import Float32, UInt8

FAMILY = "medium"
DEPTH = True

Float64: TypeAlias = npt.NDArray[np.float64]

#: Attenuation a metre of red, green and blue, and the colour of the water: clear ocean and green coast.
OCEAN, COAST = np.array([0.36, 0.10, 0.06]), np.array([0.42, 0.14, 0.26])
OCEAN_COLOR, COAST_COLOR = np.array([0.01, 0.14, 0.24]), np.array([0.03, 0.19, 0.11])

#: How dense the water is, against the table above, and metres of it over the scene.
DENSITY = {1: 0.25, 2: 0.55, 3: 1.1, 4: 2.0, 5: 3.6}
OVER = {1: 1.0, 2: 1.6, 3: 2.2, 4: 2.8, 5: 3.2}

#: Scattering into the view, as a share of the attenuation of green; and of the given distances.
SCATTERED, NEARER = 1.2, 0.1


def apply(rgb: UInt8, severity: int, depth: Float32 | None, rng: np.random.Generator) -> UInt8:
    """(H, W, 3) uint8 → the same, under water. ``depth`` in metres."""
    metres = (level_ground(rgb.shape[:2]) if depth is None else depth) * np.float32(NEARER)
    direct, back = column(metres, rng.uniform(), DENSITY[severity], OVER[severity])
    return submerge(rgb, direct, back)


def submerge(rgb: UInt8, direct: Float32, back: Float32) -> UInt8:
    """(H, W, 3) uint8 → the same, seen through what :func:`column` gives."""
    return to_srgb(to_linear(rgb) * direct + back)


def column(metres: Float32, coast: float, density: float, over: float) -> tuple[Float32, Float32]:
    """(H, W, 3) each: the share of the scene's light that arrives, and the light that the water adds.

    Args:
        metres: (H, W) of water to the scene.
        coast: 0 for clear ocean to 1 for green coast.
        density: of the water, against the tables.
        over: metres of water that daylight came through.
    """
    lost = ((1 - coast) * OCEAN + coast * COAST) * density
    color = ((1 - coast) * OCEAN_COLOR + coast * COAST_COLOR).astype(np.float32)
    direct, back = transmission(metres + np.float32(over), lost), transmission(metres, scattering(lost))
    return direct, color * (1 - back)


def transmission(metres: Float32, lost: Float64) -> Float32:
    """(H, W, 3) the share of light that is left after (H, W) metres, by channel."""
    return np.exp(-metres[..., None] * lost.astype(np.float32))


def scattering(lost: Float64) -> Float64:
    """(3,) a metre. Particles scatter all colours about alike, in proportion to how dense the water is."""
    return np.full(3, SCATTERED * float(lost[1]))

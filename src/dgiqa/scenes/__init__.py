"""Synthetic scenes with known depth, drawn by ray casting in NumPy.

    render(seed) → Scene(pixels, depth, kind)

``kinds`` sets a stage (camera, things, weather), ``geometry`` finds where every ray ends, ``materials``
colours what it hits and ``develop`` lights it and takes the photograph. The demo, the tests and the
training of the depth network use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgiqa.errors import UsageError
from dgiqa.types import Float32, UInt8


@dataclass(frozen=True)
class Scene:
    """A rendered picture.

    Attributes:
        pixels: (H, W, 3) uint8, sRGB.
        depth: (H, W) float32, metres along the viewing axis, above 0; sky is 1000.
        kind: street, park, landscape, room, corridor, portrait, tabletop or primitives.
    """

    pixels: UInt8
    depth: Float32
    kind: str


def render(
    seed: int, *, size: tuple[int, int] = (256, 256), textures: Sequence[UInt8] = (), kind: str | None = None
) -> Scene:
    """A random scene, the same for the same arguments.

    Args:
        seed: chooses the kind and everything in it.
        size: (width, height) in pixels.
        textures: photographs, (H, W, 3) uint8 sRGB each, that are laid on some of the surfaces.
        kind: one of the kinds, when it should not be chosen by the seed.

    Raises:
        UsageError: an unknown kind, or a size below 16 pixels.
    """
    from dgiqa.scenes.develop import develop
    from dgiqa.scenes.kinds import KINDS
    from dgiqa.scenes.things import Kit

    if min(size) < 16:
        raise UsageError(f"scene size: {size[0]}×{size[1]} is too small", hint="ask for at least 16×16")
    if kind is not None and kind not in KINDS:
        raise UsageError(f"scene kind: {kind!r} is unknown", hint=f"known kinds: {', '.join(KINDS)}")
    rng = np.random.default_rng(seed)
    shares = np.array([share for _, share in KINDS.values()])
    drawn = list(KINDS)[int(rng.choice(len(KINDS), p=shares / shares.sum()))]
    chosen = kind or drawn
    few = [textures[int(i)] for i in rng.integers(len(textures), size=6)] if textures else []
    stage = KINDS[chosen][0](Kit(rng, few))
    pixels, depth = develop(stage, size, rng)
    return Scene(pixels, depth, chosen)


def demo_scenes(size: tuple[int, int] = (768, 512)) -> dict[str, Scene]:
    """Four scenes set by hand, by name: street, room, portrait, landscape. ``size`` is (width, height)."""
    from dgiqa.scenes.demo import STAGES
    from dgiqa.scenes.develop import develop

    scenes = {}
    for name, stage in STAGES.items():
        pixels, depth = develop(stage(), size, np.random.default_rng(0), samples=2)
        scenes[name] = Scene(pixels, depth, name)
    return scenes

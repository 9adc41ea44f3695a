"""Degradations of a picture: seeded, in five severities, depth-aware where physics says so.

One file a kind; the folder is the list. A file holds ``apply(rgb, severity, depth, rng)`` and its table of
severities, and says what it is: its ``FAMILY``; ``KADID``, its number in KADID-10k if it is one of that data
set's 25 (Lin, Hosu, Saupe, QoMEX 2019), else it is one of the natural ones; ``DEPTH = True`` if it uses depth.
Sizes in the tables are in pixels of a picture whose short side is 512, and scale with the picture. The random
pattern of a seed, and the sign where a kind has one, are the same in all severities: they differ in strength
alone.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

import numpy as np

from dgiqa.errors import UsageError
from dgiqa.types import Float32, UInt8

#: The names of the kinds: every module in this folder whose name doesn't start with an underscore.
KINDS: tuple[str, ...] = tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))

SEVERITIES = (1, 2, 3, 4, 5)

#: What :func:`kinds_of` knows by name.
GROUPS = ("all", "kadid", "natural")


def distort(pixels: UInt8, kind: str, severity: int, *, depth: Float32 | None = None, seed: int = 0) -> UInt8:
    """The picture, degraded.

    Args:
        pixels: (H, W, 3) uint8, sRGB. It is not changed.
        kind: one of :data:`KINDS`.
        severity: 1 (just visible) to 5 (severe).
        depth: (H, W) metres, above 0; kinds that need none ignore it, the others say what they do without.
        seed: chooses the random pattern; 0 or more.

    Returns:
        (H, W, 3) uint8, sRGB, the same for the same arguments.

    Raises:
        UsageError: unknown kind or severity, or arrays that don't fit.
    """
    module = _module(kind)
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity!r} of {kind} is unknown", hint="severities are 1 to 5")
    if seed < 0:
        raise UsageError(f"seed {seed} is negative", hint="give 0 or more")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise UsageError(
            f"pixels: {pixels.dtype} of shape {pixels.shape} is not a picture",
            hint="give uint8 of shape (H, W, 3)",
        )
    if depth is not None:
        depth = _checked(depth, pixels.shape[:2])
    rng = np.random.default_rng([seed, *kind.encode()])
    result: UInt8 = module.apply(pixels, severity, depth, rng)
    return result


def family(kind: str) -> str:
    """What sort of fault a kind is: blur, brightness, color, compression, contrast, exposure, lens, medium (between
    camera and scene), noise or spatial.

    Raises:
        UsageError: unknown kind.
    """
    name: str = _module(kind).FAMILY
    return name


def uses_depth(kind: str) -> bool:
    """Whether depth changes the result; a kind that uses it says what it takes the picture for without.

    Raises:
        UsageError: unknown kind.
    """
    return bool(getattr(_module(kind), "DEPTH", False))


def kadid_number(kind: str) -> int | None:
    """The kind's number in KADID-10k, 1 to 25, or None for a natural one.

    Raises:
        UsageError: unknown kind.
    """
    number: int | None = getattr(_module(kind), "KADID", None)
    return number


def kinds_of(group: str) -> tuple[str, ...]:
    """The kinds of a group: ``kadid`` (by their numbers), ``natural`` or ``all`` (by name).

    Raises:
        UsageError: unknown group.
    """
    if group not in GROUPS:
        raise UsageError(f"group {group!r} of distortions is unknown", hint=f"known groups: {', '.join(GROUPS)}")
    numbers = {kind: kadid_number(kind) for kind in KINDS}
    if group == "kadid":
        return tuple(sorted((kind for kind in KINDS if numbers[kind]), key=lambda kind: numbers[kind] or 0))
    return tuple(kind for kind in KINDS if group == "all" or not numbers[kind])


def _module(kind: str) -> ModuleType:
    if kind not in KINDS:
        raise UsageError(f"distortion {kind!r} is unknown", hint=f"known kinds: {', '.join(KINDS)}")
    return import_module(f"{__name__}.{kind}")


def _checked(depth: Float32, shape: tuple[int, ...]) -> Float32:
    if depth.shape != shape:
        raise UsageError(
            f"depth: shape {depth.shape} is not the picture's {shape}",
            hint="give one depth in metres a pixel",
        )
    if not (np.isfinite(depth).all() and float(depth.min()) > 0):
        raise UsageError("depth: not every value is finite and above 0", hint="give metres, and 1000 for sky")
    return depth.astype(np.float32, copy=False)

"""Degradations of a picture: seeded, in five severities, depth-aware where physics says so.

One file a kind; the folder is the list. A file holds ``apply(rgb, severity, depth, rng)`` and its table of
severities. Sizes in the tables are in pixels of a picture whose short side is 512, and scale with the
picture. The random pattern of a seed is the same in all severities: they differ in strength alone.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

import numpy as np

from dgiqa.errors import UsageError
from dgiqa.types import Float32, UInt8

#: The names of the kinds: every module in this folder whose name doesn't start with an underscore.
KINDS: tuple[str, ...] = tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))

SEVERITIES = (1, 2, 3, 4, 5)


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
    if kind not in KINDS:
        raise UsageError(f"distortion {kind!r} is unknown", hint=f"known kinds: {', '.join(KINDS)}")
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
    result: UInt8 = import_module(f"{__name__}.{kind}").apply(pixels, severity, depth, rng)
    return result


def _checked(depth: Float32, shape: tuple[int, ...]) -> Float32:
    if depth.shape != shape:
        raise UsageError(
            f"depth: shape {depth.shape} is not the picture's {shape}",
            hint="give one depth in metres a pixel",
        )
    if not (np.isfinite(depth).all() and float(depth.min()) > 0):
        raise UsageError("depth: not every value is finite and above 0", hint="give metres, and 1000 for sky")
    return depth.astype(np.float32, copy=False)

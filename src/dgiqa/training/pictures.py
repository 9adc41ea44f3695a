"""Pictures as the network will see them when it scores: decoded, resized by the recipe, with their depth.

Depth maps are computed once and kept in a cache folder, by content: the picture's bytes, the depth card with its
weights, and the recipe. So is what a network's frozen first stages make of a picture, where a run goes on from there.
Resized pictures are kept as well if asked for; that trades disk (a byte a channel and pixel) for the time to decode.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import PIL.Image

from dgiqa import distortions
from dgiqa.cards import Recipe
from dgiqa.depth import as_metres
from dgiqa.distortions import distort, uses_depth
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import fit, resize
from dgiqa.imaging.views import DepthMap
from dgiqa.types import Float32, UInt8
from dgiqa.weights.files import sha256_of

A = TypeVar("A", bound=npt.NDArray[Any])
#: (H, W, 3) uint8 colour, or what a network's first stages make of it.
Seen = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Fault:
    """A picture's distortion: a kind in a severity, 0 for none, with the seed of its pattern."""

    kind: str
    severity: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Look:
    """What a frozen part of a network makes of a resized colour picture, or of another look at it.

    ``key`` changes with its code and its weights.
    """

    key: str
    see: Callable[[Seen], Seen]


class Pictures:
    """Reads pictures by path. Safe to share by threads and processes.

    Attributes:
        first: if set, what it makes of colour is shown in colour's place, computed once and kept.

    Args:
        recipe: how they are resized, and of what depth is estimated.
        depth_map: None for a network without depth.
        depth_label: names the depth card and its weights.
        cache: folder of the cache; None for no cache at all.
        keep: whether resized pictures are kept, too.
    """

    def __init__(
        self, recipe: Recipe, depth_map: DepthMap | None, depth_label: str, cache: Path | None, keep: bool = False
    ) -> None:
        self.recipe = recipe
        self._depth_map = depth_map
        self._cache, self._keep = cache, keep
        self.first: Look | None = None
        self._sums: dict[Path, str] = {}
        sizes = (recipe.short_side, recipe.kernel, recipe.multiple, recipe.background)
        sources = sorted(Path(distortions.__file__).parent.glob("*.py"))
        self._faults_key = _short("".join(map(sha256_of, sources)))[:6]  # another code, other pictures
        self._color_key = _short(repr(sizes))
        self._distances_key = _short(depth_label or "none")[:6]
        self._depth_key = _short(repr((sizes, recipe.depth_from, depth_label)))

    def see(self, path: Path, fault: Fault | None = None) -> tuple[Seen, UInt8 | None]:
        """(H, W, 3) colour and (H, W) depth, 255 nearest, or None, of the picture at ``path``, spoiled by ``fault``.

        With ``first``, what that makes of colour stands in its place.

        Raises:
            ImageError: the picture can't be read.
        """
        fault = fault if fault and fault.severity else None
        name = self._name(path, fault)
        original = _Once(lambda: self._original(path, fault))
        color = _Once(lambda: self._color(name, original))
        seen = self._first(name, color)
        if self._depth_map is None:
            return seen, None
        depth = self._kept(name, "depth", self._depth_key, ".png", lambda: self._depth(original, color()))
        return seen, depth

    def kept_row(self, path: Path, fault: Fault | None, look: Look) -> Float32:
        """(S,) what ``look`` finds in what :meth:`see` shows of colour.

        Raises:
            ImageError: the picture can't be read.
        """
        fault = fault if fault and fault.severity else None
        name = self._name(path, fault)

        def compute() -> Float32:
            color = _Once(lambda: self._color(name, _Once(lambda: self._original(path, fault))))
            return look.see(self._first(name, color))

        return self._kept(name, "rows", f"{self._color_key}-{look.key}", ".npy", compute)

    def _color(self, name: str, original: Callable[[], UInt8]) -> UInt8:
        return self._kept(name, "pictures", self._color_key, ".npy", lambda: fit(original(), self.recipe), self._keep)

    def _first(self, name: str, color: Callable[[], UInt8]) -> Seen:
        first = self.first
        if first is None:
            return color()
        return self._kept(name, "first", f"{self._color_key}-{first.key}", ".npy", lambda: first.see(color()))

    def _original(self, path: Path, fault: Fault | None) -> UInt8:
        pixels = decode(path, background=self.recipe.background).pixels
        if fault is None:
            return pixels
        metres = as_metres(self._depth_map(pixels)) if self._depth_map and uses_depth(fault.kind) else None
        return distort(pixels, fault.kind, fault.severity, depth=metres, seed=fault.seed)

    def _depth(self, original: Callable[[], UInt8], color: UInt8) -> UInt8:
        """As :func:`dgiqa.imaging.views.make_views` has it."""
        if self._depth_map is None:
            raise ValueError("there is no depth map")
        seen = original() if self.recipe.depth_from == "picture" else np.ascontiguousarray(color)
        return resize(self._depth_map(seen), color.shape[1], color.shape[0], self.recipe.kernel)

    def _name(self, path: Path, fault: Fault | None) -> str:
        if self._cache is None:
            return ""
        if path not in self._sums:
            self._sums[path] = sha256_of(path) if path.is_file() else ""  # decode says what is wrong with it
        spoiled = f"-{fault.kind}-{fault.severity}-{fault.seed}-{self._faults_key}" if fault else ""
        if fault and uses_depth(fault.kind):
            spoiled += f"-{self._distances_key}"
        return self._sums[path][:32] + spoiled

    def _kept(self, name: str, kind: str, key: str, ending: str, compute: Callable[[], A], keep: bool = True) -> A:
        """The array from the cache; else computed, and put there."""
        if self._cache is None or not keep:
            return compute()
        file = self._cache / kind / key / name[:2] / f"{name}{ending}"
        try:
            return _READERS[ending](file)  # type: ignore[no-any-return]
        except (OSError, ValueError, EOFError):  # not there, or cut short by a full disk
            array = compute()
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}")
        part.write_bytes(_WRITERS[ending](array))
        os.replace(part, file)
        return array


class _Once:
    """Computes its value when it is first asked for it."""

    def __init__(self, compute: Callable[[], UInt8]) -> None:
        self._compute = compute
        self._value: UInt8 | None = None

    def __call__(self) -> UInt8:
        if self._value is None:
            self._value = self._compute()
        return self._value


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


#: NumPy reads a file's header with Python's own parser, whose depth count threads can mix up (cpython#106905).
_ONE_HEADER = threading.Lock()


def _mapped(file: Path) -> Seen:
    """Mapped, not read: a crop of it reads no more than its rows."""
    with _ONE_HEADER:
        return np.load(file, mmap_mode="r")  # type: ignore[no-any-return]


def _read_png(file: Path) -> UInt8:
    with PIL.Image.open(file) as image:
        return np.array(image)


def _as_npy(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array))
    return stream.getvalue()


def _as_png(array: UInt8) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(array).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


_READERS: dict[str, Callable[[Path], Any]] = {".npy": _mapped, ".png": _read_png}
_WRITERS: dict[str, Callable[[Any], bytes]] = {".npy": _as_npy, ".png": _as_png}

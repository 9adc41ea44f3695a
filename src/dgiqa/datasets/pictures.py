"""Finds a set's pictures: published lists and real files differ in case, in folders, and in slashes."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path


class Pictures:
    """The files under a folder, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_all(self, names: Sequence[str]) -> list[Path]:
        """The file of each name, or where it ought to be: also where different names would come to one file."""
        found = [self.find(name) for name in names]
        wanted = defaultdict(set)
        for name, path in zip(names, found, strict=True):
            wanted[path].add(key(name))
        exact = [self.folder / slashed(name) for name in names]
        return [own if len(wanted[path]) > 1 else path for own, path in zip(exact, found, strict=True)]

    def find_references(self, names: Sequence[str]) -> tuple[Path | None, ...]:
        """The file of each name, there or not; one file for all spellings of a name, None for an empty one."""
        paths: dict[str, Path] = {}
        for name in names:
            if name and key(name) not in paths:
                paths[key(name)] = self.find(name)
        return tuple(paths.get(key(name)) for name in names)

    def find(self, name: str) -> Path:
        """The file called ``name``; where it ought to be if it is not there.

        Case and kind of slash don't matter. Folders may be missing at the beginning of the name or of the file's own
        way, if only one file answers to that. ``jpeg/img1.bmp`` is never ``jp2k/img1.bmp``: sets number anew in every
        folder.
        """
        wanted = slashed(name)
        exact = self.folder / wanted
        near = self._near.get(name) or self._near.get(wanted) or self._near_key.get(key(name))
        if near or is_there(exact):
            return near or exact
        return self._below(key(name)) or exact

    def _below(self, wanted: str) -> Path | None:
        """The one file in the folders below that answers to ``wanted``."""
        files = self._deep.get(wanted.rpartition("/")[2], {})
        if whole := [path for path, way in files.items() if way == wanted]:
            return whole[0] if len(whole) == 1 else None
        akin = [path for path, way in files.items() if _ends(way, wanted) or _ends(wanted, way)]
        return akin[0] if len(akin) == 1 else None

    @cached_property
    def _near(self) -> dict[str, Path]:
        """Files in the folder itself: one listing serves most sets."""
        return {path.name: path for path in self.folder.glob("*") if path.is_file()}

    @cached_property
    def _near_key(self) -> dict[str, Path]:
        """The same without case, where only one is so called."""
        return _alone(self._near.values())

    @cached_property
    def _deep(self) -> dict[str, dict[Path, str]]:
        """Files in the folder and below by name, each with its way from here, both without case."""
        found: dict[str, dict[Path, str]] = defaultdict(dict)
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                found[key(path.name)][path] = key(path.relative_to(self.folder).as_posix())
        return dict(found)


def is_there(path: Path) -> bool:
    """Whether it is a file; a name that no file can have is none."""
    return os.path.isfile(path)


def slashed(name: str) -> str:
    """A listed name with slashes, however it was written."""
    return name.replace("\\", "/").removeprefix("./")


def key(name: str) -> str:
    """What is the same for all spellings of a name."""
    return unicodedata.normalize("NFC", slashed(name)).lower()


def _ends(way: str, wanted: str) -> bool:
    return f"/{way}".endswith(f"/{wanted}")


def _alone(paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        found[key(path.name)].append(path)
    return {name: files[0] for name, files in found.items() if len(files) == 1}

"""Finds a set's pictures: published lists and real files differ in case, in folders, and in slashes."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path


class Pictures:
    """The files under a folder, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path:
        """The file called ``name``, with or without its folders; where it ought to be if it is not there."""
        wanted = name.replace("\\", "/").removeprefix("./")
        exact = self.folder / wanted
        if wanted.lower() in self._near:
            return self._near[wanted.lower()]
        if exact.is_file():
            return exact
        return self._deep.get(wanted.lower()) or self._alone.get(wanted.rpartition("/")[2].lower()) or exact

    @cached_property
    def _near(self) -> dict[str, Path]:
        """Files in the folder itself: one listing serves most sets."""
        return {path.name.lower(): path for path in self.folder.glob("*") if path.is_file()}

    @cached_property
    def _deep(self) -> dict[str, Path]:
        """Files in folders below, by their way from here."""
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix().lower(): path for path in found}

    @cached_property
    def _alone(self) -> dict[str, Path]:
        """Files below by file name, where it is one file's alone: sets number anew in every folder."""
        found: dict[str, Path | None] = {}
        for path in self._deep.values():
            found[path.name.lower()] = None if path.name.lower() in found else path
        return {name: path for name, path in found.items() if path}

"""Which pictures paths, folders and patterns of this machine stand for.

By content, not by name: inside folders and patterns a file counts when its first bytes are those of a format
that is decoded here. A file that only its name calls a picture is listed too, so that it becomes a failed
row instead of vanishing. Folders are read one at a time, so listing millions of files takes little memory.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dgiqa.errors import ImageNotFound, ImageUnreadable
from dgiqa.imaging.sniff import HEAD, has_picture_suffix, sniff
from dgiqa.sources.archives import SEPARATOR, is_archive, parted
from dgiqa.sources.found import Found
from dgiqa.sources.remote import is_url

_MAGIC = "*?["
_SIDECAR = ".thm"  # cameras put a video's or a RAW's thumbnail, a small JPEG, beside it under this name


@dataclass
class Search:
    """One call of ``find``. It remembers folders, not the pictures in them: their number has no bound."""

    recursive: bool
    listed: set[str] = field(default_factory=set)  # what was named one by one
    walked: set[str] = field(default_factory=set)  # folders and archives whose pictures were listed

    def source(self, path: str) -> Iterator[Found]:
        if "\0" in path:
            yield Found(path, ImageNotFound(f"{path!r}: no path has a NUL in it", hint="check the list"))
        elif os.path.isdir(path):
            yield from self.folder(path)
        elif os.path.lexists(path):
            yield from self.file(path)
        elif any(character in path for character in _MAGIC):
            yield from self.pattern(path)
        elif self.is_new(path):
            yield Found(path, ImageNotFound(f"{path}: no such file or folder", hint="check the path"))

    def file(self, path: str) -> Iterator[Found]:
        folder, name = os.path.split(key(path))
        in_walked = folder in self.walked and not name.startswith(".") and _is_picture(path)
        if not in_walked and self.is_new(path):
            yield Found(path)

    def pattern(self, pattern: str) -> Iterator[Found]:
        matched = False
        for path in _expand(pattern):
            if os.path.isdir(path):
                matched |= os.path.realpath(path) in self.walked  # its pictures are listed already
                found = self.folder(path)
            elif _is_picture(path) or (is_archive(pattern) and os.path.isfile(path)):
                matched, found = True, self.file(path)
            else:
                continue
            for item in found:
                matched = True
                yield item
        if not matched and self.is_new(pattern):
            yield Found(
                pattern,
                ImageNotFound(f"{pattern}: no picture matches the pattern", hint="check the path and quotes"),
            )

    def folder(self, path: str) -> Iterator[Found]:
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
            if real in self.walked:
                continue  # and so are its subfolders
            try:
                names, subfolders = _list(folder)
            except OSError as error:
                if self.is_new(folder):
                    yield Found(folder, _unreadable(folder, error))
                continue
            self.walked.add(real)
            for name in names:
                if os.path.join(real, name) not in self.listed and _is_picture(os.path.join(folder, name)):
                    yield Found(os.path.join(folder, name))
            if self.recursive:
                waiting += (os.path.join(folder, name) for name in reversed(subfolders))

    def is_new(self, path: str) -> bool:
        """Whether this is the first time that ``path`` is named; remembers it."""
        spelled = key(path)
        new = spelled not in self.listed
        self.listed.add(spelled)
        return new


def key(path: str) -> str:
    """One spelling for a file or a member however it is reached; a symbolic link to a file stays its own file."""
    if is_url(path):
        return path
    if parts := parted(path):
        archive, name = parts
        return f"{key(archive)}{SEPARATOR}{name}"
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _list(folder: str) -> tuple[list[str], list[str]]:
    """Names of the files and of the subfolders, each sorted, without hidden ones and links to folders."""
    names, subfolders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                subfolders.append(entry.name)
            elif not entry.is_dir():
                names.append(entry.name)
    return sorted(names), sorted(subfolders)


def _is_picture(path: str) -> bool:
    """Whether a file in a folder is one to list: its name or its content says picture."""
    if os.path.splitext(path)[1].lower() == _SIDECAR:
        return False
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False  # a pipe or a device
        if has_picture_suffix(path):
            return True
        with open(path, "rb", buffering=0) as stream:
            return sniff(stream.read(HEAD)) is not None
    except OSError:
        return has_picture_suffix(path)  # a broken link or a forbidden file becomes a failed row


def _expand(pattern: str) -> Iterator[str]:
    """What a glob pattern matches, in order. ``**`` enters no link, so no cycle, unlike in ``glob.glob``."""
    whole = Path(pattern)
    parts = list(whole.parts[1:] if whole.anchor else whole.parts)
    if parts[-1] == "**":
        parts.append("*")
    yield from _match(whole.anchor, parts)


def _match(folder: str, parts: list[str]) -> Iterator[str]:
    """Paths under ``folder`` whose components match ``parts``, one component each; ``**`` any number."""
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if not any(character in part for character in _MAGIC):
        path = os.path.join(folder, part)
        if os.path.lexists(path):
            yield from _match(path, rest)
        return
    try:
        names, subfolders = _list(folder or os.curdir)
    except OSError:
        return
    if part == "**":
        yield from _match(folder, rest)
        for name in subfolders:
            yield from _match(os.path.join(folder, name), parts)
        return
    for name in names + subfolders:
        if fnmatch.fnmatch(name, part):
            yield from _match(os.path.join(folder, name), rest)


def _unreadable(folder: str, error: OSError) -> ImageUnreadable:
    return ImageUnreadable(
        f"{folder}: the folder can't be read ({error.strerror})",
        hint="check its permissions, or leave it out",
    )

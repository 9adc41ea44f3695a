"""One source, where its bytes lie, and what identifies them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Protocol

from dgiqa.errors import ImageError


class Origin(Protocol):
    """Where a source's bytes lie if they are no file of this machine. Small, immutable, picklable."""

    def read(self) -> bytes:
        """All of its bytes.

        Raises:
            ImageError: they can't be had; the message names the source.
        """
        ...

    def look(self) -> tuple[int | None, str]:
        """Size and tag as they are now, without reading it; None or an empty tag where nothing is known.

        Raises:
            ImageError: it can't be reached.
        """
        ...


@dataclass(frozen=True)
class Found:
    """One source: a picture to decode, or (``error`` set) a path that leads to none."""

    path: str
    error: ImageError | None = None
    origin: Origin | None = None


@dataclass(frozen=True)
class Held:
    """A source whose bytes are at hand."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Stamp:
    """What identifies a content: its size, its SHA-256, and a tag that changes when its place is written.

    The tag tells without reading: a file's time of change in nanoseconds, an object's ETag, a zip member's checksum.
    """

    size: int
    tag: str
    sha256: str


def hold(source: Found) -> tuple[Found | Held, Stamp | None]:
    """A source as it is scored, and the stamp of its content; a file of this machine is left where it is.

    The tag is older than the content or as old: if it changes meanwhile, the next run looks at it again.
    """
    if source.error:
        return source, None
    if source.origin is None:
        return source, _stamp(source.path)
    try:
        _, tag = source.origin.look()
        data = source.origin.read()
    except ImageError as error:
        return Found(source.path, error), None
    return Held(source.path, data), Stamp(len(data), tag, hashlib.sha256(data).hexdigest())


def is_unchanged(source: Found, known: Stamp) -> bool:
    """Whether a source holds the content that ``known`` is of; False, too, if it can't be read."""
    if source.error:
        return False
    try:
        size, tag = _look(source.path) if source.origin is None else source.origin.look()
    except (OSError, ValueError, ImageError):
        return False
    if size is not None and size != known.size:
        return False
    if tag and (size, tag) == (known.size, known.tag):
        return True
    _, now = hold(source)
    return now is not None and now.sha256 == known.sha256


def _look(path: str) -> tuple[int, str]:
    status = os.stat(path)
    return status.st_size, str(status.st_mtime_ns)


def _stamp(path: str) -> Stamp | None:
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
    return Stamp(status.st_size, str(status.st_mtime_ns), digest)

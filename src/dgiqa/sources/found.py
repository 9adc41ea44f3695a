"""One source, where its bytes lie, and what identifies them; with its original, where a model compares."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, replace
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
    """One source: a picture to decode, or (``error`` set) a path that leads to none.

    ``reference`` is its pristine original, for a model that compares with one.
    """

    path: str
    error: ImageError | None = None
    origin: Origin | None = None
    reference: Found | Held | None = None


@dataclass(frozen=True)
class Held:
    """A source whose bytes are at hand. ``reference`` as of :class:`Found`."""

    path: str
    data: bytes
    reference: Found | Held | None = None


@dataclass(frozen=True)
class Stamp:
    """What identifies a content: its size, its SHA-256, and a tag that changes when its place is written.

    The tag tells without reading: a file's time of change in nanoseconds, an object's ETag, a zip member's checksum.
    A picture and its original have one stamp: sizes added, and tags and digests one after the other.
    """

    size: int
    tag: str
    sha256: str


def hold(source: Found | Held) -> tuple[Found | Held, Stamp | None]:
    """A source as it is scored, and the stamp of its content; a file of this machine is left where it is.

    The tag is older than the content or as old: if it changes meanwhile, the next run looks at it again. With an
    original both are held, and there is a stamp if both could be read.
    """
    if source.reference is not None:
        held, stamp = hold(replace(source, reference=None))
        original, its = hold(source.reference)
        return replace(held, reference=original), _together(stamp, its)
    if isinstance(source, Held):
        return source, _stamp_of(source.data)
    if source.error:
        return source, None
    if source.origin is None:
        return source, _stamp(source.path)
    try:
        _, tag = source.origin.look()
        data = source.origin.read()
    except ImageError as error:
        return Found(source.path, error), None
    return Held(source.path, data), _stamp_of(data, tag)


def is_unchanged(source: Found, known: Stamp) -> bool:
    """Whether a source holds the content that ``known`` is of; False, too, if it can't be read."""
    try:
        size, tag = _look(source)
    except (OSError, ValueError, ImageError):
        return False
    if size is not None and size != known.size:
        return False
    if tag and (size, tag) == (known.size, known.tag):
        return True
    _, now = hold(source)
    return now is not None and now.sha256 == known.sha256


def _look(source: Found | Held) -> tuple[int | None, str]:
    """Size and tag as they are now, see :meth:`Origin.look`; with an original, as :func:`_together` puts them."""
    if source.reference is not None:
        (size, tag), (its_size, its_tag) = _look(replace(source, reference=None)), _look(source.reference)
        return None if size is None or its_size is None else size + its_size, _tags(tag, its_tag)
    if isinstance(source, Held):
        return len(source.data), ""
    if source.error:
        raise source.error
    if source.origin is not None:
        return source.origin.look()
    status = os.stat(source.path)
    return status.st_size, str(status.st_mtime_ns)


def _together(stamp: Stamp | None, its: Stamp | None) -> Stamp | None:
    """The stamp of a picture and its original."""
    if stamp is None or its is None:
        return None
    return Stamp(stamp.size + its.size, _tags(stamp.tag, its.tag), stamp.sha256 + its.sha256)


def _tags(tag: str, its: str) -> str:
    return f"{tag} {its}" if tag and its else ""  # half a tag would not tell


def _stamp_of(data: bytes, tag: str = "") -> Stamp:
    return Stamp(len(data), tag, hashlib.sha256(data).hexdigest())


def _stamp(path: str) -> Stamp | None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None  # a pipe would wait for its writer, and a device may have no end
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
    return Stamp(status.st_size, str(status.st_mtime_ns), digest)

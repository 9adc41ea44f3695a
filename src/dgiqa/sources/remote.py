"""Pictures behind a URL, through fsspec: ``s3://``, ``gs://``, ``https://`` and whatever else it knows. Extra
``dgiqa[remote]``.

Credentials, endpoints and regions are those of each library's environment (``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, ...).
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from dgiqa.errors import ImageError, ImageNotFound, ImageTooLarge, ImageUnreadable, RuntimeMissing
from dgiqa.imaging.sniff import has_picture_suffix
from dgiqa.sources.found import Found

A = TypeVar("A")

#: Seconds between the tries of a request.
WAITS = (0.5, 1.0, 2.0)
#: The most bytes of one picture that are taken into memory.
MOST_BYTES = 1 << 30

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAGIC = "*?["
#: What a file system calls that which changes when an object is written.
_TAGS = ("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "updated", "mtime")
#: Answers of a server that refuses, and those among them that it may think better of.
_REFUSED = range(400, 500)
_BUSY = (408, 425, 429)


def is_url(path: str) -> bool:
    """Whether ``path`` is a URL rather than a file."""
    return _SCHEME.match(path) is not None


@dataclass(frozen=True)
class RemoteObject:
    """One object behind a URL. ``size`` and ``tag`` are what a listing said of it, if there was one."""

    url: str
    size: int | None = None
    tag: str = ""

    def look(self) -> tuple[int | None, str]:
        if self.tag:
            return self.size, self.tag
        system, path = connect(self.url)
        about = persist(self.url, lambda: system.info(path))
        return about.get("size"), tag_of(about)

    def read(self) -> bytes:
        system, path = connect(self.url)
        if self.size is not None and self.size > MOST_BYTES:
            raise ImageTooLarge(f"{self.url}: {self.size:,} bytes", hint="leave it out")
        # An s3fs that reads in several pieces at once asks for the size first: a request more for every picture.
        options = {"max_concurrency": 1} if hasattr(system, "_cat_file_concurrent") else {}
        data: bytes = persist(self.url, lambda: system.cat_file(path, **options))
        return data

    def read_range(self, start: int, size: int) -> bytes:
        """``size`` bytes from ``start``, fewer at its end."""
        system, path = connect(self.url)
        data: bytes = persist(self.url, lambda: system.cat_file(path, start=start, end=start + size))
        return data

    def open(self) -> BinaryIO:
        """A stream that fetches what is read of it."""
        system, path = connect(self.url)
        return cast(BinaryIO, _Persistent(self.url, persist(self.url, lambda: system.open(path, "rb"))))


class _Persistent(io.RawIOBase):
    """A stream of an object, of which a read that fails is tried again, see :func:`persist`."""

    def __init__(self, url: str, stream: BinaryIO) -> None:
        self._url, self._stream = url, stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any) -> int:
        place = self._stream.tell()

        def fetch() -> bytes:
            self._stream.seek(place)
            return self._stream.read(len(buffer))

        data = persist(self._url, fetch)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def objects(url: str, recursive: bool) -> Iterator[Found]:
    """The objects that a URL stands for: itself, those under it, or those that match its pattern.

    Under a prefix an object counts when its name is a picture's: its content would cost a request.
    """
    try:
        system, path = connect(url)
        if url.startswith(("http://", "https://")):
            if url.endswith("/"):
                raise ImageUnreadable(
                    f"{url}: a web server lists no pictures", hint="name them, or give a list on standard input"
                )
            yield Found(url, origin=RemoteObject(url))
        elif any(character in path for character in _MAGIC):
            matched = persist(url, lambda: system.glob(path, detail=True))
            if not matched:
                raise ImageNotFound(f"{url}: nothing matches the pattern", hint="check it and its quotes")
            for _, about in sorted(matched.items()):
                if about["type"] == "file":
                    yield _found(system, about)
                elif recursive:
                    yield from _under(system, about["name"], recursive)
        elif (about := persist(url, lambda: system.info(path)))["type"] == "file":
            yield _found(system, about)
        else:
            yield from _under(system, path, recursive)
    except ImageError as error:
        yield Found(url, error)


def _under(system: Any, path: str, recursive: bool) -> Iterator[Found]:
    """Folder by folder, each sorted, as those of this machine are."""
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        name = system.unstrip_protocol(folder)
        try:
            entries = sorted(persist(name, lambda: system.ls(folder, detail=True)), key=lambda about: about["name"])  # noqa: B023
        except ImageError as error:
            yield Found(name, error)
            continue
        shown = [about for about in entries if not _base(about["name"]).startswith(".")]
        for about in shown:
            if about["type"] == "file" and has_picture_suffix(about["name"]):
                yield _found(system, about)
        if recursive:
            deeper = (about["name"] for about in reversed(shown) if about["type"] == "directory")
            waiting += (name for name in deeper if name.rstrip("/") != folder.rstrip("/"))


def _base(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _found(system: Any, about: dict[str, Any]) -> Found:
    url = system.unstrip_protocol(about["name"])
    return Found(url, origin=RemoteObject(url, about.get("size"), tag_of(about)))


def tag_of(about: dict[str, Any]) -> str:
    """What changes when an object is written, of what a file system says about it; empty if it says nothing."""
    return next((str(about[name]).strip('"') for name in _TAGS if about.get(name)), "")


def connect(url: str) -> tuple[Any, str]:
    """The file system of a URL, one for all of a kind, and the path in it.

    Raises:
        RuntimeMissing: fsspec or what it needs for this kind of URL is not installed.
        ImageUnreadable: there is no such kind.
    """
    hint = "pip install 'dgiqa[remote]'"
    try:
        import fsspec
    except ImportError as error:
        raise RuntimeMissing(f"{url}: reading URLs needs the package fsspec", hint=hint) from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        if url.startswith(("gs://", "gcs://")):
            hint = "pip install gcsfs"
        raise RuntimeMissing(f"{url}: {error}", hint=hint) from error
    except ValueError as error:
        raise ImageUnreadable(f"{url}: {error}", hint="s3://, gs:// and https:// are known, for instance") from error
    return system, path


def retry(request: Callable[[], A]) -> A:
    """What ``request`` gives, tried again after each of WAITS where that may help.

    Raises:
        Exception: whatever it raised at last; what is missing or forbidden is so at once.
    """
    for wait in WAITS:
        try:
            return request()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # each library behind fsspec has errors of its own
            if _is_final(error):
                raise
            time.sleep(wait)
    return request()


def persist(url: str, request: Callable[[], A]) -> A:
    """What ``request`` of a picture gives, see :func:`retry`.

    Raises:
        ImageNotFound, ImageUnreadable: it gives nothing.
    """
    try:
        return retry(request)
    except FileNotFoundError as error:
        raise ImageNotFound(f"{url}: there is no such object", hint="check the URL") from error
    except PermissionError as error:
        raise ImageUnreadable(f"{url}: no access ({_said(error)})", hint="check your credentials") from error
    except Exception as error:
        if _is_final(error):
            status = getattr(error, "status", None)
            raise ImageUnreadable(f"{url}: answered {status}", hint="check the URL and your access") from error
        raise ImageUnreadable(
            f"{url}: can't be had in {len(WAITS) + 1} tries ({_said(error)})", hint="try again later"
        ) from error


def _is_final(error: Exception) -> bool:
    """Whether a server refused in a way that a further try doesn't change."""
    status = getattr(error, "status", None)
    return status in _REFUSED and status not in _BUSY


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""Where a run's files lie: a folder of this machine, or a prefix behind a URL.

A file is written aside and put in place at once, whole and lasting, or not at all: by a rename, or as one object.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from dgiqa.errors import UsageError
from dgiqa.sources.remote import connect, is_url, retry

if TYPE_CHECKING:
    from filelock import FileLock

A = TypeVar("A")


class Store(Protocol):
    """A place for files without folders. What can't be done is an OSError."""

    place: str
    #: Whether nothing keeps a second process from writing here.
    shared: bool

    def names(self) -> list[str]:
        """Names of all files, hidden ones too."""
        ...

    def aside(self, name: str) -> Path:
        """The file of this machine to write what becomes ``name``."""
        ...

    def put(self, aside: Path, name: str) -> None:
        """What was written aside becomes ``name``, at once, and stays so when the power fails."""
        ...

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """``name`` as a file of this machine."""
        ...

    def text(self, name: str) -> str:
        """What ``name`` holds; FileNotFoundError if there is none."""
        ...

    def remove(self, name: str) -> None:
        """Removes ``name``."""
        ...

    def close(self) -> None:
        """Lets another process in."""
        ...


def open_store(place: str | os.PathLike[str]) -> Store:
    """The store at a folder or a URL, made if it isn't there, and kept for this process alone where that can be.

    Raises:
        UsageError: it can't be written, is no folder, or another process has it.
        RuntimeMissing: a URL without its extra.
    """
    text = os.fspath(place)
    return RemoteStore(text) if is_url(text) else LocalStore(Path(text))


def reading_store(place: str | os.PathLike[str]) -> Store:
    """The store at a folder or a URL, only to read it."""
    text = os.fspath(place)
    return RemoteStore(text) if is_url(text) else LocalStore(Path(text), write=False)


class LocalStore:
    """A folder. It is locked as long as the store is open, unless it is only read."""

    shared = False

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        self.folder, self.place = folder, str(folder)
        self._lock: FileLock | None = None
        if not write:
            return
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file, and a run wants a folder", hint="name another")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: can't be made ({error.strerror})") from error
        from filelock import FileLock, Timeout  # whoever scores one picture needn't wait for it

        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"{folder}: another process writes this run", hint="wait for it, or use another"
            ) from error
        except OSError as error:
            raise UsageError(f"{folder}: can't be written ({error.strerror})") from error

    def names(self) -> list[str]:
        return sorted(file.name for file in self.folder.iterdir())

    def aside(self, name: str) -> Path:
        return self.folder / f".{name}"

    def put(self, aside: Path, name: str) -> None:
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(aside, self.folder / name)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        yield self.folder / name

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()


class RemoteStore:
    """A prefix behind a URL. Putting an object is one request, which object stores do at once or not at all."""

    shared = True

    def __init__(self, url: str) -> None:
        self.place = url.rstrip("/")
        self._system, self._path = connect(self.place)
        self._scratch = Path(tempfile.mkdtemp(prefix="dgiqa-"))

    def names(self) -> list[str]:
        def listed() -> list[str]:
            self._system.invalidate_cache(self._path)
            try:
                return list(self._system.ls(self._path, detail=False))
            except FileNotFoundError:  # a prefix is there once something lies under it
                return []

        names = (name.rstrip("/") for name in self._try("listed", listed))
        return sorted(name.rpartition("/")[2] for name in names if name != self._path.rstrip("/"))

    def aside(self, name: str) -> Path:
        return self._scratch / name

    def put(self, aside: Path, name: str) -> None:
        self._try("written", lambda: self._system.put_file(str(aside), f"{self._path}/{name}"))
        aside.unlink()

    def try_out(self, name: str) -> None:
        """Puts something beside ``name`` and takes it away again."""
        aside = self.aside(name)
        aside.touch()
        self.put(aside, f".{name}.part")
        self.remove(f".{name}.part")

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        copy = self._scratch / f"read-{name}"
        self._try("read", lambda: self._system.get_file(f"{self._path}/{name}", str(copy)))
        try:
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def text(self, name: str) -> str:
        data: bytes = self._try("read", lambda: self._system.cat_file(f"{self._path}/{name}"))
        return data.decode("utf-8")

    def remove(self, name: str) -> None:
        self._try("removed", lambda: self._system.rm_file(f"{self._path}/{name}"))

    def close(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _try(self, what: str, request: Callable[[], A]) -> A:
        try:
            return retry(request)
        except FileNotFoundError:
            raise
        except Exception as error:  # each library behind fsspec has errors of its own
            said = " ".join(str(error).split()) or type(error).__name__
            raise OSError(errno.EIO, f"can't be {what} ({said})", self.place) from error

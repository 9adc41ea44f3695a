"""Pictures inside zip and tar files, of this machine or behind a URL: ``photos.zip::2024/dog.jpg``.

Each is read by itself, by its place in the archive, so threads and other machines need not unpack it. WebDataset
shards are tar files.
"""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dgiqa.errors import ImageError, ImageNotFound, ImageTooLarge, ImageUnreadable, ImageUnsupported
from dgiqa.imaging.sniff import HEAD, has_picture_suffix, sniff
from dgiqa.sources.found import Found
from dgiqa.sources.remote import MOST_BYTES, RemoteObject, is_url

#: Stands between an archive's path and a member's name.
SEPARATOR = "::"

_KINDS = (".zip", ".tar")
#: Compressed as a whole, so that no member can be read without all before it.
_WHOLE = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
#: Bytes of a member's header in a zip, before its name.
_ZIP_HEADER = struct.Struct("<4s22xHH")


def is_archive(path: str) -> bool:
    """Whether a path names an archive, one that can be read or one that a message is due for."""
    return _plain(path).endswith(_KINDS + _WHOLE)


def parted(path: str) -> tuple[str, str] | None:
    """Archive and member of ``ARCHIVE::NAME``; None for another path."""
    archive, separator, name = path.partition(SEPARATOR)
    return (archive, name) if separator and is_archive(archive) else None


def _plain(path: str) -> str:
    return (path.partition("?")[0] if is_url(path) else path).lower()


@dataclass(frozen=True)
class LocalArchive:
    """An archive in a file of this machine."""

    path: str

    def open(self) -> BinaryIO:
        return open(self.path, "rb")

    def read_range(self, start: int, size: int) -> bytes:
        with open(self.path, "rb") as stream:
            stream.seek(start)
            return stream.read(size)


Archive = LocalArchive | RemoteObject


@dataclass(frozen=True)
class Member:
    """One file in an archive.

    Attributes:
        path: how rows call it.
        start: where its header (zip) or its bytes (tar) begin.
        packed, size: bytes it takes there, and as it comes out.
        method: how it is packed, as zip numbers it: 0 not at all, 8 deflated.
        check: CRC-32 of its bytes; None in a tar.
    """

    archive: Archive
    path: str
    start: int
    packed: int
    size: int
    method: int = 0
    check: int | None = None

    def look(self) -> tuple[int | None, str]:
        """A tar says nothing of a member's content, so its bytes must."""
        return self.size, "" if self.check is None else f"crc32-{self.check:08x}"

    def read(self) -> bytes:
        if self.size > MOST_BYTES:
            raise ImageTooLarge(f"{self.path}: {self.size:,} bytes", hint="leave it out")
        try:
            data = self._unpack(self._packed())
        except (OSError, struct.error, zlib.error) as error:
            raise ImageUnreadable(f"{self.path}: can't be read ({error})", hint="get a fresh copy of it") from error
        if len(data) != self.size or (self.check is not None and zlib.crc32(data) != self.check):
            raise ImageUnreadable(f"{self.path}: truncated or damaged in its archive", hint="get a fresh copy of it")
        return data

    def _packed(self) -> bytes:
        start = self.start
        if self.check is not None:
            _, name, extra = _ZIP_HEADER.unpack(self.archive.read_range(start, _ZIP_HEADER.size))
            start += _ZIP_HEADER.size + name + extra
        return self.archive.read_range(start, self.packed)

    def _unpack(self, packed: bytes) -> bytes:
        if self.method == zipfile.ZIP_STORED:
            return packed
        if self.method == zipfile.ZIP_DEFLATED:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
        raise ImageUnsupported(
            f"{self.path}: packed by a method ({self.method}) not read here",
            hint="pack it as a plain zip, or unpack it",
        )


def members(archive: Archive, path: str, only: str | None = None) -> Iterator[Found]:
    """The pictures in an archive, in its order, or the one called ``only``.

    A damaged archive gives those before the damage, and then one Found with the error.
    """
    seen = False
    try:
        if _plain(path).endswith(_WHOLE):
            raise ImageUnsupported(
                f"{path}: compressed as a whole, so its members can't be read one by one",
                hint="unpack it, or pack it as .zip or .tar",
            )
        with archive.open() as stream:
            listed = _zip(archive, path, stream) if _plain(path).endswith(".zip") else _tar(archive, path, stream)
            for name, found in listed:
                if only is None or name == only:
                    seen = True
                    yield found
    except FileNotFoundError:
        yield Found(path, ImageNotFound(f"{path}: no such file", hint="check the path"))
    except ImageError as error:
        yield Found(path, error)
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError) as error:
        yield Found(path, ImageUnreadable(f"{path}: no archive, or a damaged one ({error})", hint="get a fresh copy"))
    else:
        if only is not None and not seen:
            name = f"{path}{SEPARATOR}{only}"
            yield Found(name, ImageNotFound(f"{name}: no such picture in the archive", hint="check the name"))


def _zip(archive: Archive, path: str, stream: BinaryIO) -> Iterator[tuple[str, Found]]:
    with zipfile.ZipFile(stream) as opened:
        for info in opened.infolist():
            if info.is_dir() or _is_hidden(info.filename):
                continue
            name, locked = f"{path}{SEPARATOR}{info.filename}", bool(info.flag_bits & 1)
            if not has_picture_suffix(info.filename):
                if locked:
                    continue
                if not _is_picture(opened, info):
                    continue
            if locked:
                error = ImageUnsupported(f"{name}: encrypted", hint="unpack it with its password")
                yield info.filename, Found(name, error)
                continue
            sizes = info.header_offset, info.compress_size, info.file_size, info.compress_type
            yield info.filename, Found(name, origin=Member(archive, name, *sizes, info.CRC))


def _tar(archive: Archive, path: str, stream: BinaryIO) -> Iterator[tuple[str, Found]]:
    with tarfile.open(fileobj=stream, mode="r:") as opened:
        for info in opened:
            opened.members.clear()  # type: ignore[attr-defined]  # it would remember them all
            if not info.isreg() or info.issparse() or _is_hidden(info.name):
                continue
            if not has_picture_suffix(info.name):
                member = opened.extractfile(info)
                if member is None or sniff(member.read(HEAD)) is None:
                    continue
            name = f"{path}{SEPARATOR}{info.name}"
            yield info.name, Found(name, origin=Member(archive, name, info.offset_data, info.size, info.size))
        # tarfile takes a header that it can't read for the end, unless it is the first.
        stream.seek(opened.offset)
        if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {opened.offset:,}")


def _is_picture(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    """Whether a member that isn't named as a picture is one; not if it can't be unpacked."""
    try:
        with opened.open(info) as member:
            return sniff(member.read(HEAD)) is not None
    except (NotImplementedError, RuntimeError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile):
        return False


def _is_hidden(name: str) -> bool:
    parts = name.strip("/").split("/")
    return any(part.startswith(".") and part != "." for part in parts) or "__MACOSX" in parts

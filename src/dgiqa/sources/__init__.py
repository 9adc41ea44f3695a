"""Which pictures paths stand for, and where their bytes lie.

``find`` lists them: files and folders of this machine (:mod:`.local`), members of archives (:mod:`.archives`), objects
behind URLs (:mod:`.remote`). Each is a :class:`Found`; ``hold`` brings its bytes and says what identifies them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dgiqa.sources.archives import LocalArchive, is_archive, members, parted
from dgiqa.sources.found import Found, Held, Stamp, hold, is_unchanged
from dgiqa.sources.local import Search, key
from dgiqa.sources.remote import RemoteObject, is_url, objects

__all__ = ["Found", "Held", "Stamp", "find", "hold", "is_unchanged", "source_of"]


def find(paths: Iterable[str | Path], *, recursive: bool = True) -> Iterator[Found]:
    """The pictures that ``paths`` stand for, lazily and in a stable order.

    Args:
        paths: files (listed as they are given), folders (every picture in them, by name, subfolders last) and
            glob patterns where no such file exists (``*``, ``?``, ``[…]``, and ``**`` for any depth); zip and tar files
            for the pictures in them, ``ARCHIVE::NAME`` for one of these; URLs of all of these, such as
            ``s3://bucket/folder/`` or ``https://host/shard-000.tar`` (extra ``[remote]``).
        recursive: whether folders are searched with their subfolders.

    Yields:
        Found, each picture once. Hidden files and folders (a leading dot) and symbolic links to folders are
        left out inside folders, and so are archives: they are read when they are named, or match a pattern. A missing
        path, a pattern without a picture and a folder that can't be read are one Found with its error each; a folder
        without pictures is nothing.

    Raises:
        RuntimeMissing: a URL without the extra that it needs.
    """
    search = Search(recursive)
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        yield from _source(search, os.fspath(path))


def source_of(path: str) -> Found:
    """One picture by its path: a file, an object, or a member of an archive. Nothing is listed but that archive."""
    if (parts := parted(path)) and not os.path.lexists(path):
        archive, name = parts
        return next(members(_archive(archive), archive, name))
    return Found(path, origin=RemoteObject(path) if is_url(path) else None)


def _source(search: Search, path: str) -> Iterator[Found]:
    """Objects and members have one spelling, so a look at it tells whether they were named before."""
    if (parts := parted(path)) and not os.path.lexists(path):
        archive, name = parts
        if key(archive) not in search.walked and search.is_new(path):
            yield from members(_archive(archive), archive, name)
    elif is_url(path):
        for found in objects(path, search.recursive):
            if search.is_new(found.path):
                yield from _opened(search, found)
    else:
        for found in search.source(path):
            yield from _opened(search, found)


def _opened(search: Search, found: Found) -> Iterator[Found]:
    """The pictures in what was found, if it is an archive; those that were named before are left out."""
    if found.error or not is_archive(found.path):
        yield found
        return
    spelled = key(found.path)
    search.walked.add(spelled)
    for member in members(_archive(found), found.path):
        if member.path == found.path or spelled + member.path.removeprefix(found.path) not in search.listed:
            yield member


def _archive(source: str | Found) -> LocalArchive | RemoteObject:
    if isinstance(source, Found):
        return source.origin if isinstance(source.origin, RemoteObject) else LocalArchive(source.path)
    return RemoteObject(source) if is_url(source) else LocalArchive(source)

"""The pictures of a request: of a form with files, or the body itself. Read as they come, never beyond the limits.

What a client says of its content decides only how the body is taken apart; whether a file is a picture, and of which
kind, is seen from its bytes. Addresses are never followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from dgiqa.serve.problems import Problem
from dgiqa.serve.settings import Settings
from dgiqa.sources import Held

#: What a picture is called that came without a name.
NAMELESS = "body"
#: Form fields that are no files, and bytes of one; they are read over.
_FIELDS, _FIELD_BYTES = 16, 64 * 1024


class Room:
    """Bytes of bodies that are held in memory, of all requests."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, count: int) -> None:
        """Raises Problem when they don't fit."""
        if self.held + count > self.most:
            raise Problem(
                "busy", "the bodies of other requests fill the memory set aside", headers={"Retry-After": "2"}
            )
        self.held += count

    def give(self, count: int) -> None:
        self.held -= count


@asynccontextmanager
async def pictures_of(request: Request, settings: Settings, room: Room) -> AsyncIterator[list[Held]]:
    """The request's pictures; their room is given back in the end.

    Raises:
        Problem: too large, too slow, too many, or nothing that could be a picture.
    """
    body = _Body(request, settings, room)
    try:
        try:
            async with asyncio.timeout(settings.seconds):
                held = await _read(request, settings, body)
        except TimeoutError as error:
            raise Problem("too-slow", f"it was not here after {settings.seconds:g} seconds") from error
        if not held:
            raise Problem("bad-request", "no picture came; send files in a form, or one as the body")
        yield held
    finally:
        room.give(body.count)


async def _read(request: Request, settings: Settings, body: _Body) -> list[Held]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":  # curl --data-binary says it is another form, and sends a picture
        data = b"".join([chunk async for chunk in body.stream()])
        return [Held(NAMELESS, data)] if data else []
    parser = _Parser(
        request.headers, body.stream(), max_files=settings.max_files, max_fields=_FIELDS, max_part_size=_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, KeyError, UnicodeError) as error:
        reason = getattr(error, "message", None) or str(error) or "no boundary"
        kind = "too-many-files" if "Too many files" in reason else "bad-request"
        raise Problem(kind, f"the form can't be read ({reason}); a request takes {settings.max_files} files") from error
    files = [item for _, item in form.multi_items() if isinstance(item, UploadFile)]
    return [Held(_name(file), await file.read()) for file in files if file.filename or file.size]


def _name(file: UploadFile) -> str:
    """As the client says it, in characters that can be written."""
    return (file.filename or NAMELESS).encode("utf-8", "replace").decode()


class _Parser(MultiPartParser):
    """Files stay in memory, which is counted; a disk would be slower and is not."""

    spool_max_size = 2**62


class _Body:
    """A body as it comes, counted."""

    def __init__(self, request: Request, settings: Settings, room: Room) -> None:
        self._request, self._settings, self._room = request, settings, room
        self.count = 0
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > settings.max_bytes:
            raise self._too_large()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._request.stream():
            if self.count + len(chunk) > self._settings.max_bytes:
                raise self._too_large()
            self._room.take(len(chunk))
            self.count += len(chunk)
            yield chunk

    def _too_large(self) -> Problem:
        # What still comes isn't read: the connection ends with the answer.
        return Problem(
            "too-large", f"a request takes {self._settings.max_bytes:,} bytes", headers={"Connection": "close"}
        )

"""One file over https: streamed, resumed, retried. Plain standard library.

Range requests follow RFC 9110, section 14; a half file is continued only as the version it was begun with
(``If-Range`` with a strong ``ETag``). What is right or wrong about the bytes is the caller's to check.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgiqa.errors import FetchError

#: Seconds to wait before the second and the third try.
PAUSES = (1.0, 4.0)

_CHUNK = 1 << 18
#: A weak tag (W/…) says nothing about bytes.
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_WORTH_RETRYING = (408, 425, 429, *range(500, 600))


class _TryError(Exception):
    """A try that failed in a way that another try may not."""


class _RestartError(Exception):
    """The half file can't be continued; it has to be begun anew."""


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith("https://"):
            raise FetchError(
                f"{req.full_url}: redirects to {newurl}, which is not https",
                hint="nothing was downloaded; give a mirror that stays on https",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    part: Path,
    *,
    size: int,
    timeout: float,
    progress: Callable[[int, int], None] | None,
    context: ssl.SSLContext | None,
    by_hand: str,
) -> None:
    """Brings ``url`` into the file ``part``, continuing what lies there already.

    Args:
        size: bytes of the whole file, 0 when unknown.
        timeout: seconds without a byte after which a try is given up; there are three tries.
        progress: called with the bytes here and the bytes of the whole (0 when unknown).
        by_hand: the other way to come by the file, for the hints of errors.

    Raises:
        FetchError: the file did not come. What did come stays in ``part`` if it can be continued.
        OSError: ``part`` can't be written.
    """
    https = urllib.request.HTTPSHandler(context=context or ssl.create_default_context())
    transfer = _Transfer(
        opener=urllib.request.build_opener(_HttpsOnly(), https),
        url=url,
        part=part,
        size=size,
        timeout=timeout,
        progress=progress,
        by_hand=by_hand,
    )
    reason = ""
    for pause in (0.0, *PAUSES):
        time.sleep(pause)
        try:
            return transfer.attempt()
        except _TryError as error:
            reason = str(error)
    here = _size(part)
    resume = f"run it again, it goes on after {here} bytes" if here else "try again later"
    raise FetchError(f"{url}: {reason}, {1 + len(PAUSES)} times", hint=f"{resume}, {by_hand}")


@dataclass(frozen=True)
class _Transfer:
    """One download, over as many tries as it takes."""

    opener: urllib.request.OpenerDirector
    url: str
    part: Path
    size: int
    timeout: float
    progress: Callable[[int, int], None] | None
    by_hand: str

    @property
    def tag_file(self) -> Path:
        """Keeps the ``ETag`` of the version that the half file belongs to."""
        return self.part.with_name(self.part.name + ".etag")

    def attempt(self) -> None:
        """One try: continues the half file, or begins anew where that is refused."""
        try:
            self._continue()
        except _RestartError:
            self._forget()
            try:
                self._continue()
            except _RestartError as error:
                raise _TryError("the server answers with pieces that were not asked for") from error
        self.tag_file.unlink(missing_ok=True)

    def _continue(self) -> None:
        have = _size(self.part)
        if self.size and have == self.size:
            return
        if self.size and have > self.size:
            raise _RestartError
        with self._open(have) as response:
            tag = response.headers.get("ETag", "")
            if response.status == 206:
                total = self._resumed(response.headers.get("Content-Range", ""), have, tag)
            else:  # the first try, or a server without ranges or with another version: the whole file comes
                have = 0
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isdigit() else self.size
                if self.size and total != self.size:
                    self._forget()
                    raise self._wrong_size(str(total))
                self._remember(tag)
            self._stream(response, have, total)

    def _resumed(self, content_range: str, have: int, tag: str) -> int:
        """Bytes of the whole file, if the answer goes on where the half file ends; else begin anew."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range.strip())
        if found is None or not have or int(found[1]) != have:
            raise _RestartError
        if _STRONG_TAG.fullmatch(tag) and tag != (self._remembered() or tag):
            raise _RestartError
        total = self.size if found[2] == "*" else int(found[2])
        if self.size and total != self.size:
            raise _RestartError
        return total

    def _open(self, have: int) -> Any:
        request = urllib.request.Request(self.url, headers={"User-Agent": "dgiqa"})
        if have:
            request.add_header("Range", f"bytes={have}-")
            if tag := self._remembered():
                request.add_header("If-Range", tag)
        try:
            return self.opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and have:
                raise _RestartError from error
            if error.code in _WORTH_RETRYING:
                raise _TryError(f"the server answers {error.code} {error.reason}") from error
            raise FetchError(
                f"{self.url}: the server answers {error.code} {error.reason}",
                hint=f"check the address, {self.by_hand}",
            ) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise FetchError(
                    f"{self.url}: the server's certificate is not trusted ({error.reason.verify_message})",
                    hint="if your network has an authority of its own, name its file in SSL_CERT_FILE",
                ) from error
            raise _TryError(self._describe(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            raise _TryError(self._describe(error)) from error

    def _stream(self, response: Any, have: int, total: int) -> None:
        """Appends the answer to the half file; what came before a failure stays there."""
        with self.part.open("ab" if have else "wb", buffering=0) as file:
            while True:
                try:
                    chunk = response.read1(_CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise _TryError(self._describe(error)) from error
                if not chunk:
                    break
                have += _write(file, chunk)
                if self.progress and (not total or have <= total):
                    self.progress(have, total)
                if total and have >= total:
                    break
        if total and have < total:
            raise _TryError(f"the connection ended after {have} of {total} bytes")
        if total and have > total:
            self._forget()
            raise self._wrong_size(f"at least {have}")

    def _wrong_size(self, found: str) -> FetchError:
        return FetchError(
            f"{self.url}: {found} bytes, but {self.size} are expected",
            hint=f"this is another file; check the address, {self.by_hand}",
        )

    def _describe(self, error: object) -> str:
        if isinstance(error, TimeoutError):
            return f"no byte came for {self.timeout:g} seconds"
        return f"the connection failed ({str(error) or type(error).__name__})"

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.tag_file.unlink(missing_ok=True)

    def _remember(self, tag: str) -> None:
        if _STRONG_TAG.fullmatch(tag):
            self.tag_file.write_text(tag, encoding="latin-1")
        else:
            self.tag_file.unlink(missing_ok=True)

    def _remembered(self) -> str:
        try:
            tag = self.tag_file.read_text(encoding="latin-1")
        except FileNotFoundError:
            return ""
        return tag if _STRONG_TAG.fullmatch(tag) else ""


def _write(file: Any, chunk: bytes) -> int:
    """Writes all of ``chunk``: an unbuffered file may take a part of it at a time."""
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]
    return len(chunk)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

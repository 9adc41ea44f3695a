"""What is said when a request can't be served: problem details for HTTP (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"

#: Short names of the problems, the last part of their type, with their status and title.
KINDS = {
    "bad-request": (400, "The request can't be read"),
    "no-key": (401, "An API key is needed"),
    "not-found": (404, "There is nothing here"),
    "wrong-method": (405, "This address doesn't take that method"),
    "too-slow": (408, "The body took too long to come"),
    "too-large": (413, "The body is too large"),
    "too-many-files": (413, "Too many pictures in one request"),
    "no-picture": (422, "None of what came is a picture that can be scored"),
    "bad-parameter": (422, "A parameter has a value that makes no sense"),
    "busy": (429, "The service is busy"),
    "fault": (500, "The service failed"),
    "took-too-long": (503, "The answer took too long"),
}


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:dgiqa:problem:too-large"])
    title: str
    status: int
    detail: str


class Problem(Exception):
    """Raised anywhere in a request; becomes its answer."""

    def __init__(self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.headers, self.more = kind, detail, dict(headers or {}), more

    @property
    def status(self) -> int:
        return KINDS[self.kind][0]

    def answer(self) -> JSONResponse:
        status, title = KINDS[self.kind]
        body = {"type": f"urn:dgiqa:problem:{self.kind}", "title": title, "status": status, "detail": self.detail}
        return JSONResponse({**body, **self.more}, status, self.headers, MEDIA_TYPE)


def responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The answers of those kinds, for the description of a route."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        titles.setdefault(KINDS[kind][0], []).append(KINDS[kind][1])
    return {
        status: {"description": "; ".join(names), "content": {MEDIA_TYPE: schema}} for status, names in titles.items()
    }


async def answer_problem(_: Request, error: Exception) -> JSONResponse:
    """For :class:`Problem`."""
    assert isinstance(error, Problem)
    return error.answer()


async def answer_http(_: Request, error: Exception) -> JSONResponse:
    """For what the framework refuses itself."""
    assert isinstance(error, HTTPException)
    kind = {404: "not-found", 405: "wrong-method"}.get(error.status_code, "bad-request")
    return Problem(kind, str(error.detail), headers=error.headers).answer()


async def answer_validation(_: Request, error: Exception) -> JSONResponse:
    """For parameters of the wrong kind."""
    assert isinstance(error, RequestValidationError)
    said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return Problem("bad-parameter", said).answer()

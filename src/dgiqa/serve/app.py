"""The routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

import dgiqa
from dgiqa.errors import ImageError
from dgiqa.explain.figure import as_uris
from dgiqa.models import list_models
from dgiqa.scorer import Scorer
from dgiqa.serve.body import Room, pictures_of
from dgiqa.serve.front import Front
from dgiqa.serve.metrics import Metrics
from dgiqa.serve.problems import (
    Problem,
    ProblemDetails,
    answer_http,
    answer_problem,
    answer_validation,
    responses,
)
from dgiqa.serve.settings import Settings
from dgiqa.serve.workshop import Workshop

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {
    "schema": {
        "type": "object",
        "properties": {"files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}},
        "required": ["files"],
    }
}
#: How pictures are sent.
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": _FILES, "image/*": _BINARY, "application/octet-stream": _BINARY},
    }
}
_ASKED = ("bad-request", "no-key", "too-slow", "too-large", "no-picture", "busy", "took-too-long")
#: The page's own files and their kinds.
_PAGE = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}


class Row(BaseModel):
    """One picture; the numbers are null where it failed."""

    path: str
    status: str
    quality: float | None
    low: float | None
    high: float | None
    raw: float | None
    model: str
    runtime: str
    width: int | None
    height: int | None
    error: str | None
    notes: list[str]


class Scored(BaseModel):
    """The rows of a request, in its order."""

    model: str
    rows: list[Row]


class Explained(BaseModel):
    """A row, its faults, sharpness and maps (rows of cells), and the maps as pictures (data URIs)."""

    path: str
    status: str
    quality: float
    low: float | None
    high: float | None
    raw: float
    model: str
    runtime: str
    width: int
    height: int
    faults: list[dict[str, Any]]
    no_fault: float | None
    sharpness: dict[str, float | None]
    maps: dict[str, list[list[float]] | None]
    images: dict[str, str]
    notes: list[str]


class Model(BaseModel):
    """A model's card, in short."""

    name: str
    version: str
    kind: str
    summary: str
    licence: dict[str, str]
    served: bool


def create_app(scorer: Scorer, settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application, scoring with ``scorer``.

    ``scorer.max_megapixels`` should be ``settings.max_megapixels``: :mod:`dgiqa.cli.serve` sees to it.
    """
    settings = settings or Settings()
    metrics, room = Metrics(), Room(settings.max_held)
    metrics.held.set_function(lambda: room.held)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.workshop = Workshop(scorer, settings, metrics)
        app.state.workshop.open()
        app.state.ready = True
        yield
        app.state.ready = False
        await app.state.workshop.close()

    app = FastAPI(
        title="dgiqa", version=dgiqa.__version__, lifespan=life, docs_url=None, redoc_url=None,
        description="No-reference image quality, 0 to 100, higher is better. Errors are problem details (RFC 9457).",
    )  # fmt: skip
    app.state.ready = False
    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_validation)
    app.add_middleware(Front, settings=settings, metrics=metrics)
    _describe_problems(app)

    @app.post("/v1/score", openapi_extra=BODY, responses=responses(*_ASKED, "too-many-files"))
    async def score(request: Request) -> Scored:
        """Scores pictures: files of a form, or the body itself. One row each, in order; 422 if none is a picture."""
        async with pictures_of(request, settings, room) as held:
            request.state.said = {"pictures": len(held), "bytes": sum(len(h.data) for h in held)}
            results = await app.state.workshop.score(held)
        for result in results:
            metrics.pictures.labels("ok" if result.ok else "failed").inc()
        rows = [{**result.as_row(), "notes": list(result.notes)} for result in results]
        if not any(result.ok for result in results):
            raise Problem("no-picture", "; ".join(str(row["error"]) for row in rows)[:2000], rows=rows)
        return Scored.model_validate({"model": scorer.model, "rows": rows})

    @app.post("/v1/explain", openapi_extra=BODY, responses=responses(*_ASKED, "too-many-files", "bad-parameter"))
    async def explain(
        request: Request,
        images: Annotated[bool, Query(description="whether the maps come as pictures, too")] = True,
        side: Annotated[int, Query(ge=32, le=1024, description="of these pictures, the longest, in pixels")] = 512,
    ) -> Explained:
        """Explains the score of one picture: depth, quality of each part, attention, faults, sharpness."""
        async with pictures_of(request, settings, room) as held:
            if len(held) > 1:
                raise Problem("too-many-files", f"{len(held)} pictures came; one is explained at a time")
            request.state.said = {"pictures": 1, "bytes": len(held[0].data)}
            try:
                explanation = await app.state.workshop.explain(held[0])
            except ImageError as error:
                metrics.pictures.labels("failed").inc()
                raise Problem("no-picture", str(error)) from error
        metrics.pictures.labels("ok").inc()
        drawn = await run_in_threadpool(as_uris, explanation, side) if images else {}
        notes = list(explanation.score.notes)
        return Explained.model_validate({**explanation.as_dict(), "images": drawn, "notes": notes})

    @app.get("/v1/models", responses=responses("no-key", "busy"))
    async def models() -> list[Model]:
        """The models of this installation, and which of them is served."""
        cards = {card.name: card for card in [*list_models(), scorer.card]}
        return [
            Model(
                name=card.name, version=card.version, kind=card.kind, summary=card.summary,
                licence={k: str(v) for k, v in vars(card.licence).items()}, served=card.name == scorer.card.name,
            )
            for card in cards.values()
        ]  # fmt: skip

    _add_operation(app, metrics)
    for name, (file, kind) in _PAGE.items():
        app.add_api_route(f"/{name}", _page(file, kind), include_in_schema=False)
    return app


def _add_operation(app: FastAPI, metrics: Metrics) -> None:
    """What those who run the service ask."""

    @app.get("/healthz", tags=["operation"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], responses={503: {"description": "Not ready", "model": dict[str, str]}})
    async def readyz() -> JSONResponse:
        """Whether pictures are taken."""
        ready = bool(app.state.ready)
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    @app.get("/metrics", tags=["operation"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics_text() -> Response:
        """Counters in Prometheus' text format."""
        return Response(metrics.as_text(), media_type="text/plain; version=0.0.4")


def _page(file: str, kind: str) -> Any:
    content = (resources.files(__package__) / "page" / file).read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8")

    return answer


def _describe_problems(app: FastAPI) -> None:
    """The schema of a problem, which no route returns by type, into the description."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        whole = describe()
        schemas = whole.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault("ProblemDetails", ProblemDetails.model_json_schema())
        return whole

    app.openapi = described  # type: ignore[method-assign]

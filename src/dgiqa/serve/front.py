"""What stands before every route: room for one more request, the API key, headers, the log, the counters."""

from __future__ import annotations

import hmac
import json
import logging
import time
import traceback
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dgiqa.serve.metrics import Metrics
from dgiqa.serve.problems import Problem
from dgiqa.serve.settings import Settings

log = logging.getLogger("dgiqa.serve")

#: The page runs its own script and shows its own pictures; nothing comes from elsewhere.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
#: Routes that are counted by name; all others are one, so that nobody can make names up.
ROUTES = ("/", "/v1/score", "/v1/explain", "/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json")


class Front:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._running = 0
        self._keys = [key.encode() for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told: MutableMapping[str, Any] = {"status": 0}
        start = time.monotonic()

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        self._running += 1
        self._metrics.running.set(self._running)
        try:
            if problem := self._refused(scope):
                await problem.answer()(scope, receive, say)
            else:
                await self._app(scope, receive, say)
        except ClientDisconnect:
            told["status"] = 499  # nobody is there to be answered; the number is nginx's
        except Exception:
            log.exception("a request failed")
            if not told["status"]:
                await Problem("fault", "see the service's log").answer()(scope, receive, say)
        finally:
            self._running -= 1
            self._metrics.running.set(self._running)
            self._note(scope, told["status"], time.monotonic() - start)

    def _refused(self, scope: Scope) -> Problem | None:
        """Why a request to /v1 isn't let in."""
        if not scope["path"].startswith("/v1/"):
            return None
        if self._keys and not self._knows(Headers(scope=scope)):
            detail = "send Authorization: Bearer KEY, or X-API-Key: KEY"
            return Problem("no-key", detail, headers={"WWW-Authenticate": "Bearer", "Connection": "close"})
        if self._running > self._settings.max_requests:
            detail = f"{self._settings.max_requests} requests are being served"
            return Problem("busy", detail, headers={"Retry-After": "1", "Connection": "close"})
        return None

    def _knows(self, headers: Headers) -> bool:
        """Whether one of the keys came; every key is compared, each in a time that says nothing of it."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        said = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        given = said.encode("latin-1", "replace")
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in ROUTES else "other"
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if route not in ("/healthz", "/readyz", "/metrics"):
            more = scope.get("state", {}).get("said", {})
            row = {"method": scope["method"], "route": route, "status": status, "ms": round(1000 * seconds, 1), **more}
            log.info("request", extra={"said": row})


class AsJson(logging.Formatter):
    """A log record as one JSON object on a line; of pictures only counts and bytes, never names or content."""

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "said", {}),
        }
        if record.exc_info:
            kind, _, trace = record.exc_info  # its words may name a picture; where it happened doesn't
            frames = traceback.extract_tb(trace) if trace else []
            row["error"] = kind.__name__ if kind else ""
            row["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(row)

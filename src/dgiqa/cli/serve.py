"""Serve scores over HTTP, with a page to drop pictures on.

    dgiqa serve                                   http://127.0.0.1:8000
    curl -F files=@photo.jpg http://127.0.0.1:8000/v1/score

POST /v1/score and /v1/explain take files of a form, or one picture as the body. GET /v1/models, /healthz, /readyz,
/metrics (Prometheus) and /openapi.json say the rest. Errors are problem details (RFC 9457). SIGTERM and Ctrl-C finish
what was taken. API keys come from --keys FILE, one a line, or from DGIQA_API_KEYS, separated by commas. The log is one
JSON object a line on stderr, without names or content of pictures. Needs the extra [serve].

Exit code 0: stopped; 2: misused, or the address can't be used.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from dgiqa.errors import RuntimeMissing, UsageError
from dgiqa.scorer import load

MIB = 2**20
#: Hosts that only this machine reaches.
_OWN = ("127.0.0.1", "::1", "localhost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def number(flag: str, default: int, help: str) -> None:
        parser.add_argument(flag, type=int, default=default, metavar="N", help=help)

    parser.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default 8000)")
    parser.add_argument("--model", default="default", metavar="NAME", help="see dgiqa models")
    parser.add_argument("--runtime", metavar="NAME", help="onnx, openvino, torch or auto")
    number("--workers", os.cpu_count() or 1, "threads that score (default: the cores)")
    number("--batch", 1, "pictures to the network together; a GPU wants several")
    parser.add_argument("--batch-wait", type=float, default=10, metavar="MS", help="wait for a batch (default 10)")
    number("--max-mib", 64, "MiB of a request (default 64)")
    number("--max-files", 64, "pictures of a request (default 64)")
    parser.add_argument("--max-megapixels", type=float, default=100, metavar="N", help="of a picture (default 100)")
    number("--max-waiting", 256, "pictures that wait (default 256)")
    number("--max-requests", 128, "requests at a time (default 128)")
    number("--max-held-mib", 512, "MiB of all bodies in memory (default 512)")
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="to receive, and to answer (default 60)")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="API keys, one a line")


def run(args: argparse.Namespace) -> int:
    try:
        import uvicorn

        from dgiqa.serve import Settings
        from dgiqa.serve.app import create_app
        from dgiqa.serve.front import AsJson
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "dgiqa":
            raise
        raise RuntimeMissing(
            f"serving needs {error.name}, which is not installed", hint="pip install 'dgiqa[serve]'"
        ) from error
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: ports are 0 to 65535")
    settings = Settings(
        workers=args.workers, batch=args.batch, batch_wait=args.batch_wait / 1000, max_bytes=args.max_mib * MIB,
        max_files=args.max_files, max_megapixels=args.max_megapixels, max_waiting=args.max_waiting,
        max_requests=args.max_requests, max_held=args.max_held_mib * MIB, seconds=args.seconds, keys=keys_of(args.keys),
    )  # fmt: skip
    scorer = load(args.model, args.runtime, max_megapixels=args.max_megapixels)
    if scorer.card.reference != "none":
        raise UsageError(f"{args.model} compares with originals, which a request can't bring", hint="dgiqa score --ref")
    if not settings.keys and args.host not in _OWN:
        print(f"dgiqa: {args.host} may be reached by others, and no API key is asked for: --keys", file=sys.stderr)
    config = uvicorn.Config(
        create_app(scorer, settings), args.host, args.port, log_config=None, access_log=False, server_header=False,
        lifespan="on", timeout_graceful_shutdown=int(2 * settings.seconds) + 1, proxy_headers=False,
    )  # fmt: skip

    class Server(uvicorn.Server):
        """Ends as any verb does: uvicorn's own would end by the signal that it was stopped with."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            before = {sign: signal.signal(sign, self.handle_exit) for sign in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for sign, handler in before.items():
                    signal.signal(sign, handler)

    try:
        with logged_as(AsJson()):
            Server(config).run()
    except SystemExit as error:  # uvicorn's word for an address that can't be used; its log has said why
        raise UsageError(f"{args.host}:{args.port}: can't be listened on", hint="choose another --port") from error
    return 0


@contextlib.contextmanager
def logged_as(form: logging.Formatter) -> Iterator[None]:
    """Everything that is logged goes to stderr in that form, and nothing of what a body holds."""
    handler, root = logging.StreamHandler(sys.stderr), logging.getLogger()
    handler.setFormatter(form)
    levels = {"dgiqa": logging.INFO, "uvicorn": logging.INFO, "python_multipart": logging.CRITICAL,
              "py.warnings": logging.CRITICAL}  # fmt: skip
    before = root.handlers, {name: logging.getLogger(name).level for name in levels}
    root.handlers = [handler]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers = before[0]
        for name, level in before[1].items():
            logging.getLogger(name).setLevel(level)


def keys_of(file: Path | None) -> tuple[str, ...]:
    """The API keys of a file and of the environment."""
    found = [key.strip() for key in os.environ.get("DGIQA_API_KEYS", "").split(",")]
    if file:
        try:
            found += [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--keys {file}: can't be read ({error})") from error
        if not any(found):
            raise UsageError(f"--keys {file}: holds no key", hint="one a line, such as of: openssl rand -hex 32")
    return tuple(dict.fromkeys(key for key in found if key))

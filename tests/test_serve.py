"""The service over real sockets: scores equal the command line's, and every limit has its own answer."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from dgiqa import cli, load  # noqa: E402
from dgiqa.errors import ImageUnreadable, UsageError  # noqa: E402
from dgiqa.scorer import Scorer  # noqa: E402
from dgiqa.serve import Settings  # noqa: E402
from dgiqa.serve.app import create_app  # noqa: E402
from dgiqa.serve.problems import KINDS  # noqa: E402
from dgiqa.types import Failure, Result, Score  # noqa: E402
from service import running  # noqa: E402

ROOT = Path(__file__).parents[1]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.jpg"))


class Slow:
    """Takes a scorer's place: a moment a batch, and notes the batches."""

    model = "slow"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches, self.open = seconds, list[int](), threading.Event()
        self.open.set()

    def score_batch(self, sources: Sequence[Any]) -> list[Result]:
        assert self.open.wait(20)
        time.sleep(self.seconds)
        self.batches.append(len(sources))
        if any(source.data == b"fault" for source in sources):
            raise RuntimeError("broken inside")
        return [
            Failure(s.path, ImageUnreadable("no picture"), self.model)
            if s.data == b"bad"
            else Score(s.path, 50.0, 0.5, self.model, 4, 3, runtime="none")
            for s in sources
        ]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load(max_megapixels=30)


@pytest.fixture(scope="module")
def service(scorer: Scorer) -> Iterator[str]:
    with running(create_app(scorer, Settings(max_megapixels=30, max_files=5, max_bytes=2**20))) as address:
        yield address


def service_of(slow: Slow, **settings: Any) -> Any:
    return running(create_app(slow, Settings(**settings)))  # type: ignore[arg-type]


def form(*paths: Path) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (path.name, path.read_bytes())) for path in paths]


def is_problem(answer: httpx.Response, kind: str) -> bool:
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, body["title"]) == KINDS[kind]
    assert body["status"] == answer.status_code
    assert body["detail"]
    return body["type"] == f"urn:dgiqa:problem:{kind}"


def test_scores_are_the_command_lines(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["score", *map(str, PICTURES), "--json"]) == 0
    expected = {Path(r["path"]).name: r for r in map(json.loads, capsys.readouterr().out.splitlines())}
    answer = httpx.post(f"{service}/v1/score", files=form(*PICTURES[:5]))
    assert answer.status_code == 200
    assert [row["path"] for row in answer.json()["rows"]] == [path.name for path in PICTURES[:5]]
    for path in PICTURES:
        alone = httpx.post(f"{service}/v1/score", content=path.read_bytes(), headers={"content-type": "image/jpeg"})
        for row in [*alone.json()["rows"], *(r for r in answer.json()["rows"] if r["path"] == path.name)]:
            assert {**row, "path": "", "notes": 0} == {**expected[path.name], "path": "", "notes": 0}
    assert answer.json()["model"] == load().model


def test_many_at_once_get_their_own_scores(service: str, scorer: Scorer) -> None:
    expected = [scorer.score(path).raw for path in PICTURES]

    def ask(i: int) -> float:
        content = PICTURES[i % len(PICTURES)].read_bytes()
        row = httpx.post(f"{service}/v1/score", content=content, timeout=60).json()["rows"][0]
        return float(row["raw"])

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for i, raw in enumerate(pool.map(ask, range(36))):
            assert raw == round(expected[i % len(PICTURES)], 6)


def test_a_bad_picture_is_a_row_among_good_ones_and_a_problem_alone(service: str) -> None:
    files = [*form(PICTURES[0]), ("files", ("../../etc/passwd", b"hello there"))]
    good, bad = httpx.post(f"{service}/v1/score", files=files).json()["rows"]
    assert (good["status"], bad["status"], bad["quality"]) == ("ok", "failed", None)
    assert bad["error"].startswith("../../etc/passwd: text, not a picture")
    for content, kind in [(b"hello there", "image/png"), (PICTURES[0].read_bytes()[:3000], "image/jpeg")]:
        answer = httpx.post(f"{service}/v1/score", content=content, headers={"content-type": kind})
        assert is_problem(answer, "no-picture")
        assert answer.json()["rows"][0]["status"] == "failed"
    explained = httpx.post(f"{service}/v1/explain", content=b"hello there")
    assert is_problem(explained, "no-picture")


#: What a client may say its content is; the last is what curl says of any --data-binary.
KINDS_SAID = (
    "image/jpeg", "image/png", "text/html", "application/json", "nonsense", "a/b; boundary=x",
    "application/x-www-form-urlencoded",
)  # fmt: skip


def test_a_lying_content_type_changes_nothing(service: str) -> None:
    content = PICTURES[0].read_bytes()
    raws = {
        httpx.post(f"{service}/v1/score", content=content, headers={"content-type": kind}).json()["rows"][0]["raw"]
        for kind in KINDS_SAID
    }
    assert len(raws) == 1


def test_addresses_are_not_followed(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/photo.jpg"
        answers = [
            httpx.post(f"{service}/v1/score", content=url.encode()),
            httpx.post(f"{service}/v1/score", files=[("files", (url, url.encode()))]),
            httpx.post(f"{service}/v1/score", files=[("files", (url, b"\xff\xd8\xff"))]),
        ]
        assert all(is_problem(answer, "no-picture") for answer in answers)
        with pytest.raises(TimeoutError):
            trap.accept()


def test_what_a_form_may_be(service: str) -> None:
    assert is_problem(httpx.post(f"{service}/v1/score"), "bad-request")
    assert is_problem(httpx.post(f"{service}/v1/score", data={"files": "text"}), "no-picture")
    assert is_problem(httpx.post(f"{service}/v1/score", files=form(*PICTURES[:1]) * 6), "too-many-files")
    assert is_problem(httpx.post(f"{service}/v1/explain", files=form(*PICTURES[:2])), "too-many-files")
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=ä"):
        answer = httpx.post(f"{service}/v1/score", content=b"--x\r\n\r\n", headers={"content-type": kind.encode()})
        assert is_problem(answer, "bad-request")
    broken = b"--x\r\ncontent-disposition: form-data; name=files; filename=a\r\n\r\nabc"
    answer = httpx.post(
        f"{service}/v1/score", content=broken, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("kind", ["utf-7", "unicode_escape"])
def test_names_that_can_not_be_written_are_no_fault(service: str, kind: str) -> None:
    name = {"utf-7": b"+2AA-", "unicode_escape": b"\\ud800"}[kind]
    body = b'--x\r\ncontent-disposition: form-data; name=files; filename="' + name + b'"\r\n\r\n'
    body += PICTURES[0].read_bytes() + b"\r\n--x--\r\n"
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={kind}"}
    assert httpx.post(f"{service}/v1/score", content=body, headers=headers).status_code == 200


def test_addresses_and_methods_that_are_not_there(service: str) -> None:
    assert is_problem(httpx.get(f"{service}/v1/nothing"), "not-found")
    assert is_problem(httpx.get(f"{service}/v1/score"), "wrong-method")
    assert is_problem(httpx.post(f"{service}/v1/explain?side=9999", content=PICTURES[0].read_bytes()), "bad-parameter")


def test_too_many_bytes_are_refused_said_or_not(service: str) -> None:
    answer = httpx.post(f"{service}/v1/score", content=b"\0" * (2**20 + 1))
    assert is_problem(answer, "too-large")

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\0" * 2**16

    # A client that goes on sending may find the connection closed before it reads the answer.
    with contextlib.suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        assert is_problem(httpx.post(f"{service}/v1/score", content=chunks()), "too-large")
    assert httpx.get(f"{service}/healthz").json() == {"status": "ok"}


def test_a_body_of_a_gigabyte_ends_early(service: str) -> None:
    host, port = service.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent, block = 0, b"10000\r\n" + b"\0" * 2**16 + b"\r\n"
        try:
            while sent < 2**30:
                client.sendall(block)
                sent += 2**16
        except OSError:
            pass
        assert sent < 2**28
    assert httpx.get(f"{service}/readyz").json() == {"status": "ready"}


def test_a_bomb_is_refused_from_its_header(service: str) -> None:
    width = height = 30_000

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    packed = zlib.compress(bytes(10_000_000), 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    start = time.monotonic()
    answer = httpx.post(f"{service}/v1/score", content=png)
    assert is_problem(answer, "no-picture")
    assert "900" in answer.json()["detail"]
    assert time.monotonic() - start < 5


def test_a_slow_client_is_told_so_and_a_cut_connection_forgotten() -> None:
    with service_of(Slow(), seconds=0.5) as service:
        host, port = service.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
            said = client.recv(4096)
        assert said.startswith(b"HTTP/1.1 408 ")
        for _ in range(20):
            client = socket.create_connection((host, int(port)), timeout=10)
            client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
            client.close()
        time.sleep(0.3)
        assert httpx.post(f"{service}/v1/score", content=b"x").status_code == 200
        metrics = httpx.get(f"{service}/metrics").text
        assert re.search(r'dgiqa_requests_total\{route="/v1/score",status="499"\} 20', metrics)
        assert "dgiqa_held_bytes 0.0" in metrics


def test_a_full_queue_answers_when_to_come_again() -> None:
    slow = Slow()
    slow.open.clear()
    with (
        service_of(slow, workers=1, max_waiting=3, max_files=3) as service,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        first = [pool.submit(httpx.post, f"{service}/v1/score", content=b"x", timeout=20) for _ in range(4)]
        until(lambda: "dgiqa_waiting_pictures 3.0" in httpx.get(f"{service}/metrics").text)
        answer = httpx.post(f"{service}/v1/score", content=b"x")
        assert is_problem(answer, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        slow.open.set()
        assert [f.result().status_code for f in first] == [200] * 4
        assert httpx.post(f"{service}/v1/score", content=b"x").status_code == 200


def test_a_flood_is_turned_away_before_its_bodies_are_read() -> None:
    slow = Slow()
    slow.open.clear()
    with (
        service_of(slow, workers=1, max_requests=4) as service,
        concurrent.futures.ThreadPoolExecutor(32) as pool,
    ):
        url = f"{service}/v1/score"
        asked = [pool.submit(httpx.post, url, content=bytes(100_000), timeout=20) for _ in range(32)]
        until(lambda: sum(f.done() for f in asked) >= 28)
        assert "dgiqa_held_bytes 400000.0" in httpx.get(f"{service}/metrics").text
        slow.open.set()
        codes = sorted(f.result().status_code for f in asked)
        assert codes == [200] * 4 + [429] * 28


def test_bodies_together_stay_within_the_memory_set_aside() -> None:
    slow = Slow()
    slow.open.clear()
    with (
        service_of(slow, workers=1, max_held=250_000, max_bytes=200_000) as service,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        url = f"{service}/v1/score"
        kept = [pool.submit(httpx.post, url, content=bytes(100_000), timeout=20) for _ in range(2)]
        until(lambda: "dgiqa_held_bytes 200000.0" in httpx.get(f"{service}/metrics").text)
        assert is_problem(httpx.post(url, content=bytes(100_000)), "busy")
        slow.open.set()
        assert [f.result().status_code for f in kept] == [200, 200]
        assert "dgiqa_held_bytes 0.0" in httpx.get(f"{service}/metrics").text


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    slow = Slow()
    slow.open.clear()
    with service_of(slow, workers=1, seconds=0.4) as service:
        assert is_problem(httpx.post(f"{service}/v1/score", content=b"x", timeout=20), "took-too-long")
        assert is_problem(httpx.post(f"{service}/v1/score", content=b"x", timeout=20), "took-too-long")
        assert "dgiqa_waiting_pictures 0.0" in httpx.get(f"{service}/metrics").text
        slow.open.set()
        until(lambda: slow.batches == [1])
        assert httpx.post(f"{service}/v1/score", content=b"x").status_code == 200
        assert slow.batches == [1, 1], "the second one's picture was given up before it began"


def test_batches_fill_up_but_nobody_waits_long() -> None:
    slow = Slow(0.05)
    with service_of(slow, workers=1, batch=4, batch_wait=0.2) as service:
        url = f"{service}/v1/score"
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: httpx.post(url, content=b"x"), range(16)))
        assert all(answer.status_code == 200 for answer in answers)
        assert sum(slow.batches) == 16
        assert max(slow.batches) == 4
        assert len(slow.batches) <= 8
        start = time.monotonic()
        assert httpx.post(url, content=b"x").status_code == 200
        assert 0.2 < time.monotonic() - start < 2
        several = [("files", (str(i), b"bad" if i == 2 else b"x")) for i in range(9)]
        rows = httpx.post(url, files=several).json()["rows"]
        assert [row["path"] for row in rows] == [str(i) for i in range(9)]
        assert [row["status"] for row in rows].index("failed") == 2


def test_a_fault_of_the_service_is_said_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    with service_of(Slow(), workers=1) as service:
        assert is_problem(httpx.post(f"{service}/v1/score", content=b"fault"), "fault")
        assert httpx.post(f"{service}/v1/score", content=b"x").status_code == 200


def test_keys_are_asked_for_where_there_are_any() -> None:
    with service_of(Slow(), keys=("one-key", "another")) as service:
        url = f"{service}/v1/score"
        for headers in ({}, {"x-api-key": "one"}, {"authorization": "Bearer"}, {"authorization": "Basic one-key"},
                        {"x-api-key": "one-key "[:-2]}):  # fmt: skip
            answer = httpx.post(url, content=b"x", headers=headers)
            assert is_problem(answer, "no-key")
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"x-api-key": "one-key"}, {"authorization": "bearer another"}):
            assert httpx.post(url, content=b"x", headers=headers).status_code == 200
        assert [httpx.get(f"{service}/{place}").status_code for place in ("healthz", "readyz", "metrics", "")] == [
            200
        ] * 4
        assert httpx.get(f"{service}/v1/models").status_code == 401


def test_settings_that_make_no_sense() -> None:
    for wrong in (
        {"workers": 0}, {"max_bytes": -1}, {"seconds": 0.0}, {"seconds": float("inf")}, {"batch_wait": -1.0},
        {"batch_wait": float("nan")}, {"keys": ("",)}, {"max_waiting": 2, "max_files": 3},
        {"max_held": 10, "max_bytes": 11},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            Settings(**wrong)  # type: ignore[arg-type]


def test_models_and_headers(service: str) -> None:
    models = httpx.get(f"{service}/v1/models").json()
    assert [model["name"] for model in models if model["served"]] == ["dgiqa_mobile.biq2021"]
    assert all(model["licence"]["weights"] for model in models)
    page = httpx.get(service)
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "http" not in re.sub(r"charset|http-equiv", "", page.text)
    assert httpx.get(f"{service}/page.js").headers["content-type"].startswith("text/javascript")
    for policy in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
        assert policy in page.headers["content-security-policy"]


def test_the_description_says_what_is_asked_and_answered(service: str) -> None:
    described = httpx.get(f"{service}/openapi.json").json()
    assert set(described["paths"]) == {
        "/v1/score", "/v1/explain", "/v1/models", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    asked = described["paths"]["/v1/score"]["post"]
    assert "multipart/form-data" in asked["requestBody"]["content"]
    assert {"200", "400", "401", "408", "413", "422", "429", "503"} <= set(asked["responses"])
    assert described["components"]["schemas"]["ProblemDetails"]["required"] == ["type", "title", "status", "detail"]


def until(true: Any, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# ---- the verb


def started(*arguments: str, **more: Any) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dgiqa", "serve", "--port", "0", *arguments],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_WAIT_POLICY": "passive"}, **more,
    )  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if found := re.search(r"running on (http://[0-9.:]+)", line):
            return process, found[1]
    raise AssertionError(process.wait())


def test_the_verb_finishes_what_it_took_and_says_what_it_did() -> None:
    process, service = started("--workers", "1")
    try:
        files = form(*PICTURES)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, f"{service}/v1/score", files=files, timeout=60)
            until(lambda: "dgiqa_running_requests 2.0" in httpx.get(f"{service}/metrics").text or asked.done())
            process.send_signal(signal.SIGTERM)
            answer = asked.result()
        assert answer.status_code == 200
        assert len(answer.json()["rows"]) == len(PICTURES)
        assert process.stderr
        log = process.stderr.read()
        assert process.wait(20) == 0
    finally:
        process.kill()
    rows = [json.loads(line) for line in log.splitlines()]
    asked_row = next(row for row in rows if row.get("route") == "/v1/score")
    assert (asked_row["status"], asked_row["pictures"]) == (200, len(PICTURES))
    assert not any(path.stem in log for path in PICTURES)


def test_the_verb_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--port", port]) == 2
    assert f"127.0.0.1:{port}: can't be listened on; choose another --port" in capsys.readouterr().err
    for flags, said in [
        (["--port", "70000"], "--port 70000: ports are 0 to 65535"),
        (["--workers", "0"], "workers = 0: must be positive"),
        (["--keys", str(tmp_path / "none")], "can't be read"),
        (["--model", "nonsense"], "nonsense"),
    ]:
        assert cli.main(["serve", *flags]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "empty").write_text("\n")
    assert cli.main(["serve", "--keys", str(tmp_path / "empty")]) == 2
    assert "holds no key" in capsys.readouterr().err


def test_keys_come_from_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dgiqa.cli.serve import keys_of

    (tmp_path / "keys").write_text("one\n\n two \none\n")
    monkeypatch.setenv("DGIQA_API_KEYS", "three,,one")
    assert keys_of(tmp_path / "keys") == ("three", "one", "two")


def test_without_its_extra_it_names_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve"]) == 2
    assert "pip install 'dgiqa[serve]'" in capsys.readouterr().err


def test_fuzzing_its_description_finds_no_500(scorer: Scorer) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(scorer, Settings(max_megapixels=30)))
    seen: list[int] = []

    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy()

        @settings(
            max_examples=40,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=True,
        )
        @given(case=strategy)
        def fuzz(case: Any) -> None:
            answer = case.call()
            seen.append(answer.status_code)
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                assert answer.headers["content-type"][0].startswith("application/problem+json")

        fuzz()
    assert len(seen) > 80
    assert {200, 400, 422} <= set(seen)


def test_pictures_of_every_format_are_scored(service: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for kind in ("PNG", "WEBP", "BMP", "GIF", "TIFF"):
        stream = io.BytesIO()
        PIL.Image.fromarray(pixels).save(stream, kind)
        row = httpx.post(f"{service}/v1/score", content=stream.getvalue()).json()["rows"][0]
        assert (row["status"], row["width"], row["height"]) == ("ok", 60, 40)
        assert any("enlarged" in note for note in row["notes"])

"""Fetching weights from a real https server on this machine that misbehaves on demand."""

import dataclasses
import hashlib
import http.server
import os
import random
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

import dgiqa.models
from dgiqa.cards import read_card
from dgiqa.errors import FetchError, UsageError, WeightsError
from dgiqa.weights import https
from dgiqa.weights.fetch import cache_folder, fetch, locate

CONTENT = random.Random(1).randbytes(700_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "mine.onnx"

CARD = """
arch = "tiny"
version = "1"
kind = "quality"
summary = "A card of the tests"
paper = {{ title = "T", authors = "A", year = 2025, url = "" }}
licence = {{ code = "x", weights = "x", data = "x" }}
network = {{ parameters = 1, gmacs = 0.1, input = "x" }}
recipe = {{ short_side = 32, kernel = "bilinear", views = "whole" }}
training = {{ data = "x", initialisation = "x" }}
weights.onnx = {{ file = "{file}", sha256 = "{sha256}", bytes = {bytes}, url = "{url}", page = "{page}" }}
"""


def write_card(folder, **weights):
    folder.mkdir(parents=True, exist_ok=True)
    values = {"file": FILE, "sha256": SHA256, "bytes": len(CONTENT), "url": "", "page": ""} | weights
    path = folder / "mine.toml"
    path.write_text(CARD.format(**values))
    return path


@pytest.fixture
def make(tmp_path, monkeypatch, origin):
    """A card of one's own whose file comes from the server; the cache is an empty folder."""
    monkeypatch.setenv("DGIQA_CACHE", str(tmp_path / "cache"))

    def make(**weights):
        return read_card(write_card(tmp_path / "own", **({"url": origin.url} | weights)))

    return make


@pytest.fixture
def cached(tmp_path):
    return tmp_path / "cache" / "tiny.mine" / FILE


# --- the server -------------------------------------------------------------------------------------------


class Origin:
    """What the server holds and how it behaves, and what it was asked."""

    def __init__(self, url, context):
        self.url, self.context = url, context
        self.reset()

    def reset(self):
        self.content = CONTENT
        self.ranges = True
        self.etag = '"v1"'
        self.script = []  # one entry per request: what goes wrong with it
        self.requests = []  # path and Range of each request
        self.sent = 0  # bytes of bodies
        self.gate = threading.Event()

    def starts(self):
        """First byte that each request asked for."""
        return [int(wanted[6:-1]) if wanted else 0 for _, wanted in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        origin = self.server.origin
        fault = origin.script.pop(0) if origin.script else None
        wanted = self.headers.get("Range")
        origin.requests.append((self.path, wanted))
        if isinstance(fault, tuple) and fault[0] == "status":
            return self.send_error(fault[1])
        if isinstance(fault, tuple) and fault[0] == "redirect":
            self.send_response(302)
            self.send_header("Location", fault[1])
            return self.end_headers()
        if fault == "gate":
            origin.gate.wait(20)
            time.sleep(0.3)  # time for a second process to come, if nothing holds it back
        if fault == "silent":
            return time.sleep(1)
        return self.send_body(origin, fault, wanted)

    def send_body(self, origin, fault, wanted):
        start = int(wanted[6:-1]) if wanted and origin.ranges else 0
        if self.headers.get("If-Range", origin.etag) != origin.etag:
            start = 0
        if start >= len(origin.content):
            return self.send_error(416)
        body = origin.content[start:]
        self.send_response(206 if start else 200)
        if start:
            claimed = start + 5 if fault == "wrong range" else start
            self.send_header("Content-Range", f"bytes {claimed}-{len(origin.content) - 1}/{len(origin.content)}")
        if fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        if origin.etag:
            self.send_header("ETag", origin.etag)
        self.end_headers()
        if isinstance(fault, tuple) and fault[0] == "cut":
            body = body[: max(0, fault[1] - start)]
        if fault == "stall":
            body = body[:1000]
        origin.sent += len(body)
        self.wfile.write(body)
        if fault == "stall":
            time.sleep(1)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that hangs up is part of the tests."""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def served(authority):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    origin = Origin(f"https://localhost:{server.server_port}/files/{FILE}", client)
    server.origin = origin
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        patch.setattr(https, "PAUSES", (0.0, 0.0))
        for name in ("DGIQA_OFFLINE", "DGIQA_MIRROR"):
            patch.delenv(name, raising=False)
        yield origin
    server.shutdown()
    server.server_close()


@pytest.fixture
def origin(served):
    served.reset()
    return served


def get(card, origin, **options):
    return fetch(card, context=origin.context, **options)


def caught_by(action):
    with pytest.raises(WeightsError) as caught:
        action()
    return str(caught.value), type(caught.value)


# --- downloads that succeed -------------------------------------------------------------------------------


def test_a_file_comes_once_and_is_then_at_hand(make, origin, cached):
    card = make()
    assert get(card, origin) == [cached]
    assert cached.read_bytes() == CONTENT
    assert locate(card, "onnx") == cached
    assert get(card, origin, runtime="onnx") == [cached]
    assert len(origin.requests) == 1
    assert {path.name for path in cached.parent.iterdir()} <= {FILE, f"{FILE}.lock"}


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=2), tagged=st.booleans())
def test_cut_at_any_byte_it_goes_on_from_there(served, cuts, tagged):
    served.reset()
    served.etag = '"v1"' if tagged else ""
    served.script = [("cut", cut) for cut in cuts]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DGIQA_CACHE", folder)
        card = read_card(write_card(Path(folder, "own"), url=served.url))
        (path,) = get(card, served)
        assert path.read_bytes() == CONTENT
    here, starts = 0, [0]
    for cut in cuts:
        here = max(here, cut)
        starts.append(here)
    assert served.starts() == starts
    assert served.sent == len(CONTENT), "no byte travels twice"


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(make, origin, cached):
    card = make()
    origin.script = [("cut", 1000), ("cut", 200_000), ("cut", 300_000)]
    text, kind = caught_by(lambda: get(card, origin))
    assert kind is FetchError
    assert text == (
        f"{origin.url}: the connection ended after 300000 of 700001 bytes, 3 times; "
        "run it again, it goes on after 300000 bytes, "
        f"or bring {origin.url} by other means and put it at {cached}"
    )
    assert not cached.exists()
    assert get(card, origin) == [cached]
    assert origin.starts() == [0, 1000, 200_000, 300_000]
    assert origin.sent == len(CONTENT)


def test_a_server_without_ranges_begins_anew(make, origin, cached):
    origin.ranges = False
    origin.script = [("cut", 300_000), ("cut", 100_000)]
    assert get(make(), origin) == [cached]
    assert cached.read_bytes() == CONTENT
    assert origin.starts() == [0, 300_000, 100_000]


def test_a_wrong_content_range_begins_anew(make, origin, cached):
    origin.script = [("cut", 300_000), "wrong range"]
    assert get(make(), origin) == [cached]
    assert cached.read_bytes() == CONTENT
    assert origin.starts() == [0, 300_000, 0]


def test_half_a_file_of_another_version_is_not_continued(make, origin, cached):
    old = bytes(len(CONTENT))
    origin.content, origin.script = old, [("cut", 1000)] * 3
    with pytest.raises(FetchError):
        get(make(), origin)
    origin.content, origin.etag = CONTENT, '"v2"'
    assert get(make(), origin) == [cached]
    assert cached.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [0, len(CONTENT)])
def test_half_a_file_longer_than_the_whole_begins_anew(make, origin, cached, size):
    cached.parent.mkdir(parents=True)
    cached.with_name(f"{FILE}.part").write_bytes(bytes(len(CONTENT) + 1))
    assert get(make(bytes=size), origin) == [cached]
    assert cached.read_bytes() == CONTENT


def test_a_server_that_states_no_length_serves_too(make, origin, cached):
    origin.script = ["no length"]
    assert get(make(bytes=0), origin) == [cached]
    assert cached.read_bytes() == CONTENT


def test_a_server_that_is_busy_at_first_is_asked_again(make, origin, cached):
    origin.script = [("status", 503), ("status", 500)]
    assert get(make(), origin) == [cached]
    assert len(origin.requests) == 3


def test_a_redirect_that_stays_on_https_is_followed(make, origin, cached):
    origin.script = [("redirect", "/elsewhere")]
    assert get(make(), origin) == [cached]
    assert [path for path, _ in origin.requests] == [f"/files/{FILE}", "/elsewhere"]


def test_a_damaged_file_in_the_cache_is_replaced(make, origin, cached):
    cached.parent.mkdir(parents=True)
    cached.write_bytes(bytes(len(CONTENT)))
    assert get(make(), origin) == [cached]
    assert cached.read_bytes() == CONTENT


def test_progress_rises_to_the_whole(make, origin):
    calls = []
    origin.script = [("cut", 300_000)]
    get(make(), origin, progress=lambda *call: calls.append(call))
    assert {(name, total) for name, _, total in calls} == {(FILE, len(CONTENT))}
    done = [here for _, here, _ in calls]
    assert done == sorted(done)
    assert done[-1] == len(CONTENT)


PROCESS = """
import sys
from pathlib import Path
from dgiqa.cards import read_card
from dgiqa.weights.fetch import fetch
card = read_card(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(fetch(card)[0], flush=True)
"""


def test_two_processes_at_once_download_once(tmp_path, origin, authority, cached):
    card = write_card(tmp_path / "own", url=origin.url)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    settings = {"SSL_CERT_FILE": str(bundle), "DGIQA_CACHE": str(tmp_path / "cache"), "no_proxy": "*"}
    origin.script = ["gate", "gate"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(card)],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    origin.gate.set()
    for process in processes:
        assert process.communicate(timeout=30)[0] == f"{cached}\n"
        assert process.returncode == 0
    assert len(origin.requests) == 1
    assert cached.read_bytes() == CONTENT


# --- downloads that fail, and what they say ---------------------------------------------------------------


def test_a_missing_file_is_not_asked_for_twice(make, origin, cached):
    origin.script = [("status", 404)]
    text, kind = caught_by(lambda: get(make(), origin))
    assert kind is FetchError
    assert text == (
        f"{origin.url}: the server answers 404 Not Found; "
        f"check the address, or bring {origin.url} by other means and put it at {cached}"
    )
    assert len(origin.requests) == 1


def test_a_server_that_stays_busy_is_given_up(make, origin, cached):
    origin.script = [("status", 503)] * 9
    text, _ = caught_by(lambda: get(make(), origin))
    assert text == (
        f"{origin.url}: the server answers 503 Service Unavailable, 3 times; "
        f"try again later, or bring {origin.url} by other means and put it at {cached}"
    )
    assert len(origin.requests) == 3


def test_tries_are_spaced_out(make, origin, monkeypatch):
    slept = []
    monkeypatch.setattr(https, "PAUSES", (1.0, 4.0))
    monkeypatch.setattr(https.time, "sleep", slept.append)
    origin.script = [("status", 503)] * 3
    with pytest.raises(FetchError):
        get(make(), origin)
    assert slept == [0.0, 1.0, 4.0]


@pytest.mark.parametrize(("fault", "here"), [("silent", 0), ("stall", 3000)])
def test_a_server_that_falls_silent_is_given_up(make, origin, cached, fault, here):
    origin.script = [fault] * 3
    text, _ = caught_by(lambda: get(make(), origin, timeout=0.4))
    resume = f"run it again, it goes on after {here} bytes" if here else "try again later"
    assert text == (
        f"{origin.url}: no byte came for 0.4 seconds, 3 times; "
        f"{resume}, or bring {origin.url} by other means and put it at {cached}"
    )


def test_wrong_bytes_are_discarded_and_both_sums_named(make, origin, cached):
    origin.content = bytes(len(CONTENT))
    text, kind = caught_by(lambda: get(make(), origin))
    assert kind is FetchError
    assert text == (
        f"{origin.url}: SHA-256 is {hashlib.sha256(origin.content).hexdigest()}, but the card says {SHA256}; "
        "the download was discarded; try again, and distrust the source if it repeats"
    )
    assert [path.name for path in cached.parent.iterdir()] in ([], [f"{FILE}.lock"])


@pytest.mark.parametrize("fault", [None, "no length"])
def test_a_file_of_another_size_is_refused(make, origin, cached, fault):
    origin.content, origin.script = CONTENT + bytes(500_000), [fault]
    text, kind = caught_by(lambda: get(make(), origin))
    assert kind is FetchError
    assert "700001 are expected; this is another file; check the address, or bring " in text
    assert ("1200001 bytes, but" in text) == (fault is None)
    assert not cached.with_name(f"{FILE}.part").exists()


def test_a_redirect_to_http_is_refused(make, origin):
    origin.script = [("redirect", "http://localhost:1/x")]
    text, kind = caught_by(lambda: get(make(), origin))
    assert kind is FetchError
    assert text == (
        f"{origin.url}: redirects to http://localhost:1/x, which is not https; "
        "nothing was downloaded; give a mirror that stays on https"
    )


def test_a_server_that_nobody_vouches_for_is_refused(make, origin):
    text, _ = caught_by(lambda: fetch(make()))
    assert text == (
        f"{origin.url}: the server's certificate is not trusted (unable to get local issuer certificate); "
        "if your network has an authority of its own, name its file in SSL_CERT_FILE"
    )
    assert origin.requests == []


def test_nobody_at_the_address(make, origin):
    text, _ = caught_by(lambda: get(make(url="https://localhost:1/x"), origin))
    assert text.startswith("https://localhost:1/x: the connection failed (")
    assert ", 3 times; try again later, or bring https://localhost:1/x by other means" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_named(make, origin, cached):
    cached.parent.mkdir(parents=True)
    cached.with_name(f"{FILE}.part").symlink_to("/dev/full")
    text, kind = caught_by(lambda: get(make(), origin))
    assert kind is FetchError
    assert text == (
        f"{cached}: can't be written (No space left on device); "
        "make room or get the right to write there, or set DGIQA_CACHE to another folder"
    )


def test_a_cache_that_is_no_folder_is_named(make, origin, tmp_path):
    (tmp_path / "cache").write_text("a file")
    text, kind = caught_by(lambda: get(make(), origin))
    assert kind is FetchError
    assert "can't be written (" in text
    assert text.endswith("or set DGIQA_CACHE to another folder")


# --- off the network, mirrors, and by hand ----------------------------------------------------------------


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_offline_forbids_the_network_but_not_what_is_here(make, origin, cached, monkeypatch, by):
    options = {"offline": True} if by == "argument" else {}
    if by == "environment":
        monkeypatch.setenv("DGIQA_OFFLINE", "1")
    card = make()
    text, kind = caught_by(lambda: get(card, origin, **options))
    assert kind is FetchError
    assert text == (
        f"tiny.mine: {FILE} is not on this machine and the network is switched off; "
        f"bring {origin.url} by other means and put it at {card.folder / FILE}"
    )
    (card.folder / FILE).write_bytes(CONTENT)
    assert get(card, origin, **options) == [card.folder / FILE]
    assert origin.requests == []


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_mirror_stands_in_for_the_address(make, origin, cached, monkeypatch, by):
    mirror = origin.url.removesuffix(f"/files/{FILE}") + "/mirror"
    if by == "environment":
        monkeypatch.setenv("DGIQA_MIRROR", mirror)
    card = make(url="https://localhost:1/nobody")
    assert get(card, origin, mirror=mirror + "/" if by == "argument" else None) == [cached]
    assert origin.requests == [(f"/mirror/tiny.mine/{FILE}", None)]


def test_a_mirror_serves_what_has_no_address_but_a_checksum(make, origin, cached):
    assert get(make(url=""), origin, mirror=origin.url) == [cached]
    text, _ = caught_by(lambda: get(make(url="", sha256="", file="other"), origin, mirror=origin.url))
    assert text.startswith("tiny.mine: there is no address to download other from; ")


def test_a_mirror_has_to_be_https(make, origin):
    with pytest.raises(UsageError, match="the mirror http://m is not an https address; it must start with"):
        get(make(), origin, mirror="http://m")


def test_without_an_address_the_page_and_the_place_are_named(make, origin, monkeypatch, tmp_path):
    card = make(url="", page="https://example.org/weights", sha256="", bytes=0)
    text, kind = caught_by(lambda: get(card, origin))
    assert kind is FetchError
    assert text == (
        f"tiny.mine: there is no address to download {FILE} from; "
        f"get it from https://example.org/weights and put it at {card.folder / FILE}"
    )
    built_in = dataclasses.replace(card, name="dgiqa.x", folder=Path(dgiqa.models.__file__).parent / "dgiqa")
    place = tmp_path / "cache" / "dgiqa.x" / FILE
    text, _ = caught_by(lambda: get(built_in, origin))
    assert text.endswith(f"get it from https://example.org/weights and put it at {place}")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"by hand")
    assert get(built_in, origin) == [place] == [locate(built_in, "onnx")]


# --- locating ---------------------------------------------------------------------------------------------


def test_a_runtime_that_the_card_does_not_have(make):
    text, _ = caught_by(lambda: locate(make(), "torch"))
    assert text == "tiny.mine has no weights for the runtime 'torch'; it has: onnx"


def test_missing_weights_name_the_command_the_address_and_the_place(make, origin, cached):
    card = make()
    text, kind = caught_by(lambda: locate(card, "onnx"))
    assert kind is WeightsError
    assert text == (
        "tiny.mine: its weights for the runtime 'onnx' are not on this machine; "
        f"run `dgiqa fetch {card.folder / 'mine.toml'}`, or bring {origin.url} by other means "
        f"and put it at {card.folder / FILE}"
    )
    built_in = dataclasses.replace(card, folder=Path(dgiqa.models.__file__).parent / "dgiqa")
    text, _ = caught_by(lambda: locate(built_in, "onnx"))
    assert text.endswith(f"run `dgiqa fetch tiny.mine`, or bring {origin.url} by other means and put it at {cached}")


def test_a_file_of_the_wrong_size_is_not_loaded(make, cached):
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half")
    text, _ = caught_by(lambda: locate(make(), "onnx"))
    assert text.startswith(f"{cached}: 4 bytes, but the card says 700001; run `dgiqa fetch ")


def test_what_lies_beside_the_card_comes_before_the_cache(make, origin, cached):
    card = make()
    get(card, origin)
    (card.folder / FILE).write_bytes(CONTENT)
    assert locate(card, "onnx") == card.folder / FILE


def test_embedded_weights_are_verified_and_never_downloaded(make, origin):
    card = make()
    embedded = dataclasses.replace(card.weights["onnx"], embedded=True)
    card = dataclasses.replace(card, weights={"onnx": embedded, "torch": embedded})
    path = card.folder / FILE
    text, kind = caught_by(lambda: get(card, origin))
    assert kind is WeightsError
    assert text.startswith(f"{path}: missing; ")
    path.write_bytes(bytes(len(CONTENT)))
    text, kind = caught_by(lambda: get(card, origin))
    assert kind is WeightsError
    assert f"but the card says {SHA256}" in text
    path.write_bytes(CONTENT)
    assert get(card, origin) == [path]
    assert origin.requests == []


def test_the_installations_own_weights_come_back_with_the_installation(make):
    card = make()
    folder = Path(dgiqa.models.__file__).parent / "dgiqa"
    embedded = dataclasses.replace(card.weights["onnx"], embedded=True)
    card = dataclasses.replace(card, weights={"onnx": embedded}, folder=folder)
    text, _ = caught_by(lambda: locate(card, "onnx"))
    assert text == (
        "tiny.mine: its weights for the runtime 'onnx' are not on this machine; "
        "it belongs to the installation: pip install --force-reinstall dgiqa"
    )


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "{home}/.cache/dgiqa"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/dgiqa"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "{home}/.cache/dgiqa"),
        ("darwin", {}, "{home}/Library/Caches/dgiqa"),
        ("win32", {}, "{home}/AppData/Local/dgiqa"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/dgiqa"),
        ("linux", {"DGIQA_CACHE": "/mine", "XDG_CACHE_HOME": "/x"}, "/mine"),
        ("win32", {"DGIQA_CACHE": "~/mine"}, "{home}/mine"),
    ],
)
def test_the_cache_lies_where_the_system_keeps_caches(monkeypatch, tmp_path, platform, variables, folder):
    for name in ("DGIQA_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder.format(home=tmp_path))


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("DGIQA_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert caught_by(cache_folder)[0] == (
        "this user has no home folder to keep downloaded weights in; set DGIQA_CACHE to a folder that can be written"
    )

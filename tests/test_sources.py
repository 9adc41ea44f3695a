"""Archives, web servers and an S3-compatible server: the same rows as from files, whatever goes wrong on the way."""

from __future__ import annotations

import dataclasses
import http.server
import io
import json
import pickle
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("fsspec")
pytest.importorskip("s3fs")
pytest.importorskip("moto")

from dgiqa.cli import main
from dgiqa.errors import UsageError
from dgiqa.executors.local import score_into
from dgiqa.models import find_card
from dgiqa.results.run import Run, read_run
from dgiqa.runtimes.fake import FakeNetwork
from dgiqa.scorer import Scorer
from dgiqa.sources import find, hold, is_unchanged, remote

NAMES = [f"{i}.png" for i in range(6)]


def png(value: int) -> bytes:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (24, 16), (value, 2 * value, 40)).save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="module")
def judge() -> Scorer:
    card = dataclasses.replace(find_card("dgiqa_mobile.biq2021"), interval=None)
    network = FakeNetwork(lambda views: (views.color.mean((1, 2, 3)) / 255).astype(np.float32))
    return Scorer(card, network, lambda pixels: np.zeros(pixels.shape[:2], np.uint8))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        (folder / name).write_bytes(png(20 * i))
    return folder


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0, 0.0))


def pack(files: Path, archive: Path, method: int = zipfile.ZIP_STORED) -> Path:
    """All files in an archive, in a folder of it, with things that are no pictures among them."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", method) as packed:
            for name in NAMES:
                packed.write(files / name, f"in/{name}")
            packed.writestr("in/about.json", "{}")
            packed.writestr("__MACOSX/in/._0.png", "x")
            packed.writestr("in/.hidden.png", png(1))
    else:
        with tarfile.open(archive, "w") as shard:
            for name in NAMES:
                shard.add(files / name, f"in/{name}")
                about = tarfile.TarInfo(f"in/{name[0]}.cls")
                about.size = 2
                shard.addfile(about, io.BytesIO(b"17"))
            shard.addfile(tarfile.TarInfo("in/.hidden.png"))
    return archive


def ends(paths: list[str]) -> list[str]:
    return [path.rpartition("/")[2] for path in paths]


# Archives


@pytest.mark.parametrize("name", ["a.zip", "deflated.ZIP", "a.tar"])
def test_members_score_as_files_do(files: Path, tmp_path: Path, judge: Scorer, name: str) -> None:
    archive = pack(files, tmp_path / name.replace("ZIP", "zip"), zipfile.ZIP_DEFLATED if "def" in name else 0)
    archive = archive.rename(tmp_path / name)
    found = [pickle.loads(pickle.dumps(item)) for item in find([archive])]  # other machines read them, too
    assert [item.path for item in found] == [f"{archive}::in/{n}" for n in NAMES]
    wanted = [score.raw for score in judge.score_all([files / n for n in NAMES])]
    for workers in (1, 3):
        assert [score.raw for score in judge.score_all(found, workers=workers)] == wanted
    assert judge.score(found[2]).path == found[2].path


def test_an_archive_is_named_whole_by_member_or_by_pattern(files: Path, tmp_path: Path) -> None:
    first, second = pack(files, tmp_path / "s-0.tar"), pack(files, tmp_path / "s-1.tar")
    member = f"{first}::in/3.png"
    assert [item.path for item in find([member])] == [member]
    assert next(find([member])).error is None
    assert len(list(find([tmp_path / "*.tar"]))) == 12
    for several in ([member, first], [first, member], [member, member, first], [first, first]):
        assert len({item.path for item in find(several)}) == len(list(find(several))) == 6
    assert list(find([tmp_path], recursive=False)) == []  # in a folder it is no picture
    [missing] = find([f"{second}::in/9.png"])
    assert "no such picture in the archive" in str(missing.error)
    [gone] = find([f"{tmp_path / 'no.zip'}::in/9.png"])
    assert "no such file" in str(gone.error)


def test_a_damaged_archive_gives_what_it_has_and_says_so(files: Path, tmp_path: Path, judge: Scorer) -> None:
    archive = pack(files, tmp_path / "cut.tar")
    data = archive.read_bytes()
    archive.write_bytes(data[: data.index(b"in/4.png") + 300])
    *good, bad = find([archive])
    assert [item.error for item in good] == [None] * 4
    assert bad.path == str(archive)
    assert "damaged" in str(bad.error)
    # tarfile itself takes a header that it can't read, or half of one, for the archive's end.
    header = data.index(b"in/4.png")
    for damaged in (data[:header] + b"\xff" * 50 + data[header + 50 :], data[: header + 100]):
        archive.write_bytes(damaged)
        *good, bad = find([archive])
        assert [item.error for item in good] == [None] * 4
        assert "damaged" in str(bad.error)
    (tmp_path / "no.zip").write_bytes(b"PK\3\4" + bytes(100))
    [bad] = find([tmp_path / "no.zip"])
    assert "no archive, or a damaged one" in str(bad.error)
    # One byte of one member is enough, and the others are not harmed.
    archive = pack(files, tmp_path / "flipped.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(png(40)) + 30] ^= 1
    archive.write_bytes(data)
    rows = list(judge.score_all(find([archive])))
    assert [row.ok for row in rows] == [True, True, False, True, True, True]
    assert "truncated or damaged in its archive" in str(rows[2].error)  # type: ignore[union-attr]


@pytest.mark.parametrize("method", [9, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_what_is_no_picture_and_can_t_be_unpacked_hides_no_picture(files: Path, tmp_path: Path, method: int) -> None:
    """As a film that Windows packs as Deflate64, or a text of which a byte has flipped."""
    archive = tmp_path / "film.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(files / "0.png", "0.png")
        packed.writestr("film.mp4", b"?" * 1000, zipfile.ZIP_DEFLATED if method == 9 else method)
        packed.write(files / "1.png", "1.png")
        place = packed.getinfo("film.mp4").header_offset
    data = bytearray(archive.read_bytes())
    if method == 9:
        data[place + 8] = data[data.rindex(b"film.mp4") - 36] = 9
    else:
        data[place + 38 : place + 52] = b"\xff" * 14
    archive.write_bytes(data)
    assert [(item.path, item.error) for item in find([archive])] == [
        (f"{archive}::0.png", None),
        (f"{archive}::1.png", None),
    ]


def test_a_member_is_listed_once_however_its_archive_is_spelled(files: Path, tmp_path: Path, monkeypatch) -> None:
    pack(files, tmp_path / "a.zip")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    for named in ("a.zip", "./a.zip", "deep/../a.zip", str(tmp_path / "a.zip")):
        assert len(list(find([f"{named}::in/3.png", "a.zip"]))) == 6
        assert len(list(find(["a.zip", f"{named}::in/3.png", named]))) == 6


def test_archives_that_can_t_be_read_in_parts_say_the_way_out(files: Path, tmp_path: Path, judge: Scorer) -> None:
    for name in ("a.tgz", "a.tar.gz", "a.7z"):
        (tmp_path / name).write_bytes(b"\x1f\x8b")
        [found] = find([tmp_path / name])
        assert "pack it as .zip or .tar" in str(found.error)
    [row] = list(judge.score_all(find([pack(files, tmp_path / "bz.zip", zipfile.ZIP_BZIP2)])))[:1]
    assert "method (12) not read here" in str(row.error)  # type: ignore[union-attr]
    archive = pack(files, tmp_path / "locked.zip")
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\1\2" + data[data.rindex(b"PK\1\2") + 4 : data.rindex(b"PK\1\2") + 8]) + 8] |= 1
    archive.write_bytes(data)  # the last entry, a hidden one: left out, locked or not
    assert len(list(find([archive]))) == 6
    first = data.index(b"PK\1\2")
    data[first + 8] |= 1
    archive.write_bytes(data)
    assert "encrypted" in str(next(find([archive])).error)


def test_a_run_goes_on_over_archives(files: Path, tmp_path: Path, judge: Scorer) -> None:
    archives = [pack(files, tmp_path / "a.zip"), pack(files, tmp_path / "b.tar")]

    def go() -> int:
        with Run(tmp_path / "run", judge.model, kind="jsonl", resume=True) as run:
            return len(list(score_into(run, judge, run.pending(find(archives)))))

    assert (go(), go()) == (12, 0)
    (files / "1.png").write_bytes(png(99))
    for archive in archives:
        pack(files, archive)
    assert go() == 2
    rows = list(read_run(tmp_path / "run"))
    assert len(rows) == len({row["path"] for row in rows}) == 12
    assert {row["raw"] for row in rows if row["path"].endswith("1.png")} == {
        judge.score(files / "1.png").as_row()["raw"]
    }


# A web server


class Web(http.server.BaseHTTPRequestHandler):
    """Serves ``content`` with ranges and ETags; ``refusals`` holds the answers it gives first, by path."""

    protocol_version = "HTTP/1.1"
    content: ClassVar[dict[str, bytes]] = {}
    refusals: ClassVar[dict[str, list[int]]] = {}
    asked: ClassVar[Counter[str]] = Counter()

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        self.answer(True)

    def answer(self, body: bool) -> None:
        data = self.content.get(self.path)
        refusals = self.refusals.get(self.path, []) if body else []
        status = refusals.pop(0) if refusals else 200 if data is not None else 404
        if status != 200 or data is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, end, total = 0, len(data), len(data)
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(total, int(last) + 1 if last else total)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hash(data) & 0xFFFFFFFF:x}"')
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if body:
            self.wfile.write(data[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(files: Path) -> Iterator[str]:
    Web.content = {f"/{name}": (files / name).read_bytes() for name in NAMES}
    Web.refusals, Web.asked = {}, Counter()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_urls_score_as_files_do(files: Path, web: str, judge: Scorer) -> None:
    urls = [f"{web}/{name}" for name in NAMES]
    wanted = [score.raw for score in judge.score_all([files / n for n in NAMES])]
    found = [pickle.loads(pickle.dumps(item)) for item in find([*urls, urls[0]])]
    assert [item.path for item in found] == urls
    assert [score.raw for score in judge.score_all(found, workers=3)] == wanted


def test_archives_behind_urls_are_read_in_parts(files: Path, tmp_path: Path, web: str, judge: Scorer) -> None:
    wanted = [score.raw for score in judge.score_all([files / n for n in NAMES])]
    for name in ("a.zip", "a.tar"):
        Web.content[f"/{name}"] = pack(files, tmp_path / name).read_bytes()
        found = list(find([f"{web}/{name}"]))
        assert [item.path for item in found] == [f"{web}/{name}::in/{n}" for n in NAMES]
        assert [score.raw for score in judge.score_all(found, workers=2)] == wanted
        [one] = find([f"{web}/{name}::in/4.png"])
        assert judge.score(one).raw == wanted[4]


def test_a_busy_server_is_asked_again_and_a_dead_one_is_a_failed_row(web: str, judge: Scorer) -> None:
    Web.refusals = {"/1.png": [503, 429], "/2.png": [500] * 99, "/3.png": [403] * 99}
    rows = list(judge.score_all(find([f"{web}/{name}" for name in [*NAMES, "none.png"]] + [f"{web}/"])))
    said = [None if row.ok else str(row.error) for row in rows]  # type: ignore[union-attr]
    assert said[:2] + said[4:6] == [None] * 4
    assert "can't be had in 4 tries" in str(said[2])
    assert "answered 403" in str(said[3])
    assert "there is no such object" in str(said[6])
    assert "a web server lists no pictures" in str(said[7])
    assert (Web.asked["/1.png"], Web.asked["/2.png"], Web.asked["/3.png"]) == (3, 4, 1)


def test_a_server_that_fails_in_the_middle_of_an_archive_is_asked_again(
    files: Path, tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{web}/a.tar"
    Web.content["/a.tar"] = pack(files, tmp_path / "a.tar").read_bytes()
    Web.refusals = {"/a.tar": [503]}
    assert [item.error for item in find([name])] == [None] * 6
    Web.refusals = {"/a.tar": [503] * 99}
    [dead] = find([name])
    assert "can't be had in 4 tries" in str(dead.error)
    assert len(list(find([name, files / "0.png"]))) == 2


def test_a_server_that_is_not_there_ends_no_run(judge: Scorer, files: Path) -> None:
    rows = list(judge.score_all(find(["http://127.0.0.1:9/a.png", files / "0.png", "what://ever/a.png"])))
    assert [row.ok for row in rows] == [False, True, False]
    assert "can't be had in 4 tries" in str(rows[0].error)  # type: ignore[union-attr]


def test_an_object_that_changed_is_noticed_without_reading_it(web: str) -> None:
    [found] = find([f"{web}/1.png"])
    _, stamp = hold(found)
    assert stamp is not None
    Web.asked.clear()
    assert is_unchanged(found, stamp)
    assert Web.asked["/1.png"] == 0  # the ETag told
    Web.content["/1.png"] = png(77)
    assert not is_unchanged(found, stamp)


# An S3-compatible server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import s3fs
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "some")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("photos")
        yield "s3://photos"
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3: str, files: Path) -> Iterator[str]:
    """A prefix of its own, with the files in two folders of it."""
    import s3fs

    system, prefix = s3fs.S3FileSystem(), f"{s3}/{files.parent.name}"
    for i, name in enumerate(NAMES):
        system.pipe_file(f"{prefix}/{'a/b' if i > 2 else 'a'}/{name}", (files / name).read_bytes())
    system.pipe_file(f"{prefix}/a/notes.txt", b"no picture")
    system.pipe_file(f"{prefix}/a/.hidden.png", png(1))
    yield prefix
    system.rm(prefix, recursive=True)


def test_objects_score_as_files_do(files: Path, tmp_path: Path, bucket: str, judge: Scorer) -> None:
    import s3fs

    wanted = [score.raw for score in judge.score_all([files / n for n in NAMES])]
    for given in (f"{bucket}/a", f"{bucket}/a/", f"{bucket}/**/*.png"):
        found = [item for item in find([given]) if not item.path.endswith(".hidden.png")]
        assert sorted(ends([item.path for item in found])) == NAMES
        scores = {score.path: score.raw for score in judge.score_all(found, workers=2)}  # type: ignore[union-attr]
        assert [scores[path] for path in sorted(scores, key=lambda p: p.rpartition("/")[2])] == wanted
    assert ends([item.path for item in find([f"{bucket}/a/"], recursive=False)]) == NAMES[:3]
    assert [item.path for item in find([f"{bucket}/a/0.png"])] == [f"{bucket}/a/0.png"]
    s3fs.S3FileSystem().put_file(str(pack(files, tmp_path / "s.tar")), f"{bucket}/shard-0.tar")
    found = list(find([f"{bucket}/shard-*.tar"]))
    assert [score.raw for score in judge.score_all(found)] == wanted
    [gone] = find([f"{bucket}/nothing.png"])
    assert "there is no such object" in str(gone.error)


def test_an_object_is_one_request(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    asked, real = [], s3fs.S3FileSystem._call_s3

    async def counted(self, method: str, *args: object, **options: object) -> object:
        asked.append(method)
        return await real(self, method, *args, **options)

    found = list(find([f"{bucket}/a/"]))
    s3fs.S3FileSystem.clear_instance_cache()  # as on another machine, which knows no listing
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    assert all(hold(item)[1] for item in found)
    assert asked == ["get_object"] * len(NAMES)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_run_goes_on_behind_a_url(files: Path, bucket: str, judge: Scorer, kind: str) -> None:
    import s3fs

    system, place = s3fs.S3FileSystem(), f"{bucket}/run-{kind}"

    def go(limit: int = 99) -> int:
        with Run(place, judge.model, kind=kind, resume=True, rows=2) as run:
            pending = list(run.pending(find([f"{bucket}/a/"])))
            return len(list(score_into(run, judge, pending[:limit])))

    assert (go(3), go(), go()) == (3, 3, 0)
    system.pipe_file(f"{bucket}/a/1.png", png(99))
    system.invalidate_cache()
    system.pipe_file(f"{place}/rows-000099.{kind}", b"of a run that was killed")
    assert go() == 1
    rows = {row["path"]: row["raw"] for row in read_run(place)}
    assert len(rows) == len(list(read_run(place))) == 6
    assert rows[f"{bucket}/a/1.png"] == judge.score(png(99)).as_row()["raw"]
    named = {shard["file"] for shard in json.loads(system.cat_file(f"{place}/_manifest.json"))["shards"]}
    system.invalidate_cache()
    assert {name.rpartition("/")[2] for name in system.ls(place)} == named | {"_manifest.json"}
    with pytest.raises(UsageError, match="holds a run already"):
        Run(place, judge.model)


def test_two_processes_that_write_one_run_behind_a_url_are_noticed(bucket: str, judge: Scorer) -> None:
    first, second = list(find([f"{bucket}/a/"]))[:2]
    run = Run(f"{bucket}/run", judge.model)
    list(score_into(run, judge, [first]))
    with Run(f"{bucket}/run", judge.model, resume=True) as other:
        list(score_into(other, judge, [second]))
    with pytest.raises(UsageError, match="another process writes this run"):
        run.flush()
    assert [row["path"] for row in read_run(f"{bucket}/run")] == [second.path]


def test_the_command_line_reads_and_writes_objects(bucket: str, files: Path, capsys) -> None:
    import s3fs

    assert main(["score", f"{bucket}/a/", "--out", f"{bucket}/rows.jsonl"]) == 0
    rows = [json.loads(line) for line in s3fs.S3FileSystem().cat_file(f"{bucket}/rows.jsonl").splitlines()]
    assert sorted(ends([row["path"] for row in rows])) == NAMES
    assert main(["score", str(files), "--json"]) == 0
    by_file = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(row["quality"] for row in rows) == sorted(row["quality"] for row in by_file)
    assert main(["score", f"{bucket}/a/", "--out", f"{bucket}/run/", "--shards", "jsonl"]) == 0
    assert main(["score", f"{bucket}/a/", "--out", f"{bucket}/run/", "--resume"]) == 0
    assert "0 rows, 0 scored, 0 failed; 6 were there already" in capsys.readouterr().err
    assert main(["score", f"{bucket}/a/", "--out", "s3://no-such-bucket/rows.csv"]) == 2
    assert "can't be written" in capsys.readouterr().err


def test_a_url_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    assert main(["score", "s3://photos/a.png"]) == 2
    assert "pip install 'dgiqa[remote]'" in capsys.readouterr().err

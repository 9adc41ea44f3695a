"""On Ray, whatever dies, a run has the rows of a run on one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")

from ray.cluster_utils import Cluster  # noqa: E402

import dgiqa  # noqa: E402
from dgiqa.cli import main  # noqa: E402
from dgiqa.errors import WeightsError  # noqa: E402
from dgiqa.executors import arrow, local  # noqa: E402
from dgiqa.executors import ray as on_ray  # noqa: E402
from dgiqa.results.run import Run, read_run  # noqa: E402
from dgiqa.sources import find  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU, one with what it takes for a GPU; one cluster for all tests, for it takes long to begin."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import the tests
    soon = {"health_check_period_ms": 1000}  # a node that is lost is noticed after five
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1, num_gpus=1)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twenty-four of noise, one that is none, and a zip with two more beside the folder."""
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for i in range(24):
        PIL.Image.fromarray(rng.integers(0, 8 * i + 9, (40, 48, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
    (folder / "05.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as packed:
        for name in ("07.png", "08.png"):
            packed.write(folder / name, name)
    return folder


def by_path(folder: Path) -> dict[str, dict]:
    rows = list(read_run(folder))
    found = {row["path"]: row for row in rows}
    assert len(found) == len(rows), "a picture has two rows"
    return found


def fake(folder: str, delay: float = 0.0, deadly: str = "", until: str = "") -> dgiqa.Scorer:
    """A worker's scorer: writes down which process looked at a picture, its node and GPUs; then ``deadly`` ends it, or
    it waits for the file ``until``."""
    import dataclasses

    from dgiqa.models import find_card
    from dgiqa.runtimes.fake import FakeNetwork

    def see(views):
        time.sleep(delay)
        there = f"{ray.get_runtime_context().get_node_id()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"
        (Path(folder) / f"{os.getpid()}-{time.time_ns()}").write_text(there)
        if deadly and abs(float(views.color.mean()) - float(deadly)) < 0.01:
            os.kill(os.getpid(), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while until and not os.path.exists(until) and time.monotonic() < deadline:
            time.sleep(0.05)
        return (views.color.mean((1, 2, 3)) / 255).astype(np.float32)

    card = dataclasses.replace(find_card("dgiqa_mobile.biq2021"), interval=None)
    return dgiqa.Scorer(card, FakeNetwork(see), lambda pixels: np.zeros(pixels.shape[:2], np.uint8), runtime="fake")


def test_rows_are_those_of_one_machine(pictures: Path, tmp_path: Path) -> None:
    """The embedded network itself, by the command line: a bad picture and members of a zip among them."""
    for name, where in (("here", []), ("there", ["--on", "ray", "--workers", "2"])):
        paths = [str(pictures), str(tmp_path / "more.zip")]
        assert main(["score", *paths, "--out", str(tmp_path / name), *where]) == 1
    here, there = by_path(tmp_path / "here"), by_path(tmp_path / "there")
    assert len(here) == 26
    assert there == here  # every column, to the last digit
    assert sum(row["status"] == "failed" for row in here.values()) == 1


def test_rows_that_compare_are_those_of_one_machine(pictures: Path, tmp_path: Path, monkeypatch) -> None:
    """Originals by name, relative, one of another size and one missing; then some change, and the run goes on there."""
    monkeypatch.chdir(tmp_path)
    Path("whole").mkdir()
    for path in pictures.iterdir():
        PIL.Image.new("RGB", (48, 40), (60, 60, 60)).save(Path("whole") / path.name)
    PIL.Image.new("RGB", (40, 48)).save("whole/03.png")
    Path("whole/04.png").unlink()
    command = ["score", "pictures", "--model", "full_reference.ssim", "--ref", "whole", "--resume"]
    for changed in (None, "whole/04.png", "whole/11.png"):
        if changed:
            PIL.Image.new("RGB", (48, 40), (99, 99, 99)).save(changed)
        for out, where in (("here", []), ("there", ["--on", "ray", "--workers", "2"])):
            assert main([*command, "--out", out, *where]) == 1
        here, there = by_path(Path("here")), by_path(Path("there"))
        assert len(here) == 24
        assert there == here
    failed = {Path(path).name: row["error"] for path, row in there.items() if row["status"] == "failed"}
    assert failed.keys() == {"03.png", "05.png"}
    assert "pictures/03.png: 48×40, but its original whole/03.png is 40×48" in failed["03.png"]


def test_a_worker_that_is_killed_loses_and_doubles_nothing(pictures: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(on_ray, "BLOCK", 4)
    marks = tmp_path / "marks"
    marks.mkdir()
    opens = partial(fake, str(marks), 0.1)
    judge = opens()
    killed: list[int] = []
    deadline = time.monotonic() + 60

    def kill() -> None:
        while len(list(marks.iterdir())) < 6:
            time.sleep(0.01)
            if time.monotonic() > deadline:
                return
        newest = max(marks.iterdir(), key=lambda mark: int(mark.name.partition("-")[2]))
        killed.append(int(newest.name.partition("-")[0]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with Run(tmp_path / "there", judge.model, kind="jsonl", rows=5) as run:
        results = list(on_ray.score_into(run, opens, run.pending(find([pictures])), workers=1))
    killer.join()
    assert len(results) == 24
    by = [int(mark.name.partition("-")[0]) for mark in marks.iterdir()]
    assert killed[0] in by
    assert set(by) - {killed[0]}, "no other process went on"
    assert len(by) > 23, "the block of the killed worker was scored again"
    with Run(tmp_path / "here", judge.model, kind="jsonl") as run:
        list(local.score_into(run, judge, run.pending(find([pictures]))))
    assert by_path(tmp_path / "there") == by_path(tmp_path / "here")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for a process of the cluster in /proc")
def test_a_ledger_that_is_lost_stops_nothing(pictures: Path, tmp_path: Path, monkeypatch) -> None:
    """It lives in a process of its own, on whatever node has room."""
    monkeypatch.setattr(on_ray, "BLOCK", 2)
    marks = tmp_path / "marks"
    marks.mkdir()
    killed = 0
    with Run(tmp_path / "run", fake(str(marks)).model, kind="jsonl") as run:
        for _ in on_ray.score_into(run, partial(fake, str(marks), 0.05), run.pending(find([pictures])), workers=1):
            if not killed:
                killed = ledger()
                os.kill(killed, signal.SIGKILL)
                before = len(list(marks.iterdir()))
    assert before < 20, "all was done before it was lost"
    assert len(by_path(tmp_path / "run")) == 24


def ledger() -> int:
    """The process of the newest ledger of this cluster: its parent is a node, whose parent is this process."""

    def parent(process: int) -> int:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_Ledger" in (place / "cmdline").read_bytes() and parent(parent(int(place.name))) == os.getpid():
                found.append(int(place.name))
        except OSError:  # it has ended
            continue
    return max(found)


def test_a_picture_that_ends_every_worker_is_a_failed_row(pictures: Path, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (40, 40), (77, 77, 77)).save(pictures / "12.png")
    marks = tmp_path / "marks"
    marks.mkdir()
    opens = partial(fake, str(marks), 0.0, "77")
    with Run(tmp_path / "run", opens().model, kind="jsonl") as run:
        results = list(on_ray.score_into(run, opens, run.pending(find([pictures])), workers=1))
    failed = {Path(result.path).name: str(result.error) for result in results if not result.ok}  # type: ignore[union-attr]
    assert failed.keys() == {"05.png", "12.png"}
    assert "was under way when a worker was lost, 2 times" in failed["12.png"]
    assert len(by_path(tmp_path / "run")) == 24


def test_a_driver_that_is_killed_goes_on(pictures: Path, tmp_path: Path) -> None:
    """The whole command, with a cluster of its own, dies with SIGKILL; the same command with --resume finishes."""
    line = [sys.executable, "-m", "dgiqa", "score", str(pictures), "--out", str(tmp_path / "run"), "--on", "ray"]
    line += ["--shards", "jsonl", "--shard-rows", "1"]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list((tmp_path / "run").glob("rows-*"))) >= 4:  # the manifest may not name the newest yet
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = by_path(tmp_path / "run")
    assert len(before) >= 3
    assert main([*line[3:], "--resume"]) == 1
    after = by_path(tmp_path / "run")
    assert len(after) == 24
    assert {path: after[path] for path in before} == before


def test_a_worker_s_own_error_is_the_run_s(pictures: Path, tmp_path: Path) -> None:
    def opens() -> dgiqa.Scorer:
        raise WeightsError("weights: are gone", hint="bring them back")

    with Run(tmp_path / "run", "a@1", kind="jsonl") as run, pytest.raises(WeightsError, match="are gone; bring them"):
        list(on_ray.score_into(run, opens, find([pictures]), workers=1))


def test_a_run_goes_on_elsewhere(pictures: Path, tmp_path: Path) -> None:
    """Begun here, gone on with there, and finished here: no picture twice, none that was done done again."""
    marks = tmp_path / "marks"
    marks.mkdir()
    opens, folder = partial(fake, str(marks)), tmp_path / "run"
    judge, paths = fake(str(marks)), sorted(pictures.iterdir())
    for count, there in ((6, False), (15, True), (24, False)):
        with Run(folder, judge.model, kind="jsonl", resume=True, rows=4) as run:
            pending = run.pending(find(paths[:count]))
            # More workers than the cluster has room for: it makes do with what there is.
            far = partial(on_ray.score_into, run, opens, pending, workers=5)
            done = far() if there else local.score_into(run, judge, pending)
            assert len(list(done)) == count - run.kept
    assert len(by_path(folder)) == 24
    assert len(list(marks.iterdir())) == 23  # all but the broken one, once each
    assert {int(mark.name.partition("-")[0]) == os.getpid() for mark in marks.iterdir()} == {True, False}


def test_workers_get_their_gpus(pictures: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    opens = partial(fake, str(marks))
    with Run(tmp_path / "run", opens().model, kind="jsonl") as run:
        assert len(list(on_ray.score_into(run, opens, find(sorted(pictures.iterdir())[:4]), gpus=0.5, batch=2))) == 4
    assert {mark.read_text().split(" ")[1] for mark in marks.iterdir()} == {"0"}


def test_sources_are_listed_in_bounded_numbers(pictures: Path, tmp_path: Path, monkeypatch) -> None:
    """An endless list is no trouble: one chunk is taken ahead of the one that is scored, no more."""
    for name, value in (("BLOCK", 2), ("CHUNK", 6), ("CHUNK_OF_A_WORKER", 6)):
        monkeypatch.setattr(on_ray, name, value)
    taken = []
    marks = tmp_path / "marks"
    marks.mkdir()

    def endless() -> Iterator[dgiqa.Found]:
        for i in range(10**9):
            taken.append(i)
            yield dgiqa.Found(str(pictures / f"{i % 5:02}.png"))

    opens = partial(fake, str(marks))
    with Run(tmp_path / "run", opens().model, kind="jsonl") as run:
        results = on_ray.score_into(run, opens, endless(), workers=1)
        for _ in range(7):
            next(results)
        results.close()
    assert 12 <= len(taken) <= 18


def test_chunks_are_every_source_once_in_blocks_for_all_workers(monkeypatch) -> None:
    for name, value in (("BLOCK", 4), ("CHUNK", 50), ("CHUNK_OF_A_WORKER", 60), ("LARGEST_CHUNK", 150)):
        monkeypatch.setattr(on_ray, name, value)

    def cut(count: int, workers: int) -> list[list[int]]:
        sources = [dgiqa.Found(str(i)) for i in range(count)]
        chunks = [list(chunk) for chunk in on_ray._chunks(sources, workers)]
        names = [os.fsdecode(name) for chunk in chunks for block in chunk for name in block["path"].to_pylist()]
        assert names == [source.path for source in sources]
        return [[len(block) for block in chunk] for chunk in chunks]

    assert cut(0, 2) == []
    assert cut(3, 2) == [[1, 1, 1]]
    assert cut(14, 2) == [[2] * 7]  # four blocks of each worker at least, while there is enough
    assert [sum(chunk) for chunk in cut(500, 2)] == [50, 100, 120, 120, 110]
    assert [sum(chunk) for chunk in cut(500, 9)] == [50, 100, 150, 150, 50]
    assert max(map(max, cut(500, 9))) == 18  # many workers get large blocks


def test_what_breaks_a_list_breaks_the_run(tmp_path: Path, pictures: Path) -> None:
    def broken() -> Iterator[dgiqa.Found]:
        yield dgiqa.Found(str(pictures / "00.png"))
        raise OSError(5, "the list can't be read")

    with Run(tmp_path / "run", "a@1", kind="jsonl") as run, pytest.raises(OSError, match="the list can't be read"):
        list(on_ray.score_into(run, partial(fake, str(tmp_path)), broken()))


def test_bare_paths_and_members_are_found_by_their_names(pictures: Path, tmp_path: Path) -> None:
    """What another engine hands over: a column of text."""
    pa = pytest.importorskip("pyarrow")
    (tmp_path / "marks").mkdir()
    scorer = arrow.ArrowScorer(partial(fake, str(tmp_path / "marks")), batch=2)
    paths = [str(pictures / "07.png"), f"{tmp_path / 'more.zip'}::07.png", str(pictures / "none.png")]
    rows = scorer(pa.table({"path": paths})).to_pylist()
    assert [os.fsdecode(row["path"]) for row in rows] == paths
    assert [row["status"] for row in rows] == ["ok", "ok", "failed"]
    assert rows[0]["raw"] == rows[1]["raw"]
    assert rows[0]["sha256"] == rows[1]["sha256"]


def test_a_column_names_originals(pictures: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    scorer = arrow.ArrowScorer(partial(arrow.kept, "full_reference.ssim", runtime=None), batch=3)
    original, names = f"{tmp_path / 'more.zip'}::07.png", ("07.png", "08.png", "09.png")
    table = pa.table({"path": [str(pictures / name) for name in names], "ref": [original, original, None]})
    rows = scorer(table).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok", "failed"]
    assert rows[0]["raw"] == 1.0 > rows[1]["raw"]
    assert "09.png: no original in the column ref" in rows[2]["error"]
    assert [row["sha256"] and len(row["sha256"]) for row in rows] == [128, 128, None]


def test_what_a_cluster_cannot_do_is_said(pictures: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    base = ["score", str(pictures)]
    for arguments, text in (
        (["--on", "ray"], "--out FOLDER/"),
        (["--on", "ray", "--out", "rows.csv"], "--out FOLDER/"),
        (["--gpus", "1", "--out", str(tmp_path / "a")], "--on ray"),
        (["--on", "ray", "--gpus", "4", "--out", str(tmp_path / "b")], "a worker wants 1 and 4"),
    ):
        assert main([*base, *arguments]) == 2
        assert text in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*base, "--on", "ray", "--out", str(tmp_path / "c")]) == 2
    assert "pip install 'dgiqa[ray]'" in capsys.readouterr().err
    assert json.loads((tmp_path / "c" / "_manifest.json").read_text())["shards"] == []


def test_a_node_that_is_lost_loses_and_doubles_nothing(pictures: Path, tmp_path: Path, cluster, monkeypatch) -> None:
    """One of three dies while its worker has a picture in hand; until then the others wait over theirs.

    The last test, for the cluster takes a while to get over it.
    """
    monkeypatch.setattr(on_ray, "BLOCK", 4)
    marks, lost = tmp_path / "marks", tmp_path / "lost"
    marks.mkdir()
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    opens = partial(fake, str(marks), until=str(lost))

    def seen_there() -> list[Path]:
        return [mark for mark in marks.iterdir() if mark.read_text().startswith(node.node_id)]

    def lose() -> None:
        deadline = time.monotonic() + 60
        while not seen_there() and time.monotonic() < deadline:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        lost.touch()

    loser = threading.Thread(target=lose)
    loser.start()
    with Run(tmp_path / "there", opens().model, kind="jsonl", rows=5) as run:
        results = list(on_ray.score_into(run, opens, run.pending(find([pictures])), workers=3))
    loser.join()
    assert seen_there(), "no worker of the node that was lost had a picture in hand"
    assert len(results) == 24
    with Run(tmp_path / "here", (judge := opens()).model, kind="jsonl") as run:
        list(local.score_into(run, judge, run.pending(find([pictures]))))
    assert by_path(tmp_path / "there") == by_path(tmp_path / "here")

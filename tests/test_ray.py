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

import dgiqa  # noqa: E402
from dgiqa.cli import main  # noqa: E402
from dgiqa.errors import WeightsError  # noqa: E402
from dgiqa.executors import arrow, local  # noqa: E402
from dgiqa.executors import ray as on_ray  # noqa: E402
from dgiqa.results.run import Run, read_run  # noqa: E402
from dgiqa.sources import find  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One for all tests: beginning it takes longer than they do."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import the tests
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


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


def fake(folder: str, delay: float = 0.0, deadly: str = "") -> dgiqa.Scorer:
    """A worker's scorer: writes down which process looked at a picture; ``deadly`` ends it."""
    import dataclasses

    from dgiqa.models import find_card
    from dgiqa.runtimes.fake import FakeNetwork

    def see(views):
        time.sleep(delay)
        (Path(folder) / f"{os.getpid()}-{time.time_ns()}").touch()
        if deadly and abs(float(views.color.mean()) - float(deadly)) < 0.01:
            os.kill(os.getpid(), signal.SIGKILL)
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
        if len(list((tmp_path / "run").glob("rows-*"))) >= 3:
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


def test_sources_are_listed_in_bounded_numbers(pictures: Path, tmp_path: Path, monkeypatch) -> None:
    """An endless list is no trouble: no more than a chunk is taken ahead."""
    monkeypatch.setattr(on_ray, "BLOCK", 2)
    monkeypatch.setattr(on_ray, "CHUNK", 6)
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
    assert len(taken) == 12


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

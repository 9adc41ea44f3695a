"""A run's folder: whatever stops a run, going on with it gives each picture its one row."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from dgiqa.cli import main
from dgiqa.errors import UsageError
from dgiqa.executors.local import score_into
from dgiqa.models import find_card
from dgiqa.results.rows import KINDS
from dgiqa.results.run import Run, read_run
from dgiqa.runtimes.fake import FakeNetwork
from dgiqa.scorer import Scorer
from dgiqa.sources import Found, find
from pictures import heic


def scorer(calls: list[str] | None = None) -> Scorer:
    """Scores by the mean of the pixels; notes which pictures it saw."""
    card = dataclasses.replace(find_card("dgiqa_mobile.biq2021"), interval=None)
    network = FakeNetwork(lambda views: (views.color.mean((1, 2, 3)) / 255).astype(np.float32))
    made = Scorer(card, network, lambda pixels: np.zeros(pixels.shape[:2], np.uint8))
    if calls is not None:
        see = made.score_batch
        made.score_batch = lambda some: [calls.extend(Path(s.path).name for s in some), see(some)][1]  # type: ignore
    return made


def write(path: Path, value: int) -> None:
    PIL.Image.new("RGB", (24, 16), (value, value, value)).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(10):
        write(folder / f"{i}.png", 20 * i)
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


def go(folder: Path, pictures: Path, calls: list[str] | None = None, **options: object) -> Run:
    options = {"kind": "jsonl", "resume": True, "rows": 3, **options}
    judge = scorer(calls)
    with Run(folder, judge.model, **options) as run:  # type: ignore[arg-type]
        for _ in score_into(run, judge, list(run.pending(find([str(pictures)])))):
            pass
    return run


def rows_of(folder: Path) -> dict[str, dict]:
    rows = list(read_run(folder))
    by_name = {Path(row["path"]).name: row for row in rows}
    assert len(by_name) == len(rows)
    return by_name


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_new_or_has_changed_is_scored(pictures: Path, tmp_path: Path, kind: str) -> None:
    calls: list[str] = []
    go(tmp_path / "run", pictures, calls, kind=kind)
    assert calls == [f"{i}.png" for i in range(10)]
    before = rows_of(tmp_path / "run")
    assert [row["status"] for row in before.values()].count("failed") == 1
    assert before["2.png"]["sha256"] == hashlib.sha256((pictures / "2.png").read_bytes()).hexdigest()

    write(pictures / "4.png", 255)
    write(pictures / "new.png", 3)
    os.utime(pictures / "7.png")  # another time, the same bytes
    calls.clear()
    run = go(tmp_path / "run", pictures, calls)
    assert (sorted(calls), run.kept, run.kept_failed) == (["4.png", "new.png"], 9, 1)
    after = rows_of(tmp_path / "run")
    assert after["4.png"]["quality"] > before["4.png"]["quality"]
    assert {name: row for name, row in after.items() if name not in ("4.png", "new.png")} == {
        name: row for name, row in before.items() if name != "4.png"
    }
    calls.clear()
    go(tmp_path / "run", pictures, calls)
    assert calls == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_original_is_a_changed_picture(tmp_path: Path, capsys, kind: str) -> None:
    """The whole command with a model that compares: what it makes anew is what either side's change touches."""
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    worse, whole, run = tmp_path / "worse", tmp_path / "whole", tmp_path / "run"
    for folder, more in ((worse, 9), (whole, 0)):
        folder.mkdir()
        for i in range(6):
            write(folder / f"{i}.png", 20 * i + more)

    def go_on() -> list[str]:
        command = ["score", str(worse), "--model", "full_reference.psnr", "--out", str(run), "--shards", kind]
        assert main([*command, "--ref", f"{whole}/", "--shard-rows", "2", "--resume", "--json"]) in (0, 1)
        rows = map(json.loads, capsys.readouterr().out.splitlines())
        return [f"{Path(row['path']).stem} {row['status']}" for row in rows]

    assert go_on() == [f"{i} ok" for i in range(6)]
    before = rows_of(run)
    digests = (hashlib.sha256((folder / "2.png").read_bytes()).hexdigest() for folder in (worse, whole))
    assert before["2.png"]["sha256"] == "".join(digests)
    write(whole / "1.png", 200)
    write(worse / "4.png", 200)
    os.utime(whole / "5.png")  # another time, the same bytes
    assert go_on() == ["1 ok", "4 ok"]
    after = rows_of(run)
    assert after["1.png"]["raw"] < before["1.png"]["raw"]
    assert {name: after[name] for name in ("0.png", "2.png", "3.png", "5.png")} == {
        name: row for name, row in before.items() if name not in ("1.png", "4.png")
    }
    assert go_on() == []

    (whole / "0.png").rename(tmp_path / "0.png")
    PIL.Image.new("RGB", (16, 24)).save(whole / "3.png")
    assert go_on() == ["0 failed", "3 failed"]
    assert "no original of its name" in rows_of(run)["0.png"]["error"]
    assert "24×16, but its original" in rows_of(run)["3.png"]["error"]
    assert go_on() == ["0 failed"]  # it may be there now; the other is what it is until it changes
    (tmp_path / "0.png").rename(whole / "0.png")
    assert go_on() == ["0 ok"]
    assert rows_of(run)["0.png"] == before["0.png"]


def test_what_could_not_be_read_is_tried_again(pictures: Path, tmp_path: Path) -> None:
    calls: list[str] = []
    sources = [Found(str(pictures / "late.png"))]
    for expected in ("failed", "ok"):
        judge = scorer(calls)
        with Run(tmp_path / "run", judge.model, kind="jsonl", resume=True) as run:
            assert [r.as_row()["status"] for r in score_into(run, judge, run.pending(sources))] == [expected]
        write(pictures / "late.png", 9)
    assert [row["status"] for row in read_run(tmp_path / "run")] == ["ok"]


def test_what_another_limit_or_an_extra_mends_is_tried_again(pictures: Path, tmp_path: Path, monkeypatch) -> None:
    (pictures / "a.heic").write_bytes(heic())
    calls: list[str] = []
    small = scorer()
    small.max_megapixels = 24 * 16 / 1e6 / 2
    with monkeypatch.context() as patch, Run(tmp_path / "run", small.model, kind="jsonl", resume=True) as run:
        patch.setitem(sys.modules, "pi_heif", None)
        rows = list(score_into(run, small, run.pending(find([pictures]))))
        assert [row.ok for row in rows] == [False] * 11
    run = go(tmp_path / "run", pictures, calls)
    assert sorted(calls) == sorted(path.name for path in pictures.iterdir() if path.name != "5.png")
    assert (run.kept, run.kept_failed) == (1, 1)
    assert sum(row["status"] == "ok" for row in read_run(tmp_path / "run")) == 10
    go(tmp_path / "run", pictures, again := [])
    assert again == []


def test_a_pipe_is_a_failed_row_and_is_not_waited_for(pictures: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    judge = scorer()
    with Run(tmp_path / "run", judge.model, kind="jsonl", resume=True) as run:
        [row] = score_into(run, judge, run.pending(find([tmp_path / "pipe.jpg"])))
    assert "not a regular file" in str(row.error)  # type: ignore[union-attr]


def test_an_error_at_any_step_loses_and_doubles_nothing(pictures: Path, tmp_path: Path, monkeypatch) -> None:
    """Every call that changes the disk fails once, before or after it has done its work; then the run goes on.

    The second run has changed pictures in several shards, so that shards are replaced, too.
    """
    go(tmp_path / "whole", pictures)
    for i in (1, 4, 8):
        write(pictures / f"{i}.png", 255 - i)
    go(tmp_path / "whole", pictures)
    wanted = rows_of(tmp_path / "whole")
    steps = 0
    while True:
        folder = tmp_path / f"run{steps}"
        for i in (1, 4, 8):
            write(pictures / f"{i}.png", 20 * i)
        go(folder, pictures)
        for i in (1, 4, 8):
            write(pictures / f"{i}.png", 255 - i)
        with monkeypatch.context() as patch:
            stopped = _fail_at(steps, patch)
            try:
                go(folder, pictures)
            except OSError as error:
                assert error is stopped[0]  # noqa: PT017
        assert len(rows_of(folder)) == 10  # whatever happened, the folder can be read
        go(folder, pictures)
        found = rows_of(folder)
        assert {n: _without_time(row) for n, row in found.items()} == {n: _without_time(r) for n, r in wanted.items()}
        assert sorted(p.name for p in folder.glob("rows-*")) == sorted(
            shard["file"] for shard in json.loads((folder / "_manifest.json").read_text())["shards"]
        )
        if not stopped:
            break
        steps += 1
    assert steps > 20


def _fail_at(step: int, patch: pytest.MonkeyPatch) -> list[OSError]:
    """Lets call ``step // 2`` among those that change the disk fail: before it, or after it if ``step`` is odd."""
    seen, raised = [0], list[OSError]()

    def failing(real: Callable) -> Callable:
        def call(*args: object, **options: object) -> object:
            number, seen[0] = seen[0], seen[0] + 1
            due = number == step // 2 and not raised
            result = real(*args, **options) if not due or step % 2 else None
            if due:
                raised.append(OSError(28, "No space left on device"))
                raise raised[0]
            return result

        return call

    for owner, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "write_text")):
        patch.setattr(owner, name, failing(getattr(owner, name)))
    return raised


def _without_time(row: dict) -> dict:
    return {key: value for key, value in row.items() if key != "tag"}


def test_killed_at_fifty_moments(tmp_path: Path) -> None:
    """The command itself, killed by the system wherever it is, and started again."""
    rng, folder = random.Random(5), tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0)
    for i in range(40):
        PIL.Image.fromarray(pixels.integers(0, 255, (32, 48, 3), np.uint8)).save(folder / f"{i:02}.png")
    card = find_card("dgiqa_mobile.biq2021")  # looks at small pictures: what is tried here is the writing
    (tmp_path / card.weights["onnx"].file).write_bytes((card.folder / card.weights["onnx"].file).read_bytes())
    model = tmp_path / "small.toml"
    model.write_text((card.folder / card.file).read_text().replace("short_side = 512", "short_side = 64"))
    command = ["score", str(folder), "--model", str(model), "--workers", "2", "--shard-rows", "2", "--resume", "--out"]
    # Processes that begin with everything imported: what takes long otherwise is not what is tried here.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dgiqa.cli", "dgiqa.cli.score", "dgiqa.scorer", "onnxruntime"])

    def start(out: Path) -> multiprocessing.process.BaseProcess:
        child = context.Process(target=main, args=([*command, str(out)],))
        child.start()
        return child

    start(tmp_path / "warm").join()
    begun = time.monotonic()
    start(tmp_path / "run0").join()
    seconds = time.monotonic() - begun  # moments follow how fast this machine is, now
    wanted = {row["path"]: row for row in read_run(tmp_path / "run0")}
    assert len(wanted) == 40
    kills, run, caught, before = 0, 1, [], 0
    while kills < 50:
        out = tmp_path / f"run{run}"
        child = start(out)
        child.join(seconds * rng.uniform(0.5, 1.0))
        if child.is_alive():
            child.kill()
            child.join()
            kills += 1
            rows = list(read_run(out)) if (out / "_manifest.json").exists() else []
            assert len({row["path"] for row in rows}) == len(rows)
            assert all(row == wanted[row["path"]] for row in rows)
            caught.append(len(rows))
            seconds *= 1.1 if len(rows) == before else 0.97
            before = len(rows)
            continue
        assert child.exitcode == 0
        assert {row["path"]: row for row in read_run(out)} == wanted
        assert sum(1 for _ in read_run(out)) == 40
        run, before = run + 1, 0
    assert len(set(caught)) > 3  # they were killed at different depths, not all before the first row


def test_a_run_is_not_mixed_up(pictures: Path, tmp_path: Path) -> None:
    judge, folder = scorer(), tmp_path / "run"
    with Run(folder, judge.model, kind="jsonl"), pytest.raises(UsageError, match="another process writes this run"):
        Run(folder, judge.model, kind="jsonl", resume=True)
    with pytest.raises(UsageError, match="holds a run already; add --resume"):
        Run(folder, judge.model)
    with pytest.raises(UsageError, match=r"was scored with dgiqa_mobile\.biq2021@\S+, not other@2"):
        Run(folder, "other@2", resume=True)
    with pytest.raises(UsageError, match="was compared with no originals, not whole; name the place as it was then"):
        Run(folder, judge.model, resume=True, ref="whole")
    with Run(tmp_path / "compared", judge.model, kind="jsonl", ref="whole"):
        pass
    with pytest.raises(UsageError, match="was compared with whole, not none"):
        Run(tmp_path / "compared", judge.model, resume=True)
    with pytest.raises(UsageError, match=r"holds other files \(0\.png\)"):
        Run(pictures, judge.model)
    with pytest.raises(UsageError, match="is a file"):
        Run(pictures / "0.png", judge.model)
    with pytest.raises(UsageError, match="one of parquet, jsonl, csv"):
        Run(tmp_path / "other", judge.model, kind="xlsx")
    with pytest.raises(UsageError, match="holds no run"):
        list(read_run(pictures))
    (folder / "_manifest.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="another version"):
        Run(folder, judge.model, resume=True)
    (folder / "_manifest.json").write_text('{"form')
    with pytest.raises(UsageError, match="can't be read"):
        Run(folder, judge.model, resume=True)


def test_the_command_line_goes_on(pictures: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    out = tmp_path / "run"
    command = ["score", str(pictures), "--out", str(out), "--shard-rows", "4"]
    assert main(command) == 1
    assert f"{out}: 10 rows, 9 scored, 1 failed" in capsys.readouterr().err
    assert main(command) == 2
    assert "add --resume" in capsys.readouterr().err
    write(pictures / "more.png", 77)
    assert main([*command, "--resume", "--json"]) == 1
    shown, err = capsys.readouterr()
    assert [Path(json.loads(line)["path"]).name for line in shown.splitlines()] == ["more.png"]
    assert f"{out}: 1 row, 1 scored, 0 failed; 10 were there already, 1 of them failed" in err
    table = pq.read_table(out)  # as any reader of Parquet sees the folder
    assert table.num_rows == 11
    assert table.schema.metadata[b"model"].startswith(b"dgiqa_mobile.biq2021@")
    assert main(["score", str(pictures), "--resume"]) == 2
    assert "give --out FOLDER/" in capsys.readouterr().err


def test_a_slow_run_saves_by_time(pictures: Path, tmp_path: Path) -> None:
    judge = scorer()
    with Run(tmp_path / "run", judge.model, kind="jsonl", rows=100, seconds=0.05) as run:
        for number, _ in enumerate(score_into(run, judge, find([str(pictures)]))):
            time.sleep(0.06)
            if number == 3:
                assert len(list(read_run(tmp_path / "run"))) >= 2
    assert len(list(read_run(tmp_path / "run"))) == 10

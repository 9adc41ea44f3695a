"""The command line is a contract: its verbs, flags, columns and exit codes are frozen here."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import dgiqa
from dgiqa import cli
from dgiqa.cli import main, make_parser
from dgiqa.models import find_card
from dgiqa.types import ROW_FIELDS

FLAGS = {
    "benchmark": {
        "--from", "--limit", "--lower-is-better", "--on", "--out", "--page", "--root", "--split", "--workers",
    },
    "calibrate": {
        "--folds", "--lower-is-better", "--on", "--out", "--root", "--seed", "--split", "--test-share", "--workers",
    },
    "compare": {"--json", "--runtime", "--top", "--workers"},
    "convert": {"--out"},
    "cull": {
        "--apply", "--burst", "--duplicate", "--into", "--json", "--keep", "--keep-best", "--margin", "--model",
        "--reject", "--reject-worst", "--seconds", "--undo", "--workers",
    },
    "datasets": {"--json"},
    "demo": {"--model", "--out"},
    "distort": {
        "--depth", "--format", "--kinds", "--max-megapixels", "--out", "--seed", "--severities", "--workers",
    },
    "evaluate": {
        "--column", "--from", "--limit", "--lower-is-better", "--on", "--out", "--page", "--root", "--scores",
        "--split", "--workers",
    },
    "explain": {
        "--face", "--json", "--landmarks", "--maps", "--max-megapixels", "--model", "--out", "--runtime", "--workers",
    },
    "export": {"--half", "--out"},
    "fetch": {"--mirror", "--offline", "--timeout"},
    "models": {"--json"},
    "report": {"--model", "--out", "--reasons", "--root", "--thumbnails", "--title", "--workers"},
    "score": {
        "--address", "--batch", "--depth", "--fail-fast", "--fast", "--gpus", "--json", "--max-megapixels", "--model",
        "--no-recursive", "--on", "--out", "--recursive", "--ref", "--resume", "--runtime", "--shard-rows", "--shards",
        "--sort", "--workers",
    },
    "serve": {
        "--batch", "--batch-wait", "--host", "--keys", "--max-files", "--max-held-mib", "--max-megapixels", "--max-mib",
        "--max-requests", "--max-waiting", "--model", "--port", "--runtime", "--seconds", "--workers",
    },
    "train": {"--cache", "--data", "--keep-pictures", "--out", "--set"},
}  # fmt: skip
PUBLIC = {
    "Compared", "DgiqaError", "Explanation", "Failure", "Found", "Image", "ImageError", "ModelCard", "RunError",
    "Score", "Scorer", "__version__", "find", "list_models", "load",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one in a folder below, one broken; and files that are none."""
    pictures = tmp_path / "pictures"
    (pictures / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 255, (8, 10, 3), np.uint8), 8, 0), 8, 1)
    PIL.Image.fromarray(smooth).save(pictures / "a.png")
    PIL.Image.fromarray(rng.integers(0, 255, (64, 80, 3), np.uint8)).save(pictures / "below" / "b.jpg")
    (pictures / "broken.jpg").write_bytes((pictures / "below" / "b.jpg").read_bytes()[:300])
    (pictures / "notes.txt").write_text("not a picture")
    (pictures / "paper.pdf").write_bytes(b"%PDF-1.7 not a picture")
    return pictures


def test_verbs_and_flags_are_frozen() -> None:
    verbs = next(a for a in make_parser()._actions if a.dest == "run" or a.metavar == "VERB").choices
    found = {
        name: {flag for action in verb._actions for flag in action.option_strings} - {"-h", "--help"}
        for name, verb in verbs.items()
    }
    assert found == FLAGS


def test_a_verb_waits_for_its_own_imports_alone() -> None:
    """Scoring a picture begins without what evaluation, reports, culling and locks need."""
    code = """
import sys
from dgiqa.cli import make_parser
assert make_parser("score").parse_args(["score", "a.jpg"]).paths == ["a.jpg"]
print(*sorted({"dgiqa.evaluation", "dgiqa.reports", "dgiqa.culling", "dgiqa.datasets", "filelock"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == []


def test_public_names_are_frozen() -> None:
    assert set(dgiqa.__all__) == PUBLIC
    assert all(hasattr(dgiqa, name) for name in PUBLIC)


def test_columns_are_frozen() -> None:
    assert ROW_FIELDS == (
        "path",
        "status",
        "quality",
        "low",
        "high",
        "raw",
        "model",
        "runtime",
        "width",
        "height",
        "error",
    )


def test_json_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(folder), "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [tuple(row) for row in rows] == [ROW_FIELDS] * 3
    by_name = {Path(row["path"]).name: row for row in rows}
    assert {name: row["status"] for name, row in by_name.items()} == {
        "a.png": "ok",
        "b.jpg": "ok",
        "broken.jpg": "failed",
    }
    assert (by_name["a.png"]["width"], by_name["a.png"]["height"]) == (80, 64)
    assert all(0 <= row["quality"] <= 100 for row in rows if row["status"] == "ok")
    assert {row["model"] for row in rows} == {"dgiqa_mobile.biq2021@1.4"}
    failed = by_name["broken.jpg"]
    assert failed["quality"] is None
    assert failed["raw"] is None
    assert "broken.jpg" in failed["error"]


def test_csv_jsonl_and_parquet_hold_the_same_rows(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    outs = [tmp_path / f"rows.{ending}" for ending in ("csv", "jsonl", "parquet")]
    for out in outs:
        assert main(["score", str(folder), "--out", str(out), "--workers", "2"]) == 1
        assert capsys.readouterr().out == ""
    with outs[0].open(newline="", encoding="utf-8") as stream:
        from_csv = list(csv.DictReader(stream))
    from_json = [json.loads(line) for line in outs[1].read_text().splitlines()]
    from_parquet = parquet.read_table(outs[2]).to_pylist()
    assert from_json == from_parquet
    assert from_csv == [{k: "" if v is None else str(v) for k, v in row.items()} for row in from_json]
    assert not list(tmp_path.glob("*.part"))


def test_the_table_is_sorted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.jpg").unlink()
    seen = {}
    for order in ("worst", "best"):
        assert main(["score", str(folder), "--sort", order]) == 0
        lines = capsys.readouterr().out.splitlines()
        seen[order] = [float(line.split()[0]) for line in lines[1:-1]]
    assert seen["worst"] == sorted(seen["worst"])
    assert seen["best"] == sorted(seen["worst"], reverse=True)
    assert len(set(seen["worst"])) == 2


def test_not_recursive_and_fail_fast(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(folder), "--json", "--no-recursive"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    listed = [str(folder / "broken.jpg"), str(folder / "a.png")]
    assert main(["score", *listed, "--json", "--fail-fast"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "stopped at the first failure, 1 sources left" in err


@pytest.mark.parametrize("separator", ["\n", "\0"])
def test_list_on_standard_input(folder: Path, separator: str, monkeypatch, capsys) -> None:
    names = [str(folder / "a.png"), str(folder / "below" / "b.jpg")]
    listed = io.BytesIO((separator.join(names) + separator).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(listed))
    assert main(["score", "-", "--json"]) == 0
    assert [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()] == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "{folder}", "--model", "nothing"], "nothing"),
        (["score", "{folder}", "--out", "rows.xlsx"], "one of .csv, .jsonl, .parquet"),
        (["score", "{folder}", "--out", "{folder}/no/rows.csv"], "can't be written"),
        (["score", "{folder}", "--workers", "0"], "must be positive"),
        (["score", "{empty}"], "no pictures in"),
        (["score", "{folder}", "--model", "depth_mobile.rendered"], "is a depth card"),
        (["score", "{folder}", "--model", "dgiqa.koniq10k", "--runtime", "onnx"], "--runtime torch"),
        (["models", "nothing"], "dgiqa models"),
        (["fetch", "dgiqa.koniq10k"], "dgiqa convert dgiqa.koniq10k FILE"),
        (["fetch", "depth_anything.v2_small", "--timeout", "-1"], "give a positive number"),
        (["score", "{folder}", "--out", "{folder}/below.csv"], "is a folder"),
        (["score", "{folder}", "--depth", "dgiqa_mobile.quick"], "not depth"),
        (["convert", "dgiqa.koniq10k", "{folder}/none.pth"], "no such file"),
        (["convert", "default", "{folder}/none.pth"], "takes no converted checkpoint"),
    ],
)
def test_misuse_exits_2_with_a_way_out(folder, tmp_path, arguments, message, capsys, monkeypatch) -> None:
    monkeypatch.setenv("DGIQA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    (folder / "below.csv").mkdir()
    filled = [a.format(folder=folder, empty=tmp_path / "empty") for a in arguments]
    assert main(filled) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message.lower() in err.lower()


def test_unknown_flags_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["score"])
    with pytest.raises(SystemExit, match="2"):
        main(["score", "x", "--nonsense"])


def test_missing_files_are_failed_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path / "none.jpg"), str(tmp_path / "*.png"), "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert [row["path"] for row in rows] == [str(tmp_path / "none.jpg"), str(tmp_path / "*.png")]


@pytest.mark.parametrize("length", [1, 7, 4_095, 65_535])
@pytest.mark.parametrize(("separator", "stripped"), [(b"\0", b"a\r"), (b"\n", b"a"), (b"\r\n", b"a\r")])
def test_a_list_is_cut_into_names_wherever_its_blocks_end(separator: bytes, stripped: bytes, length: int) -> None:
    from dgiqa.cli.score import _names

    names = [b"n" * length, b"a\r", b"\xff", b"", b"line\nbreak" if separator == b"\0" else b"x"] * 3
    for end in (b"", separator):
        found = list(filter(None, _names(io.BytesIO(separator.join(names) + end))))
        assert found == [stripped if name == b"a\r" else name for name in names if name]


def test_a_list_is_read_as_it_is_taken() -> None:
    from dgiqa.cli.score import _names

    stream = io.BytesIO(b"name.jpg\n" * 100_000)
    names = _names(stream)
    assert next(names) == b"name.jpg"
    assert stream.tell() == 65_536


def test_notes_go_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [PIL.Image.new("RGB", (40, 40), (i, 90, 90)) for i in range(0, 250, 60)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert main(["score", str(tmp_path), "--json"]) == 0
    assert "moving.gif: first of 5 frames" in capsys.readouterr().err


def test_rows_that_can_not_be_put_in_their_place_are_not_lost(
    folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    out = tmp_path / "rows.jsonl"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))

    monkeypatch.setattr("dgiqa.results.rows.os.replace", full)
    assert main(["score", str(folder), "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert f"the rows so far are in {out}.part" in err
    assert "No space left on device" in err
    assert len(Path(f"{out}.part").read_text().splitlines()) > 1


def test_a_stopped_run_keeps_its_rows(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """An interrupt leaves the rows so far in FILE.part and an older FILE as it was."""
    import dgiqa.cli.score as verb

    out = tmp_path / "rows.jsonl"
    out.write_text("older\n")

    def interrupted(results, total):
        yield next(iter(results))
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "watch", interrupted)
    assert main(["score", str(folder), "--out", str(out)]) == 130
    assert out.read_text() == "older\n"
    assert len((tmp_path / "rows.jsonl.part").read_text().splitlines()) == 1
    assert "rows.jsonl.part" in capsys.readouterr().err


def test_fail_fast_leaves_an_older_file_as_it_was(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("older\n")
    listed = [str(folder / "broken.jpg"), str(folder / "a.png")]
    assert main(["score", *listed, "--out", str(out), "--fail-fast"]) == 1
    assert out.read_text() == "older\n"
    assert len((tmp_path / "rows.jsonl.part").read_text().splitlines()) == 1


def test_odd_names_survive_every_format(folder: Path, tmp_path: Path, capsys) -> None:
    picture = (folder / "a.png").read_bytes()
    names = ['comma, quote".png', "line\nbreak.png", "return\rhere.png", "\u4e2d\u6587.png"]
    for name in names:
        (folder / name).write_bytes(picture)
    assert main(["score", str(folder), "--out", str(tmp_path / "rows.csv")]) == 1
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as stream:
        found = {Path(row["path"]).name for row in csv.DictReader(stream)}
    assert set(names) <= found


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_any_terminal_encoding_will_do(folder: Path, encoding: str) -> None:
    (folder / "\u4e2d\u6587.png").write_bytes((folder / "a.png").read_bytes())
    for arguments in (["score", str(folder)], ["models", "default"]):
        done = subprocess.run(
            [sys.executable, "-m", "dgiqa", *arguments],
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == (1 if arguments[0] == "score" else 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_disk_is_a_clear_stop(folder: Path, buffered: bool) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dgiqa", "score", str(folder), "--json"],
            env=environment | ({} if buffered else {"PYTHONUNBUFFERED": "1"}),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.count("No space left") == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_models_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "* dgiqa_mobile.biq2021" in listed
    for name in ("dgiqa.koniq10k", "dgiqa.kadid10k", "depth_anything.v2_small", "depth_mobile.rendered"):
        assert name in listed
    assert main(["models", "dgiqa_mobile.biq2021"]) == 0
    shown = capsys.readouterr().out
    for word in ("arXiv", "Apache-2.0", "BIQ2021", "SRCC", "512", "sha256"):
        assert word.lower() in shown.lower()
    assert main(["models", "--json"]) == 0
    cards = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(cards) == len(listed.splitlines()) - 1


def test_fetch_of_embedded_weights_names_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "default", "--offline"]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["biq2021.onnx", "rendered.onnx"]


def test_an_own_card_finds_the_depth_card_beside_it(folder: Path, tmp_path: Path, capsys) -> None:
    """Its depth card is looked for beside it, from whatever folder the command runs."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("default", "depth_mobile.rendered"):
        card = find_card(name)
        text = (card.folder / card.file).read_text().replace('"depth_mobile.rendered"', '"rendered.toml"')
        (mine / card.file).write_text(f'arch = "{card.arch}"\n' + text)
        (mine / card.weights["onnx"].file).write_bytes((card.folder / card.weights["onnx"].file).read_bytes())
    assert main(["fetch", str(mine / "biq2021.toml"), "--offline"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(mine / "biq2021.onnx"), str(mine / "rendered.onnx")]
    assert main(["score", str(folder / "a.png"), "--model", str(mine / "biq2021.toml"), "--json"]) == 0
    label = json.loads(capsys.readouterr().out)["model"]
    assert label.startswith("dgiqa_mobile.biq2021@1.4+")
    assert "+depth_mobile.rendered@1.0+" in label


def test_demo_prints_the_ladder_and_keeps_its_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dgiqa.cli.demo import KINDS

    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    for word in ("street", "haze", "low light", "flare", "blur", "noise", "jpeg"):
        assert word in out
    with (tmp_path / "demo" / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    scenes = {row["path"].split(".")[0].split("-")[0] for row in rows}
    assert len(rows) == len(scenes) * (1 + 3 * len(KINDS))
    for row in rows:
        assert (tmp_path / "demo" / "pictures" / row["path"]).is_file()
    quality = {row["path"]: float(row["quality"]) for row in rows}
    for scene in scenes:
        worst = np.mean([quality[f"{scene}-{kind}-5.png"] for kind in KINDS])
        assert worst < quality[f"{scene}.png"] - 5


def test_a_closed_pipe_is_no_crash(folder: Path) -> None:
    for i in range(60):  # more rows than the pipe's reader waits for
        (folder / f"copy{i}.png").write_bytes((folder / "a.png").read_bytes())
    command = f"{sys.executable} -m dgiqa score {folder} --json | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=os.environ, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_help_shows_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """Its first line as it stands, whatever signs are in it; and each verb has help of its own."""
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    modules = cli._verbs()
    assert len(modules) > 5
    for module in modules:
        verb = module.__name__.rpartition(".")[2]
        assert f"{verb} {(module.__doc__ or '').strip().splitlines()[0].rstrip('.')}" in shown
        with pytest.raises(SystemExit) as stopped:
            main([verb, "--help"])
        assert stopped.value.code == 0
        assert f"dgiqa {verb}" in capsys.readouterr().out

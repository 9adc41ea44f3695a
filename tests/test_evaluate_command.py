"""dgiqa evaluate: what it prints and writes, its exit codes, and every way to misuse it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import dgiqa.cli.evaluate as verb
from dgiqa.cli import main
from dgiqa.datasets import Split
from dgiqa.errors import UsageError
from dgiqa.evaluation import from_json

NAMES = [f"{i:02}.png" for i in range(12)]
OTHERS = [f"other{name}" for name in NAMES]


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two data sets of twelve small pictures in the working folder: ``made`` and ``other``, splits test and train."""
    rng = np.random.default_rng(0)
    names = {"made": NAMES, "other": OTHERS}
    for name, files in names.items():
        (tmp_path / name / "Images").mkdir(parents=True)
        for i, file in enumerate(files):
            pixels = rng.integers(100 - 8 * i, 100 + 8 * i + 1, (32, 40, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / name / "Images" / file)
    mos = (0.05 + 0.08 * rng.permutation(12)).astype(np.float32)

    def read(dataset: str, split: str, root: Path) -> Split:
        if dataset not in names:
            raise UsageError(f"{dataset}: no such data set")
        paths = tuple(root / "Images" / name for name in names[dataset])
        return Split(dataset, split, paths, mos, ("low", "high") * 6, deviations=np.full(12, 0.2, np.float32), raters=9)

    monkeypatch.setattr(verb, "read_split", read)
    monkeypatch.chdir(tmp_path)
    write_scores(tmp_path / "good.csv", mos + 0.01 * rng.normal(size=12))
    write_scores(tmp_path / "poor.csv", mos + 0.3 * rng.normal(size=12))
    return tmp_path


def write_scores(file: Path, scores, names=NAMES) -> None:
    file.write_text("image,score\n" + "".join(f"{name},{score}\n" for name, score in zip(names, scores, strict=True)))


def run(*words: str) -> int:
    return main(["evaluate", *words])


ON = ("--on", "made", "--root", "made")


def test_scores_of_another_tool(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", "good.csv", *ON, "--out", "r.json", "--page", "r.html", "--scores", "s.csv") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "made test"
    assert out.splitlines()[2].startswith("good.csv       12  ")
    assert "different or similar AUC" in out
    assert err == (
        "dgiqa: good.csv: 12 of 12 pictures of made test have a score, 0 rows matched by path, 12 by file name, "
        "0 left over\ndgiqa: s.csv written\ndgiqa: r.json written\ndgiqa: r.html written\n"
    )
    report = from_json(Path("r.json").read_text(), "r.json")
    assert report.command == (
        "dgiqa evaluate --on made --from good.csv --root made --out r.json --page r.html --scores s.csv"
    )
    assert report.versions["numpy"] == np.__version__
    assert (report.limit, report.models, report.places) == (0, ("good.csv",), ("made test",))
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")
    with Path("s.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [f"Images/{name}" for name in NAMES]
    assert set(rows[0]) == {"dataset", "split", "path", "mos", "model", "quality", "low", "high", "error"}
    assert not list(sets.glob("*.part"))


def test_the_result_file_repeats_but_for_its_date(sets: Path) -> None:
    found = []
    for _ in range(2):
        assert run("--from", "good.csv", "--from", "poor.csv", *ON, "--out", "r.json") == 0
        found.append(json.loads(Path("r.json").read_text()))
        assert found[-1].pop("date")
    assert found[0] == found[1]


def test_what_scores_writes_is_judged_the_same(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", "good.csv", *ON, "--scores", "s.csv", "--out", "1.json") == 0
    assert run("--from", "s.csv", *ON, "--out", "2.json") == 0
    first, second = (json.loads(Path(f"{i}.json").read_text())["evaluations"][0] for i in (1, 2))
    assert first.pop("fingerprint") != second.pop("fingerprint")
    assert first == second
    assert "12 rows matched by path, 0 by file name" in capsys.readouterr().err


def test_the_default_model_scores_and_says_what_it_could_not(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sets / "made" / "Images" / NAMES[3]).write_bytes(b"")
    assert run(*ON, "--out", "r.json", "--scores", "s.csv") == 1
    out, err = capsys.readouterr()
    path = str(Path("made", "Images", NAMES[3]))
    assert f"dgiqa: left out: dgiqa_mobile.biq2021@1.4: {path}: {path}: " in err
    assert "1 of 12 pictures have no score and are left out" in out
    (found,) = from_json(Path("r.json").read_text()).evaluations
    assert (found.model, found.asked, found.overall.n) == ("dgiqa_mobile.biq2021@1.4", 12, 11)
    assert found.missing[0].path == path
    assert len(found.fingerprint) == 8
    # Its own rows, read back, are judged alike.
    assert run("--from", "s.csv", *ON, "--out", "2.json") == 1
    again = from_json(Path("2.json").read_text()).evaluations[0]
    assert (again.overall, again.curve, again.missing) == (found.overall, found.curve, found.missing)


def test_two_models_are_compared(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", "good.csv", "--from", "poor.csv", *ON, "--out", "r.json") == 0
    assert "good.csv minus poor.csv, 12 pictures of both\n  SRCC +" in capsys.readouterr().out
    (found,) = from_json(Path("r.json").read_text()).comparisons
    assert (found.first, found.second, found.n) == ("good.csv", "poor.csv", 12)
    assert found.srcc.value > 0


def test_several_data_sets_make_a_matrix(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scores(sets / "both.csv", [*range(12), *range(12)], NAMES + OTHERS)
    assert run("--from", "both.csv", "--on", "made=made", "--on", "other:train=other", "--out", "r.json") == 0
    out, _ = capsys.readouterr()
    report = from_json(Path("r.json").read_text())
    here, there = (
        f"{e.overall.srcc.value:.3f} [{e.overall.srcc.low:.3f}, {e.overall.srcc.high:.3f}]" for e in report.evaluations
    )
    width = max(len(here), len("made test"))
    assert out.split("\n\n")[-2] == (f"SRCC      {'made test':{width}}  other train\nboth.csv  {here:{width}}  {there}")
    assert "these are training pictures" in out


def test_files_may_have_scores_of_some_sets_alone(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file, names in (("one.csv", NAMES), ("two.csv", OTHERS)):
        rows = "".join(f"{name},{i},piqe\n" for i, name in enumerate(names))
        Path(file).write_text(f"path,score,model\n{rows}")
    on = ("--on", "made=made", "--on", "other=other")
    assert run("--from", "one.csv", "--from", "two.csv", *on, "--out", "r.json") == 0
    report = from_json(Path("r.json").read_text())
    assert [(e.model, e.place) for e in report.evaluations] == [("piqe", "made test"), ("piqe", "other test")]
    assert run("--from", "one.csv", *on) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "dgiqa: other test: no file of --from has scores of its pictures; leave the set out"
    )


def test_lower_is_better_and_names_that_are_taken(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", "good.csv", "--from", "./good.csv", "--lower-is-better", *ON, "--out", "r.json") == 0
    report = from_json(Path("r.json").read_text())
    assert report.models == ("good.csv (negated)", "good.csv of good.csv (negated)")
    assert report.evaluations[0].overall.srcc.value < 0
    assert report.comparisons[0].srcc.p == 1


def test_limit_takes_the_first(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--from", "good.csv", *ON, "--limit", "7", "--out", "r.json") == 0
    report = from_json(Path("r.json").read_text())
    assert (report.limit, report.evaluations[0].asked) == (7, 7)
    assert "7 of 7 pictures" in capsys.readouterr().err


def test_many_missing_are_counted_and_too_few_not_compared(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scores(sets / "few.csv", np.arange(3.0), NAMES[:3])
    assert run("--from", "few.csv", "--from", "few.csv", *ON) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines[2] == (
        "dgiqa: not compared: few.csv and few.csv of few.csv: 3 pictures of made test have both scores; 5 are the least"
    )
    gone = Path("made", "Images", NAMES[3])
    assert lines[3] == f"dgiqa: left out: few.csv: {gone}: no score in few.csv"
    assert lines[-1] == "dgiqa: and 8 more; --out and --page name them all"
    assert len(lines) == 3 + 10 + 1
    assert "minus" not in out


def test_one_that_can_not_be_judged_loses_no_other(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scores(sets / "same.csv", [1] * 12)
    assert run("--from", "same.csv", "--from", "good.csv", *ON, "--out", "r.json", "--scores", "s.csv") == 1
    out, err = capsys.readouterr()
    assert [evaluation.model for evaluation in from_json(Path("r.json").read_text()).evaluations] == ["good.csv"]
    assert "good.csv" in out
    assert err.splitlines()[-1] == "dgiqa: not judged: same.csv: the same score, 1, for all 12 pictures of made test"
    assert Path("s.csv").read_text().count("same.csv") == 12


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--on", "made"), "made: its folder is missing; --root DIR, or --on made=DIR for each of several data sets"),
        (("--on", "none", "--root", "made"), "none: no such data set"),
        ((*ON, "--on", "made"), "--on: made test is named twice; once is enough; CSV files need names that differ"),
        ((*ON, "--workers", "0"), "--workers must be positive, --limit not negative"),
        ((*ON, "--limit", "-1"), "--workers must be positive, --limit not negative"),
        (
            (*ON, "--column", "x"),
            "--column and --lower-is-better are about the files of --from; add --from FILE.csv",
        ),
        ((*ON, "--from", "none.csv"), "none.csv: can't be read (No such file or directory)"),
        ((*ON, "--from", "good.csv", "--column", "x"), "good.csv: no column x; it has image, score"),
        ((*ON, "--from", "empty.csv"), "empty.csv: is empty; it needs a column of paths and one of scores"),
        ((*ON, "--from", "word.csv"), "word.csv, line 3: 'good' is no number; is it the right column? --column NAME"),
        ((*ON, "--from", "same.csv"), "same.csv: the same score, 1, for all 12 pictures of made test"),
        ((*ON, "--out", "r.txt"), "--out r.txt: its name must end in .json"),
        ((*ON, "--page", "r.json"), "--page r.json: its name must end in .html"),
        ((*ON, "--scores", "r.json"), "--scores r.json: its name must end in .csv"),
        ((*ON, "--out", "folder.json"), "--out folder.json: is a folder; name a file"),
        (
            (*ON, "--out", "none/r.json"),
            "--out none/r.json: can't be written (No such file or directory); name a file in a folder that is there",
        ),
        (
            (*ON, "--out", "good.csv/r.json"),
            "--out good.csv/r.json: can't be written (Not a directory); name a file in a folder that is there",
        ),
        (
            (*ON, "--from", "good.csv", "--scores", "./good.csv"),
            "--scores good.csv: would replace a file that is read; give it another name",
        ),
    ],
)
def test_misuse_is_told_and_ends_with_2(
    sets: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    (sets / "folder.json").mkdir()
    (sets / "empty.csv").write_text("")
    (sets / "word.csv").write_text("image,score\na.png,1\nb.png,good\n")
    write_scores(sets / "same.csv", [1] * 12)
    before = sorted(path.name for path in sets.iterdir())
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"dgiqa: {text}"
    assert sorted(path.name for path in sets.iterdir()) == before


def test_ratings_are_not_replaced(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sets / "ratings.csv").write_text("path,mos\n")
    for on in ("ratings.csv", "./ratings.csv=made", "ratings.csv:test", "ratings.csv:test=made"):
        assert run("--on", on, "--scores", "ratings.csv") == 2
        assert capsys.readouterr().err == (
            "dgiqa: --scores ratings.csv: would replace a file that is read; give it another name\n"
        )


def test_a_file_that_could_not_be_finished_leaves_the_older_one(
    sets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("r.json").write_text("older")

    def full(report: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verb, "to_json", full)
    assert run("--from", "good.csv", *ON, "--out", "r.json") == 2
    assert capsys.readouterr().err.splitlines()[-1] == "dgiqa: [Errno 28] No space left on device"
    assert Path("r.json").read_text() == "older"
    assert not list(sets.glob("*.part"))


def test_a_csv_of_ratings_is_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the real reader of data sets: pictures lie beside the file."""
    for i in range(6):
        PIL.Image.new("RGB", (16, 16), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("path,mos\n" + "".join(f"{i}.png,{i / 5}\n" for i in range(6)))
    (tmp_path / "tool.csv").write_text("".join(f"{i}.png,{i * i}\n" for i in range(6)))
    assert run("--from", str(tmp_path / "tool.csv"), "--on", str(ratings), "--out", str(tmp_path / "r.json")) == 0
    (found,) = from_json((tmp_path / "r.json").read_text()).evaluations
    assert (found.split, found.overall.n, found.overall.srcc.value) == ("all", 6, 1)


def test_evaluation_runs_without_torch() -> None:
    code = (
        "import sys, dgiqa.cli.evaluate, dgiqa.evaluation; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

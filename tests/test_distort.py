"""``dgiqa distort``: ladders and their manifest, resumed, refused and reported."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import dgiqa
from dgiqa.cli import main
from dgiqa.cli.distort import COLUMNS
from dgiqa.depth import as_metres, open_depth
from dgiqa.distortions import GROUPS, KINDS, distort, family, kinds_of

KNOWN = f"groups: {', '.join(GROUPS)}; kinds: {', '.join(KINDS)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of one name, a third, and a broken one."""
    pictures = tmp_path / "pictures"
    (pictures / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "below/A.png", "below/c.jpg"):
        smooth = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        PIL.Image.fromarray(smooth).save(pictures / name)
    (pictures / "broken.jpg").write_bytes((pictures / "below" / "c.jpg").read_bytes()[:200])
    return pictures


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_ladders_and_manifest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(["distort", str(folder), "--out", str(out), "--kinds", "jpeg,haze", "--severities", "1,4-5"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == f"{out}: 18 pictures of 3 sources, 0 kept, 1 failed"
    assert said.err.startswith(f"dgiqa: {folder / 'broken.jpg'}: ")
    table = rows(out)
    assert tuple(table[0]) == COLUMNS
    assert [row["path"] for row in table] == sorted(
        f"{name}/{kind}-{s}.png" for name in ("a", "A~2", "c") for kind in ("haze", "jpeg") for s in (1, 4, 5)
    )
    assert set(files(out)) == {row["path"] for row in table} | {"manifest.csv"}


def test_every_row_says_how_to_make_its_picture_again(folder: Path) -> None:
    out = folder.parent / "out"
    assert main(["distort", str(folder / "below"), "--out", str(out), "--kinds", "noise,haze,contrast"]) == 0
    estimate = open_depth("depth_mobile.rendered")
    for row in rows(out):
        source = Path(row["ref"])
        assert hashlib.sha256(source.read_bytes()).hexdigest() == row["ref_sha256"]
        pixels = np.asarray(PIL.Image.open(source).convert("RGB"))
        depth = as_metres(estimate(pixels)) if row["distortion"] == "haze" else None
        assert row["depth"] == ("depth_mobile.rendered@1.0" if row["distortion"] == "haze" else "")
        again = distort(pixels, row["distortion"], int(row["severity"]), depth=depth, seed=int(row["seed"]))
        assert np.array_equal(np.asarray(PIL.Image.open(out / row["path"])), again)
        assert int(row["mos"]) + int(row["severity"]) == 5
        assert (row["subset"], row["version"]) == (family(row["distortion"]), dgiqa.__version__)
    seeds = {row["ref"]: row["seed"] for row in rows(out)}
    assert len(set(seeds.values())) == len(seeds) == 2


def test_workers_and_a_second_run_change_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = folder.parent / "one", folder.parent / "two"
    command = ["distort", str(folder / "a.png"), str(folder / "below"), "--kinds", "impulse,rain", "--severities", "2"]
    assert main([*command, "--out", str(one)]) == 0
    assert main([*command, "--out", str(two), "--workers", "3"]) == 0
    assert files(one) == files(two)
    times = {path: path.stat().st_mtime_ns for path in one.rglob("*.png")}
    capsys.readouterr()
    assert main([*command, "--out", str(one)]) == 0
    assert capsys.readouterr().err == f"{one}: 6 pictures of 3 sources, 6 kept, 0 failed\n"
    assert {path: path.stat().st_mtime_ns for path in one.rglob("*.png")} == times


def test_an_interrupted_run_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As if killed between a picture and its row, in the middle of a row, and before a picture."""
    out = folder.parent / "out"
    command = ["distort", str(folder / "a.png"), "--kinds", "jpeg,speckle", "--out", str(out)]
    assert main(command) == 0
    whole = files(out)
    lines = (out / "manifest.csv").read_bytes().split(b"\r\n")
    (out / "manifest.csv").write_bytes(b"\r\n".join(lines[:4]) + b"\r\n" + lines[4][:40])
    (out / "a" / "speckle-5.png").unlink()
    capsys.readouterr()
    assert main(command) == 0
    assert files(out) == whole
    assert capsys.readouterr().err == f"{out}: 10 pictures of 1 source, 9 kept, 0 failed\n"


def test_more_kinds_later_join_the_manifest(folder: Path) -> None:
    out = folder.parent / "out"
    for kinds in ("jpeg", "blur"):
        assert main(["distort", str(folder / "a.png"), "--kinds", kinds, "--out", str(out)]) == 0
    assert [row["distortion"] for row in rows(out)] == ["blur"] * 5 + ["jpeg"] * 5


def test_no_other_file_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    command = ["distort", str(folder / "a.png"), "--kinds", "noise", "--severities", "3", "--out", str(out)]
    (out / "a").mkdir(parents=True)
    foreign = out / "a" / "noise-3.png"
    foreign.write_bytes(b"mine")
    assert main(command) == 2
    refused = f"dgiqa: {foreign}: is there, and is not what this run makes; choose another --out\n"
    assert capsys.readouterr().err == refused
    assert foreign.read_bytes() == b"mine"
    foreign.unlink()
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--seed", "1"]) == 2
    assert capsys.readouterr().err == refused
    (out / "manifest.csv").write_text("name,price\n")
    assert main(command) == 2
    assert capsys.readouterr().err == (
        f"dgiqa: {out / 'manifest.csv'}: is not a manifest of dgiqa distort; choose another --out\n"
    )
    assert (out / "manifest.csv").read_text() == "name,price\n"


def test_pictures_under_out_are_no_sources(folder: Path) -> None:
    (folder / "broken.jpg").unlink()
    for _ in range(2):
        assert main(["distort", str(folder), "--kinds", "jpeg", "--out", str(folder / "ladders")]) == 0
    assert {row["path"].split("/")[0] for row in rows(folder / "ladders")} == {"a", "A~2", "c"}


def test_jpg_groups_and_no_depth(folder: Path) -> None:
    out = folder.parent / "out"
    command = ["distort", str(folder / "a.png"), "--kinds", "natural,jpeg", "--severities", "3", "--out", str(out)]
    assert main([*command, "--depth", "none", "--format", "jpg"]) == 0
    table = {row["distortion"]: row for row in rows(out)}
    assert set(table) == {*kinds_of("natural"), "jpeg"}
    assert {kind for kind, row in table.items() if row["depth"] == "none"} == {
        "defocus", "flare", "haze", "rain", "underwater",
    }  # fmt: skip
    assert PIL.Image.open(out / "a" / "haze-3.jpg").format == "JPEG"


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--kinds", "fog"], f"--kinds fog: fog is unknown; {KNOWN}"),
        (["--kinds", "jpeg,"], f"--kinds jpeg,: an empty name is unknown; {KNOWN}"),
        (["--severities", "0-3"], "--severities 0-3: 0-3 is no part of 1-5; such as 1,3-5"),
        (["--severities", "4-2"], "--severities 4-2: 4-2 is no part of 1-5; such as 1,3-5"),
        (["--severities", "12"], "--severities 12: 12 is no part of 1-5; such as 1,3-5"),
        (["--severities", "1,"], "--severities 1,: an empty part is no part of 1-5; such as 1,3-5"),
        (["--seed", "-1"], "--workers and --max-megapixels must be positive, --seed 0 or more"),
        (["--workers", "0"], "--workers and --max-megapixels must be positive, --seed 0 or more"),
        (
            ["--depth", "dgiqa_mobile.biq2021"],
            "dgiqa_mobile.biq2021 gives quality, not depth; dgiqa models lists the depth models",
        ),
    ],
)
def test_misuse_is_told(folder: Path, extra: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(["distort", str(folder / "a.png"), "--out", str(out), *extra]) == 2
    assert capsys.readouterr().err == f"dgiqa: {text}\n"
    assert not out.exists()


def test_nothing_to_do_and_nowhere_to_write(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["distort", str(tmp_path / "empty"), "--out", str(tmp_path / "out"), "--kinds", "jpeg"]) == 2
    assert capsys.readouterr().err == (
        f"dgiqa: no pictures in {tmp_path / 'empty'}; PDFs, videos and hidden files are left out\n"
    )
    (tmp_path / "file").write_text("")
    assert main(["distort", str(folder / "a.png"), "--out", str(tmp_path / "file"), "--kinds", "jpeg"]) == 2
    assert capsys.readouterr().err == f"dgiqa: --out {tmp_path / 'file'}: can't be written (File exists)\n"


def test_a_missing_and_a_large_picture_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, missing = folder.parent / "out", folder / "missing.png"
    command = ["distort", str(missing), str(folder / "a.png"), "--kinds", "jpeg", "--out", str(out)]
    assert main([*command, "--max-megapixels", "0.001"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"dgiqa: {missing}: no such file or folder; check the path",
        f"dgiqa: {folder / 'a.png'}: 64×48 is 0.0 megapixels, over the limit of 0.001; "
        "raise it with --max-megapixels or max_megapixels=, or leave the picture out",
        f"{out}: 0 pictures of 0 sources, 0 kept, 2 failed",
    ]
    assert rows(out) == []

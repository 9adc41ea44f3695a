"""``dgiqa cull``: what is alike, what is kept and why; nothing is lost, replaced or deleted, and a move goes back."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from dgiqa.cli import main
from dgiqa.culling import apply
from dgiqa.culling.alike import Look, groups, look_at, taken
from dgiqa.culling.decide import Rules, by_share, decide
from test_compare import rows

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def saved(path: Path, image: PIL.Image.Image, when: str | None = None, quality: int = 90) -> Path:
    exif = PIL.Image.Exif()
    if when:
        exif.get_ifd(0x8769)[0x9003], _, fraction = when.partition(".")
        if fraction:
            exif.get_ifd(0x8769)[0x9291] = fraction
    image.save(path, quality=quality, exif=exif)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photograph, a worse copy and a darker small one of it, a burst of two, another photograph, and no picture."""
    folder = tmp_path / "holiday"
    folder.mkdir()
    room, street = (PIL.Image.open(PICTURES / f"{name}.jpg") for name in ("room", "street"))
    saved(folder / "a.jpg", room)
    saved(folder / "b.jpg", room, quality=6)
    saved(folder / "c.jpg", room.resize((300, 200)).point(lambda v: v * 0.8))
    saved(folder / "d.jpg", street, "2026:05:01 10:00:00")
    saved(folder / "e.jpg", street.crop((40, 20, 768, 505)), "2026:05:01 10:00:02")
    saved(folder / "f.jpg", PIL.Image.open(PICTURES / "portrait.jpg"))
    (folder / "g.jpg").write_bytes(b"no picture")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decided(folder: Path, capsys, *options: str) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert main(["cull", str(folder), "--json", *options]) == 1  # one can't be scored
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {Path(each["path"]).name: each for each in found}


# What is alike ----------------------------------------------------------------------------------------------


def test_copies_are_alike_whatever_their_size_light_and_compression_and_others_are_not(folder: Path) -> None:
    looks = [look_at(str(path)) for path in sorted(folder.iterdir())]
    assert looks[6] is None
    assert groups(looks, duplicate=4, burst=0, seconds=0) == [[0, 1, 2]]


def test_real_photographs_are_not_alike(photographs: list[Path]) -> None:
    looks = [look_at(str(path)) for path in [*photographs, *sorted(PICTURES.glob("*.jpg"))]]
    found = groups(looks, duplicate=4, burst=12, seconds=4)
    count, names = len(photographs), [path.name for path in sorted(PICTURES.glob("*.jpg"))]
    pairs = {frozenset(names[i - count] for i in group) for group in found}
    assert pairs <= {
        frozenset({"landscape.jpg", "landscape-low-light.jpg"}),
        frozenset({"street.jpg", "street-haze.jpg"}),
    }


def look(bits: int, seconds: float | None = None) -> Look:
    return Look(np.array([bits >> i & 1 for i in range(64)], np.uint8), seconds)


def test_bursts_need_both_time_and_looks_and_chains_join() -> None:
    near, far = look(0xFF, 10.0), look(0xFFFFFF, 10.0)
    plain = {"duplicate": 2, "burst": 8, "seconds": 3.0}
    assert groups([look(0, 8.0), near], **plain) == [[0, 1]]
    assert groups([look(0, 6.9), near], **plain) == []
    assert groups([look(0, None), near], **plain) == []
    assert groups([look(0, 10.0), far], **plain) == []
    assert groups([look(3), look(0), look(0xF), None, look(0xF0000)], **plain) == [[0, 1, 2]]
    assert groups([None, None], **plain) == groups([], **plain) == []


def test_many_are_compared_in_parts() -> None:
    rng = np.random.default_rng(0)
    looks = [Look(rng.integers(0, 2, 64).astype(np.uint8), None) for _ in range(1500)]
    looks += [looks[3], looks[1400]]
    assert groups(looks, duplicate=2, burst=0, seconds=0) == [[3, 1500], [1400, 1501]]


@pytest.mark.parametrize(("when", "wanted"), [
    ("2026:05:01 10:00:00", 1777629600.0), ("2026:05:01 10:00:00.25", 1777629600.25), ("long ago", None), (None, None),
])  # fmt: skip
def test_the_cameras_time(when: str | None, wanted: float | None, tmp_path: Path) -> None:
    assert taken(str(saved(tmp_path / "x.jpg", PIL.Image.new("RGB", (8, 8)), when))) == wanted
    assert taken(str(tmp_path / "missing.jpg")) is None


# Verdicts ---------------------------------------------------------------------------------------------------


def test_thresholds_and_the_best_of_those_alike() -> None:
    found = decide(rows([80, 79, 60, 20, 50, None]), [[0, 1, 2], [3, 4]], Rules(70, 45, margin=2))
    assert [each.verdict for each in found] == ["keep", "review", "reject", "reject", "review", "review"]
    assert [each.best for each in found] == [True, False, False, False, True, False]
    assert found[2].reason == "one of 3 alike, 20.0 behind the best, 0.jpg"
    assert found[4].reason == "quality 50.0, in between; best of 2 alike"
    assert found[5].reason == "not scored: broken"


@pytest.mark.parametrize(("best", "worst", "wanted"), [
    (0.2, 0.3, "r r r . . . . . k k"),
    (0, 0, ". . . . . . . . . ."),
    (1, 0, "k k k k k k k k k k"),
    (0.1, 0, ". . . . . . . . . k"),
])  # fmt: skip
def test_shares(best: float, worst: float, wanted: str) -> None:
    qualities = [float(q) for q in range(0, 100, 10)]
    found = decide(rows(list(qualities)), [], by_share(qualities, best, worst, 2))
    marks = {"keep": "k", "reject": "r", "review": "."}
    assert " ".join(marks[each.verdict] for each in found) == wanted
    assert by_share([], 0.5, 0.5, 2).keep == np.inf


# The command ------------------------------------------------------------------------------------------------


def test_by_default_nothing_changes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(folder.parent)
    assert main(["cull", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert content(folder.parent) == before
    assert "nothing was changed" in err
    assert "2 groups alike, * their best" in out
    assert "not scored: " in out
    assert "g.jpg" in out
    found = decided(folder, capsys)
    assert {name: each["group"] for name, each in found.items()} == {
        "a.jpg": 1, "b.jpg": 1, "c.jpg": 1, "d.jpg": 2, "e.jpg": 2, "f.jpg": None, "g.jpg": None,
    }  # fmt: skip
    assert found["a.jpg"]["best"]
    assert found["b.jpg"]["verdict"] == "reject"


def test_links(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into, before = tmp_path / "sorted", content(folder)
    options = ("--apply", "links", "--into", str(into))
    found = decided(folder, capsys, *options)
    for name, each in found.items():
        assert (into / str(each["verdict"]) / name).resolve() == (folder / name).resolve()
    assert sum(len(list((into / verdict).iterdir())) for verdict in ("keep", "review", "reject")) == 7
    assert main(["cull", str(folder), *options]) == 1
    assert "is there already, left alone" in capsys.readouterr().err
    assert content(folder) == before


def test_ratings_beside_the_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "f.jpg.xmp").write_text("somebody's own")
    found = decided(folder, capsys, "--apply", "xmp")
    assert (folder / "f.jpg.xmp").read_text() == "somebody's own"
    xmp = "{http://ns.adobe.com/xap/1.0/}"
    for name, each in found.items():
        if name != "f.jpg":
            description = ET.parse(folder / f"{name}.xmp").getroot()[0][0]
            wanted = apply.RATINGS[each["verdict"]]  # type: ignore[index]
            assert (int(description.get(f"{xmp}Rating", "")), description.get(f"{xmp}Label")) == wanted
            assert str(each["reason"]) in "".join(description.itertext())


def test_a_move_and_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into, before = tmp_path / "sorted", content(folder)
    (into / "reject").mkdir(parents=True)
    (into / "reject" / "b.jpg").write_bytes(b"in the way")
    found = decided(folder, capsys, "--apply", "move", "--into", str(into))
    assert sorted(content(folder)) == ["b.jpg"], "what is in the way is not replaced"
    assert (into / "reject" / "b.jpg").read_bytes() == b"in the way"
    assert (into / str(found["a.jpg"]["verdict"]) / "a.jpg").read_bytes() == before["a.jpg"]
    assert main(["cull", "--undo", str(into / apply.UNDO)]) == 0
    assert content(folder) == before
    assert main(["cull", "--undo", str(into / apply.UNDO)]) == 0
    assert "0 back in place" in capsys.readouterr().err


def test_a_move_is_taken_back_from_another_folder(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    before = content(folder)
    monkeypatch.chdir(folder.parent)
    decided(folder, capsys, "--apply", "move", "--into", "sorted/")
    assert not content(folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["cull", "--undo", str(folder.parent / "sorted" / apply.UNDO)]) == 0
    assert content(folder) == before


def test_what_is_sorted_already_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = folder / "sorted"
    options = ["cull", str(folder), "--apply", "move", "--into", str(into)]
    assert main(options) == 1
    before = content(into)
    saved(folder / "new.jpg", PIL.Image.open(PICTURES / "landscape.jpg"))
    capsys.readouterr()
    assert main(options) == 0
    assert "1 moved" in capsys.readouterr().err
    after = content(into)
    assert {name: after[name] for name in before if name != apply.UNDO} | {apply.UNDO: before[apply.UNDO]} == before
    assert len(after) == len(before) + 1
    assert main(["cull", "--undo", str(into / apply.UNDO)]) == 0
    assert sorted(path.name for path in folder.glob("*.jpg")) == [f"{name}.jpg" for name in [*"abcdefg", "new"]]


def test_a_move_that_stops_anywhere_can_be_taken_back(folder: Path, tmp_path: Path, monkeypatch) -> None:
    before, into = content(folder), tmp_path / "sorted"
    decisions = decide([{**row, "path": str(folder / str(row["path"]))} for row in named("abcdef")], [], Rules(70, 45))
    real = os.rename
    for stop in range(12):  # before and after each of the six
        calls = iter(range(100))

        def rename(old: Path, new: Path, stop: int = stop, calls=calls) -> None:
            if next(calls) == stop // 2:
                if stop % 2:
                    real(old, new)
                raise KeyboardInterrupt
            real(old, new)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            list(apply.move(decisions, into))
        monkeypatch.setattr(os, "rename", real)
        assert len(content(folder)) == len(before) - (stop + 1) // 2
        assert not [fault for _, fault in apply.undo(into / apply.UNDO) if fault]
        assert content(folder) == before


def named(names: str) -> list[dict[str, object]]:
    return [{**row, "path": f"{name}.jpg"} for name, row in zip(names, rows([80, 20, 50, 80, 20, 50]), strict=True)]


def test_pictures_of_one_name_all_find_a_place(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "x.jpg").write_bytes(bytes([i]))
    qualities = [{**row, "path": str(tmp_path / str(i) / "x.jpg")} for i, row in enumerate(rows([80, 80, 80]))]
    list(apply.move(decide(qualities, [], Rules(70, 45)), tmp_path / "into"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "into" / "keep").iterdir()} == {
        "x.jpg": b"\0", "x-2.jpg": b"\1", "x-3.jpg": b"\2",
    }  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "give PATHs to sort"),
    (["x", "--undo", "y"], "give PATHs to sort"),
    (["x", "--apply", "move"], "add --into DIR"),
    (["x", "--into", "y"], "--into is for"),
    (["x", "--keep", "50", "--reject", "60"], "would be both"),
    (["x", "--keep", "50", "--keep-best", "60"], "or percents"),
    (["x", "--keep-best", "60", "--reject-worst", "60"], "more than all"),
    (["x", "--keep", "101"], "lie in 0 to 100"),
    (["--undo", "missing.jsonl"], "can't be read"),
    (["--undo", "other.jsonl"], "is no journal"),
    (["x", "shelf.zip"], "is no file of this machine"),
])  # fmt: skip
def test_misuse_is_named(arguments: list[str], said: str | None, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.jsonl").write_text("{}\n")
    (tmp_path / "x").mkdir()
    with zipfile.ZipFile(tmp_path / "shelf.zip", "w") as shelf:
        shelf.write(PICTURES / "room.jpg", "room.jpg")
    saved(tmp_path / "x" / "a.jpg", PIL.Image.new("RGB", (64, 64)))
    assert main(["cull", *arguments]) == 2
    assert said is None or said in capsys.readouterr().err

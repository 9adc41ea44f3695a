"""Measures that compare with an original: their values against piq's, their laws, and how they join the product.

``golden_full_reference.json`` holds what piq 0.8.0 gave, in float64, for scikit-image's public-domain photographs
spoiled by the project's own distortions (or not at all).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import dgiqa
from dgiqa import Compared
from dgiqa.cards import read_card
from dgiqa.cli import main
from dgiqa.distortions import distort
from dgiqa.errors import CardError, ImageTooSmall, ReferenceMismatch, UsageError
from dgiqa.models import list_models
from dgiqa.results.run import read_run
from dgiqa.runtimes import open_runtime
from dgiqa.scorer import Scorer
from dgiqa.sources import Found, Held
from dgiqa.types import UInt8

GOLDEN = json.loads((Path(__file__).parent / "golden_full_reference.json").read_text())
CARDS = [card for card in list_models("quality") if card.arch == "full_reference"]
NAMES = [card.name.partition(".")[2] for card in CARDS]
#: FSIM's noise is told from a median; elsewhere only the order of additions differs.
TOLERANCE = {"fsim": 1e-4}


@pytest.fixture(scope="module")
def scorers() -> dict[str, Scorer]:
    return {name: dgiqa.load(f"full_reference.{name}", None) for name in NAMES}


def test_there_are_six() -> None:
    assert NAMES == ["fsim", "gmsd", "ms_ssim", "psnr", "ssim", "vif"]


@pytest.mark.parametrize("case", GOLDEN)
def test_values_are_piqs(case: str, samples: dict[str, UInt8], scorers: dict[str, Scorer]) -> None:
    name, kind, *severity = case.split("-")
    original = samples[name]
    picture = distort(original, kind, int(severity[0]), seed=3) if severity else original
    for measure, expected in GOLDEN[case].items():
        raw = scorers[measure].score(picture, ref=original).raw
        value = -raw if measure == "gmsd" else raw
        assert value == pytest.approx(expected, abs=TOLERANCE.get(measure, 1e-5)), measure


@pytest.mark.parametrize("name", NAMES)
def test_more_of_a_fault_is_worse_and_the_original_best(
    name: str, samples: dict[str, UInt8], scorers: dict[str, Scorer]
) -> None:
    for original in (samples["cat"], samples["coffee"]):
        best = scorers[name].score(original, ref=original).quality
        assert best == pytest.approx(100, abs=1e-3)
        for kind in ("gaussian_blur", "noise", "jpeg"):
            told = [scorers[name].score(distort(original, kind, s), ref=original).quality for s in (1, 3, 5)]
            assert best > told[0] > told[1] > told[2]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_pins_its_formula_down(name: str) -> None:
    card = next(card for card in CARDS if card.name == f"full_reference.{name}")
    code = (card.folder / card.weights["numpy"].file).read_bytes().replace(b"\r\n", b"\n")
    assert card.weights["numpy"].sha256 == hashlib.sha256(code).hexdigest()


def test_sources_of_every_kind_and_in_any_batch(
    samples: dict[str, UInt8], scorers: dict[str, Scorer], tmp_path: Path
) -> None:
    original, picture = samples["cat"], distort(samples["cat"], "noise", 2)
    for name, pixels in (("a.png", original), ("b.png", picture)):
        PIL.Image.fromarray(pixels).save(tmp_path / name)
    scorer = scorers["ssim"]
    expected = scorer.score(picture, ref=original).raw
    as_bytes = (tmp_path / "a.png").read_bytes()
    assert scorer.score(tmp_path / "b.png", ref=tmp_path / "a.png").raw == expected
    assert scorer.score(tmp_path / "b.png", ref=as_bytes).raw == expected
    pairs = [
        Compared(picture, original),
        Compared(tmp_path / "b.png", original),
        Compared(tmp_path / "none.png", original),
    ]
    assert next(scorer.score_all([Compared(tmp_path / "b.png", np.zeros(3, np.uint8))])).path == str(tmp_path / "b.png")
    listed = Found(str(tmp_path / "b.png"), reference=Held("a", as_bytes))
    assert scorer.score(listed).raw == expected
    with pytest.raises(UsageError, match="has an original already"):
        scorer.score(listed, ref=original)
    for batch in (1, 2, 3):
        rows = list(scorer.score_all(pairs, batch=batch, workers=2))
        assert [row.ok for row in rows] == [True, True, False]
        assert [row.raw for row in rows[:2]] == [expected] * 2  # type: ignore[union-attr]


def test_misuse_is_named(samples: dict[str, UInt8], scorers: dict[str, Scorer], default: Scorer) -> None:
    cat, rocket = samples["cat"], samples["rocket"]
    with pytest.raises(
        UsageError, match=r"full_reference.ssim compares a picture with its original, and there is none"
    ):
        scorers["ssim"].score(cat)
    with pytest.raises(UsageError, match=r"dgiqa_mobile.biq2021 compares with no original"):
        default.score(cat, ref=cat)
    with pytest.raises(ReferenceMismatch, match=r"<array>: 451×300, but its original <array> is 640×427"):
        scorers["ssim"].score(cat, ref=rocket)
    with pytest.raises(UsageError, match="has an original already"):
        scorers["ssim"].score(Compared(cat, cat), ref=cat)
    for name, side in (("ms_ssim", 160), ("vif", 40), ("ssim", 10)):
        small = np.ascontiguousarray(cat[:side, :200])
        with pytest.raises(
            ImageTooSmall, match=f"<array>: 200×{side}, and full_reference.{name} needs {side + 1} pixels"
        ):
            scorers[name].score(small, ref=small)
        with pytest.raises(ImageTooSmall, match=f"needs {side + 1} pixels"):  # the measure itself says so, too
            importlib.import_module(f"dgiqa.models.full_reference.{name}").compare(small, small)
    for name in ("psnr", "gmsd", "fsim"):
        tiny = np.ascontiguousarray(cat[:1, :1])
        assert scorers[name].score(tiny, ref=tiny).quality == pytest.approx(100, abs=1e-3)


def test_too_small_ones_are_rows_that_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command line, in a batch with good ones, and where the runtime is measured first."""
    for name, side in (("small", 9), ("large", 200)):
        pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    model = ["--model", "full_reference.ssim", "--ref", str(tmp_path), "--json"]
    for more in ([], ["--batch", "2"], ["--runtime", "auto"]):
        assert main(["score", str(tmp_path), *model, *more]) == 1
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["status"] for row in rows] == ["ok", "failed"]
        assert "small.png: 9×9, and full_reference.ssim needs 11 pixels a side" in rows[1]["error"]
    assert main(["score", str(tmp_path), "--model", "natural_statistics.niqe", "--runtime", "auto", "--json"]) == 1
    for verb in (["explain", str(tmp_path), "--out", str(tmp_path / "out")], ["serve"]):
        assert main([*verb, "--model", "full_reference.ssim"]) == 2
        assert "compares with originals" in capsys.readouterr().err


def test_code_of_ones_own_card_is_never_run(tmp_path: Path) -> None:
    card = CARDS[0]
    text = (card.folder / card.file).read_text().replace("embedded = true\n", "")
    (tmp_path / "fsim.py").write_text("raise SystemExit('run')")
    (tmp_path / "mine.toml").write_text('arch = "full_reference"\n' + text)
    with pytest.raises(CardError, match="only a built-in card may name code"):
        open_runtime(read_card(tmp_path / "mine.toml"), "numpy")


def test_the_verb(tmp_path: Path, samples: dict[str, UInt8], capsys: pytest.CaptureFixture[str]) -> None:
    worse, whole = tmp_path / "worse", tmp_path / "whole"
    worse.mkdir()
    whole.mkdir()
    for name in ("cat", "rocket"):
        PIL.Image.fromarray(samples[name]).save(whole / f"{name}.png")
        PIL.Image.fromarray(samples[name]).save(worse / f"{name.upper()}.jpg", quality=30)
    PIL.Image.fromarray(samples["coffee"]).save(worse / "coffee.jpg")
    arguments = ["score", str(worse), "--model", "full_reference.ssim", "--json", "--ref"]
    assert main([*arguments, str(whole)]) == 1
    rows = {Path(row["path"]).stem: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert [rows[name]["status"] for name in ("CAT", "ROCKET", "coffee")] == ["ok", "ok", "failed"]
    assert "no original of its name" in rows["coffee"]["error"]
    assert 0.7 < rows["CAT"]["raw"] < 0.95
    assert rows["CAT"]["runtime"] == "numpy fp64"
    one = ["score", str(worse / "CAT.jpg"), "--model", "full_reference.ssim", "--json", "--ref", str(whole / "cat.png")]
    assert main(one) == 0
    assert json.loads(capsys.readouterr().out)["raw"] == rows["CAT"]["raw"]
    (whole / "cat.bmp").write_bytes((whole / "cat.png").read_bytes())
    assert main([*arguments, str(whole)]) == 1
    assert "2 originals of its name" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    for more, text in [
        ([str(tmp_path / "nothing")], "--ref {}: no such file or folder"),
        ([str(tmp_path / "empty")], "--ref {}: no pictures there"),
    ]:
        assert main([*arguments, *more]) == 2
        assert text.format(more[0]) in capsys.readouterr().err


@pytest.mark.parametrize("out", [[], ["--out", "run/"], ["--out", "run/", "--on", "ray"]])
def test_misuse_is_known_before_anything_is_made(
    out: list[str], photographs: list[Path], tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    picture, measure = str(photographs[0]), ["--model", "full_reference.ssim"]
    for more, text in [
        (measure, "there is none; give it: --ref REF"),
        (["--ref", picture], "compares with no original; leave the reference out"),
        ([*measure, "--ref", "nothing"], "--ref nothing: no such file or folder"),
    ]:
        assert main(["score", picture, *more, *out]) == 2
        assert text in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


def test_a_run_in_a_folder_has_the_same_rows(
    samples: dict[str, UInt8], tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Originals beside each other, in a zip, or behind a URL; what is wrong with one stands in its picture's row."""
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    for folder in ("worse", "whole"):
        Path(folder).mkdir()
    for name in ("cat", "rocket", "coffee", "astronaut", "broken"):
        original = samples.get(name, samples["cat"])
        PIL.Image.fromarray(original).save(f"whole/{name}.png")
        PIL.Image.fromarray(distort(original, "jpeg", 3)).save(f"worse/{name}.png")
    PIL.Image.fromarray(samples["cat"]).save("whole/rocket.png")
    Path("whole/coffee.png").unlink()
    Path("whole/broken.png").write_bytes(Path("whole/broken.png").read_bytes()[:999])
    with zipfile.ZipFile("whole.zip", "w") as packed:
        for path in Path("whole").iterdir():
            packed.write(path, path.name)
    command = ["score", "worse", "--model", "full_reference.ssim"]
    assert main([*command, "--ref", "whole", "--json"]) == 1
    wanted = {row["path"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    errors = {Path(path).stem: row["error"] for path, row in wanted.items() if row["status"] == "failed"}
    assert errors.keys() == {"rocket", "coffee", "broken"}
    assert "worse/rocket.png: 640×427, but its original whole/rocket.png is 451×300" in errors["rocket"]
    assert "worse/coffee.png: no original of its name in whole" in errors["coffee"]
    assert "worse/broken.png: its original whole/broken.png: truncated" in errors["broken"]
    for out, ref in (("beside", "whole"), ("zipped", "whole.zip"), ("behind", f"file://{tmp_path}/whole/")):
        assert main([*command, "--ref", ref, "--out", out, "--shards", "jsonl", "--workers", "2"]) == 1
        rows = {row["path"]: row for row in read_run(out)}
        assert rows.keys() == wanted.keys()
        for path, row in rows.items():
            same = wanted[path].keys() - {"error"}  # which names the place
            assert {key: row[key] for key in same} == {key: wanted[path][key] for key in same}
            assert (row["error"] is None) == (wanted[path]["error"] is None)


def test_evaluation_takes_originals_from_the_set(
    tmp_path: Path, samples: dict[str, UInt8], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["path,mos,ref"]
    PIL.Image.fromarray(samples["cat"]).save(tmp_path / "cat.png")
    for severity in range(1, 6):
        for kind in ("noise", "gaussian_blur"):
            PIL.Image.fromarray(distort(samples["cat"], kind, severity)).save(tmp_path / f"{kind}{severity}.png")
            lines.append(f"{kind}{severity}.png,{6 - severity},cat.png")
    (tmp_path / "set.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "bare.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    out = tmp_path / "result.json"
    assert main(["evaluate", "full_reference.psnr", "--on", str(tmp_path / "set.csv"), "--out", str(out)]) == 0
    assert '"srcc"' in out.read_text()
    assert main(["evaluate", "full_reference.psnr", "--on", str(tmp_path / "bare.csv")]) == 2
    assert "compares pictures with their originals" in capsys.readouterr().err

"""``dgiqa benchmark``: models side by side, each in a process of its own; what papers say stands apart."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import dgiqa
from dgiqa.cards import Published, read_card
from dgiqa.cli import main
from dgiqa.datasets import read_split
from dgiqa.distortions import distort
from dgiqa.evaluation import collect, evaluate
from dgiqa.evaluation.benchmark import Benchmark, as_page, as_text, line_of
from dgiqa.models import find_card
from dgiqa.scorer import Scorer

PICTURES = sorted((Path(__file__).parents[1] / "docs" / "pictures").glob("*.jpg"))[:2]


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rated")
    lines = ["path,mos,ref"]
    for path in PICTURES:
        pixels = np.asarray(PIL.Image.open(path).convert("RGB").resize((240, 180)))
        PIL.Image.fromarray(pixels).save(folder / f"{path.stem}.png")
        for severity in range(1, 6):
            name = f"{path.stem}-{severity}.png"
            PIL.Image.fromarray(distort(pixels, "gaussian_blur", severity)).save(folder / name)
            lines.append(f"{name},{6 - severity},{path.stem}.png")
    (folder / "set.csv").write_text("\n".join(lines) + "\n")
    return folder / "set.csv"


def test_models_side_by_side(rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], default: Scorer) -> None:
    other = tmp_path / "other.csv"
    names = [line.split(",")[0] for line in rated.read_text().splitlines()[1:]]
    other.write_text("path,score\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    out, page = tmp_path / "found.json", tmp_path / "found.html"
    arguments = ["benchmark", "default", "full_reference.ssim", "--on", str(rated), "--from", str(other)]
    assert main([*arguments, "--out", str(out), "--page", str(page)]) == 0
    said = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["workers"] == 1
    lines = {line["evaluation"]["model"]: line for line in found["lines"]}
    assert set(lines) == {default.model, "full_reference.ssim@1.0", "other.csv"}
    split = read_split(str(rated), "all", rated.parent)
    expected = evaluate(collect(default.score_all(split.paths), default.model), split)
    assert lines[default.model]["evaluation"]["overall"] == json.loads(json.dumps(dataclasses.asdict(expected.overall)))
    for name in (default.model, "full_reference.ssim@1.0"):
        assert lines[name]["pictures_per_second"] > 0
        assert 30 < lines[name]["megabytes"] < 4000
    assert lines[default.model]["parameters"] == find_card("default").network.parameters
    assert lines["other.csv"]["pictures_per_second"] is None
    assert lines["full_reference.ssim@1.0"]["evaluation"]["overall"]["srcc"]["value"] > 0.9
    for name in lines:
        assert name in said
        assert name in page.read_text()
    assert "script" not in page.read_text().replace("default-src 'none'", "")


def test_all_are_those_that_the_set_suits(rated: Path, tmp_path: Path) -> None:
    from dgiqa.cli.benchmark import chosen
    from dgiqa.cli.evaluate import Place

    split = read_split(str(rated), "all", rated.parent)
    with_originals = {card.name for card in chosen(["all"], Place(split, rated.parent))}
    without = {card.name for card in chosen(["all"], Place(dataclasses.replace(split, references=()), rated.parent))}
    comparing = {f"full_reference.{m}" for m in ("fsim", "gmsd", "ms_ssim", "psnr", "ssim", "vif")}
    comparing |= {"contrique.mobile_fr", "spips.mobile", "transformer_features.mobile_fr"}
    assert with_originals - without == comparing
    assert "dgiqa_mobile.biq2021" in without
    assert "dgiqa.koniq10k" not in with_originals, "its weights are not here"


def test_originals_that_are_not_there_suit_no_comparing_model(rated: Path, tmp_path: Path) -> None:
    from dgiqa.cli.benchmark import chosen
    from dgiqa.cli.evaluate import Place

    split = read_split(str(rated), "all", rated.parent)
    named = dataclasses.replace(split, references=tuple(f"scene {i}" for i in range(len(split))))
    assert {card.reference for card in chosen(["all"], Place(named, rated.parent))} == {"none"}


def test_a_model_that_can_not_be_judged_loses_no_other(
    rated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dgiqa.cli import benchmark

    lines = rated.read_text().splitlines()
    results = [dgiqa.Score(line.split(",")[0], 50.0, 0.5, "m@1", 240, 180) for line in lines[1:]]
    rising = [dataclasses.replace(result, quality=float(i)) for i, result in enumerate(results)]
    answers = {"full_reference.ssim@1.0": results, "full_reference.psnr@1.0": rising}
    monkeypatch.setattr(benchmark, "scored", lambda card, place, workers: (answers[card.label], 1.0, 9.0, card.label))
    arguments = ["benchmark", "full_reference.ssim", "full_reference.psnr", "--on", str(rated)]
    assert main([*arguments, "--out", str(tmp_path / "a.json")]) == 1
    found = json.loads((tmp_path / "a.json").read_text())
    assert [line["evaluation"]["model"] for line in found["lines"]] == ["full_reference.psnr@1.0"]
    assert "left out: full_reference.ssim@1.0: the same score" in capsys.readouterr().err
    assert main([*arguments[:2], *arguments[3:]]) == 2
    assert main([*arguments, "--from", str(tmp_path / "none.csv")]) == 2
    (tmp_path / "same.csv").write_text("path,score\n" + "".join(f"{result.path},1\n" for result in results))
    capsys.readouterr()
    assert main([*arguments, "--from", str(tmp_path / "same.csv")]) == 2
    assert "ssim" not in capsys.readouterr().err, "it is told before any model is scored"
    assert main([*arguments, "--out", str(tmp_path / "none" / "a.json")]) == 2


def test_memory_is_that_of_the_process_alone() -> None:
    """On Linux a child's ``ru_maxrss`` begins at what its parent held at most."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    code = "from dgiqa.cli.benchmark import peak_megabytes; print(peak_megabytes())"
    held = np.ones(100_000_000)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 5 < float(done.stdout) < held.nbytes / 1e6 / 2


def test_papers_figures_stand_apart(rated: Path, tmp_path: Path) -> None:
    card = dataclasses.replace(
        find_card("default"), published=(Published("KonIQ-10k", "80/20 <ten>", 0.934, 0.944, "a paper, table 2"),)
    )
    split = read_split(str(rated), "all", rated.parent)
    evaluation = evaluate(collect(dgiqa.load().score_all(split.paths), "mine"), split)
    benchmark = Benchmark(
        "2026-01-01", "command", "a machine", 1, {"dgiqa": "0"}, (line_of(card, evaluation, 3.0, 200.0),)
    )
    text, page = as_text(benchmark), as_page(benchmark)
    measured, _, papers = text.partition("what papers say, of their own weights and protocol, not measured here:")
    assert "0.934" not in measured
    assert "0.934" in papers
    assert "What papers say" in page
    assert "80/20 &lt;ten&gt;" in page


def test_what_a_card_says_of_papers_is_checked(tmp_path: Path) -> None:
    card = find_card("full_reference.ssim")
    text = (card.folder / card.file).read_text()
    table = '[[published]]\ndataset = "LIVE"\nprotocol = "p"\nsrcc = 0.9\nplcc = 0.8\nsource = "s"\n'
    (tmp_path / "a.toml").write_text('arch = "full_reference"\n' + text + "\n" + table)
    assert read_card(tmp_path / "a.toml").published[0].srcc == 0.9
    (tmp_path / "a.toml").write_text('arch = "full_reference"\n' + text + "\n" + table.replace("0.9", "1.9"))
    with pytest.raises(dgiqa.RunError, match="srcc and plcc lie in"):
        read_card(tmp_path / "a.toml")


def test_misuse_is_named(rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(line.rpartition(",")[0] for line in rated.read_text().splitlines()) + "\n")
    for arguments, text in [
        (["nothing", "--on", str(rated)], "there is no model named 'nothing'"),
        (["default", "--on", str(rated), "--workers", "0"], "--workers must be positive"),
        (["default", "--on", str(rated), "--out", "x.txt"], "must end in .json"),
        (
            ["full_reference.ssim", "--on", str(bare), "--root", str(rated.parent)],
            "compares pictures with their originals",
        ),
        (["dgiqa.koniq10k", "--on", str(rated)], "not on this machine"),
    ]:
        assert main(["benchmark", *arguments]) == 2
        assert text in capsys.readouterr().err

"""``dgiqa compare``: two models' rows of the same pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from dgiqa.cli import main
from dgiqa.errors import UsageError
from dgiqa.reports.compare import compare
from dgiqa.results.rows import open_writer

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def row(path: str, quality: float | None, model: str = "m@1") -> dict[str, object]:
    raw = None if quality is None else quality / 100
    status = "failed" if quality is None else "ok"
    values = (path, status, quality, None, None, raw, model, "onnx fp32", 8, 8, "broken" if quality is None else None)
    names = ("path", "status", "quality", "low", "high", "raw", "model", "runtime", "width", "height", "error")
    return dict(zip(names, values, strict=True))


def rows(qualities: list[float | None], model: str = "m@1") -> list[dict[str, object]]:
    return [row(f"{i}.jpg", quality, model) for i, quality in enumerate(qualities)]


def written(path: Path, content: list[dict[str, object]]) -> str:
    writer = open_writer(path, path.suffix[1:])
    for each in content:
        writer.write(each)
    writer.close()
    return str(path)


def test_agreement_is_scipys_and_ranks_share_ties() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 100, 60).round()
    y = np.clip(x + rng.normal(0, 20, 60), 0, 100).round()
    found = compare("a", rows(x.tolist()), "b", rows(y.tolist()), most=60)
    assert found.srcc
    assert found.krcc
    assert found.plcc
    assert found.srcc.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert found.krcc.value == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
    assert found.plcc.value == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert found.srcc.low < found.srcc.value < found.srcc.high
    assert found.shift == pytest.approx((y - x).mean())
    assert found.largest_change == pytest.approx(np.abs(y - x).max())
    by_path = {one.path: one for one in found.moved}
    ranks = scipy.stats.rankdata(-x), scipy.stats.rankdata(-y)
    for i in range(60):
        assert (by_path[f"{i}.jpg"].rank_a, by_path[f"{i}.jpg"].rank_b) == (ranks[0][i], ranks[1][i])
    jumps = [abs(one.rank_a - one.rank_b) for one in found.moved]
    assert jumps == sorted(jumps, reverse=True)


def test_what_only_one_has_scored_is_counted_and_left_out() -> None:
    found = compare("a", rows([10, 20, 30, 40, None]), "b", rows([10, None, 30, 40, 50]))
    assert (found.n, found.only_a, found.only_b) == (3, 1, 1)
    assert {one.path for one in found.moved} == {"0.jpg", "2.jpg", "3.jpg"}
    assert (found.srcc.value, found.best_kept) == pytest.approx((1.0, 1.0))  # type: ignore[union-attr]


def test_of_the_best_tenth_those_that_tie_count_alike() -> None:
    rest = [float(i) for i in range(18)]
    assert compare("a", rows([90, 90, *rest]), "b", rows([1, 2, *rest])).best_kept == 0
    assert compare("a", rows([90, 80, *rest]), "b", rows([70, 70, *rest])).best_kept == 1
    assert compare("a", rows([90, 80, *rest]), "b", rows([70, 0, *rest])).best_kept == 0.5
    assert compare("a", rows([50] * 20), "b", rows([20.0, 30.0, *rest])).best_kept == 0.1


def test_one_quality_for_all_has_no_correlation_and_two_pictures_no_comparison() -> None:
    found = compare("a", rows([50, 50, 50]), "b", rows([10, 20, 30]))
    assert found.srcc is found.krcc is found.plcc is None
    assert found.shift == pytest.approx(-30)
    with pytest.raises(UsageError, match="2 pictures are scored by both"):
        compare("a", rows([1, 2]), "b", rows([1, 2]))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_files_of_every_kind(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = written(tmp_path / f"a.{kind}", rows([10, 20, 30, 80], "m@1"))
    b = written(tmp_path / f"b.{kind}", rows([12, 35, 30, 81], "m@2"))
    assert main(["compare", a, b, "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "A m@1\nB m@2\n4 pictures scored by both\n" in out
    assert "SRCC  0.800 [" in out
    assert "+4.5 points of 100 in the mean, 4.5 of a single picture, 15.0 at most" in out
    assert out.rstrip().splitlines()[-2:] == [
        "       3       2   20.0   35.0  1.jpg",
        "       2       3   30.0   30.0  2.jpg",
    ]
    assert main(["compare", a, a]) == 0
    assert "path" not in capsys.readouterr().out, "nothing moved"
    assert main(["compare", a, b, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["moved"][0]["path"] == "1.jpg"


def test_a_runs_folder_against_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = f"{tmp_path}/run/"
    assert main(["score", str(PICTURES), "--out", run, "--shards", "jsonl"]) == 0
    assert main(["compare", run, "default", str(PICTURES)]) == 0
    out = capsys.readouterr().out
    assert "6 pictures scored by both\n" in out
    assert "SRCC  1.000 [" in out
    assert "0.0 at most" in out


@pytest.mark.parametrize(("arguments", "said"), [
    (["default", "default"], "nothing to score"),
    (["{a}", "{a}", "x.jpg"], "rows already"),
    (["{a}", "missing.csv"], "missing.csv: no such file"),
    (["{a}", "{broken}"], "can't be read as jsonl"),
    (["{a}", "{other}"], "has no column status"),
    (["{a}", "{mixed}"], "rows of m@1, m@2"),
    (["{a}", "{empty}"], "holds no rows"),
    (["{a}", "{folder}"], "holds no run"),
    (["{a}", "{a}", "--top", "-1"], "--top not negative"),
])  # fmt: skip
def test_bad_input_is_named(arguments: list[str], said: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "other.jsonl").write_text('{"path": "a"}\n')
    (tmp_path / "folder").mkdir()
    places = {name: f"{tmp_path / name}.jsonl" for name in ("broken", "other")} | {"folder": f"{tmp_path}/folder"}
    places["a"] = written(tmp_path / "a.jsonl", rows([1, 2, 3]))
    places["mixed"] = written(tmp_path / "mixed.jsonl", [*rows([1, 2]), row("9.jpg", 3, "m@2")])
    places["empty"] = written(tmp_path / "empty.jsonl", [])
    assert main(["compare", *(each.format(**places) for each in arguments)]) == 2
    assert said in capsys.readouterr().err

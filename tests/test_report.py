"""``dgiqa report``: the page holds every row, its own pictures and nothing from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from dgiqa.cli import main
from dgiqa.cli.report import about, pictured, worst
from dgiqa.reports.page import as_page, histogram
from dgiqa.results.rows import open_writer
from test_compare import row, rows, written

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*)</script>', page)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    (folder / "broken.jpg").write_bytes(b"no picture")
    assert main(["score", str(PICTURES), str(folder / "broken.jpg"), "--out", str(folder / "rows.jsonl")]) == 1
    return folder / "rows.jsonl"


def test_the_page_of_real_rows(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(scored), "--out", str(out), "--title", "Six & <one>"]) == 0
    assert "7 rows, 6 thumbnails" in capsys.readouterr().err
    page = out.read_text(encoding="utf-8")
    assert "<title>Six &amp; &lt;one&gt;</title>" in page
    assert "6 scored, 1 failed; mean quality" in page
    found = data_of(page)
    assert len(found["rows"]) == 7
    assert sum(each["count"] for each in found["bins"]) == 6
    failed = [each for each in found["rows"] if each["quality"] is None]
    assert len(failed) == 1
    assert "broken.jpg" in failed[0]["error"]
    assert "picture" not in failed[0]
    for each in found["rows"]:
        if each["quality"] is not None:
            header, _, encoded = each["picture"].partition(",")
            assert header == "data:image/jpeg;base64"
            with PIL.Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
                assert max(image.size) == 240


def test_nothing_comes_from_elsewhere(scored: Path, tmp_path: Path) -> None:
    assert main(["report", str(scored), "--out", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", page)


def test_names_can_not_leave_their_place() -> None:
    evil = '</script><script>alert(1)</script><!--"$title'
    page = as_page([row(evil, 50)], [{}], title=evil, about=evil)
    assert "<script>alert" not in page
    assert page.count("</script>") == 2
    assert data_of(page)["rows"][0]["path"] == evil


def test_bins_hold_every_scored_row_once() -> None:
    counts = {each["low"]: each["count"] for each in histogram(rows([0, 4.999, 5, 99.9, 100, None]))}
    assert (counts[0], counts[5], counts[95]) == (2, 1, 2)
    assert sum(counts.values()) == 5


@pytest.mark.parametrize(("most", "wanted"), [(0, []), (1, [0]), (2, [0, 3]), (3, [0, 1, 3]), (9, [0, 1, 2, 3])])
def test_the_worst_and_the_best_get_the_thumbnails(most: int, wanted: list[int]) -> None:
    assert pictured(rows([10, 20, 30, 90, None]), most) == wanted


def test_members_and_urls_take_no_file_its_place() -> None:
    scored = [row(path, 50) for path in ("a.zip::b.jpg", "s3://a/b.jpg", "c::d.jpg", "e.jpg")]
    assert pictured(scored, 9) == worst(scored, 9) == [2, 3]


def test_pictures_that_are_gone_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = written(tmp_path / "rows.csv", [*rows([1, 2]), row("https://example.invalid/x.jpg", 3)])
    assert main(["report", place, "--out", str(tmp_path / "a.html")]) == 0
    err = capsys.readouterr().err
    assert "3 rows, 0 thumbnails" in err
    assert "2 pictures were not found or can't be read; --root says where they lie" in err
    assert "3 scored, 0 failed; mean quality 2.0; model m@1 (onnx fp32)" in about(rows([1, 2, 3]))


def test_ten_thousand_rows_are_one_small_file(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "many.jsonl", "jsonl")
    for i in range(10_000):
        writer.write(row(f"folder/{i:05}.jpg", i % 101))
    writer.close()
    out = tmp_path / "many.html"
    assert main(["report", str(tmp_path / "many.jsonl"), "--out", str(out), "--thumbnails", "0"]) == 0
    assert len(data_of(out.read_text())["rows"]) == 10_000
    assert out.stat().st_size < 3_000_000


@pytest.mark.parametrize(("arguments", "said"), [
    (["{rows}", "--out", "page.pdf"], "a page's name ends in .html"),
    (["{rows}", "--out", "{missing}/page.html"], "can't be written"),
    (["{missing}.csv", "--out", "page.html"], "no such file"),
    (["{empty}", "--out", "page.html"], "holds no rows"),
    (["{rows}", "--out", "page.html", "--thumbnails", "-1"], "not negative"),
])  # fmt: skip
def test_bad_input_is_named(arguments: list[str], said: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"missing": str(tmp_path / "missing"), "rows": written(tmp_path / "rows.jsonl", rows([1, 2, 3]))}
    places["empty"] = written(tmp_path / "empty.jsonl", [])
    assert main(["report", *(each.format(**places) for each in arguments)]) == 2
    assert said in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".part")]

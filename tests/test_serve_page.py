"""The service's page in a browser: drop, scores, reasons, two compared, table, key. Needs playwright and Chromium."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

from dgiqa import load  # noqa: E402
from dgiqa.scorer import Scorer  # noqa: E402
from dgiqa.serve import Settings  # noqa: E402
from dgiqa.serve.app import create_app  # noqa: E402
from service import running  # noqa: E402

PICTURES = sorted((Path(__file__).parents[1] / "docs" / "pictures").glob("*.jpg"))[:4]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load()


@pytest.fixture(scope="module")
def service(scorer: Scorer) -> Iterator[str]:
    with running(create_app(scorer, Settings())) as address:
        yield address


@pytest.fixture(params=[(1280, 900), (390, 800)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A page that fails the test for an error in its console and for a request to elsewhere."""
    with playwright.sync_playwright() as play:
        width, height = request.param
        context = play.chromium.launch_persistent_context(
            tmp_path, executable_path=CHROMIUM, headless=True, viewport={"width": width, "height": height},
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )  # fmt: skip
        page = context.new_page()
        faults: list[str] = []
        hosts: set[str] = set()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("request", lambda asked: hosts.add(asked.url.split("/")[2]) if asked.url.startswith("http") else None)
        page.faults, page.hosts = faults, hosts
        yield page
        context.close()
    assert all(host.startswith("127.0.0.1:") for host in hosts)


def choose(page: Any, *paths: Path) -> None:
    page.set_input_files("#files", [str(path) for path in paths])


def wait_for(page: Any, text: str) -> None:
    page.wait_for_function("text => document.getElementById('count').textContent === text", arg=text, timeout=30_000)


def test_pictures_get_the_scores_of_the_scorer(page: Any, service: str, scorer: Scorer, tmp_path: Path) -> None:
    broken = tmp_path / "broken <b>.jpg"
    broken.write_bytes(b"hello there")
    page.goto(service)
    choose(page, *PICTURES, broken)
    wait_for(page, "4 scored, 1 failed")
    shown = page.eval_on_selector_all("#rows li", "items => items.map(i => i.innerText)")
    for path, text in zip(PICTURES, shown, strict=False):
        score = scorer.score(path)
        assert f"{score.quality:.1f}" in text
        assert path.name in text
        assert f"{score.width} × {score.height}" in text
    assert "not a picture" in shown[-1]
    assert "broken <b>.jpg" in shown[-1]
    page.select_option("#sort", "worst")
    numbers = page.eval_on_selector_all("#rows .score", "nodes => nodes.map(n => parseFloat(n.innerText))")
    assert numbers[:4] == sorted(numbers[:4])
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # A browser itself notes each answer that is no success: here the broken one's, and nothing else.
    assert [fault for fault in page.faults if "422" not in fault] == []


def test_a_dropped_picture_is_scored(page: Any, service: str) -> None:
    page.goto(service)
    page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(320, 240);
            canvas.getContext('2d').fillRect(10, 10, 100, 100);
            const transfer = new DataTransfer();
            transfer.items.add(new File([await canvas.convertToBlob()], 'drawn.png', {type: 'image/png'}));
            document.getElementById('drop').dispatchEvent(
                new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }"""
    )
    wait_for(page, "1 scored")
    assert "drawn.png" in page.inner_text("#rows")
    assert page.faults == []


def test_why_shows_maps_and_faults(page: Any, service: str, scorer: Scorer) -> None:
    page.goto(service)
    choose(page, PICTURES[0])
    wait_for(page, "1 scored")
    page.get_by_role("button", name="Why").click()
    page.wait_for_selector("#dialog .maps img")
    explanation = scorer.explain(PICTURES[0])
    captions = page.eval_on_selector_all("#dialog figcaption", "nodes => nodes.map(n => n.innerText.split(':')[0])")
    assert captions == ["the picture as the network sees it", "depth", "where depth looks", "quality"]
    assert page.evaluate("[...document.querySelectorAll('#dialog img')].every(i => i.naturalWidth > 100 && i.alt)")
    rows = page.eval_on_selector_all("#dialog tr", "nodes => nodes.slice(1).map(n => n.innerText)")
    assert len(rows) == len(explanation.faults) + 1
    first = explanation.faults[0]
    assert rows[0].startswith(first.kind.replace("_", " "))
    assert f"{first.probability:.2f}" in rows[0]
    assert f"Quality {explanation.score.quality:.1f} of 100" in page.inner_text("#dialog")
    page.keyboard.press("Escape")
    assert not page.is_visible("#dialog")
    assert page.faults == []


def test_two_are_compared_side_by_side(page: Any, service: str) -> None:
    page.goto(service)
    choose(page, *PICTURES[:3])
    wait_for(page, "3 scored")
    assert page.is_disabled("#compare")
    for path in PICTURES[:3]:  # the first gives way to the third
        page.get_by_label(f"Compare {path.name}").check()
    page.click("#compare")
    page.wait_for_function("() => document.querySelectorAll('#dialog .maps').length === 2")
    titles = page.eval_on_selector_all("#dialog h3", "nodes => nodes.map(n => n.innerText)")
    assert titles == [path.name for path in PICTURES[1:3]]
    assert page.faults == []


def test_the_table_is_downloaded(page: Any, service: str, scorer: Scorer, tmp_path: Path) -> None:
    page.goto(service)
    choose(page, *PICTURES[:2])
    wait_for(page, "2 scored")
    with page.expect_download() as waited:
        page.click("#download")
    waited.value.save_as(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row, path in zip(rows, PICTURES, strict=False):
        expected = scorer.score(path).as_row()
        assert row["path"] == path.name
        assert all(row[name] == str(expected[name]) for name in ("quality", "low", "high", "raw", "model", "width"))
    page.click("#clear")
    assert page.inner_text("#count") == "No pictures yet."
    assert page.faults == []


def test_a_key_is_asked_for_and_used(page: Any, scorer: Scorer) -> None:
    with running(create_app(scorer, Settings(keys=("a-key",)))) as service:
        page.goto(service)
        choose(page, PICTURES[0])
        page.wait_for_selector("#key:not([hidden])")
        page.fill("#key-value", "a-key")
        page.keyboard.press("Enter")
        wait_for(page, "1 scored")
        assert "Model dgiqa_mobile.biq2021" in page.inner_text("#model")


def test_it_works_by_keyboard_alone(page: Any, service: str) -> None:
    page.goto(service)
    choose(page, PICTURES[0])
    wait_for(page, "1 scored")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Why?":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#dialog .maps img")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter(n => !(n.innerText || n.labels?.length || "
        "n.getAttribute('aria-label'))).length"
    )
    assert unnamed == 0
    assert page.faults == []

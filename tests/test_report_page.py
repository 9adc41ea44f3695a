"""The page of ``dgiqa report`` in a real browser: filters, keys, ten thousand rows. Needs playwright and Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

from dgiqa.reports.page import as_page  # noqa: E402
from test_compare import row  # noqa: E402

COUNT = 10_000
PICTURE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [row(f"folder/{i:05}.jpg", 7 * i % 1009 / 10.09) for i in range(COUNT - 1)]
    rows.append(row("folder/broken <b>.jpg", None))
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(as_page(rows, [{"picture": PICTURE}] * COUNT, title="Many", about="words"), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(place: str, tmp_path: Path) -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            tmp_path, executable_path=CHROMIUM, headless=True, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else faults.append(request.url),
        )
        page.goto(place)
        yield page
        context.close()
        assert faults == []


def paths(page: Any) -> list[str]:
    """Of the rows in the document, from the top."""
    return page.evaluate(  # type: ignore[no-any-return]
        "[...document.querySelectorAll('.row')].sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top))"
        ".map(row => row.getAttribute('aria-label'))"
    )


def test_only_what_is_seen_is_in_the_document(page: Any) -> None:
    assert page.inner_text("#count") == f"{COUNT} of {COUNT} pictures"
    assert 5 < len(paths(page)) < 60
    assert paths(page)[0] == "folder/00000.jpg, quality 0.0"
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.wait_for_function("document.querySelector('.failed') !== null")
    assert paths(page)[-1] == "folder/broken <b>.jpg, failed"
    assert len(paths(page)) < 60


def test_keys_move_open_and_close(page: Any) -> None:
    page.focus("#list")
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    second = paths(page)[1]
    assert page.get_attribute("#list", "aria-activedescendant") == "row-1"
    page.keyboard.press("Enter")
    assert page.inner_text("#one-title") == second.split(", ")[0]
    assert "Quality" in page.inner_text("#one-body")
    assert "onnx fp32" in page.inner_text("#one-body")
    page.keyboard.press("Escape")
    assert not page.is_visible("#one")
    assert page.evaluate("document.activeElement.id") == "list"
    page.keyboard.press("End")
    assert page.get_attribute("#list", "aria-activedescendant") == f"row-{COUNT - 1}"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"


def test_filters_sorting_and_the_histogram_agree(page: Any) -> None:
    page.fill("#text", "0123")
    assert (
        page.inner_text("#count") == f"{len([i for i in range(COUNT - 1) if '0123' in f'{i:05}'])} of {COUNT} pictures"
    )
    page.click("text=Clear")
    page.wait_for_function(f"document.getElementById('count').textContent.startsWith('{COUNT} ')")
    bar = page.locator("#histogram button").nth(3)
    wanted = bar.get_attribute("aria-label").split(": ")[1].split()[0]
    bar.click()
    assert page.inner_text("#count") == f"{wanted} of {COUNT} pictures"
    assert bar.get_attribute("aria-pressed") == "true"
    bar.click()
    assert page.inner_text("#count") == f"{COUNT} of {COUNT} pictures"
    page.select_option("#sort", "best")
    assert paths(page)[0].endswith("quality 99.9")
    page.select_option("#status", "failed")
    assert paths(page) == ["folder/broken <b>.jpg, failed"]
    assert page.inner_text("#count") == f"1 of {COUNT} pictures"


def test_it_fits_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.is_visible("#list")


def test_an_opened_row_shows_its_reasons(tmp_path: Path) -> None:
    faults_told = [["haze <i>", 0.91, 3.2], ["no fault", 0.04, None]]
    maps = {"depth": PICTURE, "quality": PICTURE}
    reasons = {"maps": maps, "faults": faults_told, "sharpness": {"subject": 0.71}}
    path = tmp_path / "page.html"
    path.write_text(
        as_page([row("a.jpg", 40.0), row("b.jpg", 60.0)], [{"picture": PICTURE, **reasons}, {}], title="t", about="a"),
        encoding="utf-8",
    )
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path.as_uri())
        assert page.locator("#fault option").all_inner_texts() == ["any", "haze <i>"]
        page.select_option("#fault", "haze <i>")
        assert page.inner_text("#count") == "1 of 2 pictures"
        page.click(".row")
        assert page.locator("#one .maps img").count() == 2
        assert [cell.split("\t") for cell in page.locator("#one tr").all_inner_texts()][1:] == [
            ["haze <i>", "0.91", "3.2"], ["no fault", "0.04", ""],
        ]  # fmt: skip
        assert "subject 0.71" in page.inner_text("#one")
        browser.close()
    assert faults == []

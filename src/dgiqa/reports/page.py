"""Rows as one HTML file to look through: it needs no network, and shows ten thousand rows as lightly as ten."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from dgiqa.reports.rows import Row

#: Nothing is fetched, whatever a file's name holds; what runs is the page's own script.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
#: Width of a bin of the histogram, in points of 100.
BIN = 5
#: What the page shows of a row.
FIELDS = ("path", "quality", "low", "high", "raw", "model", "runtime", "width", "height", "error")


def as_page(rows: Sequence[Row], beside: Iterable[Mapping[str, Any]], *, title: str, about: str) -> str:
    """The whole document.

    Args:
        rows: what ``dgiqa score`` wrote.
        beside: what each row has beside its numbers, as far as it has it: its ``picture`` as a ``data:`` URI; its
            ``maps`` so, by name; its ``faults``, as rows of kind, probability and severity; its ``sharpness``, by name.
        title, about: in words, what the page is of.
    """
    shown = [{**{name: row.get(name) for name in FIELDS}, **more} for row, more in zip(rows, beside, strict=True)]
    here = Path(__file__)
    style, script, page = (here.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js", ".html"))
    return Template(page).substitute(
        policy=POLICY,
        title=escape(title),
        about=escape(about),
        style=style,
        script=script,
        data=_embedded({"rows": shown, "bins": histogram(rows)}),
    )


def histogram(rows: Iterable[Row]) -> list[dict[str, int]]:
    """Scored pictures in each bin: from ``low`` up to, but without, ``high``; the last one with 100."""
    bins = [{"low": low, "high": low + BIN, "count": 0} for low in range(0, 100, BIN)]
    for row in rows:
        if row["quality"] is not None:
            bins[min(int(row["quality"] // BIN), len(bins) - 1)]["count"] += 1
    return bins


def _embedded(value: Any) -> str:
    """JSON that can stand in a script element: no name of a file ends it."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")

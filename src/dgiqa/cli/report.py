"""Make one HTML page of scored pictures: histogram, thumbnails, filters, failures with their reasons.

    dgiqa score pictures/ --out scores.parquet && dgiqa report scores.parquet --out report.html

ROWS is what dgiqa score --out wrote, a file or a run's folder. The page is one file and fetches nothing. Thumbnails
come from the pictures, found where the rows say, seen from --root; of more rows than --thumbnails, the worst and the
best have one. With --reasons N the N worst are explained: depth, attention, quality of each part, faults and
sharpness, seen when the picture is opened. Members of archives and URLs have neither.

Exit code 0: written; 2: misused, or the page could not be written.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dgiqa.cli._output import watch
from dgiqa.errors import ImageError, UsageError
from dgiqa.imaging.thumbnail import thumbnail
from dgiqa.reports.page import as_page
from dgiqa.reports.rows import Row, read_all
from dgiqa.scorer import load
from dgiqa.sources.archives import parted
from dgiqa.sources.remote import is_url
from dgiqa.stream import in_order

#: Longest side of a thumbnail in pixels, and its JPEG quality: some 8 kB each.
SIDE, QUALITY = 240, 70


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", metavar="ROWS", help="a file (.csv, .jsonl, .parquet) or a run's FOLDER/")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the page to write, such as report.html"
    )
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="from where the rows' paths are seen")
    parser.add_argument("--thumbnails", type=int, default=2000, metavar="N", help="at most so many (default 2000)")
    parser.add_argument("--reasons", type=int, default=0, metavar="N", help="explain the N worst (default 0)")
    parser.add_argument("--model", default="default", metavar="NAME", help="what scored the rows, for --reasons")
    parser.add_argument("--title", metavar="TEXT", help="default: the rows' name")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads for thumbnails (default 2)")


def run(args: argparse.Namespace) -> int:
    if args.thumbnails < 0 or args.reasons < 0 or args.workers < 1:
        raise UsageError("--workers must be positive, --thumbnails and --reasons not negative")
    if args.out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {args.out}: a page's name ends in .html")
    rows = read_all(args.rows)
    if not rows:
        raise UsageError(f"{args.rows}: holds no rows")
    chosen, explained = pictured(rows, args.thumbnails), worst(rows, args.reasons)
    explain = reasons_by(args.model, rows, args.root) if explained else None
    work = sorted({*chosen, *explained})

    def beside(index: int) -> dict[str, Any]:
        found = thumbnail(args.root / rows[index]["path"], SIDE, QUALITY) if index in wanted else None
        more = explain(index) if explain and index in told else {}
        return {**({"picture": found[0]} if found else {}), **more}

    wanted, told = set(chosen), set(explained)
    made = dict(zip(work, watch(in_order(beside, work, args.workers), len(work)), strict=True))
    title = args.title or f"Quality of {args.rows}"
    page = as_page(rows, (made.get(i, {}) for i in range(len(rows))), title=title, about=about(rows))
    part = args.out.with_name(args.out.name + ".part")
    try:
        part.write_text(page, encoding="utf-8")
        os.replace(part, args.out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"--out {args.out}: can't be written ({error.strerror})") from error
    lost = sum("picture" not in made[i] for i in chosen)
    print(f"{args.out}: {len(rows)} rows, {len(chosen) - lost} thumbnails, {len(page) / 1e6:.1f} MB", file=sys.stderr)
    if lost:
        print(f"dgiqa: {lost} pictures were not found or can't be read; --root says where they lie", file=sys.stderr)
    return 0


def pictured(rows: Sequence[Row], most: int) -> list[int]:
    """Which rows get a thumbnail: all scored files, or the worst and the best by halves; in the rows' order."""
    scored = _scored_files(rows)
    if len(scored) > most:
        scored.sort(key=lambda i: (rows[i]["quality"], i))
        half = most // 2
        scored = scored[: most - half] + scored[len(scored) - half :]
    return sorted(scored)


def worst(rows: Sequence[Row], count: int) -> list[int]:
    """The rows of the ``count`` worst files that were scored."""
    return sorted(_scored_files(rows), key=lambda i: (rows[i]["quality"], i))[:count]


def _scored_files(rows: Sequence[Row]) -> list[int]:
    """The rows of pictures that were scored and are files of this machine: no members of archives, no URLs."""
    scored = [(i, str(row["path"])) for i, row in enumerate(rows) if row["quality"] is not None]
    return [i for i, path in scored if not is_url(path) and not parted(path)]


def reasons_by(model: str, rows: Sequence[Row], root: Path) -> Callable[[int], dict[str, Any]]:
    """What explains a row's score, by its index; nothing where the picture is no longer there.

    Raises:
        UsageError: the rows are of another model.
    """
    from dgiqa.explain.figure import as_uris  # fonts and drawing: other verbs start without

    fast = any(str(row["model"]).endswith("+fast") for row in rows)
    scorer = load(model, None, fast=fast)
    if scorer.card.reference != "none":
        raise UsageError(f"--model {model} compares with originals", hint="leave --reasons out")
    others = sorted({str(row["model"]) for row in rows if row["quality"] is not None} - {scorer.model})
    if others:
        raise UsageError(
            f"the rows are of {', '.join(others)}, --model {model} is {scorer.model}",
            hint="name the model that scored them, or leave --reasons out",
        )

    def reasons(index: int) -> dict[str, Any]:
        try:
            explanation = scorer.explain(root / rows[index]["path"])
        except ImageError:
            return {}
        uris = {name: uri for name, uri in as_uris(explanation, SIDE).items() if name != "picture"}
        faults: list[Any] = [[f.words, f.probability, f.severity] for f in explanation.faults if f.found]
        if explanation.none is not None:
            faults.append(["no fault", explanation.none, None])
        sharp = {name: value for name, value in explanation.sharpness.as_dict().items() if value is not None}
        return {"maps": uris, "sharpness": sharp, **({"faults": faults} if faults else {})}

    return reasons


def about(rows: Sequence[Row]) -> str:
    """Counts, mean, models and runtimes, and the day the page was made, in a sentence."""
    qualities = [row["quality"] for row in rows if row["quality"] is not None]
    mean = f"mean quality {sum(qualities) / len(qualities):.1f}; " if qualities else ""
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{len(qualities)} scored, {len(rows) - len(qualities)} failed; {mean}"
        f"model {', '.join(_each(rows, 'model'))} ({', '.join(_each(rows, 'runtime'))}), 0 to 100, higher is better. "
        f"Page made {made}."
    )


def _each(rows: Sequence[Row], column: str) -> Iterator[str]:
    yield from sorted({str(row[column]) for row in rows if row.get(column)})

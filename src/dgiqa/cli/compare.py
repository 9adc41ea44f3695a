"""Compare two models, or two versions of one, over the same pictures: agreement, ranks, and what moved most.

    dgiqa compare old.parquet new.parquet
    dgiqa compare default mine.toml pictures/

A and B are what dgiqa score --out wrote (a file or a run's folder), or models, which then score the PATHs. Pictures are
matched by their path. Intervals are bootstrap 95 % over pictures.

Exit code 0: compared; 1: compared, but some pictures are only in one of them; 2: misused.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from dgiqa.cli._output import print_json, watch
from dgiqa.errors import UsageError
from dgiqa.reports.compare import Agreement, Comparison, compare
from dgiqa.reports.rows import Row, holds_rows, model_of, read_all
from dgiqa.scorer import load
from dgiqa.sources import find


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="rows (.csv, .jsonl, .parquet, FOLDER/), or a model's name or card")
    parser.add_argument("b", metavar="B", help="the same, what is compared with A")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="pictures that models score")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many that moved are shown (default 10)")
    parser.add_argument(
        "--runtime", choices=("onnx", "openvino", "torch"), help="of models; default: each card's first"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="threads (default 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    if args.top < 0 or args.workers < 1:
        raise UsageError("--workers must be positive, --top not negative")
    models = [place for place in (args.a, args.b) if not holds_rows(place)]
    if models and not args.paths:
        raise UsageError(f"{models[0]} is a model, and there is nothing to score", hint="add PATHs after A and B")
    if args.paths and not models:
        raise UsageError("A and B are rows already; PATHs are for models to score", hint="leave the PATHs out")
    (a, rows_a), (b, rows_b) = (_rows(place, args) for place in (args.a, args.b))
    found = compare(a, rows_a, b, rows_b, most=args.top)
    if args.json:
        print_json(asdict(found))
    else:
        print_comparison(found)
    return 1 if found.only_a or found.only_b else 0


def _rows(place: str, args: argparse.Namespace) -> tuple[str, list[Row]]:
    """The model's name and its rows, read or scored."""
    if holds_rows(place):
        rows = read_all(place)
        return model_of(rows, place), rows
    scorer = load(place, args.runtime)
    sources = list(find(args.paths))
    results = scorer.score_all(sources, workers=args.workers)
    return scorer.model, [result.as_row() for result in watch(results, len(sources))]


def print_comparison(found: Comparison) -> None:
    """Agreement, change, and the table of what moved most."""
    print(f"A {found.a}\nB {found.b}\n{found.n} pictures scored by both", end="")
    alone = [f"{count} by {name} alone" for name, count in (("A", found.only_a), ("B", found.only_b)) if count]
    print(f", {', '.join(alone)}\n" if alone else "\n")
    for name, agreement in (("SRCC", found.srcc), ("KRCC", found.krcc), ("PLCC", found.plcc)):
        print(f"{name}  {_text(agreement)}")
    print(
        f"B minus A: {found.shift:+.1f} points of 100 in the mean, {found.mean_change:.1f} of a single picture, "
        f"{found.largest_change:.1f} at most"
    )
    print(f"of A's best tenth {100 * found.best_kept:.0f} % are in B's best tenth")
    moved = [one for one in found.moved if (one.rank_a, one.quality_a) != (one.rank_b, one.quality_b)]
    if moved:
        print(f"\n{'rank A':>8}{'rank B':>8}{'A':>7}{'B':>7}  path")
    for one in moved:
        print(f"{one.rank_a:8g}{one.rank_b:8g}{one.quality_a:7.1f}{one.quality_b:7.1f}  {one.path}")


def _text(agreement: Agreement | None) -> str:
    if agreement is None:
        return "none: one gives every picture the same quality"
    return f"{agreement.value:.3f} [{agreement.low:.3f}, {agreement.high:.3f}]"

"""Score pictures: one row a source, from 0 (bad) to 100 (excellent).

PATH is a picture, a folder, a pattern such as 'holiday/**/*.jpg', or - for a list on standard input (one path a
line, or separated by NUL). A picture that is named twice is scored once. Without --out or --json a table is printed
when all are scored. low and high are the ends of the model's 90 % interval, where its card has one: of pictures like
those it was calibrated on, 90 in 100 have the mean opinion of people inside (docs/calibration.md).

Exit code 0: all scored; 1: some failed, each with its reason in its row; 2: misused, or the run could not go on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from dgiqa.cli._output import RowFile, print_json, print_table, watch
from dgiqa.errors import UsageError
from dgiqa.imaging.find import find
from dgiqa.scorer import MAX_MEGAPIXELS, load
from dgiqa.types import Failure, Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture, folder, pattern, or - for a list")
    parser.add_argument("--model", default="default", metavar="NAME", help="a card's name (dgiqa models) or file")
    parser.add_argument("--depth", metavar="NAME", help="another depth card than the model's own")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write rows to FILE.csv, .jsonl or .parquet")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, as they come")
    parser.add_argument(
        "--sort",
        choices=("worst", "best", "path"),
        default="worst",
        help="order of the table (default: worst first); --out and --json keep the sources' order",
    )
    parser.add_argument("--runtime", choices=("onnx", "torch"), help="default: the first the model has weights for")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="pictures a call (for GPUs; default 1)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="threads (default 1)")
    parser.add_argument(
        "--recursive",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look into folders of folders",
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first picture that fails")
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=MAX_MEGAPIXELS,
        metavar="N",
        help=f"refuse larger pictures (default {MAX_MEGAPIXELS:g})",
    )


def run(args: argparse.Namespace) -> int:
    if args.batch < 1 or args.workers < 1 or not args.max_megapixels > 0:
        raise UsageError("--batch, --workers and --max-megapixels must be positive")
    scorer = load(args.model, args.runtime, depth=args.depth, max_megapixels=args.max_megapixels)
    sources = list(find(_listed(args.paths), recursive=args.recursive))
    if not sources:
        raise UsageError(f"no pictures in {', '.join(args.paths)}", hint="PDFs, videos and hidden files are left out")
    results = _until_failure(scorer.score_all(sources, workers=args.workers, batch=args.batch), args.fail_fast)
    count, failed, kept = 0, 0, []
    with ExitStack() as stack:
        writer = stack.enter_context(RowFile(args.out)) if args.out else None
        for result in watch(results, len(sources)):
            count, failed = count + 1, failed + (not result.ok)
            if writer:
                writer.write(result.as_row())
            if args.json:
                print_json(result.as_row())
            elif not writer:
                kept.append(result)
            for note in result.notes:
                print(f"dgiqa: {result.path}: {note}", file=sys.stderr)
        if writer:
            writer.whole = count == len(sources)
    if args.out and count == len(sources):
        print(f"{args.out}: {count} row{'s' * (count != 1)}, {count - failed} scored, {failed} failed", file=sys.stderr)
    elif not args.out and not args.json:
        print_table(kept, args.sort)
    if count < len(sources):
        print(f"dgiqa: stopped at the first failure, {len(sources) - count} sources left", file=sys.stderr)
    return 1 if failed else 0


def _listed(paths: Iterable[str]) -> Iterator[str]:
    """The paths, with - replaced by the list on standard input."""
    for path in paths:
        if path != "-":
            yield path
            continue
        text = os.fsdecode(sys.stdin.buffer.read())  # names are bytes, whatever the locale says
        yield from filter(None, text.split("\0") if "\0" in text else text.replace("\r\n", "\n").split("\n"))


def _until_failure(results: Iterable[Result], fail_fast: bool) -> Iterator[Result]:
    for result in results:
        yield result
        if fail_fast and isinstance(result, Failure):
            return

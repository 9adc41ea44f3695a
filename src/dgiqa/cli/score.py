"""Score pictures: one row a source, from 0 (bad) to 100 (excellent).

PATH is a picture, a folder, a pattern such as 'holiday/**/*.jpg', a zip or tar file, a URL (s3://, gs://, https://;
docs/sources.md), or - for a list on standard input (one path a line, or separated by NUL). A picture named twice
is scored once. Without --out or --json a table is printed when all are scored. --out FOLDER/ is a run that may be
stopped at any moment: with --resume the same command goes on, and later scores what is new or has changed
(docs/long-runs.md). low and high are the ends of the model's 90 % interval, where its card has one: of pictures like
those it was calibrated on, 90 in 100 have the mean opinion of people inside (docs/calibration.md).

Exit code 0: all scored; 1: some failed, each with its reason in its row; 2: misused, or the run could not go on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import IO, Any

from dgiqa.cli._output import print_json, print_table, watch
from dgiqa.errors import ReferenceMismatch, UsageError
from dgiqa.executors import local, ray
from dgiqa.results.rows import KINDS, RowFile, kind_of
from dgiqa.results.run import ROWS, Run
from dgiqa.scorer import MAX_MEGAPIXELS, Scorer, load
from dgiqa.sources import Found, find
from dgiqa.sources.archives import SEPARATOR
from dgiqa.sources.remote import is_url
from dgiqa.types import Failure, Result

#: Sources that are listed before the first is scored, so that progress can tell the time left.
_COUNTED = 100_000
#: Bytes of a list on standard input that are read at a time.
_BLOCK = 65_536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture, folder, pattern, or - for a list")
    parser.add_argument("--model", default="default", metavar="NAME", help="a card's name (dgiqa models) or file")
    parser.add_argument("--depth", metavar="NAME", help="another depth card than the model's own")
    parser.add_argument(
        "--ref", metavar="REF", help="the original, or a folder, archive or URL of them: for models that compare"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="write rows to FILE.csv, .jsonl or .parquet, or to FOLDER/; s3:// and so on, too"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out FOLDER/")
    parser.add_argument("--shards", choices=KINDS, default=KINDS[0], help="kind of files in a new FOLDER/ (parquet)")
    parser.add_argument("--shard-rows", type=int, default=ROWS, metavar="N", help=f"rows of a file there ({ROWS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, as they come")
    parser.add_argument(
        "--sort",
        choices=("worst", "best", "path"),
        default="worst",
        help="order of the table (default: worst first); --out and --json keep the sources' order",
    )
    parser.add_argument(
        "--runtime",
        choices=("onnx", "openvino", "torch", "numpy", "auto"),
        help="default: the first the model has weights for; auto: the fastest of those installed, measured",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="pictures a call (for GPUs; default 1)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="threads, or actors on Ray (default 1)")
    parser.add_argument(
        "--on", choices=("local", "ray"), default="local", help="where a run in FOLDER/ is done (docs/long-runs.md)"
    )
    parser.add_argument("--address", metavar="HOST", help="of a Ray cluster; default: one is begun on this machine")
    parser.add_argument("--gpus", type=float, default=0.0, metavar="N", help="GPUs of each worker on Ray (default 0)")
    parser.add_argument(
        "--fast",
        action="store_true",
        help="decode large JPEGs at a reduced scale; scores move a little, and the model's name says so",
    )
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
    if min(args.batch, args.workers, args.shard_rows) < 1 or not args.max_megapixels > 0:
        raise UsageError("--batch, --workers, --shard-rows and --max-megapixels must be positive")
    in_shards = args.out is not None and _is_folder(args.out)
    if args.resume and not in_shards:
        raise UsageError("--resume goes on with a run in a folder", hint="give --out FOLDER/")
    if args.on == "ray" and not in_shards:
        raise UsageError("--on ray writes a run's folder", hint="give --out FOLDER/")
    if args.on == "local" and (args.address or args.gpus):
        raise UsageError("--address and --gpus are a cluster's", hint="add --on ray")
    scorer = load(args.model, args.runtime, **_options(args))
    scorer.check_reference(args.ref is not None)
    sources = find(_listed(args.paths), recursive=args.recursive)
    if (first := next(sources, None)) is None:
        raise UsageError(f"no pictures in {', '.join(args.paths)}", hint="PDFs, videos and hidden files are left out")
    sources = chain([first], sources)
    if args.ref is not None:
        sources = with_originals(sources, args.ref)
    with ExitStack() as stack:
        shards, writer = None, None
        if in_shards:
            about = {"kind": args.shards, "resume": args.resume, "rows": args.shard_rows, "ref": _place(args.ref)}
            shards = Run(args.out, scorer.model, **about)
            total, sources = _counted(stack.enter_context(shards).pending(sources))
            results = _into(shards, scorer, sources, args)
        else:
            writer = stack.enter_context(RowFile(args.out)) if args.out else None
            total, sources = _counted(sources)
            results = scorer.score_all(sources, workers=args.workers, batch=args.batch)
        new, kept = _follow(_until_failure(results, args.fail_fast), total, writer, args)
        whole = new.count == total or not (args.fail_fast and new.failed)
        there = _Rows(shards.kept, shards.kept_failed) if shards else _Rows()
        if writer:
            writer.whole = whole
    if args.out and (whole or in_shards):
        earlier = f"; {there.count} were there already, {there.failed} of them failed" if there.count else ""
        print(f"{args.out}: {new.count} row{'s' * (new.count != 1)}, {new}{earlier}", file=sys.stderr)
    elif not args.out and not args.json:
        print_table(kept, args.sort)
    if not whole:
        left = "more" if total is None else total - new.count
        print(f"dgiqa: stopped at the first failure, {left} sources left", file=sys.stderr)
    return 1 if new.failed or there.failed else 0


def _into(run: Run, scorer: Scorer, sources: Iterable[Found], args: argparse.Namespace) -> Iterator[Result]:
    """The run's results, on this machine or on a cluster."""
    if args.on == "local":
        return local.score_into(run, scorer, sources, workers=args.workers, batch=args.batch)
    kind = "auto" if args.runtime == "auto" else scorer.runtime.partition(" ")[0]  # the fastest is each worker's own
    opens = partial(load, args.model, kind, **_options(args))
    where = {"gpus": args.gpus, "address": args.address}
    return ray.score_into(run, opens, sources, workers=args.workers, batch=args.batch, **where)


def with_originals(sources: Iterable[Found], ref: str) -> Iterator[Found]:
    """Each source with its original: ``ref`` itself, or the picture of its name, without the ending, in that place.

    Originals are listed at once, sources as they are taken. One that has no original, or several, gets that error.

    Args:
        ref: a picture, or a folder, pattern, archive or URL of them.

    Raises:
        UsageError: there is no such place, or it holds no pictures.
    """
    found = list(find([ref]))
    if all(original.error for original in found):
        fault = found[0].error if found else None
        message = fault.message if fault else f"{ref}: no pictures there"
        raise UsageError(f"--ref {message}", hint=fault.hint if fault else "")
    if not os.path.isdir(ref) and [os.path.basename(each.path) for each in found] == [os.path.basename(ref)]:
        return (source if source.error else replace(source, reference=found[0]) for source in sources)
    originals: dict[str, list[Found]] = {}
    for original in found:
        originals.setdefault(_stem(original.path), []).append(original)
    return (_with_original(source, originals.get(_stem(source.path), []), ref) for source in sources)


def _with_original(source: Found, named: list[Found], ref: str) -> Found:
    """A source with the one of its name, or with the error that there is not one."""
    if source.error or len(named) == 1:
        return source if source.error else replace(source, reference=named[0])
    fault = f"{len(named)} originals of its name in {ref}" if named else f"no original of its name in {ref}"
    hint = "originals are found by the file's name without its ending"
    return Found(source.path, ReferenceMismatch(f"{source.path}: {fault}", hint=hint))


def _place(ref: str | None) -> str | None:
    """One spelling of where the originals are, as a run remembers it."""
    return ref and (ref.rstrip("/") if is_url(ref) else os.path.normpath(ref))


def _stem(path: str) -> str:
    """The name of a file, object or member without its ending, in small letters."""
    return os.path.splitext(os.path.basename(path.rpartition(SEPARATOR)[2]))[0].lower()


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {"depth": args.depth, "max_megapixels": args.max_megapixels, "fast": args.fast}


@dataclass
class _Rows:
    count: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{self.count - self.failed} scored, {self.failed} failed"


def _follow(
    results: Iterable[Result], total: int | None, writer: RowFile | None, args: argparse.Namespace
) -> tuple[_Rows, list[Result]]:
    """Writes and prints results as they come; counts them, and keeps those of a table."""
    rows, kept = _Rows(), []
    for result in watch(results, total):
        rows.count, rows.failed = rows.count + 1, rows.failed + (not result.ok)
        if writer:
            writer.write(result.as_row())
        if args.json:
            print_json(result.as_row())
        elif not args.out:
            kept.append(result)
        for note in result.notes:
            print(f"dgiqa: {result.path}: {note}", file=sys.stderr)
    return rows, kept


def _counted(sources: Iterator[Found]) -> tuple[int | None, Iterator[Found]]:
    """How many there are, and the sources; None for more than are worth listing before the first is scored."""
    first = list(islice(sources, _COUNTED))
    after = next(sources, None)
    return (len(first), iter(first)) if after is None else (None, chain(first, [after], sources))


def _is_folder(out: str) -> bool:
    """Whether ``--out`` is a run's folder: a name without ending, or one that ends in / or is a folder."""
    return kind_of(out) is None and (not os.path.splitext(out)[1] or out.endswith("/") or os.path.isdir(out))


def _listed(paths: Iterable[str]) -> Iterator[str]:
    """The paths, with - replaced by the list on standard input."""
    for path in paths:
        if path != "-":
            yield path
            continue
        yield from filter(None, map(os.fsdecode, _names(sys.stdin.buffer)))  # bytes, whatever the locale says


def _names(stream: IO[bytes]) -> Iterator[bytes]:
    """The names of a list as they come, one a line, or separated by NUL if there is one in its first 64 kB."""
    held = b""
    while b"\0" not in held and len(held) < _BLOCK and (block := stream.read(_BLOCK)):
        held += block
    separator = b"\0" if b"\0" in held else b"\n"
    while held:
        *names, held = held.split(separator)
        for name in names:
            yield name.removesuffix(b"\r") if separator == b"\n" else name
        if not (block := stream.read(_BLOCK)):
            break
        held += block
    yield held


def _until_failure(results: Iterable[Result], fail_fast: bool) -> Iterator[Result]:
    for result in results:
        yield result
        if fail_fast and isinstance(result, Failure):
            return

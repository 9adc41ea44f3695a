"""Measure how well scores agree with people: SRCC, KRCC, PLCC, RMSE with intervals, on a data set of rated pictures.

    dgiqa evaluate --on biq2021 --root BIQ2021/ --out result.json --page result.html
    dgiqa evaluate default mine.toml --on ratings.csv               two models, and whether they differ
    dgiqa evaluate default --on biq2021=BIQ2021/ --on koniq10k=KonIQ/      several data sets: a matrix
    dgiqa evaluate --from piqe.csv --lower-is-better --on biq2021 --root BIQ2021/      another tool's scores

DATASET is a name that `dgiqa datasets` lists, or a CSV file with path,mos; it may carry its own split and folder, as
NAME:SPLIT=DIR. A file of --from has a column of paths or names and one of scores; rows are matched by path under the
folder, then by file name. A picture without a score is named, counted and left out.

Exit code 0: all scored; 1: some pictures have no score; 2: misused, or the run could not go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dgiqa
from dgiqa.cards import ModelCard
from dgiqa.cli._output import watch
from dgiqa.datasets import Split, read_split
from dgiqa.errors import UsageError
from dgiqa.evaluation import Predictions, Report, as_page, as_text, collect, compare_all, evaluate, to_json
from dgiqa.evaluation.scores_file import Scores, match, read_scores, write_scores
from dgiqa.evaluation.table import explain
from dgiqa.models import depth_card
from dgiqa.scorer import Scorer, load
from dgiqa.weights.fetch import locate
from dgiqa.weights.files import fingerprint

#: Pictures without a score that are named on stderr; the result file and the page have them all.
NAMED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a card's name or file (default: default)")
    parser.add_argument("--on", action="append", required=True, metavar="DATASET", help="NAME, or NAME:SPLIT=DIR")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the data set lies (of a CSV: its own folder)")
    parser.add_argument("--split", metavar="NAME", help="default: test of a data set, all of a CSV file")
    parser.add_argument("--from", action="append", type=Path, default=[], metavar="FILE", dest="files",
                        help="judge the scores in this CSV file")  # fmt: skip
    parser.add_argument("--column", metavar="NAME", help="the column of scores in the files of --from")
    parser.add_argument("--lower-is-better", action="store_true", help="in the files of --from")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result file")
    parser.add_argument("--page", type=Path, metavar="FILE.html", help="write a page with plots and the worst misses")
    parser.add_argument("--scores", type=Path, metavar="FILE.csv", help="write each picture's MOS and score")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads (default 2)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N pictures of each split")


@dataclass(frozen=True)
class Place:
    """A split and the folder that its pictures lie in."""

    split: Split
    root: Path

    @property
    def name(self) -> str:
        return f"{self.split.dataset} {self.split.split}"


def run(args: argparse.Namespace) -> int:
    _check(args)
    files = [scores for file in args.files for scores in read_scores(file, args.column)]
    places = [_place(on, args) for on in args.on]
    scorers = _load(args.models or ([] if files else ["default"]))
    judged: list[tuple[Place, Predictions]] = []
    evaluations, comparisons = [], []
    for place in places:
        here = _predictions(scorers, files, place, args)
        evaluations += [evaluate(predictions, place.split) for predictions in here]
        comparisons += compare_all(here, place.split)
        judged += [(place, predictions) for predictions in here]
    report = Report(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=_command(args),
        versions=_versions(),
        evaluations=tuple(evaluations),
        comparisons=tuple(comparisons),
        limit=args.limit,
    )
    print(as_text(report))
    print(f"\n{explain()}")
    if args.scores:
        _write(args.scores, lambda part: write_scores(part, [(p.split, p.root, found) for p, found in judged]))
    if args.out:
        _write(args.out, lambda part: part.write_text(to_json(report), encoding="utf-8"))
    if args.page:
        page = as_page(report, [(place.split, found) for place, found in judged])
        _write(args.page, lambda part: part.write_text(page, encoding="utf-8", errors="surrogateescape"))
    return _name_missing(judged)


def _check(args: argparse.Namespace) -> None:
    if args.workers < 1 or args.limit < 0:
        raise UsageError("--workers must be positive, --limit not negative")
    if (args.column or args.lower_is_better) and not args.files:
        raise UsageError("--column and --lower-is-better are about the files of --from", hint="add --from FILE.csv")
    for flag, ending in (("out", ".json"), ("page", ".html"), ("scores", ".csv")):
        path: Path | None = getattr(args, flag)
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise UsageError(f"--{flag} {path}: its name must end in {ending}")
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise UsageError(f"--{flag} {path}: can't be written", hint="name a file in a folder that is there")


def _place(on: str, args: argparse.Namespace) -> Place:
    """From NAME, NAME=DIR, NAME:SPLIT=DIR or a CSV file."""
    name, split, folder = on, "", ""
    if not Path(on).is_file():
        name, _, folder = on.partition("=")
        if len(name.partition(":")[0]) > 1:  # no drive letter
            name, _, split = name.partition(":")
    own = name.lower().endswith(".csv")
    root = Path(folder) if folder else args.root or (Path(name).parent if own else None)
    if root is None:
        raise UsageError(
            f"{name}: its folder is missing", hint=f"--root DIR, or --on {name}=DIR for each of several data sets"
        )
    found = read_split(name, split or args.split or ("all" if own else "test"), root)
    return Place(_first(found, args.limit) if args.limit else found, root)


def _first(split: Split, count: int) -> Split:
    """The first ``count`` pictures."""
    columns = {
        field.name: value[:count]
        for field in dataclasses.fields(split)
        if isinstance(value := getattr(split, field.name), (tuple, np.ndarray))
    }
    return dataclasses.replace(split, **columns)


def _load(names: list[str]) -> list[Scorer]:
    """The models, each once however it is called."""
    return list({scorer.model: scorer for scorer in (load(name, None) for name in dict.fromkeys(names))}.values())


def _predictions(
    scorers: list[Scorer], files: list[Scores], place: Place, args: argparse.Namespace
) -> list[Predictions]:
    """Of every model and file, in the order they were named."""
    found = []
    for scorer in scorers:
        if len(scorers) > 1 or len(args.on) > 1:
            print(f"dgiqa: {scorer.model} on {place.name}", file=sys.stderr)
        results = watch(scorer.score_all(place.split.paths, workers=args.workers), len(place.split))
        found.append(collect(results, scorer.model, _fingerprint(scorer.card)))
    for scores in files:
        matched = match(scores, place.split, place.root, lower_is_better=args.lower_is_better)
        taken = {predictions.model for predictions in found}
        label = next(name for name in _labels(scores) if name not in taken)
        found.append(dataclasses.replace(matched.predictions, model=label))
        print(
            f"dgiqa: {label}: {len(place.split) - len(matched.predictions.missing):,} of {len(place.split):,} pictures "
            f"of {place.name} matched, {matched.by_path:,} by path, {matched.by_name:,} by file name; "
            f"{matched.unused:,} rows left over",
            file=sys.stderr,
        )
    return found


def _labels(scores: Scores) -> Iterator[str]:
    """What the scores can be called, until one is free."""
    yield scores.model
    yield f"{scores.model} ({scores.file})"
    count = 2
    while True:
        yield f"{scores.model} ({count})"
        count += 1


def _fingerprint(card: ModelCard) -> str:
    """Of the card, its depth card, and the weights of both."""
    cards = [found for found in (card, depth_card(card)) if found]
    return fingerprint(
        *(file for one in cards for file in (one.folder / one.file, locate(one, next(iter(one.weights)))))
    )


def _command(args: argparse.Namespace) -> str:
    """As it was typed, but for the order of the flags."""
    words = ["dgiqa", "evaluate", *args.models]
    for on in args.on:
        words += ["--on", on]
    for file in args.files:
        words += ["--from", str(file)]
    for flag in ("root", "split", "column", "limit", "out", "page", "scores"):
        if value := getattr(args, flag):
            words += [f"--{flag}", str(value)]
    return shlex.join([*words, *(["--lower-is-better"] if args.lower_is_better else [])])


def _versions() -> dict[str, str]:
    versions = {"dgiqa": dgiqa.__version__, "python": platform.python_version()}
    for package in ("numpy", "pillow", "onnxruntime", "torch"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _write(path: Path, fill: Callable[[Path], object]) -> None:
    """Through PATH.part, so that an older file stays whole until the new one is."""
    part = path.with_name(path.name + ".part")
    fill(part)
    os.replace(part, path)
    print(f"dgiqa: {path} written", file=sys.stderr)


def _name_missing(judged: list[tuple[Place, Predictions]]) -> int:
    """Names pictures without a score on stderr; the exit code."""
    missing = [(found.model, one) for _, found in judged for one in found.missing]
    for model, one in missing[:NAMED]:
        print(f"dgiqa: left out: {model}: {one.path}: {one.why}", file=sys.stderr)
    if len(missing) > NAMED:
        print(f"dgiqa: and {len(missing) - NAMED} more; --out and --page name them all", file=sys.stderr)
    return 1 if missing else 0

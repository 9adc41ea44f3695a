"""Measure how well scores agree with people: SRCC, KRCC, PLCC, RMSE with intervals, on a data set of rated pictures.

    dgiqa evaluate --on biq2021 --root BIQ2021/ --out result.json --page result.html
    dgiqa evaluate default mine.toml --on ratings.csv               two models, and whether they differ
    dgiqa evaluate default --on biq2021=BIQ2021/ --on koniq10k=KonIQ/      several data sets: a matrix
    dgiqa evaluate --from piqe.csv --lower-is-better --on biq2021 --root BIQ2021/      another tool's scores

DATASET is a name that `dgiqa datasets` lists, or a CSV file with path,mos; it may carry its own split and folder, as
NAME:SPLIT=DIR. A file of --from has a column of paths or names and one of scores; rows are matched by path under the
folder, then by file name. With --lower-is-better the scores are negated, and their name says so. A picture without a
score is named, counted and left out. docs/evaluation.md says what every number is.

Exit code 0: all scored; 1: some pictures have no score, or some model can't be judged; 2: misused, or the run could
not go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import itertools
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dgiqa
from dgiqa.cards import ModelCard
from dgiqa.cli._output import watch
from dgiqa.datasets import Split, read_split
from dgiqa.errors import UsageError
from dgiqa.evaluation import (
    Comparison,
    Evaluation,
    Predictions,
    Report,
    as_page,
    as_text,
    collect,
    compare,
    evaluate,
    to_json,
)
from dgiqa.evaluation.scores_file import Scores, match, names_any, read_scores, write_scores
from dgiqa.evaluation.table import explain
from dgiqa.models import cards_behind
from dgiqa.scorer import Compared, Scorer, load
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


@dataclass(frozen=True)
class Judged:
    """Scores of a split's pictures and how well they agree with people, or ``why`` that can't be said."""

    place: Place
    predictions: Predictions
    evaluation: Evaluation | None = None
    why: UsageError | None = None


def run(args: argparse.Namespace) -> int:
    _check(args)
    files = [scores for file in args.files for scores in read_scores(file, args.column)]
    places = _places(args)
    scorers = _load(args.models or ([] if files else ["default"]))
    matched = match_files(files, places, [scorer.model for scorer in scorers], args.lower_is_better)
    for scorer, place in itertools.product(scorers, places):
        sources_of(scorer, place)  # known before any picture is scored
    judged: list[Judged] = []
    comparisons: list[Comparison] = []
    for place, from_files in zip(places, matched, strict=True):
        here = [_judge(place, predictions) for predictions in (*_score(scorers, place, args), *from_files)]
        comparisons += _compare([one.predictions for one in here if one.evaluation], place.split)
        judged += here
    report = Report(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command_of(args),
        versions=versions(),
        evaluations=tuple(one.evaluation for one in judged if one.evaluation),
        comparisons=tuple(comparisons),
        limit=args.limit,
    )
    _write_files(args, report, judged)
    return _name_missing(judged)


def _judge(place: Place, predictions: Predictions) -> Judged:
    """One that can't be judged is no reason to lose the rest."""
    try:
        return Judged(place, predictions, evaluate(predictions, place.split))
    except UsageError as error:
        return Judged(place, predictions, why=error)


def _write_files(args: argparse.Namespace, report: Report, judged: list[Judged]) -> None:
    """What is asked for; the scores also where none of them could be judged, which ends it then."""
    if args.scores:
        rows = [(one.place.split, one.place.root, one.predictions) for one in judged]
        _write(args.scores, lambda part: write_scores(part, rows))
    if not report.evaluations and judged[0].why:
        raise judged[0].why
    print(as_text(report))
    print(f"\n{explain()}")
    if args.out:
        _write(args.out, lambda part: part.write_text(to_json(report), encoding="utf-8"))
    if args.page:
        page = as_page(report, [(one.place.split, one.predictions) for one in judged if one.evaluation])
        _write(args.page, lambda part: part.write_text(page, encoding="utf-8", errors="surrogateescape"))


def _check(args: argparse.Namespace) -> None:
    if args.workers < 1 or args.limit < 0:
        raise UsageError("--workers must be positive, --limit not negative")
    if (args.column or args.lower_is_better) and not args.files:
        raise UsageError("--column and --lower-is-better are about the files of --from", hint="add --from FILE.csv")
    check_outputs(args, {"out": ".json", "page": ".html", "scores": ".csv"})
    ratings = (Path(_spelled(on)[0]) for on in args.on)
    read = {file.resolve() for file in (*args.files, *ratings) if file.is_file()}
    if args.scores and args.scores.resolve() in read:
        raise UsageError(f"--scores {args.scores}: would replace a file that is read", hint="give it another name")


def check_outputs(args: argparse.Namespace, endings: Mapping[str, str]) -> None:
    """Whether the files to write, by flag, have their endings and can be made: known before any picture is scored."""
    for flag, ending in endings.items():
        path: Path | None = getattr(args, flag)
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise UsageError(f"--{flag} {path}: its name must end in {ending}")
        _check_writable(flag, path)


def _check_writable(flag: str, path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"--{flag} {path}: is a folder", hint="name a file")
    part = _part(path)
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise UsageError(
            f"--{flag} {path}: can't be written ({error.strerror})", hint="name a file in a folder that is there"
        ) from error


def _places(args: argparse.Namespace) -> list[Place]:
    places = [place_of(on, args) for on in args.on]
    names = [place.name for place in places]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"--on: {twice} is named twice", hint="once is enough; CSV files need names that differ")
    return places


def place_of(on: str, args: argparse.Namespace) -> Place:
    """From NAME, NAME=DIR, NAME:SPLIT=DIR or a CSV file."""
    name, split, folder = _spelled(on)
    own = name.lower().endswith(".csv")
    root = Path(folder) if folder else args.root or (Path(name).parent if own else None)
    if root is None:
        raise UsageError(
            f"{name}: its folder is missing", hint=f"--root DIR, or --on {name}=DIR for each of several data sets"
        )
    found = read_split(name, split or args.split or ("all" if own else "test"), root)
    if args.limit:
        found = found.some(found.split, np.arange(min(args.limit, len(found))))
    return Place(found, root)


def _spelled(on: str) -> tuple[str, str, str]:
    """Name, split and folder of NAME, NAME:SPLIT, NAME=DIR or NAME:SPLIT=DIR."""
    name, split, folder = on, "", ""
    if not Path(on).is_file():
        name, _, folder = on.partition("=")
        if len(name.partition(":")[0]) > 1:  # no drive letter
            name, _, split = name.partition(":")
    return name, split, folder


def _load(names: list[str]) -> list[Scorer]:
    """The models, each once however it is called."""
    return list({scorer.model: scorer for scorer in (load(name, None) for name in dict.fromkeys(names))}.values())


def match_files(
    files: list[Scores], places: list[Place], taken: Sequence[str], negated: bool
) -> list[list[Predictions]]:
    """For each place the scores that the files have of its pictures, each under a name of its own.

    Of several data sets a file may have some; of one, or if it has none of any, it is an error to have too few.
    """
    found: list[list[Predictions]] = [[] for _ in places]
    for scores in files:
        has = [len(places) == 1 or names_any(scores, place.split, place.root) for place in places]
        for place, here, known in zip(places, found, has, strict=True):
            if not known and any(has):
                continue
            matched = match(scores, place.split, place.root, lower_is_better=negated)
            names = {*taken, *(predictions.model for predictions in here)}
            label = next(name for name in _labels(scores, negated) if name not in names)
            here.append(dataclasses.replace(matched.predictions, model=label))
            count = len(place.split) - len(matched.predictions.missing)
            print(
                f"dgiqa: {label}: {count:,} of {len(place.split):,} pictures of {place.name} have a score, "
                f"{matched.by_path:,} rows matched by path, {matched.by_name:,} by file name, "
                f"{matched.unused:,} left over",
                file=sys.stderr,
            )
    for place, here in zip(places, found, strict=True):
        if not here and not taken:
            raise UsageError(f"{place.name}: no file of --from has scores of its pictures", hint="leave the set out")
    return found


def _labels(scores: Scores, negated: bool) -> Iterator[str]:
    """What the scores can be called, until one is free."""
    tail = " (negated)" if negated else ""
    yield f"{scores.model}{tail}"
    yield f"{scores.model} of {scores.file}{tail}"
    for count in itertools.count(2):
        yield f"{scores.model} of {scores.file}, {count}{tail}"


def _score(scorers: list[Scorer], place: Place, args: argparse.Namespace) -> Iterator[Predictions]:
    """Of every model, in the order they were named."""
    for scorer in scorers:
        if len(scorers) > 1 or len(args.on) > 1:
            print(f"dgiqa: {scorer.model} on {place.name}", file=sys.stderr)
        results = watch(scorer.score_all(sources_of(scorer, place), workers=args.workers), len(place.split))
        yield collect(results, scorer.model, _fingerprint(scorer.card))


def sources_of(scorer: Scorer, place: Place) -> Sequence[Path | Compared]:
    """The pictures, with their originals for a model that compares.

    Raises:
        UsageError: the set doesn't name them.
    """
    split = place.split
    if scorer.card.reference == "none":
        return split.paths
    if not split.has_originals:
        raise UsageError(
            f"{scorer.model} compares pictures with their originals, which {place.name} doesn't name",
            hint="a CSV names them in a column ref; dgiqa datasets tells which sets do",
        )
    return [Compared(path, str(ref)) for path, ref in zip(split.paths, split.references, strict=True)]


def _compare(predictions: list[Predictions], split: Split) -> Iterator[Comparison]:
    """Every pair once; one that can't be compared is no reason to lose the rest."""
    for first, second in itertools.combinations(predictions, 2):
        try:
            yield compare(first, second, split)
        except UsageError as error:
            print(f"dgiqa: not compared: {error}", file=sys.stderr)


def _fingerprint(card: ModelCard) -> str:
    """Of the card and all that take part in its scores, and of their weights."""
    return fingerprint(
        *(file for one in cards_behind(card) for file in (one.folder / one.file, locate(one, next(iter(one.weights)))))
    )


def command_of(args: argparse.Namespace, verb: str = "evaluate") -> str:
    """As it was typed, but for the order of the flags."""
    words = ["dgiqa", verb, *args.models]
    for on in [args.on] if isinstance(args.on, str) else args.on:
        words += ["--on", on]
    for file in args.files:
        words += ["--from", str(file)]
    for flag in ("root", "split", "column", "limit", "out", "page", "scores"):
        if value := getattr(args, flag, None):
            words += [f"--{flag}", str(value)]
    return shlex.join([*words, *(["--lower-is-better"] if args.lower_is_better else [])])


def versions() -> dict[str, str]:
    """Of this package, Python and the packages that scores depend on."""
    versions = {"dgiqa": dgiqa.__version__, "python": platform.python_version()}
    for package in ("numpy", "pillow", "onnxruntime", "torch"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _write(path: Path, fill: Callable[[Path], object]) -> None:
    """Through PATH.part, so that an older file stays whole until the new one is."""
    part = _part(path)
    try:
        fill(part)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    print(f"dgiqa: {path} written", file=sys.stderr)


def _name_missing(judged: list[Judged]) -> int:
    """Names scores that can't be judged and pictures without a score on stderr; the exit code."""
    unjudged = [one.why for one in judged if one.why]
    for why in unjudged:
        print(f"dgiqa: not judged: {why}", file=sys.stderr)
    missing = [(one.predictions.model, gone) for one in judged for gone in one.predictions.missing]
    for model, gone in missing[:NAMED]:
        print(f"dgiqa: left out: {model}: {gone.path}: {gone.why}", file=sys.stderr)
    if len(missing) > NAMED:
        print(f"dgiqa: and {len(missing) - NAMED} more; --out and --page name them all", file=sys.stderr)
    return 1 if missing or unjudged else 0

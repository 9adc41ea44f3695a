"""Compare models on one data set: agreement, pictures a second, memory, size, licence.

    dgiqa benchmark default full_reference.ssim --on set.csv --page models.html
    dgiqa benchmark all --on biq2021 --root BIQ2021 --from other.csv

Each model is scored in a process of its own, one after the other, so that speed and memory are its alone; all means
every model whose weights are here and that the set suits. Scores of any other tool join by --from FILE.csv, as in dgiqa
evaluate. What papers say stands apart, with its source.

Exit code 0: done; 1: some pictures have no score, or some model can't be judged; 2: misused.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dgiqa.cards import ModelCard
from dgiqa.cli.evaluate import Place, check_outputs, command_of, match_files, place_of, sources_of, versions
from dgiqa.errors import RunError, UsageError
from dgiqa.evaluation import collect, evaluate
from dgiqa.evaluation.benchmark import Benchmark, Line, as_page, as_text, line_of, to_json
from dgiqa.evaluation.scores_file import read_scores
from dgiqa.models import find_card, list_models
from dgiqa.scorer import load
from dgiqa.types import Result
from dgiqa.weights.fetch import is_built_in, is_here

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="cards' names or files; all (default: default)")
    parser.add_argument("--on", required=True, metavar="DATASET", help="NAME, NAME:SPLIT=DIR, or a CSV file")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the data set lies (of a CSV: its own folder)")
    parser.add_argument("--split", metavar="NAME", help="default: test of a data set, all of a CSV file")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N pictures")
    parser.add_argument("--from", action="append", type=Path, default=[], metavar="FILE", dest="files",
                        help="scores of another tool, a CSV file")  # fmt: skip
    parser.add_argument("--lower-is-better", action="store_true", help="in the files of --from")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="threads a model (default 1)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures")
    parser.add_argument("--page", type=Path, metavar="FILE.html", help="write the page")


def run(args: argparse.Namespace) -> int:
    if args.workers < 1 or args.limit < 0:
        raise UsageError("--workers must be positive, --limit not negative")
    check_outputs(args, {"out": ".json", "page": ".html"})
    place = place_of(args.on, args)
    cards = chosen(args.models or ([] if args.files else ["default"]), place)
    files = [scores for file in args.files for scores in read_scores(file, None)]
    others = match_files(files, [place], [card.label for card in cards], args.lower_is_better)[0]
    of_files = [Line(evaluate(predictions, place.split)) for predictions in others]
    lines, lost, failed = list[Line](), sum(len(found.missing) for found in others), list[RunError]()
    for card in cards:
        print(f"dgiqa: {card.label} on {place.name}", file=sys.stderr)
        try:
            results, seconds, megabytes, label = scored(card, place, args.workers)
            found = collect(results, label)
            lines.append(line_of(card, evaluate(found, place.split), len(results) / seconds, megabytes))
            lost += len(found.missing)
        except RunError as error:  # no reason to lose the rest
            print(f"dgiqa: left out: {error}", file=sys.stderr)
            failed.append(error)
    lines += of_files
    if failed and not lines:
        raise failed[0]
    benchmark = Benchmark(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command_of(args, "benchmark"),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        workers=args.workers,
        versions=versions(),
        lines=tuple(lines),
    )
    print(as_text(benchmark))
    for path, text in ((args.out, to_json(benchmark)), (args.page, as_page(benchmark))):
        if path:
            path.write_text(text, encoding="utf-8")
    if lost:
        print(f"dgiqa: {lost} scores are missing; dgiqa evaluate names them", file=sys.stderr)
    return 1 if lost or failed else 0


def chosen(names: list[str], place: Place) -> list[ModelCard]:
    """The cards of those names; of ``all`` those whose weights are here and that the set suits."""
    cards: dict[str, ModelCard] = {}
    split = place.split
    originals = split.has_originals and all(map(os.path.exists, {str(ref) for ref in split.references}))
    for name in names:
        if name != "all":
            card = find_card(name)
            cards[card.label] = card
            continue
        for card in list_models("quality"):
            if any(is_here(card, kind) for kind in card.weights) and (card.reference == "none" or originals):
                cards[card.label] = card
    return list(cards.values())


def scored(card: ModelCard, place: Place, workers: int) -> tuple[list[Result], float, float | None, str]:
    """Rows, seconds, megabytes and label of a model in a process of its own."""
    import multiprocessing  # other verbs start without

    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    name = card.name if is_built_in(card) else card.folder / card.file
    process = spawn.Process(target=_score, args=(theirs, name, place, workers))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        raise UsageError(f"{card.label}: its process ended with {process.exitcode}", hint="see above") from None
    process.join()
    if isinstance(answer, RunError):
        raise answer
    found: tuple[list[Result], float, float | None, str] = answer
    return found


def _score(answer: Connection, name: str | Path, place: Place, workers: int) -> None:
    """In the process: opens the model, scores one picture to warm up, then all by the clock."""
    try:
        scorer = load(name, None)
        sources = sources_of(scorer, place)
        list(scorer.score_all(sources[:1]))
        start = time.perf_counter()
        results = list(scorer.score_all(sources, workers=workers))
        seconds = time.perf_counter() - start
        answer.send((results, seconds, peak_megabytes(), scorer.model))
    except RunError as error:
        answer.send(error)
    finally:
        answer.close()


def peak_megabytes() -> float | None:
    """The most that this process held; None where the system doesn't tell."""
    try:  # what Linux else tells has what the parent held at the start in it
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

"""Models side by side on one split: agreement with people, speed, memory, size, licence; what papers say apart from it.

A paper's figures are of its authors' weights under its authors' protocol. They stand in a column of their own, with
their source, and are never mixed with what was measured here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dgiqa.cards import ModelCard, Published
from dgiqa.evaluation.page import document, row, table
from dgiqa.evaluation.results import Evaluation
from dgiqa.evaluation.table import aligned, show
from dgiqa.models import whole_network

#: Version of the JSON file's keys.
FORMAT = 1
HEAD = ("model", "n", "SRCC", "PLCC fitted", "pictures/s", "MB", "M parameters", "GMACs", "licence of weights")


@dataclass(frozen=True)
class Line:
    """One model on the split.

    Attributes:
        evaluation: see :mod:`.agreement`.
        pictures_per_second: from file to score, after the model is open; None for scores from a file.
        megabytes: the most that a process of its own held; None as above.
        parameters, gmacs: of the network, or of all of an ensemble, as the cards say; None as above.
        licence: of code, weights and training data; empty as above.
        published: what papers say.
    """

    evaluation: Evaluation
    pictures_per_second: float | None = None
    megabytes: float | None = None
    parameters: int | None = None
    gmacs: float | None = None
    licence: dict[str, str] = dataclasses.field(default_factory=dict)
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """All that one command found.

    Attributes:
        date: ISO 8601, UTC. command: as it was typed. machine: processor and cores.
        workers: threads that each model was scored with.
    """

    date: str
    command: str
    machine: str
    workers: int
    versions: dict[str, str]
    lines: tuple[Line, ...]
    format: int = FORMAT


def line_of(card: ModelCard, evaluation: Evaluation, pictures_per_second: float, megabytes: float | None) -> Line:
    """A model's line."""
    licence = {part: getattr(card.licence, part) for part in ("code", "weights", "data")}
    size = whole_network(card)
    return Line(
        evaluation, pictures_per_second, megabytes, size.parameters, size.gmacs, licence, published=card.published
    )


def to_json(benchmark: Benchmark) -> str:
    """As a JSON document, a key a line."""
    return json.dumps(dataclasses.asdict(benchmark), indent=1, allow_nan=False) + "\n"


def as_text(benchmark: Benchmark) -> str:
    """The table, best SRCC first, and below it what papers say."""
    lines = ranked(benchmark)
    text = [f"{lines[0].evaluation.place}, {benchmark.workers} workers on {benchmark.machine}"]
    text += aligned([HEAD, *map(_cells, lines)])
    text.append("in brackets bootstrap 95 % intervals over pictures; PLCC after a four-parameter logistic")
    if published := _published(lines):
        text += ["", "what papers say, of their own weights and protocol, not measured here:"]
        text += aligned([("model", "data set", "SRCC", "PLCC", "protocol", "source"), *published])
    return "\n".join(text)


def as_page(benchmark: Benchmark) -> str:
    """The same as one HTML file that needs nothing else."""
    lines = ranked(benchmark)
    title = f"Models on {lines[0].evaluation.place}"
    apart = ""
    if published := _published(lines):
        head = ("Model", "Data set", "SRCC", "PLCC", "Protocol", "Source")
        apart = (
            "<h2>What papers say</h2>\n<p class=\"quiet\">Of their authors' weights under their authors' protocol, not "
            f"measured here.</p>\n{_table('Published figures', head, published)}\n"
        )
    versions = ", ".join(f"{name} {version}" for name, version in benchmark.versions.items())
    return document(
        title,
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="quiet">{escape(benchmark.date)} · <code>{escape(benchmark.command)}</code> · {benchmark.workers} '
        f"workers on {escape(benchmark.machine)}</p>\n"
        f"{_table('Measured here', ('Model', *HEAD[1:]), list(map(_cells, lines)))}\n"
        '<p class="quiet">In brackets bootstrap 95 % intervals over pictures; PLCC after a four-parameter logistic; '
        f"MB: the most that a process of its own held.</p>\n{apart}"
        f'<p class="quiet">{escape(versions)}</p>',
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(caption, head, [row(name, cells) for name, *cells in rows])


def ranked(benchmark: Benchmark) -> list[Line]:
    """Best agreement first."""
    return sorted(benchmark.lines, key=lambda line: -line.evaluation.overall.srcc.value)


def _cells(line: Line) -> tuple[str, ...]:
    overall = line.evaluation.overall
    parameters = None if line.parameters is None else line.parameters / 1e6
    return (
        line.evaluation.model,
        f"{overall.n:,}",
        show(overall.srcc),
        show(overall.plcc_fitted),
        _number(line.pictures_per_second, 1),
        _number(line.megabytes, 0),
        _number(parameters, 2),
        _number(line.gmacs, 2),
        line.licence.get("weights", "–"),
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _published(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    return [
        (line.evaluation.model, p.dataset, f"{p.srcc:.3f}", f"{p.plcc:.3f}", p.protocol, p.source)
        for line in lines
        for p in line.published
    ]

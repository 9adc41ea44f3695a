"""A report as one HTML file that needs nothing else: no network, no script; light and dark, small screens too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from dgiqa.datasets import Split
from dgiqa.evaluation.charts import MOST_DOTS, bars, residuals, scatter
from dgiqa.evaluation.predictions import Predictions
from dgiqa.evaluation.results import Comparison, Evaluation, Report
from dgiqa.evaluation.table import HEAD, cells, change, explain, remarks, show
from dgiqa.evaluation.worst import Miss, worst_misses
from dgiqa.imaging.thumbnail import thumbnail

#: What an evaluation was made of, in the order of the report's evaluations.
Sources = Sequence[tuple[Split, Predictions]]
#: Nothing is fetched and nothing runs, whatever a file's name holds.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def as_page(report: Report, sources: Sources) -> str:
    """The whole document.

    Args:
        sources: for each of the report's evaluations its split and predictions, whose dots and pictures are shown.
    """
    title = f"Agreement with people: {', '.join(report.places)}"
    return document(title, "\n".join(_body(report, sources, title)))


def document(title: str, body: str) -> str:
    """A whole page of ``body``, in the evaluation's style."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _body(report: Report, sources: Sources, title: str) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    limited = f" Only the first {report.limit:,} pictures of each split." if report.limit else ""
    yield f'<p class="quiet">{escape(report.date)} · <code>{escape(report.command)}</code>.{limited}</p>'
    if len(report.places) > 1:
        yield "<h2>Models and data sets</h2>"
        yield _matrix(report)
    for place in report.places:
        yield f"<h2>{escape(place)}</h2>"
        yield _numbers([e for e in report.evaluations if e.place == place])
        yield f'<p class="quiet">{escape(explain())}.</p>'
        yield from _comparisons([c for c in report.comparisons if f"{c.dataset} {c.split}" == place])
        for evaluation, (split, predictions) in zip(report.evaluations, sources, strict=True):
            if evaluation.place == place:
                yield from _section(evaluation, split, predictions)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    drawn = ", ".join(sorted({f"{e.samples:,} resamples by seed {e.seed}" for e in report.evaluations}))
    yield f'<p class="quiet">{escape(versions)}. Bootstrap: {drawn}.</p>'


def _section(evaluation: Evaluation, split: Split, predictions: Predictions) -> Iterator[str]:
    yield f"<section>\n<h3>{escape(evaluation.model)}</h3>"
    yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in remarks(evaluation)) + "</ul>"
    scored = np.isfinite(predictions.scores)
    x, y = predictions.scores[scored], 100 * np.asarray(split.mos, np.float64)[scored]
    thinned = f" {MOST_DOTS:,} of {len(x):,} are drawn." if len(x) > MOST_DOTS else ""
    figures = [(scatter(x, y, evaluation.curve, evaluation.model), f"MOS over score, with the logistic.{thinned}")]
    if evaluation.curve is not None:
        fitted = 100 * evaluation.curve(x)
        figures.append((residuals(fitted, y, evaluation.model), "What the prediction misses, with means of tenths."))
    for what, groups in (("subset", evaluation.subsets), ("distortion", evaluation.distortions)):
        if groups:
            figures.append((bars(groups, what), f"SRCC by {what} (pictures), with 95 % intervals."))
    drawn = "".join(f"<figure>{svg}<figcaption>{escape(text)}</figcaption></figure>\n" for svg, text in figures)
    yield f'<div class="figures">\n{drawn}</div>'
    if evaluation.curve is not None:
        yield from _misses(worst_misses(predictions, split, evaluation.curve))
    if evaluation.missing:
        lines = "".join(f"<li>{escape(m.path)}: {escape(m.why)}</li>" for m in evaluation.missing)
        summary = f"<summary>Pictures without a score: {len(evaluation.missing):,}</summary>"
        yield f"<details>{summary}<ul>{lines}</ul></details>"
    yield "</section>"


def _misses(misses: Sequence[Miss]) -> Iterator[str]:
    yield "<h4>Worst misses</h4>"
    yield '<p class="quiet">Farthest from the prediction, which is the score after the logistic; all of 100.</p>'
    yield '<ul class="misses">' + "\n".join(map(_miss, misses)) + "</ul>"


def _miss(miss: Miss) -> str:
    name = escape(miss.path.name)
    side = "too low" if miss.apart > 0 else "too high"
    text = f"MOS {miss.mos:.0f}, predicted {miss.predicted:.0f}"
    small = thumbnail(miss.path)
    picture = '<p class="quiet">The picture can\'t be read.</p>'
    if small is not None:
        data, width, height = small
        picture = f'<img src="{data}" width="{width}" height="{height}" alt="{name}: {text}" loading="lazy">'
    return (
        f"<li>{picture}<p><b>{text}</b><br>{abs(miss.apart):.0f} {side}; score {miss.score:.4g}"
        f'<br><span class="quiet">{name}</span></p></li>'
    )


def _numbers(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for evaluation in evaluations:
        rows.append(row(evaluation.model, cells(evaluation.overall)))
        for kind, groups in (("subset", evaluation.subsets), ("distortion", evaluation.distortions)):
            rows += [row(f"{kind} {group.name}", cells(group.agreement), "group") for group in groups]
    return table("Agreement", ("Model", *HEAD[1:]), rows)


def _comparisons(comparisons: Sequence[Comparison]) -> Iterator[str]:
    if comparisons:
        rows = [row(f"{c.first} − {c.second}", (f"{c.n:,}", change(c.srcc), change(c.plcc))) for c in comparisons]
        yield table("Differences of models", ("Difference", "n", "SRCC", "PLCC"), rows)
        yield (
            '<p class="quiet">On the pictures that both scored: paired bootstrap 95 % interval and p; in brackets the '
            "z-test of Meng, Rosenthal and Rubin. Each p is of its pair alone.</p>"
        )


def _matrix(report: Report) -> str:
    rows = []
    for model in report.models:
        found = (report.cell(model, place) for place in report.places)
        rows.append(row(model, [show(e.overall.srcc) if e else "–" for e in found]))
    return table("SRCC of each model on each data set", ("SRCC", *report.places), rows)


def table(caption: str, head: Sequence[str], rows: Sequence[str]) -> str:
    """A table that scrolls by itself where the page is narrow; ``rows`` are of :func:`row`."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(name: str, numbers: Sequence[str], kind: str = "") -> str:
    """A row; what stands in brackets in a cell is written small."""
    mark = f' class="{kind}"' if kind else ""
    tail = "".join(f"<td>{_quiet_interval(number)}</td>" for number in numbers)
    return f'<tr{mark}><th scope="row">{escape(name)}</th>{tail}</tr>\n'


def _quiet_interval(text: str) -> str:
    value, bracket, rest = text.partition(" [")
    if not bracket:
        return escape(text)
    ends, _, after = rest.partition("]")
    return f"{escape(value)} <small>[{escape(ends)}]</small>{escape(after)}"

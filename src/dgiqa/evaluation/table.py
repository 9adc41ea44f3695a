"""A report as text: compact tables with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dgiqa.evaluation.results import Agreement, Comparison, Difference, Estimate, Evaluation, Report

HEAD = ("", "n", "SRCC", "KRCC", "PLCC raw", "PLCC fitted", "RMSE")


def as_text(report: Report) -> str:
    """Tables of every data set, of pairs of models, and the matrix where there are several data sets."""
    blocks = [*_each_place(report), *([_matrix(report)] if len(report.places) > 1 else [])]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def explain() -> str:
    """One line on what the columns are."""
    return (
        "PLCC fitted and RMSE are after a four-parameter logistic, RMSE in hundredths of the scale of MOS; "
        "in brackets bootstrap 95 % intervals over pictures"
    )


def show(estimate: Estimate | None, digits: int = 3) -> str:
    """``0.832 [0.818, 0.846]``; a dash for none."""
    if estimate is None:
        return "–"
    value = f"{estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def cells(agreement: Agreement) -> tuple[str, ...]:
    """The numbers of a row, in the order of :data:`HEAD`."""
    return (
        f"{agreement.n:,}",
        show(agreement.srcc),
        f"{agreement.krcc.value:.3f}",
        f"{agreement.plcc_raw.value:.3f}",
        show(agreement.plcc_fitted),
        show(agreement.rmse_fitted, 1),
    )


def remarks(evaluation: Evaluation) -> Iterator[str]:
    """What no row has a place for: falling scores, a training split, coverage, pairs, what is left out."""
    if evaluation.overall.srcc.value < 0:
        yield "the score falls as MOS rises: where lower is better, say --lower-is-better; a fitted PLCC has no sign"
    if evaluation.split.startswith("train"):  # train-3 and the like too
        yield "these are training pictures: a model that was trained on them agrees with new ones less"
    if (c := evaluation.coverage) is not None:
        yield (
            f"{c.share:.3f} of {c.n:,} MOS lie in their 90 % interval (95 % interval of the share {c.low:.3f} to "
            f"{c.high:.3f}), mean width {c.mean_width:.1f} of 100"
        )
    if (pairs := evaluation.discrimination) is not None:
        numbers = [
            f"{name} {value:.3f}"
            for name, value in (
                ("different or similar AUC", pairs.different_similar),
                ("better or worse AUC", pairs.better_worse),
                ("ordered as people do", pairs.correct),
            )
            if value is not None
        ]
        drawn = f"drawn by seed {pairs.seed}" if pairs.drawn else "all there are"
        told = f"people tell {pairs.different:,} of {pairs.pairs:,} pairs apart ({drawn})"
        yield "; ".join([", ".join(numbers), told] if numbers else [told])
    else:
        yield f"no different or similar, better or worse AUC: {evaluation.no_discrimination}"
    for left in evaluation.left_out:
        pictures = f"{left.n} picture{'s' * (left.n != 1)}"
        yield f"{left.kind} {left.name or 'without a name'}, {pictures}: no numbers, {left.why}"
    if evaluation.missing:
        yield f"{len(evaluation.missing)} of {evaluation.asked:,} pictures have no score and are left out"


def change(difference: Difference) -> str:
    """``+0.013 [+0.004, +0.022], p 0.006 (z 2.81, p 0.005)``."""
    ends = ""
    if difference.low is not None and difference.high is not None:
        ends = f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return (
        f"{difference.value:+.3f}{ends}, p {probability(difference.p)} "
        f"(z {difference.z:.2f}, p {probability(difference.p_of_z)})"
    )


def probability(p: float) -> str:
    """Three digits, and no zero."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _each_place(report: Report) -> Iterator[list[str]]:
    for place in report.places:
        found = [e for e in report.evaluations if e.place == place]
        rows: list[Sequence[str]] = [HEAD]
        for evaluation in found:
            rows.append((evaluation.model, *cells(evaluation.overall)))
            for kind, groups in (("subset", evaluation.subsets), ("distortion", evaluation.distortions)):
                rows += [(f"  {kind} {group.name}", *cells(group.agreement)) for group in groups]
        yield [place, *aligned(rows)]
        for evaluation in found:
            yield [f"{evaluation.model} on {place}", *(f"  {line}" for line in remarks(evaluation))]
        for comparison in report.comparisons:
            if f"{comparison.dataset} {comparison.split}" == place:
                yield _compared(comparison)


def _compared(comparison: Comparison) -> list[str]:
    return [
        f"{comparison.first} minus {comparison.second}, {comparison.n:,} pictures of both",
        f"  SRCC {change(comparison.srcc)}",
        f"  PLCC {change(comparison.plcc)}",
    ]


def _matrix(report: Report) -> list[str]:
    rows: list[Sequence[str]] = [("SRCC", *report.places)]
    for model in report.models:
        crossings = (report.cell(model, place) for place in report.places)
        rows.append((model, *(show(e.overall.srcc) if e else "–" for e in crossings)))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

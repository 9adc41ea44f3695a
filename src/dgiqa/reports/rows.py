"""The rows that ``dgiqa score --out`` wrote, from a file or a run's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dgiqa.errors import UsageError
from dgiqa.results.rows import KINDS, kind_of, read_rows
from dgiqa.results.run import read_run

Row = dict[str, Any]

#: Columns without which rows are of no use here.
_NEEDED = ("path", "status", "quality", "model")


def holds_rows(place: str) -> bool:
    """Whether ``place`` names a file of rows or a run's folder, by its ending or by being a folder."""
    return kind_of(place) is not None or place.endswith("/") or os.path.isdir(place)


def read_all(place: str) -> list[Row]:
    """All rows of a file (.csv, .jsonl, .parquet) or a run's folder, in order.

    Raises:
        UsageError: nothing is there, it can't be read, or its rows aren't scores.
        RuntimeMissing: Parquet without its extra.
    """
    kind = kind_of(place)
    if kind is None:
        return list(read_run(place))
    if not os.path.isfile(place):
        raise UsageError(f"{place}: no such file")
    try:
        rows = list(read_rows(Path(place), kind))
    except KeyError as error:
        raise UsageError(f"{place}: has a column {error} that rows of scores don't", hint=_HINT) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{place}: can't be read as {kind} ({error})", hint=_HINT) from error
    for row in rows[:1]:
        lacking = [name for name in _NEEDED if not isinstance(row, dict) or name not in row]
        if lacking:
            raise UsageError(f"{place}: has no column {', '.join(lacking)}", hint=_HINT)
    return rows


_HINT = f"give what dgiqa score --out wrote: a folder, or a file that ends in {', '.join('.' + k for k in KINDS)}"


def model_of(rows: list[Row], place: str) -> str:
    """The one model that all rows are of.

    Raises:
        UsageError: there are no rows, or they are of several models.
    """
    models = sorted({str(row["model"]) for row in rows})
    if len(models) != 1:
        raise UsageError(f"{place}: {'holds no rows' if not models else 'rows of ' + ', '.join(models)}")
    return models[0]

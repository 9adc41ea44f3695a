"""How a command ends, the ``dgiqa`` verbs and the modules that are run with ``python -m``.

Exit code 0: done; 1: some pictures failed; 2: misused, or the run could not go on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from dgiqa.errors import DgiqaError


def exit_code(work: Callable[[], int | None]) -> int:
    """Does ``work`` and returns its exit code, or that of what stopped it, which is told on standard error."""
    try:
        code = work() or 0
        sys.stdout.flush()
    except DgiqaError as error:
        print(f"dgiqa: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        _drop_what_is_left()
        return 141
    except OSError as error:  # a full disk, a place that can't be written
        print(f"dgiqa: {error}", file=sys.stderr)
        _drop_what_is_left()
        return 2
    except KeyboardInterrupt:
        print("dgiqa: interrupted", file=sys.stderr)
        return 130
    return code


def _drop_what_is_left() -> None:
    """Of standard output, if it can't be written: Python would try again on its way out, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

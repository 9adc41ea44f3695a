"""How the modules of this folder that are run with ``python -m`` end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from dgiqa.errors import DgiqaError


def run(main: Callable[[], object]) -> None:
    """Does ``main`` and ends as the commands do: with exit code 2, what is wrong and the way out if it can't go on."""
    try:
        main()
    except (DgiqaError, OSError) as error:
        print(f"dgiqa: {error}", file=sys.stderr)
        raise SystemExit(2) from None

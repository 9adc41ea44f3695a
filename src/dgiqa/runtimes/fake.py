"""A runtime for tests: any function of the views in place of a network."""

from __future__ import annotations

from collections.abc import Callable

from dgiqa.types import Float32, Views


class FakeNetwork:
    """Runs ``function`` and counts its calls."""

    def __init__(self, function: Callable[[Views], Float32]) -> None:
        self.function = function
        self.calls = 0

    def run(self, views: Views) -> Float32:
        self.calls += 1
        return self.function(views)

"""A long run on this machine: threads score, this one writes."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing

from dgiqa.results.run import Run, identity_of
from dgiqa.scorer import Scorer
from dgiqa.sources import Found, Stamp, hold
from dgiqa.stream import batched, in_order
from dgiqa.types import Result


def score_into(
    run: Run, scorer: Scorer, sources: Iterable[Found], *, workers: int = 1, batch: int = 1
) -> Generator[Result]:
    """Scores ``sources``, those that are :meth:`Run.pending`, and yields each result once ``run`` has its row.

    Args:
        workers, batch: as of :meth:`dgiqa.Scorer.score_all`.

    Raises:
        OSError: a shard can't be written; the shards before it count.
    """

    def score(some: list[Found]) -> list[tuple[Result, Stamp | None]]:
        # The stamp comes first: if the file changes meanwhile, it is the older one's, and the next run scores it anew.
        held = [hold(source) for source in some]
        results = scorer.score_batch([source for source, _ in held])
        return [(result, identity_of(result, stamp)) for result, (_, stamp) in zip(results, held, strict=True)]

    with closing(in_order(score, batched(sources, batch), workers)) as several:
        for results in several:
            for result, identity in results:
                run.add(result.as_row(), identity)
                yield result

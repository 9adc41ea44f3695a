"""A long run on a cluster, through Ray Data. Extra ``dgiqa[ray]``.

    sources ─chunks→ blocks of paths ─Ray Data→ actors, one scorer each ─rows→ this process ─→ shards

Pictures are read where they are scored; paths go out and rows come back. This process alone writes: a row counts when a
shard that the manifest names holds it, wherever a worker, a node or this process dies. A block whose worker is lost is
scored again by another, and gives its rows once, because a block's rows arrive together or not at all.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain, islice
from typing import Any

from dgiqa import errors
from dgiqa.errors import DgiqaError, RunError, RuntimeMissing, UsageError
from dgiqa.executors.arrow import ArrowScorer, refused, results_of, table_of
from dgiqa.results.run import Run
from dgiqa.scorer import Scorer
from dgiqa.sources import Found
from dgiqa.stream import batched
from dgiqa.types import Result

#: Sources of a block, at least and at most: what a worker that is lost has to do again. Each block costs this process
#: some 5 ms, so that many workers get larger ones: two sources for each of them.
BLOCK, LARGEST_BLOCK = 32, 512
#: Sources that are listed, and blocks of them made, before the first of them is scored. Between two chunks workers end
#: and begin, which takes seconds, so that chunks double to so many sources a worker, and to so many in all.
CHUNK, CHUNK_OF_A_WORKER, LARGEST_CHUNK = 50_000, 20_000, 2_000_000
#: Workers that are lost over one picture before it gets a failed row instead of a further try.
DEATHS = 2


def score_into(
    run: Run,
    open_scorer: Callable[[], Scorer],
    sources: Iterable[Found],
    *,
    workers: int = 1,
    batch: int = 1,
    gpus: float = 0.0,
    address: str | None = None,
) -> Generator[Result]:
    """Scores ``sources``, those that are :meth:`Run.pending`, and yields each result once ``run`` has its row.

    Args:
        open_scorer: makes a worker's scorer; it is sent there.
        workers: actors, of one CPU each, and ``gpus`` GPUs.
        batch: pictures a call of the network.
        address: of a Ray cluster (``auto``, ``ray://host:10001``); None uses the one that is connected, or begins one
            on this machine for this run.

    Yields:
        Results in the order in which blocks are done.

    Raises:
        RuntimeMissing: Ray is not installed here.
        UsageError: no cluster at that address, it has too little for one worker, or a worker can't begin.
        OSError: a shard can't be written; the shards before it count.
    """
    ray = _ray()
    began = _connect(ray, address, workers)
    try:
        _check_room(ray, gpus)
        function = ArrowScorer(open_scorer, batch=batch, folder=os.getcwd())
        with closing(_chunks(sources, workers)) as chunks:
            for blocks in chunks:
                for table in _scored(ray, blocks, function, workers, gpus):
                    for result, identity in results_of(table):
                        run.add(result.as_row(), identity)
                        yield result
    finally:
        if began:
            ray.shutdown()


def _chunks(sources: Iterable[Found], workers: int) -> Generator[list[Any]]:
    """Lists of blocks, each a table of sources. A thread lists the next chunk while this one is scored."""
    block = min(max(BLOCK, 2 * workers), LARGEST_BLOCK)
    iterator, stop = iter(sources), threading.Event()

    def listed(size: int, block: int) -> list[Any]:
        blocks = []
        for some in batched(islice(iterator, size), block):
            blocks.append(table_of(some))
            if stop.is_set():
                break
        return blocks

    def first() -> list[Any]:
        """Fewer than fill four blocks of each worker are cut finer, so that none is idle."""
        nonlocal iterator
        few = list(islice(iterator, min(4 * block * workers, CHUNK)))
        iterator = chain(few, iterator)
        return listed(CHUNK, min(block, max(1, -(-len(few) // (4 * workers)))))

    size, most = CHUNK, min(max(CHUNK, CHUNK_OF_A_WORKER * workers), LARGEST_CHUNK)
    with ThreadPoolExecutor(1, thread_name_prefix="dgiqa") as thread:
        due = thread.submit(first)
        try:
            while blocks := due.result():
                size = min(2 * size, most)
                due = thread.submit(listed, size, block)
                yield blocks
        finally:
            stop.set()


def _scored(ray: Any, blocks: list[Any], function: ArrowScorer, workers: int, gpus: float) -> Generator[Any]:
    """Tables of rows of a chunk's blocks, as they are done."""
    pool, block = ray.data.ActorPoolStrategy(size=min(workers, len(blocks))), len(blocks[0])
    # Beside this process, which no run outlives. A ledger that is lost begins again, empty; calls to it wait for that.
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    ledger = (
        ray.remote(_Ledger).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here).remote()
    )
    sent = ray.data.from_arrow([_numbered(table, i) for i, table in enumerate(blocks)])
    blocks.clear()  # Ray has them
    tables = sent.map_batches(
        _Actor,
        fn_constructor_args=(function, ledger),
        batch_size=block,  # a block as it is: all have so many but the last, and without a number GPUs are refused
        batch_format="pyarrow",
        compute=pool,
        num_cpus=1,
        num_gpus=gpus or None,
    )
    try:
        yield from tables.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except ray.exceptions.RayError as error:
        raise _said(error) from error


def _numbered(table: Any, number: int) -> Any:
    return table.replace_schema_metadata().append_column("block", [[number] * len(table)])


class _Actor:
    """One worker: a process with one scorer.

    Ray begins a block again elsewhere when its worker is lost, without end. So that a picture that ends its worker, by
    taking all memory for instance, doesn't end them all, a block that was begun before is done picture by picture, and
    the ledger knows which was under way.
    """

    def __init__(self, function: ArrowScorer, ledger: Any) -> None:
        self._function, self._ledger = function, ledger

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        block = table["block"][0].as_py()
        again, deadly = self._ask("begin", block) or (False, set())
        if not again:
            return self._function(table)
        done = []
        for i in range(len(table)):
            one = table.slice(i, 1)
            if i in deadly:
                one = refused(one, f"was under way when a worker was lost, {DEATHS} times")
            else:
                self._ask("at", block, i)
            done.append(self._function(one))
        self._ask("at", block, None)
        return pa.concat_tables(done)

    def _ask(self, what: str, *arguments: Any) -> Any:
        """What the ledger says; None if it can't be reached: it only helps, and begins anew if its node is lost."""
        import ray

        try:
            return ray.get(getattr(self._ledger, what).remote(*arguments))
        except ray.exceptions.RayActorError:
            return None


class _Ledger:
    """Which blocks were begun, and which of their pictures were under way when a worker was lost."""

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._under_way: dict[int, int] = {}
        self._deaths: Counter[tuple[int, int]] = Counter()

    def begin(self, block: int) -> tuple[bool, set[int]]:
        """Whether the block was begun before, and which of its pictures have ended DEATHS workers."""
        again = block in self._begun
        self._begun.add(block)
        if (place := self._under_way.pop(block, None)) is not None:
            self._deaths[block, place] += 1
        return again, {place for (of, place), count in self._deaths.items() if of == block and count >= DEATHS}

    def at(self, block: int, place: int | None) -> None:
        """Picture ``place`` of the block is begun; None: all are done."""
        if place is None:
            self._under_way.pop(block, None)
        else:
            self._under_way[block] = place


#: A worker's own error, and a package that it misses, in the text that is all that Ray keeps of them.
_OWN = re.compile(r"^dgiqa\.errors\.(\w+): (.+)$", re.MULTILINE)
_MISSING = re.compile(r"^ModuleNotFoundError: (.+)$", re.MULTILINE)


def _said(error: Exception) -> DgiqaError:
    """What stopped the workers: their own message where there is one, else Ray's last line."""
    text = str(error)
    if own := _OWN.search(text):
        kind: type[DgiqaError] = getattr(errors, own[1], RunError)
        return kind(own[2])
    if missing := _MISSING.search(text):
        return UsageError(
            f"a worker can't begin: {missing[1]}", hint="every node needs this dgiqa: pip install 'dgiqa[ray]' there"
        )
    lines = text.strip().splitlines() or [type(error).__name__]
    return UsageError(f"Ray gave up: {lines[-1].strip()}", hint="what was saved counts; add --resume to go on")


def _ray() -> Any:
    # A worker that is lost and begun again is no news; what stops the run is raised.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise RuntimeMissing("--on ray needs Ray, which is not installed", hint="pip install 'dgiqa[ray]'") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the command line has its own
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _connect(ray: Any, address: str | None, workers: int) -> bool:
    """Joins the cluster at ``address``, or begins one; returns whether it is this run's to end."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, by the kind of address
        raise UsageError(f"no Ray cluster at {address}: {error}", hint="check --address") from error
    return True


def _check_room(ray: Any, gpus: float) -> None:
    """A worker that fits nowhere would be waited for without end."""
    there = ray.cluster_resources()
    has = there.get("CPU", 0), there.get("GPU", 0)
    if has[0] < 1 or has[1] < gpus:
        raise UsageError(
            f"the cluster has {has[0]:g} CPUs and {has[1]:g} GPUs; a worker wants 1 and {gpus:g}",
            hint="fewer --gpus, or a larger cluster",
        )

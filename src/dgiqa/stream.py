"""An ordered parallel map in bounded memory: the one loop behind every run over many pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(function: Callable[[A], B], items: Iterable[A], workers: int, *, background: bool = False) -> Generator[B]:
    """``function`` of each item, in the items' order, on ``workers`` threads.

    At most two items per worker are taken ahead of the one that is due, so endless iterables work. Threads
    suffice: decoding, resizing and the network all run outside Python's lock. An error in ``function`` is raised
    where its result is due, and what was taken ahead is dropped. A single worker is the caller's own thread, unless
    ``background`` gives it one, for a caller that has work of its own meanwhile.
    """
    if workers == 1 and not background:
        yield from map(function, items)
        return
    iterator = iter(items)
    due: deque[Future[B]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="dgiqa") as pool:
        try:
            for item in iterator:
                due.append(pool.submit(function, item))
                if len(due) >= 2 * workers:
                    yield due.popleft().result()
            while due:
                yield due.popleft().result()
        finally:
            for future in due:
                future.cancel()


def batched(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Lists of ``size`` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

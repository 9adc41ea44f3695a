"""Where pictures wait, are put together and are worked on, by threads beside the event loop.

A picture waits for others of its batch no longer than the bound, and not at all once the batch is full. The queue is
bounded: a request whose pictures don't fit is turned away at once, with the time after which to try again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from dgiqa.errors import ImageError
from dgiqa.explain import Explanation
from dgiqa.scorer import Scorer
from dgiqa.serve.metrics import Metrics
from dgiqa.serve.problems import Problem
from dgiqa.serve.settings import Settings
from dgiqa.sources import Held
from dgiqa.types import Result

#: Of the running mean of a picture's seconds, what a new one counts.
_NEW = 0.1


@dataclass
class _Job:
    """A picture that waits; ``explain`` says what is wanted of it."""

    source: Held
    explain: bool
    answer: asyncio.Future[Any]
    came: float = field(default_factory=time.monotonic)


class Workshop:
    """Works on pictures in ``settings.workers`` threads. Belongs to one event loop."""

    def __init__(self, scorer: Scorer, settings: Settings, metrics: Metrics) -> None:
        self.scorer, self._settings, self._metrics = scorer, settings, metrics
        self._jobs: deque[_Job] = deque()
        self._changed = asyncio.Condition()
        self._threads = ThreadPoolExecutor(settings.workers, "dgiqa")
        self._workers: list[asyncio.Task[None]] = []
        self._seconds = 0.1
        self._closing = False
        metrics.waiting.set_function(lambda: len(self._jobs))

    def open(self) -> None:
        """Starts the workers."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._settings.workers)]

    async def close(self) -> None:
        """Finishes what was taken, then stops; what takes longer than ``settings.seconds`` is left behind."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
        _, left = await asyncio.wait(self._workers, timeout=self._settings.seconds) if self._workers else (None, set())
        for worker in left:
            worker.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def score(self, sources: Sequence[Held]) -> list[Result]:
        """A row for each.

        Raises:
            Problem: they don't fit into the queue, or took too long.
        """
        return await self._wait(sources, explain=False)

    async def explain(self, source: Held) -> Explanation:
        """The score and its reasons.

        Raises:
            ImageError: the picture's fault.
            Problem: as :meth:`score`.
        """
        answers: list[Explanation] = await self._wait([source], explain=True)
        return answers[0]

    async def _wait(self, sources: Sequence[Held], explain: bool) -> list[Any]:
        loop = asyncio.get_running_loop()
        jobs = [_Job(source, explain, loop.create_future()) for source in sources]
        async with self._changed:
            if len(self._jobs) + len(sources) > self._settings.max_waiting:
                seconds = math.ceil(len(self._jobs) * self._seconds / self._settings.workers) or 1
                raise Problem(
                    "busy", f"{len(self._jobs)} pictures wait already", headers={"Retry-After": str(min(seconds, 120))}
                )
            self._jobs.extend(jobs)
            self._changed.notify(len(jobs))
        try:
            async with asyncio.timeout(self._settings.seconds):
                return await asyncio.gather(*(job.answer for job in jobs))
        except TimeoutError as error:
            raise Problem("took-too-long", f"no answer in {self._settings.seconds:g} seconds") from error
        finally:  # nobody waits any more: what has not begun is left out, and its bytes with it
            for job in jobs:
                job.answer.cancel()
            self._jobs = deque(job for job in self._jobs if not job.answer.cancelled())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next()
            if batch is None:
                return
            if not batch:
                continue
            start = time.monotonic()
            try:
                answers = await loop.run_in_executor(self._threads, self._run, batch)
            except Exception as error:  # a fault of the service is an answer of 500, and the worker goes on
                answers = [error] * len(batch)
            seconds = time.monotonic() - start
            self._seconds += _NEW * (seconds / len(batch) - self._seconds)
            self._metrics.batch.observe(len(batch))
            for job, answer in zip(batch, answers, strict=True):
                if not job.answer.done():
                    (job.answer.set_exception if isinstance(answer, Exception) else job.answer.set_result)(answer)

    async def _next(self) -> list[_Job] | None:
        """The next jobs that are worked on together; an explanation stands alone. None when all is done."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._jobs or self._closing)
            if not self._jobs:
                return None
            first = self._jobs.popleft()
            most = 1 if first.explain else self._settings.batch
            batch = [first]
            while len(batch) < most:
                if self._jobs and not self._jobs[0].explain:
                    batch.append(self._jobs.popleft())
                    continue
                left = first.came + self._settings.batch_wait - time.monotonic()
                if self._jobs or left <= 0 or self._closing:
                    break
                try:
                    async with asyncio.timeout(left):
                        await self._changed.wait_for(lambda: self._jobs or self._closing)
                except TimeoutError:
                    break
            if self._jobs:  # the call that woke this worker may have been another's
                self._changed.notify()
        return [job for job in batch if not job.answer.cancelled()]

    def _run(self, batch: list[_Job]) -> list[Any]:
        """In a thread: the batch's answers, an ImageError for a picture that can't be explained."""
        if not batch[0].explain:
            return list(self.scorer.score_batch([job.source for job in batch]))
        try:
            return [self.scorer.explain(batch[0].source)]
        except ImageError as error:
            return [error]

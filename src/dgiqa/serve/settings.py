"""What a service allows; every limit has an answer of its own when it is passed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dgiqa.errors import UsageError

MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """The limits of a service.

    Attributes:
        workers: threads that score, each one picture or batch at a time.
        batch: pictures that go to the network together.
        batch_wait: seconds that a picture waits at most for others to fill its batch.
        max_bytes: of a request's body.
        max_files: pictures in a request.
        max_megapixels: of a picture; larger ones are refused from their header on.
        max_waiting: pictures that wait for a worker; beyond them the answer is 429.
        max_requests: requests at a time; beyond them the answer is 429, before their body is read.
        max_held: bytes of all bodies in memory; beyond them the answer is 429.
        seconds: to receive a body, and again to answer it.
        keys: API keys, one of which a request must bring; empty for a service that asks for none.
    """

    workers: int = 2
    batch: int = 1
    batch_wait: float = 0.01
    max_bytes: int = 64 * MIB
    max_files: int = 64
    max_megapixels: float = 100.0
    max_waiting: int = 256
    max_requests: int = 128
    max_held: int = 512 * MIB
    seconds: float = 60.0
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        numbers = {name: value for name, value in vars(self).items() if name not in ("keys", "batch_wait")}
        if wrong := [name for name, value in numbers.items() if not value > 0]:
            raise UsageError(f"{wrong[0]} = {numbers[wrong[0]]}: must be positive")
        if not 0 <= self.batch_wait < math.inf or not self.seconds < math.inf:
            raise UsageError(f"batch_wait = {self.batch_wait}, seconds = {self.seconds}: must be finite, not negative")
        if self.max_waiting < self.max_files:
            raise UsageError(
                f"max_waiting = {self.max_waiting} is less than max_files = {self.max_files} of one request"
            )
        if self.max_held < self.max_bytes:
            raise UsageError(f"max_held = {self.max_held} is less than max_bytes = {self.max_bytes} of one request")
        if any(not key or not key.isascii() for key in self.keys):
            raise UsageError("an API key is empty or not ASCII", hint="such as the output of: openssl rand -hex 32")

"""What a run keeps on disk: checkpoints that replace each other whole, the best weights, the log."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dgiqa.errors import UsageError
from dgiqa.training import processes
from dgiqa.training.recipe import Plan


class Checkpoints:
    """``checkpoint.pt`` and ``best.pt`` of a run.

    Attributes:
        step: steps that were done when the last checkpoint was written.
        best: SRCC and step of the best validation so far; None before the first.
    """

    def __init__(self, out: Path, plan: Plan, sums: Mapping[str, str]) -> None:
        """``sums`` identifies the data, by set.

        Raises:
            UsageError: ``out`` can't be written.
        """
        self.file, self.best_file = out / "checkpoint.pt", out / "best.pt"
        self.step = 0
        self.best: tuple[float, int] | None = None
        self._deciding = plan.deciding() | {f"pictures and ratings of {name}": value for name, value in sums.items()}
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {out}: can't be written ({error.strerror})") from error

    def read(self) -> dict[str, Any] | None:
        """The last checkpoint's state; None at the start of a run.

        Raises:
            UsageError: it is damaged, or of another recipe or other data.
        """
        if not self.file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
            deciding, self.step, self.best = json.loads(state["deciding"]), state["step"], state["best"]
        except Exception as error:  # whatever a damaged file makes torch raise
            raise UsageError(
                f"{self.file}: can't be read ({' '.join(str(error).split())[:200]})",
                hint="delete it to start the run anew",
            ) from error
        deciding = {"model.kept": 0, "train.short_side": 0} | deciding  # checkpoints from before it could be said
        different = [key for key in {**deciding, **self._deciding} if deciding.get(key) != self._deciding.get(key)]
        if different:
            key = different[0]
            raise UsageError(
                f"{self.file.parent} holds another run: {key} was {deciding.get(key)!r}, now it is "
                f"{self._deciding.get(key)!r}",
                hint="choose another --out, or put the setting back to go on with that run",
            )
        return state

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Replaces the checkpoint, at once or not at all."""
        self.step = step
        if processes.rank() == 0:
            extra = {"step": step, "best": self.best, "deciding": json.dumps(self._deciding)}
            _save(state | extra, self.file)

    def offer(self, step: int, srcc: float, averaged: nn.Module) -> bool:
        """Keeps these weights if they are the best so far; returns whether they are."""
        if math.isnan(srcc) or (self.best is not None and srcc <= self.best[0]):
            return False
        self.best = (srcc, step)
        if processes.rank() == 0:
            _save({"averaged": averaged.state_dict(), "step": step, "srcc": srcc}, self.best_file)
        return True


class Log:
    """``log.jsonl``: one JSON object a line; lines after the checkpoint that a run goes on from are dropped.

    With TensorBoard installed the numbers go there, too.
    """

    def __init__(self, out: Path, step: int) -> None:
        self._stream = self._board = None
        if processes.rank() != 0:
            return
        file = out / "log.jsonl"
        kept = [line for line in _lines(file) if line.get("step", 0) <= step] if step else []
        part = file.with_name(file.name + ".part")
        part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(part, file)
        self._stream = file.open("a", encoding="utf-8")
        self._board = _board(out, step)

    def write(self, line: dict[str, Any]) -> None:
        """Adds a line; it is on disk when this returns."""
        if self._stream is None:
            return
        plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()}  # NaN is no JSON
        self._stream.write(json.dumps(plain) + "\n")
        self._stream.flush()
        if self._board is not None:
            prefix = f"validation/{line['validation']}" if "validation" in line else "train"
            for name, value in line.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{prefix}/{name}", value, line["step"])

    def close(self) -> None:
        """Closes the files."""
        if self._stream is not None:
            self._stream.close()
        if self._board is not None:
            self._board.close()


def _board(out: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(out / "tensorboard", purge_step=step + 1)


def _lines(file: Path) -> list[dict[str, Any]]:
    """A log's lines; the last one may have been cut off by a kill."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def _save(state: dict[str, Any], file: Path) -> None:
    part = file.with_name(file.name + ".part")
    torch.save(state, part)
    os.replace(part, file)

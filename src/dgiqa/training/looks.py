"""Frozen parts of a network as functions of one picture, whose results are computed once and kept in the cache.

On a CPU they run on ONNX Runtime, which takes a third of torch's time.
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from dgiqa.cards import Recipe
from dgiqa.errors import UsageError, WeightsError
from dgiqa.export.onnx import trace
from dgiqa.runtimes.onnx import open_file
from dgiqa.training.pictures import Look, Seen
from dgiqa.training.recipe import Plan
from dgiqa.types import Views
from dgiqa.weights.files import sha256_of


def look_first(network: nn.Module, plan: Plan, device: torch.device) -> Look | None:
    """What ``plan.model.kept`` stages say of a picture, for networks that offer ``first(color, stages)``.

    Raises:
        UsageError: the network offers none, or has fewer stages.
    """
    stages = plan.model.kept
    if not stages:
        return None
    if not callable(getattr(network, "first", None)):
        raise UsageError(f"model.kept: the network of {plan.model.arch} offers none", hint="set model.kept=0")
    part, key = _Method(network, "first", stages), f"{stages}-{key_of(network, stages)}"
    try:
        return _look(part, key, _blank(plan.model.recipe), device, np.float16)
    except IndexError as error:
        raise UsageError(f"model.kept = {stages}: the network has fewer stages") from error


def frozen_for(network: nn.Module, plan: Plan) -> list[str]:
    """Prefixes of the parameters that stay as they are because what they lead to is kept."""
    return network.frozen_for(plan.model.kept) if plan.model.kept else []  # type: ignore[operator]


def look_statistics(network: nn.Module, plan: Plan, first: Look | None, device: torch.device) -> Look:
    """``network.statistics`` of a picture, or of what ``first`` makes of it."""
    network.eval()
    shown = _blank(plan.model.recipe)
    if first is not None:
        with torch.no_grad():
            shown = network.first(shown.to(device), plan.model.kept)  # type: ignore[operator]
    key = key_of(network) + (f"-{first.key}" if first else "")
    return _look(_Method(network, "statistics"), key, shown, device)


def key_of(network: nn.Module, stages: int = 0) -> str:
    """12 hex digits of the network's code and the colour trunk's weights: of all weights if there is no such trunk, of
    its first ``stages`` if these are not 0.
    """
    prefixes = tuple(network.frozen_for(stages)) if stages else ("color_trunk.",)  # type: ignore[operator]
    state = network.state_dict()
    chosen = [value for name, value in state.items() if name.startswith(prefixes)] or list(state.values())
    code = sorted(Path(inspect.getfile(type(network))).parent.glob("*.py"))
    digest = hashlib.sha256("".join(map(sha256_of, code)).encode())
    for value in chosen:
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _look(part: nn.Module, key: str, shown: Tensor, device: torch.device, kind: type = np.float32) -> Look:
    """``part`` of one picture, as ``kind``; ``shown`` is an example of what it takes: an array of one picture."""
    part.eval()  # a picture that is shown to batch norm in training changes it
    with torch.inference_mode():
        key += f"-{part(shown.to(device)).shape[1]}"  # settings can change what a network finds, as well as its code
    if device.type != "cpu":

        def by_torch(seen: Seen) -> Seen:
            with torch.inference_mode():
                found: Tensor = part(torch.from_numpy(np.array(seen))[None].to(device))[0]
            return _finite(found.cpu().numpy().astype(kind, copy=False))

        return Look(f"{key}-{device.type}", by_torch)
    sides = (1, 2) if shown.dtype == torch.uint8 else (2, 3)
    model = trace(part, ["color"], (shown,), free=sides)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "part.onnx"
        file.write_bytes(model.SerializeToString())
        session = open_file(file)
    return Look(
        key, lambda seen: _finite(session.run(Views(np.ascontiguousarray(seen)[None]))[0].astype(kind, copy=False))
    )


def _finite(found: Seen) -> Seen:
    if not np.isfinite(found).all():
        raise WeightsError(
            f"the network's first stages give numbers that {found.dtype} can't hold",
            hint="its weights are damaged, or model.kept is not for them: set model.kept=0",
        )
    return found


def _blank(recipe: Recipe) -> Tensor:
    side = recipe.crop or recipe.short_side
    return torch.zeros(1, side, side + recipe.multiple, 3, dtype=torch.uint8)


class _Method(nn.Module):
    """A method of a network, of colour and ``settings``, as a module of its own."""

    def __init__(self, network: nn.Module, name: str, *settings: int) -> None:
        super().__init__()
        self.network, self.name, self.settings = network, name, settings

    def forward(self, color: Tensor) -> Tensor:
        found: Tensor = getattr(self.network, self.name)(color, *self.settings)
        return found

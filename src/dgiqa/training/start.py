"""Where a run starts from: the network, its first weights, its depth maps."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from dgiqa.cards import ModelCard, Network, Paper, Training, WeightsFile
from dgiqa.depth import open_depth
from dgiqa.errors import UsageError, WeightsError
from dgiqa.imaging.views import DepthMap
from dgiqa.models import build_network, find_card, list_models
from dgiqa.training import processes
from dgiqa.training.recipe import Plan
from dgiqa.weights.fetch import locate
from dgiqa.weights.files import fingerprint, read_state


def blank_card(plan: Plan) -> ModelCard:
    """The card of the network to be trained, before anything is known of its weights."""
    relatives = [card for card in list_models() if card.arch == plan.model.arch]
    own = Paper(title="", authors="", year=0, url="")
    return ModelCard(
        name=f"{plan.model.arch}.{plan.name}",
        arch=plan.model.arch,
        version=plan.card.version,
        kind="quality",
        summary=plan.card.summary or f"A draft, trained with the recipe {plan.name}",
        paper=relatives[0].paper if relatives else own,
        licence=plan.card.licence,
        network=Network(0, 0.0, ""),
        recipe=plan.model.recipe,
        weights={"onnx": WeightsFile(f"{plan.name}.onnx")},
        training=Training("", ""),
        settings=plan.model.settings,
    )


def start_network(plan: Plan) -> nn.Module:
    """The plan's network with its first weights; random ones follow from the plan's seed.

    Raises:
        UsageError, CardError, WeightsError: an unknown network or card, a file that doesn't fit.
    """
    torch.manual_seed(plan.train.seed)
    network = build_network(blank_card(plan))
    if plan.model.initial:
        _load(network, _read(plan, plan.model.initial), plan.model.initial)
    for name, source in plan.model.trunks.items():
        part = dict(network.named_children()).get(name)
        if part is None:
            known = ", ".join(child for child, _ in network.named_children())
            raise UsageError(f"model.trunks.{name}: the network has no such part", hint=f"its parts: {known}")
        _load(part, _read(plan, source), source)
    if plan.model.kept and not (plan.model.initial or plan.model.trunks) and processes.rank() == 0:
        print(
            f"dgiqa: model.kept = {plan.model.kept}: nothing gives these stages weights, so they stay random; "
            "set model.trunks or model.initial",
            file=sys.stderr,
        )
    return network


def start_depth(plan: Plan) -> tuple[DepthMap | None, str]:
    """The depth estimator and a label that changes with its weights; None for a network without depth."""
    name = plan.model.recipe.depth
    if not name:
        return None, ""
    estimator = open_depth(plan.place(name) if name.endswith(".toml") else name)
    card = estimator.card
    weights = locate(card, next(kind for kind in ("onnx", "torch") if kind in card.weights))
    return estimator, f"{card.label}+{fingerprint(card.folder / card.file, weights)}"


def _read(plan: Plan, source: str) -> dict[str, Tensor]:
    """Tensors by name, of a card's name or a file."""
    path = plan.place(source)
    named = not path.is_file() and path.suffix[1:] not in ("safetensors", "onnx", "pth", "pt", "toml")
    if named or path.suffix == ".toml":
        card = find_card(source if named else path)
        if card.ensemble:
            raise UsageError(f"{source}: is an ensemble of networks", hint="start from the card of one of them")
        path = locate(card, next(kind for kind in ("torch", "onnx") if kind in card.weights))
    if path.suffix in (".pth", ".pt"):
        return unpickle(path)
    return {name: torch.tensor(array) for name, array in read_state(path).items()}


def unpickle(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors; ``weights_only`` lets no code in it run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: can't be read ({' '.join(str(error).split())[:200]})") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: there are no tensors by name in this file")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _load(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Puts into ``module`` what fits by name and shape; else as its file's ``load_imagenet`` does.

    Raises:
        WeightsError: nothing fits.
    """
    own = module.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if len(fitting) > len(own) // 2:
        module.load_state_dict(fitting, strict=False)
        return
    special = getattr(sys.modules[type(module).__module__], "load_imagenet", None)
    if special is None:
        raise WeightsError(f"{source}: {len(fitting)} of the {len(own)} tensors of {type(module).__name__} are in it")
    try:
        special(module, state)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(f"{source}: doesn't fit {type(module).__name__} ({error})") from error


def with_depth_path(card: ModelCard, plan: Plan, folder: Path) -> ModelCard:
    """The card as it stands in ``folder``: an own depth card is named by its path from there."""
    import os

    if not card.recipe.depth.endswith(".toml"):
        return card
    depth = plan.place(card.recipe.depth).resolve()
    return dataclasses.replace(
        card, recipe=dataclasses.replace(card.recipe, depth=os.path.relpath(depth, folder.resolve()))
    )

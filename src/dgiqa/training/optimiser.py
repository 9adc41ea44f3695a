"""AdamW with rates by part and by layer, the rate's course, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dgiqa.errors import UsageError
from dgiqa.training.recipe import Train


def freeze(network: nn.Module, prefixes: Iterable[str]) -> None:
    """Parameters whose names start so get no gradient.

    Raises:
        UsageError: a prefix that no parameter has, or nothing is left to train.
    """
    parameters = dict(network.named_parameters())
    for prefix in prefixes:
        found = [name for name in parameters if name.startswith(prefix)]
        if not found:
            raise UsageError(f"model.freeze: no parameter's name starts with {prefix!r}", hint=_parts(network))
        for name in found:
            parameters[name].requires_grad_(False)
    if not any(p.requires_grad for p in parameters.values()):
        raise UsageError("model.freeze: everything is frozen, nothing is left to train")


def set_training(network: nn.Module) -> None:
    """Training mode, but for modules all of whose parameters are frozen: their batch norm and dropout stay still."""
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def make_optimiser(network: nn.Module, scales: nn.Module, plan: Train) -> torch.optim.AdamW:
    """AdamW (Loshchilov, Hutter, arXiv:1711.05101) with a group for each rate and decay.

    Matrices and kernels decay; biases, norms and the sets' scales don't.

    Raises:
        UsageError: a prefix in ``rates`` that no parameter has.
    """
    layers = _layers(network)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    used = set()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        prefix = max((p for p in plan.rates if name.startswith(p)), key=len, default=None)
        used.add(prefix)
        rate = plan.rate if prefix is None else plan.rates[prefix]
        rate *= plan.layer_decay ** layers.get(id(parameter), 0)
        groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    if unknown := [prefix for prefix in plan.rates if prefix not in used]:
        raise UsageError(
            f"train.rates: no trained parameter's name starts with {unknown[0]!r} (model.freeze and model.kept take "
            "some out), or a longer prefix has them all",
            hint=_parts(network),
        )
    for parameter in scales.parameters():
        groups.setdefault((plan.rate, False), []).append(parameter)
    found: list[dict[str, Any]] = [
        {"params": members, "lr": rate, "peak": rate, "weight_decay": plan.decay if decays else 0.0}
        for (rate, decays), members in groups.items()
    ]
    return torch.optim.AdamW(found, lr=plan.rate, fused=True)


def _layers(network: nn.Module) -> dict[int, int]:
    """How many layers below the head each parameter lies; empty for a network that doesn't say."""
    offered = getattr(network, "layers", None)
    if not callable(offered):
        return {}
    layers = list(offered())
    return {id(p): len(layers) - 1 - i for i, layer in enumerate(layers) for p in layer}


def _parts(network: nn.Module) -> str:
    return "its parts: " + ", ".join(name for name, _ in network.named_children())


def set_rate(optimiser: torch.optim.Optimizer, step: int, total: int, plan: Train) -> float:
    """Linear warm-up, then a cosine down to the floor; returns the share of the peak that holds at ``step``."""
    warmup = min(plan.warmup, total // 10)
    if step < warmup:
        share = (step + 1) / (warmup + 1)
    else:
        way = (step - warmup) / max(1, total - warmup)
        share = plan.floor + (1 - plan.floor) * 0.5 * (1 + math.cos(math.pi * way))
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share
    return share


@torch.no_grad()
def move_average(averaged: nn.Module, network: nn.Module, keep: float, step: int) -> None:
    """Moves ``averaged`` towards ``network``: keeps ``keep`` of itself, less in the first steps."""
    keep = min(keep, (1 + step) / (10 + step)) if keep else 0.0
    pairs = list(zip(averaged.state_dict().values(), network.state_dict().values(), strict=True))
    floating = [(a, n) for a, n in pairs if a.dtype.is_floating_point]
    torch._foreach_lerp_([a for a, _ in floating], [n for _, n in floating], 1 - keep)
    for a, n in pairs:
        if not a.dtype.is_floating_point:
            a.copy_(n)


class Scales(nn.Module):
    """Each set's MOS as gain × raw + offset: people use every set's scale in their own way.

    The first set's is the identity, so the network's raw score is on the first set's scale. Gains are positive.
    """

    def __init__(self, sets: int) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(sets - 1))
        self.offset = nn.Parameter(torch.zeros(sets - 1))

    def gains(self) -> Tensor:
        """(sets,) above 0; the first is 1."""
        return torch.cat([self.log_gain.new_ones(1), self.log_gain.exp()])

    def offsets(self) -> Tensor:
        """(sets,); the first is 0."""
        return torch.cat([self.offset.new_zeros(1), self.offset])

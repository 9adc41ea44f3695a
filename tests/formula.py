"""Weights and pictures that are formulas: golden numbers then need no file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

PERIOD = 4093


def formula(shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers in -0.5..0.5 that look random and are the same on every machine: squares modulo a prime."""
    i = torch.arange(PERIOD)
    wave = ((7 * i * i + 13 * i + seed) % PERIOD).double() / PERIOD - 0.5
    size = int(torch.tensor(shape).prod())
    return wave.repeat(size // PERIOD + 1)[:size].reshape(shape).float()


def formula_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights scaled by fan-in so that activations neither die nor explode; variances are positive."""
    filled = {}
    for name, tensor in state.items():
        value = formula(tuple(tensor.shape), zlib.crc32(name.encode()) % PERIOD)
        last = name.rsplit(".", 1)[-1]
        if last == "num_batches_tracked":
            value = torch.zeros(())
        elif last == "running_var":
            value = 1 + 0.5 * value
        elif tensor.ndim == 1:
            value = 1 + 0.2 * value if last == "weight" else 0.2 * value
        elif last != "relative_position_bias_table":
            value = value * (12 / tensor[0].numel()) ** 0.5
        filled[name] = value.to(tensor.dtype)
    return filled


def filled(module: nn.Module) -> nn.Module:
    module.load_state_dict(formula_state(module.state_dict()))
    return module.eval().requires_grad_(False)

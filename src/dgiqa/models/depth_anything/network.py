"""Depth Anything, V1 and V2: relative inverse depth of any photograph.

Yang et al., "Depth Anything: Unleashing the Power of Large-Scale Unlabeled Data", arXiv:2401.10891, and
"Depth Anything V2", arXiv:2406.09414. The network is Hugging Face transformers'; both versions share it and
differ in the weights and in which layers are read. Nothing is downloaded: the card's settings are the
configuration, and the weights are the ``model.safetensors`` of the hub's ``-hf`` repositories.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from dgiqa.cards import ModelCard
from dgiqa.models.dgiqa.network import Normalise

PATCH = 14

#: Members of the attention as transformers names them since 5, and as the hub's files do.
_RENAMED = (
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
)


class DepthAnything(nn.Module):
    """uint8 colour to depth. State names are the hub's.

    Shapes:
        color: (V, H, W, 3) uint8 sRGB, H and W multiples of 14.
        Returns (V, H, W) float32, relative inverse depth: not negative, larger is nearer, no unit.

    Args:
        width, layers, heads: of the DINOv2 encoder.
        taps: the encoder's layers that are read, counted from 1.
        neck: channels of the four maps made from them.
        fusion: channels in which they are fused.
        head: channels before the last convolution.
        size: side in pixels of the pictures for which the encoder's position embeddings are stored.
    """

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        taps: list[int],
        neck: list[int],
        fusion: int,
        head: int = 32,
        size: int = 518,
    ) -> None:
        super().__init__()
        encoder = {
            "model_type": "dinov2",
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "image_size": size,
            "patch_size": PATCH,
            "out_indices": taps,
            "reshape_hidden_states": False,
        }
        network = DepthAnythingForDepthEstimation(
            DepthAnythingConfig(
                backbone_config=encoder,
                patch_size=PATCH,
                reassemble_hidden_size=width,
                neck_hidden_sizes=neck,
                fusion_hidden_size=fusion,
                head_hidden_size=head,
            )
        )
        # The parts stand here by themselves, so that the hub's names need no prefix.
        self.backbone, self.neck, self.head = network.backbone, network.neck, network.head
        self.normalise = Normalise()
        self.register_state_dict_post_hook(_to_hub_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_from_hub_names)  # type: ignore[no-untyped-call]

    def forward(self, color: Tensor) -> Tensor:
        rows, columns = color.shape[1] // PATCH, color.shape[2] // PATCH
        features = self.backbone(self.normalise(color)).feature_maps
        out: Tensor = self.head(self.neck(features, rows, columns), rows, columns)
        return out


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; its settings are the arguments of the class."""
    return DepthAnything(**card.settings)


def _to_hub_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        hub_name = name
        for ours, theirs in _RENAMED:
            hub_name = hub_name.replace(ours, theirs)
        state[hub_name] = state.pop(name)


def _from_hub_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    known = {prefix + name for name, _ in module.named_parameters()}
    for name in [name for name in state if name.startswith(prefix) and name not in known]:
        own_name = name
        for ours, theirs in _RENAMED:
            own_name = own_name.replace(theirs, ours)
        if own_name in known:
            state[own_name] = state.pop(name)

"""MA-AGIQA: a picture's own quality and two vectors of a large multimodal model, three experts that a gate weighs.

    picture ─224×224→ ViT → MANIQA ─score × weight of each place─→ expert ─┐
       │                                                                   ├─ gate ─→ sum ─→ score
       └───large multimodal model─two prompts─→ two vectors ──→ two experts┘

Wang et al., "Large Multi-modality Model Assisted AI-Generated Image Quality Assessment", ACM MM 2024, arXiv:2404.17762;
widths and order as the authors' code has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.cards import ModelCard
from dgiqa.errors import WeightsError
from dgiqa.imaging.resize import resize
from dgiqa.models import of_size
from dgiqa.models.ma_agiqa.vectors import PROMPTS, open_lmm
from dgiqa.models.trunks.maniqa import DualHead, Maniqa
from dgiqa.models.trunks.maps import Standards, join
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.models.trunks.vit import ViT

#: Blocks of the ViT-B/8, counted from 0, whose tokens are read.
BLOCKS = (6, 7, 8, 9)
PATCH = 8


class MAAGIQA(nn.Module):
    """The paper's network. The picture comes in its own size: the model is shown all of it, MANIQA a small square.

    Shapes:
        color: (V, H, W, 3) uint8 sRGB, whole pictures; returns (V,) float32 in the units of the MOS that it was trained
        on, higher is better.

    Args:
        vectors: width of the model's hidden states.
        side: in pixels, of the square that MANIQA sees.
        width, heads: of the ViT; MANIQA's first round is as wide.
    """

    #: It asks the large multimodal model while it scores, which no graph can.
    exportable = False
    asks: Tensor

    def __init__(self, *, vectors: int = 4096, side: int = 224, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.side, self.vectors = side, vectors
        self.vit = ViT(size=side, patch=PATCH, width=width, depth=1 + max(BLOCKS), heads=heads)
        self.vit.add_module("norm", nn.Identity())  # tokens are read before it
        self.judge = Judge(width * len(BLOCKS), width, side=self.vit.side, vectors=vectors)
        #: Fingerprint of the large multimodal model whose vectors the weights were fitted to.
        self.register_buffer("asks", torch.zeros(1, dtype=torch.long))

    def forward(self, color: Tensor) -> Tensor:
        lmm = open_lmm()
        if int(lmm.fingerprint, 16) != int(self.asks):
            raise WeightsError(
                f"{lmm.folder}: is the large multimodal model {lmm.fingerprint}, and the weights were fitted to the "
                f"vectors of {int(self.asks):08x}",
                hint="give the folder of that model, with the files that it had",
            )
        pictures = color.cpu().numpy()
        vectors = np.stack([lmm.describe(picture, color.device) for picture in pictures])
        if vectors.shape[2] != self.vectors:
            raise WeightsError(
                f"{lmm.folder}: gives vectors of {vectors.shape[2]} numbers, and the network takes {self.vectors}",
                hint="set vectors in the card's settings",
            )
        squares = np.stack([resize(picture, self.side, self.side, "cubic-opencv") for picture in pictures])
        return self.score(torch.from_numpy(squares).to(color.device), torch.from_numpy(vectors).to(color.device))

    def score(self, squares: Tensor, vectors: Tensor) -> Tensor:
        """(V,) of (V, side, side, 3) uint8 and (V, 2, width) float."""
        picture = squares.permute(0, 3, 1, 2).float() / 127.5 - 1
        tokens = torch.cat([block[:, 1:] for block in self.vit.after(picture, BLOCKS)], 2).transpose(1, 2)
        features = tokens.reshape(*tokens.shape[:2], self.vit.side, self.vit.side)
        out: Tensor = self.judge(features, vectors)
        return out


class Judge(nn.Module):
    """MANIQA up to the score of each place, and the experts.

    Shapes:
        features: (N, inputs, side, side) float; vectors: (N, 2, vectors) float; returns (N,).

    Args:
        rest: see :class:`~dgiqa.models.trunks.maniqa.Maniqa`.
    """

    def __init__(self, inputs: int, width: int, *, side: int, vectors: int, **rest: Any) -> None:
        super().__init__()
        self.maniqa = Maniqa(inputs, width, side=side, **rest)
        self.head = DualHead(width // 2)
        self.experts = Experts(vectors, side**2)

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        scores, weights = self.head.read(self.maniqa(features))
        out: Tensor = self.experts(vectors, scores * weights)
        return out


class Experts(nn.Module):
    """Three experts of one width, weighed by a gate that has seen them all, and not by a softmax; their sum scored.

    Shapes:
        vectors: (N, 2, inputs) float, semantic content and coherence; places: (N, width), MANIQA's weighted scores;
        returns (N,).
    """

    def __init__(self, inputs: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.semantic = nn.Linear(inputs, width)
        self.coherence = nn.Linear(inputs, width)
        self.places = nn.Linear(width, width)
        self.gate = nn.Linear(3 * width, 3)
        self.score = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, places: Tensor) -> Tensor:
        semantic, coherence = vectors.unbind(1)
        experts = [
            self.dropout(F.relu(self.semantic(semantic))),
            self.dropout(F.relu(self.coherence(coherence))),
            self.places(places),
        ]
        shares = self.gate(torch.cat(experts, 1)).unsqueeze(2)  # (N, 3, 1)
        out: Tensor = self.score((shares * torch.stack(experts, 1)).sum(1)).squeeze(1)
        return out


class SmallMAAGIQA(nn.Module):
    """The small network: a frozen MobileNetV2 in the place of both the ViT and the large multimodal model.

    Shapes:
        color: (V, 384, 384, 3) uint8 sRGB; returns (V,) float32, higher is better.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FrozenMobileNetV2()
        self.judge = SmallJudge(FrozenMobileNetV2.CHANNELS)

    def forward(self, color: Tensor) -> Tensor:
        out: Tensor = self.judge(self.trunk(color))
        return out


class SmallJudge(nn.Module):
    """All of the small network behind its trunk: MANIQA on its maps, and two learnt questions to them.

    Shapes:
        maps: finest first, (N, C_i, n · side, n · side) float, such as 48, 24 and 12 pixels; returns (N,).

    Args:
        channels: C_i.
        side: of the map as which they are read.
        width: channels of MANIQA's first round.
        dropout: share of the trunk's channels that are left out in training, each time others.
    """

    def __init__(self, channels: Sequence[int], *, side: int = 6, width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.side = side
        inputs = sum(channels)
        self.standards = Standards(channels)
        self.dropout = nn.Dropout2d(dropout)
        self.questions = Questions(inputs)
        self.judge = Judge(inputs, width, side=side, vectors=inputs, window=side // 2, hidden=width, scrambled=False)
        # The middle of MOS: places whose scores are cut off at 0 from the start would learn nothing.
        nn.init.constant_(self.judge.head.score.get_parameter("3.bias"), 0.5)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        standard = self.standards(maps)
        features = self.dropout(join(standard, self.side))
        out: Tensor = self.judge(features, self.questions(features))
        return out

    def fit_statistics(self, maps: Sequence[Tensor]) -> None:
        """See :class:`~dgiqa.models.trunks.maps.Standards`."""
        self.standards.fit_statistics(maps)


class Questions(nn.Module):
    """Weighted means of a map's places, one for each prompt; what a place weighs is learnt.

    Shapes:
        features: (N, C, H, W) float; returns (N, 2, C).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ask = nn.Conv2d(channels, len(PROMPTS), 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        weights = self.ask(features).flatten(2).softmax(2)  # (N, 2, H * W)
        out: Tensor = weights @ features.flatten(2).transpose(1, 2)
        return out


def build(card: ModelCard) -> nn.Module:
    """The network of ``card``, with random weights; ``size = "mobile"`` is the small one."""
    return of_size(card, MAAGIQA, SmallMAAGIQA)

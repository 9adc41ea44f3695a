"""DP-IQA's teacher: what a text-to-image model's U-Net makes of a picture, read as quality.

    picture ─VAE→ latents ──→ U-Net, one pass at t = 1, no noise ──→ maps of its up blocks ──→ decoder ──→ map, score
       └──image adapter──→ residuals ─┘  └─ asks the prompts, through the text adapter

Fu et al., arXiv:2405.19996, section 3; the widths of Stable Diffusion 1.5 and of the authors' released network. U-Net,
VAE and image adapter are diffusers' own (Apache-2.0), so that published weights go in by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.adapter import FullAdapter
from torch import Tensor, nn

from dgiqa.models.dp_iqa import prompts
from dgiqa.models.dp_iqa.network import HIDDEN, MAP, SIDE, SMALL_HIDDEN, SMALL_SIDE, MapScore, scale
from dgiqa.models.trunks.maps import join
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2

#: Width of CLIP ViT-L/14's vectors.
WORDS = 768
#: Channels of Stable Diffusion's U-Net, finest first.
CHANNELS = (320, 640, 1280, 1280)
#: What latents are multiplied by, so that their variance is about 1.
SCALING = 0.18215
#: Channels of the small U-Net, width of its words, channels of its latents.
SMALL_CHANNELS, SMALL_WORDS, LATENTS = (32, 48), 32, 32


class Teacher(nn.Module):
    """The paper's teacher. Its U-Net, adapters and decoder are trained, its VAE is not.

    Latents are the mean of what the VAE says, where the authors draw from it. Pixels go in as 0..1, as the authors' do,
    although the VAE was trained on -1..1.

    Shapes:
        color: (V, 512, 512, 3) uint8 sRGB; returns (V,) float32, MOS scaled to 0..1.
    """

    prompts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.vae = _encoder().requires_grad_(False)
        self.image_adapter = FullAdapter(channels=list(CHANNELS))
        self.prior = Prior(PriorUNet(cross_attention_dim=WORDS), CHANNELS, words=WORDS)
        self.register_buffer(prompts.NAME, torch.zeros(prompts.COUNT, WORDS))

    def forward(self, color: Tensor) -> Tensor:
        return self.read(color)[0]

    def read(self, color: Tensor) -> tuple[Tensor, Tensor]:
        """The score and the map, (V,) and (V, 8, 64, 64)."""
        picture = scale(color)
        with torch.no_grad():
            latents = SCALING * self.vae.encode(picture).latent_dist.mode()  # (V, 4, 64, 64)
        return self.prior(latents, self.prompts, self.image_adapter(picture))  # type: ignore[no-any-return]


class SmallTeacher(nn.Module):
    """The small teacher: the same, with latents that are a frozen MobileNetV2's maps, and a U-Net trained on them.

    Shapes:
        color: (V, 384, 384, 3) uint8 sRGB; returns (V,) float32, MOS scaled to 0..1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FrozenMobileNetV2()
        self.judge = TeacherJudge()

    def forward(self, color: Tensor) -> Tensor:
        score: Tensor = self.judge(self.trunk(color))[0]
        return score


class TeacherJudge(nn.Module):
    """All of the small teacher behind its trunk.

    Shapes:
        maps: (V, 32, 48, 48), (V, 96, 24, 24), (V, 320, 12, 12) float; returns the score and the map, (V,) and
        (V, 8, 12, 12).
    """

    def __init__(self) -> None:
        super().__init__()
        inputs, first = sum(FrozenMobileNetV2.CHANNELS), SMALL_CHANNELS[0]
        self.latents = Latents(inputs, LATENTS)
        self.normalise = nn.BatchNorm2d(inputs, affine=False)
        self.narrow = nn.Conv2d(inputs, first, 1)
        self.image_adapter = FullAdapter(first, list(SMALL_CHANNELS), num_res_blocks=1, downscale_factor=1)
        self.prompts = Prompts(SMALL_WORDS)
        unet = PriorUNet(
            sample_size=SMALL_SIDE,
            in_channels=LATENTS,
            out_channels=LATENTS,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=SMALL_CHANNELS,
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=4,
            cross_attention_dim=SMALL_WORDS,
        )
        self.prior = Prior(unet, SMALL_CHANNELS, SMALL_WORDS, 48, (32, 16), SMALL_SIDE, SMALL_HIDDEN)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        joined = join(maps)
        residuals = self.image_adapter(self.narrow(self.normalise(joined)))
        return self.prior(self.latents(joined), self.prompts(), residuals)  # type: ignore[no-any-return]

    def denoise(self, noisy: Tensor, time: Tensor, quality: Tensor | None = None) -> Tensor:
        """The noise in latents, as in a diffusion model's own training: neither adapter takes part.

        Shapes:
            noisy: (N, LATENTS, 12, 12) float; time: (N,) int, 0..999; quality: (N,) int, the places of the words in
            ``QUALITIES`` that describe the pictures, or None for all prompts. Returns noisy's shape.
        """
        tokens = self.prompts().expand(len(noisy), -1, -1) if quality is None else self.prompts.of(quality)
        out: Tensor = self.prior.unet(noisy, time, tokens).sample
        return out


class Prior(nn.Module):
    """The U-Net at t = 1 with its text adapter, and the decoder of its maps.

    Shapes:
        latents: (N, C, s, s) float; words: (n, width), the prompts; residuals: what the image adapter adds behind each
        down block. Returns (N,) and (N, 8, side, side).
    """

    def __init__(
        self,
        unet: PriorUNet,
        channels: Sequence[int],
        words: int,
        width: int = 512,
        narrow: Sequence[int] = (128, 32),
        side: int = SIDE,
        hidden: int = HIDDEN,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.text_adapter = TextAdapter(words)
        # An up block gives as many channels as the down block of its scale.
        self.decoder = QualityFeatureDecoder(channels, width, narrow, side, hidden)

    def forward(self, latents: Tensor, words: Tensor, residuals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        tokens = self.text_adapter(words).expand(len(latents), -1, -1)
        time = torch.ones(len(latents), dtype=torch.long, device=latents.device)
        maps = self.unet.read(latents, time, tokens, residuals)
        return self.decoder(maps[::-1])  # type: ignore[no-any-return]


class PriorUNet(UNet2DConditionModel):  # type: ignore[misc]
    """Stable Diffusion's U-Net that also gives the maps of its up blocks; state names are diffusers'."""

    def read(self, latents: Tensor, time: Tensor, tokens: Tensor, residuals: Sequence[Tensor] = ()) -> list[Tensor]:
        """The outputs of the up blocks, coarsest first.

        Shapes:
            latents: (N, C, s, s) float; time: (N,) int; tokens: (N, n, cross_attention_dim); residuals: one of each
            down block's shape before it halves the map, added there.
        """
        when = self.time_embedding(self.time_proj(time).to(latents.dtype))
        x = self.conv_in(latents)
        skipped = [x]
        for number, block in enumerate(self.down_blocks):
            residual = residuals[number] if number < len(residuals) else None
            if getattr(block, "has_cross_attention", False):
                x, passed = block(x, when, tokens, additional_residuals=residual)
            else:
                x, passed = block(x, when)
                if residual is not None:
                    x = x + residual
                    passed = (*passed[:-1], x)
            skipped += passed
        x = self.mid_block(x, when, tokens)
        maps = []
        for block in self.up_blocks:
            count = len(block.resnets)
            skipped, passed = skipped[:-count], tuple(skipped[-count:])
            asked = {"encoder_hidden_states": tokens} if getattr(block, "has_cross_attention", False) else {}
            x = block(x, passed, when, **asked)
            maps.append(x)
        return maps


class TextAdapter(nn.Module):
    """Words plus a little of what a perceptron makes of them. (n, width) float to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        #: How much of each channel is added; little at first, so that the U-Net starts as it was trained.
        self.gamma = nn.Parameter(torch.full((width,), 1e-4))

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = words + self.gamma * self.mlp(words)
        return out


class QualityFeatureDecoder(nn.Module):
    """Quality feature decoder (QFD): maps of several scales to one of 8 channels, and that to the score.

    Shapes:
        maps: finest first, (N, C_i, s_i, s_i) float; returns (N,) and (N, 8, side, side).
    """

    def __init__(self, channels: Sequence[int], width: int, narrow: Sequence[int], side: int, hidden: int) -> None:
        super().__init__()
        self.side = side
        self.stages = nn.ModuleList(GatedConv(inputs, width) for inputs in channels)
        self.fuse = GatedConv(width * len(channels), width)
        steps = (width, *narrow, MAP)
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(steps))
        self.score = MapScore(side, hidden)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        size = (self.side, self.side)
        same = [F.interpolate(features, size=size, mode="bicubic", align_corners=False) for features in maps]
        seen = self.fuse(torch.cat([stage(x) for stage, x in zip(self.stages, same, strict=True)], 1))
        for conv in self.narrow:
            seen = F.relu(conv(seen))
        return self.score(seen), seen


class GatedConv(nn.Module):
    """A 3×3 convolution, its channels weighed by what their means say (SE). (N, inputs, H, W) to (N, width, H, W)."""

    def __init__(self, inputs: int, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, 3, padding=1)
        self.gate = nn.Sequential(
            nn.Linear(width, width // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(width // reduction, width, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        weights: Tensor = self.gate(x.mean((2, 3)))
        return x * weights[:, :, None, None]


class Prompts(nn.Module):
    """Learnt words in the place of CLIP's: a quality's vector plus a distortion's. (165, width), qualities slowest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.quality = nn.Parameter(0.5 * torch.randn(len(prompts.QUALITIES), 1, width))
        self.distortion = nn.Parameter(0.5 * torch.randn(len(prompts.DISTORTIONS), width))

    def forward(self) -> Tensor:
        return (self.quality + self.distortion).flatten(0, 1)

    def of(self, quality: Tensor) -> Tensor:
        """(N, 33, width): the words of one quality for each picture, any distortion."""
        return self.quality[quality] + self.distortion


class Latents(nn.Module):
    """The frozen encoder: the principal components of the maps' channels, each of variance 1.

    Shapes:
        joined: (N, inputs, H, W) float; returns (N, channels, H, W).
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("weight", torch.eye(channels, inputs))

    def forward(self, joined: Tensor) -> Tensor:
        return F.conv2d(joined - self.mean[:, None, None], self.weight[:, :, None, None])

    @torch.no_grad()
    def fit(self, joined: Tensor) -> float:
        """Takes the components of some pictures' maps; returns their share of the variance of standardised channels."""
        rows = joined.transpose(0, 1).flatten(1).double()
        self.mean.copy_(rows.mean(1))
        deviation = rows.std(1) + 1e-3
        values, vectors = torch.linalg.eigh(torch.cov((rows - rows.mean(1)[:, None]) / deviation[:, None]))
        count = len(self.weight)
        chosen, size = vectors[:, -count:].flip(1), values[-count:].flip(0)
        self.weight.copy_((chosen / size.sqrt()).T / deviation)
        return float(size.sum() / values.sum())


def _encoder() -> AutoencoderKL:
    """Stable Diffusion's VAE without the half that paints."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
        scaling_factor=SCALING,
    )
    vae.decoder = vae.post_quant_conv = None
    return vae

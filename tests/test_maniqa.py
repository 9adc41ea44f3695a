"""MANIQA's blocks: transposed attention, Swin stages at one scale, the dual head; each against its formula."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from dgiqa.models.trunks.maniqa import DualHead, Maniqa, SwinStages, TransposedAttention  # noqa: E402
from formula import filled, formula  # noqa: E402

#: A masked place keeps a share of exp(-100).
LEAST = 1e-20


def attended_by_hand(block: TransposedAttention, x: torch.Tensor) -> torch.Tensor:
    """(N, C, L): softmax of the products of channels, by the formula."""
    query, key, value = block.query(x), block.key(x), block.value(x)
    weights = torch.softmax(torch.einsum("ncl,ndl->ncd", query, key) / x.shape[2] ** 0.5, 2)
    return torch.einsum("ncd,ndl->ncl", weights, value)


def test_channels_attend_to_each_other() -> None:
    block, x = filled(TransposedAttention(12, scrambled=False)), 3 * formula((2, 5, 12), 1)
    torch.testing.assert_close(block(x), x + attended_by_hand(block, x), atol=1e-5, rtol=0)


def test_released_weights_expect_scrambled_rows() -> None:
    """Number i of the transposed (L, C) lands at i of (C, L)."""
    block, x = filled(TransposedAttention(12)), 3 * formula((2, 5, 12), 1)
    attended = attended_by_hand(block, x)
    by_hand = x.clone()
    for i in range(5 * 12):
        by_hand[:, i // 12, i % 12] += attended[:, i % 5, i // 5]
    torch.testing.assert_close(block(x), by_hand, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scrambled", [True, False])
def test_maps_and_their_rows_are_the_same(scrambled: bool) -> None:
    block, x = filled(TransposedAttention(12, scrambled=scrambled)), formula((2, 5, 3, 4), 1)
    assert torch.equal(block(x), block(x.flatten(2)).reshape(x.shape))


def test_order_of_channels_does_not_matter_to_the_equation() -> None:
    block, x = filled(TransposedAttention(12, scrambled=False)), formula((1, 5, 12), 1)
    order = [3, 0, 4, 1, 2]
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order], atol=1e-6, rtol=0)


def test_stages_are_blocks_a_convolution_and_a_scaled_sum() -> None:
    stages, x = filled(SwinStages(8, side=8, hidden=12, depths=(2, 1))), 3 * formula((2, 8, 8, 8), 2)
    by_hand = x
    for stage in stages.stages:
        tokens = by_hand.permute(0, 2, 3, 1)
        for block in stage["blocks"]:
            tokens = block(tokens)
        by_hand = by_hand + 0.8 * stage["conv"](tokens.permute(0, 3, 1, 2)).relu()
    torch.testing.assert_close(stages(x), by_hand, atol=1e-5, rtol=0)
    assert [block.shift for stage in stages.stages for block in stage["blocks"]] == [0, 2, 0]
    assert [block.drop_path.rate for stage in stages.stages for block in stage["blocks"]] == [0, 0.05, 0.1]


def test_a_window_that_is_the_map_is_plain_attention() -> None:
    """Against torch's own multi-head attention, with the relative places as its mask."""
    stages, x = filled(SwinStages(8, side=4, heads=2, hidden=12, depths=(1,))), 3 * formula((2, 8, 4, 4), 2)
    block = stages.stages[0]["blocks"][0]
    own = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    own.load_state_dict(
        {
            "in_proj_weight": block.attn.qkv.weight,
            "in_proj_bias": block.attn.qkv.bias,
            "out_proj.weight": block.attn.proj.weight,
            "out_proj.bias": block.attn.proj.bias,
        }
    )
    places = [(i // 4, i % 4) for i in range(16)]
    mask = torch.stack(
        [
            block.attn.relative_position_bias_table[7 * (a[0] - b[0] + 3) + a[1] - b[1] + 3]
            for a in places
            for b in places
        ]
    ).reshape(16, 16, 2)
    tokens = x.flatten(2).transpose(1, 2)
    normed = block.norm1(tokens)
    attended = own(normed, normed, normed, attn_mask=mask.permute(2, 0, 1).repeat(2, 1, 1), need_weights=False)[0]
    tokens = tokens + attended
    tokens = tokens + block.mlp(block.norm2(tokens))
    expected = tokens.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), expected, atol=1e-5, rtol=0)


def test_shifted_windows_reach_over_edges_of_windows_but_not_of_the_map() -> None:
    def reached(depth: int) -> torch.Tensor:
        stages = filled(SwinStages(4, side=8, hidden=8, depths=(depth,))).stages[0]["blocks"]
        x = formula((1, 8, 8, 4), 3).requires_grad_()
        stages(x)[0, 0, 0].sum().backward()
        return x.grad[0].abs().sum(2) > LEAST

    alone = torch.zeros(8, 8, dtype=torch.bool)
    alone[:4, :4] = True
    assert torch.equal(reached(1), alone)
    assert torch.equal(reached(2), alone)  # the shifted window at the corner holds 2×2 places of the same window
    middle = filled(SwinStages(4, side=8, hidden=8, depths=(2,))).stages[0]["blocks"]
    x = formula((1, 8, 8, 4), 3).requires_grad_()
    middle(x)[0, 3, 3].sum().backward()
    assert (x.grad[0].abs().sum(2) > LEAST).all()  # the one in the middle touches all four


def test_windows_must_fill_the_map() -> None:
    with pytest.raises(ValueError, match=r"^windows of 4 places don't fill a map of 6$"):
        SwinStages(8, side=6)
    with pytest.raises(ValueError, match=r"^6 channels can't be shared out to 4 heads$"):
        SwinStages(6, side=8)


def test_dual_head_is_the_weighted_mean_of_scores() -> None:
    torch.manual_seed(0)
    head, x = DualHead(10).eval().requires_grad_(False), 3 * formula((2, 10, 2, 3), 4)
    head.score[3].bias -= 0.2  # some scores are cut off at 0, some aren't
    tokens = x.flatten(2).transpose(1, 2)
    scores = F.relu(head.score[3](F.relu(head.score[0](tokens)))).squeeze(2)
    weights = torch.sigmoid(head.weight[3](F.relu(head.weight[0](tokens)))).squeeze(2)
    assert torch.equal(head.read(x)[0], scores)
    assert torch.equal(head.read(x)[1], weights)
    by_hand = [sum(s * w for s, w in zip(a, b, strict=True)) / sum(b) for a, b in zip(scores, weights, strict=True)]
    assert head(x).tolist() == pytest.approx([value.item() for value in by_hand], abs=1e-6)
    assert 0 < (scores > 0).float().mean() < 1
    assert weights.std() > 0.01


def test_golden() -> None:
    branch = filled(Maniqa(12, 16, side=8, heads=2, hidden=10))
    out = branch(3 * formula((2, 12, 8, 8), 5))
    assert out.shape == (2, 8, 8, 8)
    assert (out.mean().item(), out.std().item(), out[1, 3, 2, 5].item()) == pytest.approx(GOLDEN, abs=1e-4)


GOLDEN = (1.273428, 4.912911, -2.217663)


def test_paper_size() -> None:
    with torch.device("meta"):
        branch, head = Maniqa(3072), DualHead(384)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in branch.named_children()}
    places = 2 * 3 * (784 * 784 + 784)
    block = {c: 4 * c * c + 4 * c + 4 * c + (c + 1) * 768 + (768 + 1) * c + 49 * 4 for c in (768, 384)}
    assert counts == {
        "attention1": places,
        "conv1": 3073 * 768,
        "stages1": 4 * block[768] + 2 * (9 * 768 + 1) * 768,
        "attention2": places,
        "conv2": 769 * 384,
        "stages2": 4 * block[384] + 2 * (9 * 384 + 1) * 384,
    }
    assert sum(p.numel() for p in head.parameters()) == 2 * (385 * 384 + 385)
    assert branch(torch.zeros(1, 3072, 28, 28, device="meta")).shape == (1, 384, 28, 28)

"""The shared trunk: how it is trained without ratings, and how it is stored and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dgiqa.models import find_card
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.training.small import TRUNK, trunk_state
from dgiqa.training.systems import contrique_encoder


def test_half_of_a_batch_is_spoiled_and_classed_by_kind_and_severity(photographs: list[Path]) -> None:
    views, labels = contrique_encoder.draw(photographs, np.random.default_rng(0))
    assert [tuple(view.shape) for view in views] == [
        (contrique_encoder.BATCH, 3, contrique_encoder.CROP, contrique_encoder.CROP)
    ] * 2
    spoiled, own = labels[::2], labels[1::2]
    assert (spoiled < len(contrique_encoder.KINDS) * 5).all()
    assert len(set(own.tolist())) == len(own), "each picture as it was taken is a class of its own"
    assert all(view.min() >= 0 and view.max() <= 1 for view in views)
    again, same = contrique_encoder.draw(photographs, np.random.default_rng(0))
    assert torch.equal(views[0], again[0])
    assert torch.equal(labels, same)


def test_what_is_compared_is_the_mean_of_each_quarter() -> None:
    torch.manual_seed(0)
    trunk, rgb = FrozenMobileNetV2(), torch.rand(1, 3, 64, 64)
    found = contrique_encoder.quarters(trunk, rgb)
    maps = trunk.of_floats(rgb)
    wanted = torch.cat([m[0, :, : m.shape[2] // 2, m.shape[3] // 2 :].mean((1, 2)) for m in maps])  # above, right
    torch.testing.assert_close(found[1], wanted / wanted.norm(), atol=1e-5, rtol=0)


def test_training_moves_the_trunk_and_keeps_it_frozen_afterwards(photographs: list[Path], monkeypatch) -> None:
    monkeypatch.setattr(contrique_encoder, "BATCH", 4)
    trunk = FrozenMobileNetV2()
    trunk.load_state_dict(trunk_state())
    losses = contrique_encoder.pretrain(trunk, photographs, 2)
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert any(not torch.equal(tensor, trunk_state()[name]) for name, tensor in trunk.state_dict().items())
    assert not any(parameter.requires_grad for parameter in trunk.parameters())


def test_the_trunk_is_read_as_it_was_written(tmp_path: Path) -> None:
    trunk = FrozenMobileNetV2()
    trunk.load_state_dict(trunk_state())
    path = contrique_encoder.publish_trunk(trunk, tmp_path)
    own = find_card(TRUNK)
    assert (tmp_path / "mobilenet_v2.onnx").read_bytes() == (own.folder / "mobilenet_v2.onnx").read_bytes()
    assert path.read_text(encoding="utf-8") == (own.folder / "mobilenet_v2.toml").read_text(encoding="utf-8")

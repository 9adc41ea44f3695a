"""Small checkpoints that share a trunk: what is written is what was trained, and every runtime reads it."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import dgiqa
from dgiqa.cards import ModelCard, read_card
from dgiqa.errors import WeightsError
from dgiqa.models import find_card
from dgiqa.models.dp_iqa.network import SmallStudent
from dgiqa.runtimes import open_runtime
from dgiqa.runtimes.onnx import files_of
from dgiqa.training.small import SIDE, TRUNK, Study, floats, publish, trunk_state
from dgiqa.types import Views
from tolerances import BETWEEN_RUNTIMES


def write(out: Path, network: torch.nn.Module) -> Path:
    study: Any = SimpleNamespace(name="none")
    return publish(network, "dp_iqa", study, None, Namespace(out=out), summary="Of the tests", data="none")


@pytest.fixture(scope="module")
def network() -> SmallStudent:
    torch.manual_seed(0)
    network = SmallStudent()
    network.trunk.load_state_dict(trunk_state())
    maps = network.trunk(torch.randint(0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8))
    network.judge.train()(maps)  # its batch norms have now seen a batch, which no exported file says
    return network.eval()


@pytest.fixture(scope="module")
def card(network: SmallStudent, tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return read_card(write(tmp_path_factory.mktemp("small"), network))


def test_the_trunk_is_not_repeated(card: ModelCard) -> None:
    own, shared = card.weights["onnx"], find_card(TRUNK).weights["onnx"]
    assert own.shares == find_card(TRUNK).label
    assert own.bytes < 1_200_000 < shared.bytes
    assert [file.name for file in files_of(card)] == [shared.file, own.file]
    assert card.training.command.startswith("python -m dgiqa.training.systems.dp_iqa ")
    assert find_card(TRUNK).label in card.training.initialisation


@pytest.mark.parametrize("runtime", ["onnx", "torch", "openvino"])
def test_every_runtime_gives_what_the_network_gives(card: ModelCard, network: SmallStudent, runtime: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime))
    color = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    with torch.no_grad():
        wanted = network(torch.from_numpy(color)).numpy()  # rounded in place as it was written
    np.testing.assert_allclose(open_runtime(card, runtime).run(Views(color)), wanted, atol=BETWEEN_RUNTIMES, rtol=0)


def test_it_scores_pictures(card: ModelCard, photographs: list[Path]) -> None:
    scorer = dgiqa.load(card.folder / card.file)
    alone = [scorer.score(path).raw for path in photographs[:2]]
    assert alone == [result.raw for result in scorer.score_all(photographs[:2], workers=2, batch=2)]
    assert alone[0] != alone[1]


def test_another_trunk_is_refused(card: ModelCard, network: SmallStudent, tmp_path: Path) -> None:
    old = dataclasses.replace(card.weights["onnx"], shares=f"{TRUNK}@0.9")
    with pytest.raises(WeightsError, match=rf"shares the tensors of {TRUNK}@0.9, and what is here is {TRUNK}@"):
        files_of(dataclasses.replace(card, weights={"onnx": old}))
    moved = SmallStudent()
    moved.load_state_dict(network.state_dict())
    moved.trunk.stem.conv.weight.data += 1
    with pytest.raises(WeightsError, match=r"^trunk\.stem\.conv\.weight is another tensor than the shared trunk's"):
        write(tmp_path, moved)


def test_some_pictures_are_a_study_of_their_own(tmp_path: Path) -> None:
    from dgiqa.training.sets import Rated

    mos = np.array([0.1, 0.2, 0.3], np.float32)
    paths = tuple(tmp_path / f"{i}.png" for i in range(3))
    whole = Study(Rated("set", paths, mos, mos, mos), np.array([0, 1]), np.array([2]), tmp_path)
    some = whole.some(np.array([2, 0]))
    assert (some.paths, some.mos.tolist()) == ((paths[2], paths[0]), [mos[2], mos[0]])
    assert (some.fitted.tolist(), some.held.tolist(), len(some)) == ([0, 1], [], 2)
    ours, theirs = (study.once("place", lambda i: np.array([i])) for study in (some, whole))
    assert (ours.ravel().tolist(), theirs.ravel().tolist()) == ([0, 1], [0, 1, 2]), "neither reads the other's file"
    assert floats(ours).dtype == torch.float32

"""Which runtime is taken, by name or by the clock, and what is said when it can't be had."""

from __future__ import annotations

import dataclasses
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import dgiqa
from dgiqa import runtimes
from dgiqa.cli import main
from dgiqa.errors import RuntimeMissing
from dgiqa.models import find_card
from dgiqa.runtimes.fake import FakeNetwork


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Runtimes that take as many seconds a view as the dictionary says; None is not installed."""
    delays: dict[str, float | None] = {"onnx": 0.02, "openvino": 0.001, "torch": None, "numpy": None}

    def module(name: str) -> SimpleNamespace:
        def open_network(card: object) -> FakeNetwork:
            delay = delays[name]
            if delay is None:
                raise RuntimeMissing(f"{name}: not installed")
            return FakeNetwork(lambda views: [time.sleep(delay), np.zeros(len(views), np.float32)][1])

        return SimpleNamespace(TAKES=("onnx",), open_network=open_network)

    monkeypatch.setattr(runtimes, "_module", module)
    return delays  # type: ignore[return-value]


def test_the_fastest_is_measured_among_those_installed(three: dict[str, float]) -> None:
    card = find_card("default")
    assert runtimes.fastest(card) == "openvino"
    three["openvino"], three["onnx"] = 0.02, 0.001
    assert runtimes.fastest(card) == "onnx"
    assert dgiqa.load(runtime="auto").runtime == "onnx fp32"
    for name in three:
        three[name] = None  # type: ignore[assignment]
    with pytest.raises(RuntimeMissing, match="no runtime that is installed"):
        runtimes.fastest(card)


def test_the_row_says_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("default")
    eight = dataclasses.replace(card.weights["onnx"], precision="int8")
    monkeypatch.setattr("dgiqa.scorer.find_card", lambda name: dataclasses.replace(card, weights={"onnx": eight}))
    score = dgiqa.load().score(np.zeros((64, 64, 3), np.uint8))
    assert score.as_row()["runtime"] == "onnx int8"


def test_a_runtime_that_is_not_installed_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert main(["score", "docs/pictures/room.jpg", "--runtime", "openvino"]) == 2
    assert "pip install 'dgiqa[openvino]'" in capsys.readouterr().err


def test_openvino_refuses_a_damaged_file(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    pytest.importorskip("openvino")
    from dgiqa.errors import WeightsError
    from dgiqa.runtimes import openvino

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    monkeypatch.setattr(openvino, "files_of", lambda card: [broken])
    with pytest.raises(WeightsError, match="get it again"):
        openvino.open_network(find_card("default"))

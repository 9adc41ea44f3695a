"""``dgiqa export``: an ONNX file with a card of one's own, which every runtime scores alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import dgiqa  # noqa: E402
from dgiqa.cards import read_card  # noqa: E402
from dgiqa.cli import main  # noqa: E402
from dgiqa.errors import RuntimeMissing  # noqa: E402
from dgiqa.models import find_card  # noqa: E402
from dgiqa.models.dgiqa.network import DGIQA  # noqa: E402
from dgiqa.runtimes import open_runtime  # noqa: E402
from dgiqa.types import Views  # noqa: E402
from formula import filled  # noqa: E402
from tolerances import BETWEEN_RUNTIMES  # noqa: E402


def crops(count: int = 2) -> Views:
    rng = np.random.default_rng(0)
    return Views(
        rng.integers(0, 256, (count, 224, 224, 3), dtype=np.uint8),
        rng.integers(0, 256, (count, 224, 224), dtype=np.uint8),
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the paper's network has weights, made up by a formula."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("cache") / "dgiqa.koniq10k"
    folder.mkdir()
    save_file(filled(DGIQA()).state_dict(), folder / "dgiqa_koniq10k.safetensors")
    return folder.parent


def test_the_papers_network_scores_alike_everywhere(converted, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("DGIQA_CACHE", str(converted))
    out = tmp_path / "new" / "koniq10k.toml"
    assert main(["export", "dgiqa.koniq10k", "--out", str(out)]) == 0
    assert f"dgiqa score PATH --model {out}" in capsys.readouterr().out
    source, own = find_card("dgiqa.koniq10k"), read_card(out)
    assert list(own.weights) == ["onnx"]
    assert own.recipe == source.recipe
    wanted = open_runtime(source, "torch").run(crops())
    assert np.ptp(wanted) > 10 * BETWEEN_RUNTIMES, "the crops must differ for the test to mean anything"
    for runtime in ("onnx", "openvino"):
        try:
            found = open_runtime(own, runtime).run(crops())
        except RuntimeMissing:
            continue
        assert np.abs(found - wanted).max() < BETWEEN_RUNTIMES
    # The same network: torch reads its parameters from the exported file.
    assert np.array_equal(open_runtime(own, "torch").run(crops()), wanted)
    for path in out.parent.iterdir():
        path.unlink()


def test_an_exported_default_gives_the_same_scores_under_a_name_of_its_own(tmp_path: Path, capsys) -> None:
    out = tmp_path / "mine.toml"
    assert main(["export", "default", "--out", str(out)]) == 0
    picture = Path(__file__).parents[1] / "docs" / "pictures" / "room.jpg"
    own, default = dgiqa.load(str(out)).score(picture), dgiqa.load().score(picture)
    assert own.raw == pytest.approx(default.raw, abs=BETWEEN_RUNTIMES)
    assert (own.low, own.high) == pytest.approx((default.low, default.high), abs=0.1)
    assert own.model.startswith("dgiqa_mobile.mine@1.4+")
    capsys.readouterr()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["export", "default", "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("name", "said"), [
    ("mine.onnx", "a card's name ends in .toml"),
    ("file/mine.toml", "can't be made"),
])  # fmt: skip
def test_a_place_where_no_card_can_be(name: str, said: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert main(["export", "default", "--out", str(tmp_path / name)]) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_missing_weights_say_the_way_out(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("DGIQA_CACHE", str(tmp_path / "empty"))
    assert main(["export", "dgiqa.koniq10k", "--out", str(tmp_path / "x.toml")]) == 2
    assert "dgiqa convert dgiqa.koniq10k FILE" in capsys.readouterr().err
    assert not (tmp_path / "x.toml").exists()


def test_requests_of_several_workers_do_not_wait_for_each_other() -> None:
    """One stream would make the second worker worthless; two give a request each."""
    pytest.importorskip("openvino")
    import os

    from dgiqa.runtimes.openvino import open_network

    network = open_network(find_card("default"))
    compiled = network._compiled
    assert compiled.get_property("NUM_STREAMS") == os.cpu_count()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == os.cpu_count()

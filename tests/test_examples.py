"""The examples for other libraries do what they say; each is skipped where its library isn't installed."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest

import dgiqa

ROOT = Path(__file__).parents[1]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.jpg"))[:3]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_hugging_face_datasets(tmp_path: Path, default: dgiqa.Scorer) -> None:
    datasets = pytest.importorskip("datasets")
    add_quality = example("hugging_face_datasets").add_quality
    for path in PICTURES:
        (tmp_path / path.name).symlink_to(path)
    table = datasets.Dataset.from_dict({"image": [str(tmp_path / path.name) for path in PICTURES]})
    wanted = [default.score(path).as_row()["quality"] for path in PICTURES]
    plain = table.map(add_quality, batched=True, batch_size=2)
    decoded = table.cast_column("image", datasets.Image()).map(add_quality, batched=True, batch_size=2)
    raw = table.cast_column("image", datasets.Image(decode=False)).map(add_quality, batched=True, batch_size=2)
    assert plain["quality"][:] == decoded["quality"][:] == raw["quality"][:] == wanted
    assert set(plain["model"]) == {default.model}
    broken = datasets.Dataset.from_dict({"image": [str(tmp_path / "none.jpg")]}).map(add_quality, batched=True)
    assert broken[0]["quality"] is None
    assert "none.jpg" in broken[0]["error"]


def test_torchmetrics(default: dgiqa.Scorer) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchmetrics")
    module = example("torchmetrics_quality")
    pixels = np.stack([np.asarray(PIL.Image.open(path).convert("RGB").resize((96, 64))) for path in PICTURES])
    wanted = [default.score(each).quality for each in pixels]
    pictures = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)
    metric = module.MeanQuality()
    assert metric(pictures[:1]).item() == pytest.approx(wanted[0])
    metric.update(pictures[1:].double() / 255)
    assert metric.compute().item() == pytest.approx(np.mean(wanted))
    for other in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), metric.clone()):
        assert other.compute().item() == pytest.approx(np.mean(wanted))
    metric.reset()
    with pytest.raises(ValueError, match="no picture"):
        metric.compute()
    for bad in (pictures[0], pictures.int(), pictures.float(), pictures[:, :2]):
        with pytest.raises(ValueError, match=r"pictures of|floats lie"):
            metric.update(bad)


def test_fiftyone(default: dgiqa.Scorer, tmp_path: Path) -> None:
    fiftyone = pytest.importorskip("fiftyone")
    add_quality = example("fiftyone_quality").add_quality
    samples = [fiftyone.Sample(filepath=str(path)) for path in (*PICTURES, tmp_path / "none.jpg")]
    assert add_quality(samples) == 1
    assert [sample["quality"] for sample in samples[:-1]] == [default.score(path).quality for path in PICTURES]
    assert samples[-1]["quality"] is None
    assert "none.jpg" in samples[-1]["quality_error"]
    assert add_quality(samples[:1], reasons=True) == 0
    explanation = default.explain(PICTURES[0])
    assert [c.label for c in samples[0]["faults"].classifications] == [f.kind for f in explanation.faults if f.found]
    np.testing.assert_allclose(samples[0]["quality_map"].map, explanation.quality, atol=1e-4)
    assert samples[0]["depth"].map.shape == explanation.picture.shape[:2]

"""Reading weights: the same arrays from both formats, and never a pickle."""

import hashlib
import pickle
import sys

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from dgiqa.errors import RuntimeMissing, WeightsError
from dgiqa.weights.files import fingerprint, read_state, sha256_of

STATE = {
    "stem.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "stem.running": np.array(7, dtype=np.int64),
    "half": np.array([0.5, -2], dtype=np.float16),
}


def save_onnx(state, path):
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in state.items()]
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out], tensors)), path)


SAVE = {".safetensors": save_file, ".onnx": save_onnx}


@pytest.mark.parametrize("suffix", SAVE)
def test_arrays_come_back_as_they_were_stored(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    SAVE[suffix](STATE, path)
    state = read_state(path)
    assert state.keys() == STATE.keys()
    for name, value in STATE.items():
        assert state[name].dtype == value.dtype
        np.testing.assert_array_equal(state[name], value)
        assert state[name].flags.writeable


@pytest.mark.parametrize("suffix", SAVE)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_file_cut_short_is_damaged(tmp_path, suffix, kept):
    path = tmp_path / f"w{suffix}"
    SAVE[suffix]({"a": np.ones(1000, np.float32)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match=r"damaged, or not what its name says \(.+\); bring the file anew"):
        read_state(path)


@pytest.mark.parametrize("suffix", SAVE)
def test_a_web_page_in_its_place_is_damaged(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_text("<!doctype html><title>Sign in</title>" * 20)
    with pytest.raises(WeightsError, match="damaged, or not what its name says"):
        read_state(path)


@pytest.mark.parametrize("suffix", SAVE)
def test_a_file_without_tensors_says_so(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    SAVE[suffix]({}, path)
    with pytest.raises(WeightsError) as caught:
        read_state(path)
    assert str(caught.value) == f"{path}: there are no weights in this file"


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin", "a.ckpt", "A.PTH"])
def test_a_pickle_is_never_opened(tmp_path, name):
    sprung = tmp_path / "sprung"
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(WeightsError) as caught:
        read_state(path)
    suffix = path.suffix.lower()
    assert str(caught.value) == (
        f"{path}: {suffix} files hold pickled objects, which can run code, and are never loaded; "
        f"convert it once with `dgiqa convert NAME {path}`"
    )
    assert not sprung.exists()


def test_a_pickle_under_a_good_name_is_damaged_and_does_not_run(tmp_path):
    sprung = tmp_path / "sprung"
    for suffix in SAVE:
        path = tmp_path / f"w{suffix}"
        path.write_bytes(pickle.dumps(Trap(sprung)))
        with pytest.raises(WeightsError):
            read_state(path)
    assert not sprung.exists()


def test_other_formats_and_missing_files_are_named(tmp_path):
    with pytest.raises(WeightsError) as caught:
        read_state(tmp_path / "w.npz")
    assert str(caught.value) == f"{tmp_path / 'w.npz'}: weights are read from .safetensors and .onnx files only"
    with pytest.raises(WeightsError) as caught:
        read_state(tmp_path / "w.onnx")
    assert str(caught.value) == f"{tmp_path / 'w.onnx'}: there is no such file"


@pytest.mark.parametrize(
    ("suffix", "package", "hint"),
    [(".safetensors", "safetensors", "pip install 'dgiqa[torch]'"), (".onnx", "onnx", "pip install onnx")],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(tmp_path, monkeypatch, suffix, package, hint):
    path = tmp_path / f"w{suffix}"
    SAVE[suffix](STATE, path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RuntimeMissing, match=package) as caught:
        read_state(path)
    assert caught.value.hint == hint


def test_the_fingerprint_is_the_head_of_the_sha256(tmp_path):
    path = tmp_path / "w.onnx"
    path.write_bytes(b"abc" * 100_000)
    whole = hashlib.sha256(b"abc" * 100_000).hexdigest()
    assert sha256_of(path) == whole
    assert fingerprint(path) == whole[:8]

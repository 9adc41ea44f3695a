"""What 8-bit arithmetic, and bfloat16, of the embedded network gain and cost on this machine.

    python benchmarks/int8.py --data BIQ2021 [--calibrate 100] [--judge 1000] [--out FILE.json]

The colour trunk's convolutions get 8-bit weights (per channel) and activations (per tensor), calibrated on pictures of
the train part; what the statistics read stays as it comes out. Judged on the pictures that the recipe holds out of
training. A variant would be accepted if its SRCC drops by at most 0.005.

- ``pointwise``: the 1×1 convolutions of 16 channels and more, which are most of the arithmetic.
- ``late``: all of the trunk's last two thirds.
- ``all``: every convolution but the first.

Each in ONNX Runtime and in OpenVINO, whose other arithmetic is in 32 bits, or in bfloat16 (``bf16``) where the
processor has it. Needs the extras ``[train]`` and ``[openvino]``. Times take turns, one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from dgiqa.datasets import read_split
from dgiqa.depth import open_depth
from dgiqa.imaging.decode import decode
from dgiqa.imaging.views import make_views
from dgiqa.metrics.correlation import plcc, srcc
from dgiqa.models import find_card
from dgiqa.runtimes.onnx import open_file
from dgiqa.training.recipe import read_recipe
from dgiqa.training.sets import hold_out
from dgiqa.types import Views
from dgiqa.weights.fetch import locate

RECIPE = Path(__file__).parents[1] / "recipes" / "mobile-biq2021.toml"
#: (1, 2) raw score and spread of a view.
Network = Callable[[Views], np.ndarray]
#: The largest drop of SRCC that would do.
ALLOWED = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calibrate", type=int, default=100)
    parser.add_argument("--judge", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    card = find_card("default")
    depth = open_depth(card.recipe.depth)
    split = read_split("biq2021", "train", args.data)
    plan = read_recipe(RECIPE)
    fitted, held = hold_out(plan, plan.data[0].validation, split)

    def views(places: np.ndarray, count: int) -> list[Views]:
        chosen = np.random.default_rng(0).permutation(places)[:count]
        return [make_views(decode(split.paths[i]), card.recipe, depth) for i in chosen]

    judged = np.random.default_rng(0).permutation(held)[: args.judge]
    shown = views(held, args.judge)
    report: dict[str, Any] = {"judged": len(judged), "calibrated on": args.calibrate}
    with TemporaryDirectory() as folder:
        whole = widened(locate(card, "onnx"), Path(folder))
        files = {"fp32": locate(card, "onnx")}
        calibration = views(fitted, args.calibrate)
        for name in ("pointwise", "late", "all"):
            files[name] = quantized(whole, Path(folder) / f"{name}.onnx", name, calibration)
        networks: dict[str, Network] = {}
        for name, file in files.items():
            networks[f"onnx {name}"] = open_file(file).run
            for precision in ("f32", "bf16"):
                networks[f"openvino {precision} {name}"] = in_openvino(file, precision)
        raw, seconds = run(networks, shown)
    mos, first = split.mos[judged], next(iter(networks))
    for name in networks:
        change = np.abs(raw[name] - raw[first])
        report[name] = {
            "srcc": round(srcc(raw[name], mos), 4),
            "plcc": round(plcc(raw[name], mos), 4),
            "accepted": srcc(raw[first], mos) - srcc(raw[name], mos) <= ALLOWED,
            "largest change of the raw score": round(float(change.max()), 4),
            "ms a view": round(1e3 * statistics.median(seconds[name]), 1),
            f"of the time of {first}": round(statistics.median(seconds[name]) / statistics.median(seconds[first]), 2),
        }
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def widened(path: Path, folder: Path) -> Path:
    """The network with 32-bit weights in place, batch norm merged, as the quantiser wants it."""
    model = onnx.load(path)
    graph = model.graph
    kept = {tensor.name: tensor for tensor in graph.initializer}
    for cast in [node for node in graph.node if node.op_type == "Cast" and node.input[0] in kept]:
        name = cast.input[0]
        wide = onnx.numpy_helper.to_array(kept[name]).astype(np.float32)
        kept[name].CopyFrom(onnx.numpy_helper.from_array(wide, name))
        for node in graph.node:
            node.input[:] = [name if used == cast.output[0] else used for used in node.input]
        graph.node.remove(cast)
    onnx.save(model, folder / "wide.onnx")
    quant_pre_process(str(folder / "wide.onnx"), str(folder / "merged.onnx"), skip_symbolic_shape=True)
    return folder / "merged.onnx"


def quantized(path: Path, out: Path, which: str, calibration: list[Views]) -> Path:
    graph = onnx.load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    trunk = [node for node in convolutions if "color_trunk." in "".join(node.input)]  # merged weights have new names
    pointwise = [node for node in trunk if shapes[node.input[1]][1] >= 16 and shapes[node.input[1]][2:] == (1, 1)]
    chosen = {"pointwise": pointwise, "late": trunk[len(trunk) // 3 :], "all": trunk[1:]}[which]
    quantize_static(
        str(path),
        str(out),
        _Reader(calibration),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[node.name for node in convolutions if node not in chosen],
        extra_options={"DedicatedQDQPair": True},  # else the statistics would read rounded maps
    )
    return out


def in_openvino(file: Path, precision: str) -> Network:
    """The file in OpenVINO, one thread; what isn't in 8 bits in that ``precision``, ``f32`` or ``bf16``."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    request = openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    return lambda view: request.infer({"color": view.color, "depth": view.depth})[0]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, views: list[Views]) -> None:
        self._left = iter(views)

    def get_next(self) -> dict[str, Any] | None:
        view = next(self._left, None)
        return None if view is None else {"color": view.color, "depth": view.depth}


def run(networks: dict[str, Network], views: list[Views]) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """Raw scores and seconds of each network, taking turns."""
    raw: dict[str, list[float]] = {name: [] for name in networks}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for view in views:
        for name, network in networks.items():
            start = time.perf_counter()
            raw[name].append(float(network(view)[0, 0]))
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in raw.items()}, seconds


if __name__ == "__main__":
    main()

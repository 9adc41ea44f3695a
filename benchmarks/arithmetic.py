"""How much of this machine's arithmetic a network's runtime uses.

    python benchmarks/arithmetic.py CARD … [--runtime NAME …] [--threads 2] [--note TEXT] [--out FILE.json]

The limit is measured: products of square matrices in 32 bits by torch, NumPy and ONNX Runtime, that many threads each
with a product of its own on one core, the fastest of all. Each network is given square views of its recipe's side, for
which its card states the arithmetic, by as many threads at once, as scoring does. Limit and networks take turns;
medians. A runtime that counts on fewer operations than the card does (Winograd's convolution, say) may pass the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one core a product, as one core a view

import numpy as np
import onnx
import torch
from machine import machine

from dgiqa.cards import ModelCard
from dgiqa.models import find_card
from dgiqa.runtimes import open_runtime, weights_for
from dgiqa.runtimes.onnx import open_session
from dgiqa.types import Views

#: Side of the matrices.
SIDE = 1536


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cards", nargs="+", metavar="CARD")
    parser.add_argument("--runtime", nargs="+", default=["onnx", "openvino"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="what a reader of the table should know")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = {f"product by {name}": (2e-9 * SIDE**3, run) for name, run in products().items()}
    for name in args.cards:
        card = find_card(name)
        for runtime in args.runtime:
            if weights_for(card, runtime):
                work[f"{card.name}, {runtime}"] = (2 * card.network.gmacs, network(card, runtime))
    rates: dict[str, list[float]] = {name: [] for name in work}
    with ThreadPoolExecutor(args.threads) as pool:
        for turn in range(args.rounds + 1):
            for name, (gflop, run) in work.items():
                seconds = took(pool, run, args.threads)
                if turn:  # the first warms up
                    rates[name].append(args.threads * gflop / seconds)
    found = {name: statistics.median(values) for name, values in rates.items()}
    limit = max(rate for name, rate in found.items() if name.startswith("product"))
    report = {
        "machine": machine(),
        "threads": args.threads,
        "GFLOP/s": {name: round(rate, 1) for name, rate in found.items()},
        "of the limit": {name: round(rate / limit, 2) for name, rate in found.items()},
        "note": args.note,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def products() -> dict[str, Callable[[], object]]:
    """A product of two square matrices by each library."""
    a, b = np.random.default_rng(0).normal(size=(2, SIDE, SIDE)).astype(np.float32)
    first, second = torch.from_numpy(a), torch.from_numpy(b)
    square = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (SIDE, SIDE)) for name in "abc"]
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "product", square[:2], square[2:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    session = open_session(model.SerializeToString(), name="a product")
    return {
        "torch": lambda: first @ second,
        "NumPy": lambda: a @ b,
        "ONNX Runtime": lambda: session.run(None, {"a": a, "b": b}),
    }


def network(card: ModelCard, runtime: str) -> Callable[[], object]:
    """The network on one square view of noise."""
    side = card.recipe.crop or card.recipe.short_side
    color = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    views = Views(color, color[..., 0] if card.recipe.depth else None)
    opened = open_runtime(card, runtime)
    return lambda: opened.run(views)


def took(pool: ThreadPoolExecutor, run: Callable[[], object], threads: int) -> float:
    """Seconds until all threads are done, each with one run."""
    start = time.perf_counter()
    for waiting in [pool.submit(run) for _ in range(threads)]:
        waiting.result()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

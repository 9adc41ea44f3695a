"""What can be had without any model: sharpness, brightness, contrast and entropy of a set's pictures, as a CSV file.

    python benchmarks/simple_measures.py --data BIQ2021 --out measures.csv [--split test]
    dgiqa evaluate --from measures.csv --on biq2021 --root BIQ2021

Laplacian variance is the usual one for sharpness: of the grey picture's 4-neighbour Laplacian. Brightness is the mean
and contrast the deviation of grey, entropy that of its 256-bin histogram in bits. Each stands as a model of its own.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dgiqa.datasets import read_split
from dgiqa.imaging.decode import decode
from dgiqa.stream import in_order

Grey = np.ndarray


def laplacian_variance(grey: Grey) -> float:
    """Variance of the 4-neighbour Laplacian."""
    inner = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner).var())


def entropy(grey: Grey) -> float:
    """Shannon entropy of the grey levels in bits."""
    share = np.bincount(grey.astype(np.uint8).ravel(), minlength=256) / grey.size
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


MEASURES: dict[str, Callable[[Grey], float]] = {
    "Laplacian variance": laplacian_variance,
    "brightness": lambda grey: float(grey.mean()),
    "contrast": lambda grey: float(grey.std()),
    "entropy": entropy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    paths = read_split("biq2021", args.split, args.data).paths

    def measure(path: Path) -> list[float]:
        grey = decode(path).pixels @ np.array([0.299, 0.587, 0.114])
        return [of(grey) for of in MEASURES.values()]

    with args.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "model", "score"])
        for path, values in zip(paths, in_order(measure, paths, 2), strict=True):
            writer.writerows([path.name, name, f"{value:.6f}"] for name, value in zip(MEASURES, values, strict=True))
    print(f"{args.out}: {len(MEASURES)} measures of {len(paths)} pictures")


if __name__ == "__main__":
    main()

"""Quality as columns of a Hugging Face data set, by its ``map``.

    dataset = datasets.load_dataset("imagefolder", data_dir="pictures")["train"]
    dataset = dataset.map(add_quality, batched=True, batch_size=32)
    dataset = dataset.filter(lambda row: row["quality"] is not None and row["quality"] >= 50)

Other models and columns by ``functools.partial(add_quality, model="mine.toml", column="jpg")``; with ``num_proc`` each
process opens the model once.
"""

from __future__ import annotations

from typing import Any

import dgiqa
from dgiqa.executors.arrow import kept

#: The columns that come in addition.
COLUMNS = ("quality", "low", "high", "model", "error")


def add_quality(batch: dict[str, list[Any]], model: str = "default", column: str = "image") -> dict[str, list[Any]]:
    """COLUMNS for a batch whose ``column`` holds PIL images, paths or bytes; what can't be scored says why."""
    pictures = [each["bytes"] or each["path"] if isinstance(each, dict) else each for each in batch[column]]
    rows = [result.as_row() for result in kept(model).score_all(pictures)]
    return {name: [row[name] for row in rows] for name in COLUMNS}


if __name__ == "__main__":
    import sys

    from datasets import load_dataset

    scored = load_dataset("imagefolder", data_dir=sys.argv[1])["train"].map(add_quality, batched=True, batch_size=32)
    print(dgiqa.__version__, scored.remove_columns("image").to_pandas())

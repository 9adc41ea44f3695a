"""Data sets of rated pictures: one TOML card each, no code per set. The user brings the files.

    card + files under a root ──read_split──→ Split: paths, MOS in 0..1 (higher is better), subsets, references …

Parts of a set: ``all``; the official ones that its card names; ``train-0`` to ``train-9`` with ``test-0`` to
``test-9``, ten seeded 80/20 splits that keep pictures of one reference together; and what else a card lists. A plain
CSV file is a set without a card. ``docs/datasets.md`` has the table of them all.
"""

from dgiqa.datasets.card import DataSetCard, find_dataset, list_datasets
from dgiqa.datasets.check import Finding, check
from dgiqa.datasets.read import read_split
from dgiqa.datasets.split import Split

__all__ = ["DataSetCard", "Finding", "Split", "check", "find_dataset", "list_datasets", "read_split"]

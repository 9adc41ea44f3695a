"""The README's table of models, from the cards.

python benchmarks/models_table.py           rewrites it between its markers
python benchmarks/models_table.py --check   exit code 1 if it isn't what the cards say
"""

from __future__ import annotations

import sys
from pathlib import Path

from dgiqa import models
from dgiqa.cards import ModelCard
from dgiqa.models import DEFAULT, list_models, whole_network

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- models -->", "<!-- /models -->"


def main() -> int:
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    new = f"{before}{START}\n{table()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    return 0


def table() -> str:
    """A row a card: the default first, then scoring models by what they need, then the others."""
    cards = sorted(list_models(), key=lambda c: (c.name != DEFAULT, c.kind != "quality", c.reference == "full", c.name))
    rows = [
        "| card | what it is | needs | parameters | agreement (SRCC, n) | weights |",
        "|---|---|---|---|---|---|",
        *map(row, cards),
    ]
    return "\n".join(rows)


def row(card: ModelCard) -> str:
    name = f"`{card.name}`" + (" (default)" if card.name == DEFAULT else "")
    needs = "the original" if card.reference == "full" else f"`{card.recipe.depth}`" if card.recipe.depth else ""
    parameters = whole_network(card).parameters
    size = f"{parameters / 1e6:.2f} M" if parameters else ""
    best = card.measured[0] if card.measured else None
    agreement = f"{best.srcc:.3f}, {best.n:,}, {best.dataset} {best.split}" if best else ""
    return f"| {name} | {card.summary} | {needs} | {size} | {agreement} | {weights(card)} |"


def weights(card: ModelCard) -> str:
    files = card.weights.values()
    if any(file.file.endswith(".py") for file in files):
        return "none: a formula"
    if any(file.embedded for file in files):
        return "in the wheel"
    if any(file.url for file in files):
        return "`dgiqa fetch`"
    converts = (Path(models.__file__).parent / card.arch / "convert.py").is_file()
    return "the authors' checkpoint, `dgiqa convert`" if converts else "none published"


if __name__ == "__main__":
    sys.exit(main())

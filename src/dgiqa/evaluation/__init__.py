"""Agreement of a model with people: measured, compared, shown.

    predictions = collect(scorer.score_all(split.paths), scorer.model)
    evaluation = evaluate(predictions, split)          # SRCC, KRCC, PLCC, RMSE with intervals; groups; pairs; coverage
    comparison = compare(predictions, others, split)   # is the difference more than these pictures' luck?
    to_json(Report(...)), as_page(...)                 # the result file and the page

``dgiqa evaluate`` is the command.
"""

from dgiqa.evaluation.agreement import evaluate
from dgiqa.evaluation.page import as_page
from dgiqa.evaluation.predictions import Predictions, collect
from dgiqa.evaluation.results import Comparison, Evaluation, Report, from_json, to_json
from dgiqa.evaluation.significance import compare
from dgiqa.evaluation.table import as_text

__all__ = [
    "Comparison",
    "Evaluation",
    "Predictions",
    "Report",
    "as_page",
    "as_text",
    "collect",
    "compare",
    "evaluate",
    "from_json",
    "to_json",
]

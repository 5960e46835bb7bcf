"""Scores a model on a set of pictures under a named protocol, and the blurry input beside it.

    evaluation = evaluate(DeblurGenerator.from_pretrained(), Path("eval/gopro"))
    print(table(evaluation))

`protocols`     all that a score depends on besides the model: folders, count, size, alignment
`sets`          the pictures, checked before any scoring starts
`measures`      the columns
`scoring`       the work, in one process or several (`processes`), or without a model
`baselines`     restoration without learning
`results`       results.json, and rows.jsonl, from which an interrupted run is resumed
`tables`        an evaluation as text; `report` as a page
`comparison`    two evaluations of the same pictures
`published`     scores of papers and reports
`benchmark`     speed and memory

`python -m deblur_hub.evaluation` is `deblur-hub evaluate` for launchers.
"""

from .comparison import Comparison, compare
from .measures import METRICS, to_8_bits
from .results import Evaluation, Row, Settings, Spread
from .scoring import evaluate, load_model, score_pictures
from .sets import EvaluationSet, pairs_in, sharp_pictures
from .tables import table

__all__ = [
    "METRICS",
    "Comparison",
    "Evaluation",
    "EvaluationSet",
    "Row",
    "Settings",
    "Spread",
    "compare",
    "evaluate",
    "load_model",
    "pairs_in",
    "score_pictures",
    "sharp_pictures",
    "table",
    "to_8_bits",
]

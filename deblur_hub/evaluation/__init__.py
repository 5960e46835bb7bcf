"""A model times a set of pictures: what it scores on each under a named protocol, beside what the blurry input scores.

    evaluation = evaluate(DeblurGenerator.from_pretrained(), Path("eval/gopro"))
    print(table(evaluation))

`protocols`     what decides on a number but for the model: folders, count, size, alignment
`sets`          the pictures, checked before any scoring starts
`measures`      the columns
`scoring`       the work, in one process or several (`processes`), or without a model
`baselines`     restoration without learning
`results`       results.json and the rows that an interrupted run goes on from
`tables`        what the shell prints
`comparison`    two evaluations of the same pictures
`shell`         the commands; `python -m deblur_hub.evaluation` for launchers
"""

from .comparison import Comparison, compare
from .measures import METRICS, to_8_bits
from .results import Evaluation, Row, Settings, Spread
from .scoring import evaluate, load_model, score_pictures, synchronise
from .sets import Material, pairs_in, sharp_pictures
from .tables import table

__all__ = [
    "METRICS",
    "Comparison",
    "Evaluation",
    "Material",
    "Row",
    "Settings",
    "Spread",
    "compare",
    "evaluate",
    "load_model",
    "pairs_in",
    "score_pictures",
    "sharp_pictures",
    "synchronise",
    "table",
    "to_8_bits",
]

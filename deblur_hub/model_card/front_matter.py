"""The YAML at the top of a card, from which the hub's pages and `list_models` know what the model is and scores.

It is written and read by huggingface_hub's own code, which is imported only when there is a card to write or to read.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .about import NOTHING_KNOWN, About
from .markdown import clean
from .merging import AUTHORS, split
from .scores import BLURRED, Scores

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

ORDER = ["library_name", "pipeline_tag", "license", "datasets", "metrics", "tags"]
TAGS = ["deblurring", "image-restoration"]


@dataclass(frozen=True)
class CardFacts:
    """What a card's front matter says: the licence, and the means that were measured on a dataset, by measure.

    `blurred_` before a measure is the blurry input's own. `by_authors` is whether the weights are a paper's authors'.
    """

    license: str = ""
    dataset: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    by_authors: bool = False


def front_matter(name: str, *, scores: Scores | None = None, about: About = NOTHING_KNOWN) -> str:
    """The front matter, with the lines of dashes around it."""
    from huggingface_hub import ModelCardData

    results = eval_results(scores) if scores else []
    data = ModelCardData(
        library_name="deblur-hub",
        pipeline_tag="image-to-image",
        license=clean(about.license) or None,
        datasets=[clean(data.dataset) for data in about.data if data.dataset] or None,
        metrics=[column.name for column in scores.columns] if scores else None,
        tags=[*TAGS, AUTHORS] if about.authors else TAGS,
        model_name=(clean(name) or "model") if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml(original_order=ORDER)}\n---\n"


def eval_results(scores: Scores) -> "list[EvalResult]":
    """The means as the hub's index takes them."""
    from huggingface_hub import EvalResult

    labels = {}
    for column in scores.columns:
        unit = f",{column.unit}" if column.unit else ""
        labels[column.name] = column.label + unit
        labels[BLURRED + column.name] = f"{column.label} of the blurry input{unit}"
    return [
        EvalResult(
            task_type="image-to-image",
            task_name="Image deblurring",
            dataset_type=clean(scores.dataset),
            dataset_name=clean(scores.title),
            dataset_args={"protocol": scores.protocol, "pictures": len(scores.rows)},
            metric_type=metric,
            metric_name=labels[metric],
            metric_value=value,
        )
        for metric, value in scores.stated().items()
    ]


def read_facts(card: str) -> CardFacts:
    """What a card's front matter says; of one that cannot be read, nothing."""
    from huggingface_hub import ModelCardData

    try:
        data = ModelCardData(**split(card)[0], ignore_metadata_errors=True)
    except (ValueError, TypeError, AttributeError):
        return CardFacts()
    results = data.get("eval_results") or []
    values = {result.metric_type: result.metric_value for result in results}
    scores = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    by_authors = AUTHORS in (data.get("tags") or [])
    return CardFacts(str(data.get("license", "")), results[0].dataset_name if results else "", scores, by_authors)

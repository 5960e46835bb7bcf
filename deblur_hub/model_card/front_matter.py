"""The YAML at the top of a card, from which the hub's pages and `list_models` know what the model is and scores.

It is written and read by huggingface_hub's own code, which is imported only when there is a card to write or to read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .markdown import clean
from .merging import AUTHORS, split
from .scores import BLURRED, Scores

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


def front_matter(
    name: str,
    *,
    license: str = "",
    datasets: Sequence[str] = (),
    scores: Scores | None = None,
    by_authors: bool = False,
) -> str:
    """The front matter, with the lines of dashes around it."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for column in scores.columns if scores else ():
        unit = f",{column.unit}" if column.unit else ""
        for metric, of in ((column.name, ""), (BLURRED + column.name, " of the blurry input")):
            if scores and metric in (stated := scores.stated()):
                results.append(
                    EvalResult(
                        task_type="image-to-image",
                        task_name="Image deblurring",
                        dataset_type=clean(scores.dataset),
                        dataset_name=clean(scores.title),
                        dataset_args={"protocol": scores.protocol, "pictures": len(scores.rows)},
                        metric_type=metric,
                        metric_name=f"{column.label}{of}{unit}",
                        metric_value=stated[metric],
                    )
                )
    data = ModelCardData(
        library_name="deblur-hub",
        pipeline_tag="image-to-image",
        license=clean(license) or None,
        datasets=[clean(dataset) for dataset in datasets] or None,
        metrics=[column.name for column in scores.columns] if scores else None,
        tags=[*TAGS, AUTHORS] if by_authors else TAGS,
        model_name=(clean(name) or "model") if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml(original_order=ORDER)}\n---\n"


def read_facts(card: str) -> CardFacts:
    """What a card's front matter says; of one that cannot be read, nothing."""
    from huggingface_hub import ModelCardData

    try:
        data = ModelCardData(**split(card)[0], ignore_metadata_errors=True)
    except (ValueError, TypeError, AttributeError):
        return CardFacts()
    results = data.get("eval_results") or []
    scores = {
        result.metric_type: float(result.metric_value)
        for result in results
        if isinstance(result.metric_value, int | float)
    }
    by_authors = AUTHORS in (data.get("tags") or [])
    return CardFacts(str(data.get("license", "")), results[0].dataset_name if results else "", scores, by_authors)

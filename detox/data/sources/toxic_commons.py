"""ToxicCommons (S1 step 4): public-domain text in nine languages, five axes scored 0 to 3 by Llama 3.1 8B.

Arnett et al. 2024, "Toxicity of the Commons" (arXiv:2410.22587), whose pipeline calls a text toxic when its five
scores sum to 7 or more. The overall label follows that rule: the sum over 14, at most 1, so that the authors' border
is exactly 0.5, the border that ranking metrics use everywhere in this project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from detox.data.sources.source import Columns, Comment, Source

AXES: tuple[str, ...] = ("race_origin", "gender_sex", "religion", "ability", "violence")
MAX_SCORE = 3
TOXIC_SUM = 7


def comments(record: Columns) -> Iterator[Comment]:
    """`scores` is a list of five numbers, or the annotator's whole answer where no five could be found in it."""
    scores = _five_scores(record["scores"])
    if scores is None:
        labels: dict[str, Any] = dict.fromkeys(("toxicity", *AXES), record["scores"])
    else:
        overall = min(1.0, sum(scores) / (2 * TOXIC_SUM))
        labels = {"toxicity": overall, **{axis: score / MAX_SCORE for axis, score in zip(AXES, scores, strict=True)}}
    yield Comment(record["original_text"], labels)


def _five_scores(raw: Any) -> list[float] | None:
    try:
        scores = json.loads(raw) if isinstance(raw, str) else raw
    except json.JSONDecodeError:
        return None
    if not isinstance(scores, list) or len(scores) != len(AXES):
        return None
    return scores if all(isinstance(score, int | float) for score in scores) else None


SOURCE = Source(
    name="toxic_commons",
    title="ToxicCommons",
    licence="MIT (annotations); texts public domain",
    homepage="https://huggingface.co/datasets/PleIAs/ToxicCommons",
    obtain="the hub has it without registration (about 7 GB of csv; a limit streams only what it needs)",
    labels=("toxicity", *AXES),
    mapping=(
        "`scores` holds race/origin, gender/sex, religion, ability, violence, each 0 to 3: divided by 3. Overall "
        "`toxicity`: their sum over 14, at most 1, so that the authors' toxic class (sum of 7 or more) is 0.5 or more. "
        "Rows whose answer could not be parsed into five scores are refused."
    ),
    columns={"original_text": ("original_text", "text"), "scores": ("scores",)},
    comments=comments,
    hub="PleIAs/ToxicCommons",
    revision="b23b1e8459e67b30c4ae4169588e4c7549302868",
    local={"train": ("annotated_*.csv", "train.csv"), "test": ("test.csv",)},
)

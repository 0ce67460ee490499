"""Text Embeddings Inference: its three shapes of input, order of labels, limits and errors."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from serve.errors import ApiError
from serve.tei import info, predict, status_and_body
from tests.serve.judges import LABELS, MODEL, WordJudge

TEI_REQUIRED = {
    "model_id", "model_dtype", "model_type", "max_concurrent_requests", "max_input_length", "max_batch_tokens",
    "max_client_batch_size", "auto_truncate", "tokenization_workers", "version",
}  # fmt: skip
"""Of `Info` in TEI's docs/openapi.json."""
JUDGE = WordJudge({"idiot": ("insult", 0.9)})


def answered(inputs: Any, **fields: Any) -> list[Any]:
    return asyncio.run(predict(json.dumps({"inputs": inputs} | fields).encode(), JUDGE))


def test_one_text_gives_its_labels_the_highest_first() -> None:
    found = answered("you idiot")
    assert found[0] == {"score": pytest.approx(0.9), "label": "insult"}
    assert {row["label"] for row in found} == set(LABELS)
    assert answered(["you idiot"]) == found


def test_a_batch_is_a_list_of_lists() -> None:
    found = answered([["you idiot"], ["fine"]])
    assert [rows[0]["score"] for rows in found] == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize("direction", ["Right", "right", "Left", "left"])
def test_how_to_truncate_is_taken_and_not_heeded(direction: str) -> None:
    assert answered("you idiot", truncate=True, truncation_direction=direction) == answered("you idiot")


def test_raw_scores_are_log_odds() -> None:
    assert answered("you idiot", raw_scores=True)[0]["score"] == pytest.approx(math.log(9), rel=1e-5)


@pytest.mark.parametrize(
    ("inputs", "status", "said"),
    [
        (["a", "b"], 422, "one text at a time"),
        ([["a", "b"]], 422, "one text at a time"),
        ([], 400, "cannot be empty"),
        (3, 422, "inputs"),
        ([["a"]] * 33, 413, "batch size 33 > maximum allowed batch size 32"),
    ],
)
def test_refused_in_its_words(inputs: Any, status: int, said: str) -> None:
    with pytest.raises(ApiError, match=said) as caught:
        answered(inputs)
    code, found = status_and_body(caught.value)
    assert code == status
    assert found["error_type"] == ("empty" if inputs == [] else "validation")


def test_a_full_queue_is_a_429() -> None:
    assert status_and_body(ApiError("unavailable", "full"))[0] == 429


def test_info_says_what_the_scores_are() -> None:
    found = info(MODEL, 2048)
    assert found.keys() >= TEI_REQUIRED
    assert found["max_concurrent_requests"] == 2048
    assert found["model_type"]["classifier"]["label2id"]["insult"] == LABELS.index("insult")
    assert "sigmoid" in found["scores"]

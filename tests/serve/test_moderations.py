"""OpenAI's moderations: all thirteen categories, which of them are judged, what is flagged, and errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serve.errors import ApiError
from serve.moderations import CATEGORIES, moderate, unjudged
from serve.openai_messages import status_and_body
from tests.serve.judges import LABELS, MODEL, WordJudge

JUDGE = WordJudge({"idiot": ("insult", 0.9), "kill": ("threat", 0.3), "hate": ("identity_hate", 0.6)})


def answered(given: Any, **fields: Any) -> dict[str, Any]:
    return asyncio.run(moderate(json.dumps({"input": given} | fields).encode(), JUDGE))


def test_a_result_a_text_with_all_categories() -> None:
    found = answered(["you idiot", "fine"], model="omni-moderation-latest")
    assert found["id"].startswith("modr-")
    assert found["model"] == "tiny"
    for result in found["results"]:
        assert result["categories"].keys() == result["category_scores"].keys() == CATEGORIES.keys()
        assert len(CATEGORIES) == 13
    rude, fine = found["results"]
    assert rude["flagged"]
    assert rude["categories"]["harassment"]
    assert rude["category_scores"]["harassment"] == pytest.approx(0.9)
    assert not fine["flagged"]
    assert not any(fine["categories"].values())


def test_thresholds_are_the_models_own() -> None:
    """0.3 is above the threshold of threats, 0.2."""
    found = answered("I will kill you")["results"][0]
    assert found["categories"]["harassment/threatening"]
    assert found["categories"]["violence"]
    assert not found["categories"]["hate/threatening"]


def test_flagged_is_that_a_category_is() -> None:
    """Obscenity alone is in none of them; our own score of it stands beside them."""
    found = asyncio.run(moderate(b'{"input": "damn page"}', WordJudge({"damn": ("obscene", 0.9)})))["results"][0]
    assert not found["flagged"]
    assert not any(found["categories"].values())
    assert found["toxicity_scores"]["obscene"] == pytest.approx(0.9)


def test_hateful_threats_are_both() -> None:
    """The lower of the two scores; flagged only where each reaches its own threshold."""
    found = answered("I hate and kill")["results"][0]
    assert found["category_scores"]["hate/threatening"] == pytest.approx(0.3)
    assert found["categories"]["hate/threatening"]


def test_what_no_label_backs_is_named_and_never_invented() -> None:
    assert unjudged(LABELS) == [
        "illicit", "illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent", "sexual",
        "sexual/minors", "violence/graphic",
    ]  # fmt: skip
    assert set(unjudged(("toxic",))) == CATEGORIES.keys() - {"harassment"}
    found = answered("you idiot")["results"][0]
    assert found["category_scores"]["illicit"] == 0
    assert found["category_applied_input_types"]["illicit"] == []
    assert found["category_applied_input_types"]["harassment"] == ["text"]


def test_typed_parts_are_one_text() -> None:
    found = answered([{"type": "text", "text": "you"}, {"type": "text", "text": "idiot"}])
    assert len(found["results"]) == 1
    assert found["results"][0]["flagged"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "Invalid value for 'input'"),
        (b'{"input": []}', "'input' must not be empty"),
        (b'{"input": 3}', "Invalid value for 'input'"),
        (b'{"input": ["a", 3]}', "Invalid value for 'input'"),
        (b'{"input": [{"type": "image_url", "image_url": {"url": "x"}}]}', "Images are not supported"),
        (json.dumps({"input": ["a"] * 257}).encode(), "must have at most 256 texts, has 257"),
    ],
)
def test_refused_in_openais_words(raw: bytes, said: str) -> None:
    with pytest.raises(ApiError, match=said) as caught:
        asyncio.run(moderate(raw, JUDGE))
    status, found = status_and_body(caught.value)
    assert status == 400
    assert found["error"]["type"] == "invalid_request_error"
    assert found["error"]["param"] == "input"


def test_civil_comments_labels_back_the_same_categories() -> None:
    labels = ("frac_insult", "frac_threat")
    judge = WordJudge({}, MODEL._replace(labels=labels, thresholds=dict.fromkeys(labels, 0.5)))
    found = asyncio.run(moderate(b'{"input": "a"}', judge))["results"][0]
    assert found["toxicity_scores"].keys() == set(labels)
    assert "harassment" not in unjudged(labels)

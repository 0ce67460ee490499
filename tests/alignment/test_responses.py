"""Responses beside those that the data have: figures and guards, derived by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from detox.alignment.finetune_settings import FinetuneEvaluationSettings
from detox.alignment.guard_settings import GuardSettings
from detox.alignment.responses import Responses, compare_responses, copied, guards_of
from detox.data.examples.example import Example
from detox.evaluation.statistics import Comparison

EXAMPLES = [
    Example("you idiot bring the red map home now", "the map comes home"),
    Example("bring bread and milk to the house", "someone buys bread"),
    Example("", "a text without a prompt"),
    Example("a prompt whose data have no response", ""),
]
BEFORE = ["the idiot maps", "bring bread and milk to", "ignored", "ignored"]
AFTER = ["the map comes home", "someone buys milk", "ignored", "ignored"]


def toxicity(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
    return np.array([0.9 if "idiot" in text else 0.1 for text in texts])


def compared(guarded: bool = True) -> Responses:
    found = compare_responses(EXAMPLES, BEFORE, AFTER, toxicity, FinetuneEvaluationSettings(), guarded)
    assert found is not None
    return found


def test_only_prompts_with_a_response_count() -> None:
    """ROUGE-1 of the first before: one word of 3 said and of 4 wanted, so 2 · 1/3 · 1/4 / (1/3 + 1/4) = 2/7; of the
    second one of 5 and of 3, 2 · 1/5 · 1/3 / (1/5 + 1/3) = 1/4. After: 1, and two of 3 and 3: 2/3. Order is kept, so
    ROUGE-L is the same."""
    found = compared()
    for kind in ("rouge1", "rougeL"):
        assert found.before[kind] == pytest.approx((2 / 7 + 1 / 4) / 2)
        assert found.after[kind] == pytest.approx((1 + 2 / 3) / 2)
    assert found.changes["rougeL"].difference == pytest.approx((5 / 7 + 5 / 12) / 2)
    assert (found.before["words"], found.after["words"], found.data["words"]) == (4, 3.5, 3.5)


def test_toxicity_is_measured_apart_where_the_prompt_is_toxic() -> None:
    found = compared()
    assert found.after["toxic_prompts"] == 1
    assert (found.before["toxicity_when_toxic"], found.after["toxicity_when_toxic"]) == pytest.approx((0.9, 0.1))
    assert found.data["toxicity"] == pytest.approx(0.1)
    alone = compare_responses(EXAMPLES, BEFORE, AFTER, None, FinetuneEvaluationSettings(), False)
    assert alone is not None
    assert "toxic_prompts" not in alone.after
    assert "toxicity" not in alone.data


def test_texts_without_prompts_are_not_compared() -> None:
    assert compare_responses(EXAMPLES[2:], BEFORE[2:], AFTER[2:], toxicity, FinetuneEvaluationSettings(), True) is None


@pytest.mark.parametrize(
    ("response", "share"),
    [
        ("Bring bread, and milk", 0.0),  # the comma is a sign of its own: "bring bread , and" stands nowhere
        ("Bring bread and milk", 1.0),
        ("we bring bread and milk", 0.5),
        ("bread and", 1.0),
        ("bread milk", 0.0),
        ("", 0.0),
    ],
)
def test_copied_is_the_share_of_4_grams_that_the_prompt_has(response: str, share: float) -> None:
    assert copied(response, EXAMPLES[1].prompt) == share  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "words", "rise", "broken"),
    [
        (-0.019, 10.0, 0.05, []),
        (-0.021, 10.0, 0.0, ["rougeL"]),
        (float("nan"), 10.0, 0.0, ["rougeL"]),
        (0.0, 6.6, 0.0, ["length"]),
        (0.0, 15.1, 0.06, ["length", "copies"]),
    ],
)
def test_guards_hold_what_must_not_be_lost(low: float, words: float, rise: float, broken: list[str]) -> None:
    changes = {"rougeL": Comparison(0.0, low, 0.1, 1.0), "copied": Comparison(rise, 0.0, 0.1, 1.0)}
    found = Responses({"words": 10.0}, {"words": words}, changes, {})
    assert found._replace(guards=guards_of(found, GuardSettings())).broken == broken


def test_guards_are_asked_of_what_learnt_from_a_reward() -> None:
    assert compared(guarded=False).guards == ()
    assert [guard.name for guard in compared().guards] == ["rougeL", "length", "copies"]
    assert compared().broken == []

"""Nats a token under a frozen model: from the beginning, and after another text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from detox.alignment.perplexity import MAX_CONTEXT, LanguageModel
from detox.models.causal import load_causal

TEXTS = ["Thank you for your edit", "idiot", "", "What a great game, well played everyone!"]
CONTEXTS = ["Please stop", "You are an", "x", ""]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(load_causal("tiny/gpt2"), "cpu")


def by_hand(before: str, text: str) -> float:
    """The mean of -log p over the tokens of `text`, one row, no padding."""
    loaded = load_causal("tiny/gpt2")
    sides: Sequence[list[int]] = [loaded.tokenizer(side)["input_ids"] for side in (before, text)]  # type: ignore[misc]
    ids = [loaded.tokenizer.bos_token_id or loaded.tokenizer.eos_token_id, *sides[0], *sides[1]]
    with torch.no_grad():
        logprobs_TV = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    places = range(len(ids) - len(sides[1]), len(ids))
    return -float(np.mean([float(logprobs_TV[at - 1, ids[at]]) for at in places]))


def test_texts_alone(model: LanguageModel) -> None:
    wanted = [by_hand("", text) if text else 0.0 for text in TEXTS]
    np.testing.assert_allclose(model.nats(TEXTS), wanted, rtol=1e-5)


def test_texts_after_others(model: LanguageModel) -> None:
    wanted = [by_hand(before, text) if text else 0.0 for before, text in zip(CONTEXTS, TEXTS, strict=True)]
    found = model.nats(TEXTS, CONTEXTS)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert found[1] != pytest.approx(model.nats(TEXTS)[1], rel=1e-6)


def test_of_a_long_context_the_end_is_read(model: LanguageModel) -> None:
    end = "a" * MAX_CONTEXT
    assert model.nats(["idiot"], ["Thank you" + end])[0] == model.nats(["idiot"], ["bbb" + end])[0]

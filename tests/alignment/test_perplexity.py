"""A causal model's log-probabilities of given ids, and its nats a token of texts, alone and after others: against plain
logits, and in number as an n-gram model's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from detox.alignment.perplexity import MAX_CONTEXT, LanguageModel
from detox.evaluation.ngram_model import NgramModel, perplexity
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


IDS = [[5, 9, 300, 5], [], [17], [40, 41, 42, 43, 44, 45, 46]]


@pytest.mark.parametrize("name", ["tiny/gpt2", "tiny/qwen2"])
def test_every_id_is_predicted_after_bos(name: str) -> None:
    """The logits at BOS and at every id but the last; where there is no BOS (Qwen2), EOS begins."""
    loaded = load_causal(name)
    begin = loaded.tokenizer.eos_token_id if loaded.tokenizer.bos_token_id is None else loaded.tokenizer.bos_token_id
    found = LanguageModel(loaded).logprobs(IDS)
    for logs, ids in zip(found, IDS, strict=True):
        with torch.no_grad():
            logits_TV = loaded.model(torch.tensor([[begin, *ids]])).logits[0, :-1]
        expected = torch.log_softmax(logits_TV, -1)[range(len(ids)), ids]
        assert logs.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_an_ngram_model_predicts_the_same_tokens() -> None:
    """One log-probability an id of both, so that their perplexities may be compared."""
    ngrams = NgramModel.fit(IDS, vocabulary=1000)
    sizes = [[len(logs) for logs in model.logprobs(IDS)] for model in (LanguageModel(load_causal("tiny/gpt2")), ngrams)]
    assert sizes == [[4, 0, 1, 7]] * 2


def test_nats_are_the_mean_of_a_text_and_0_of_none() -> None:
    loaded = load_causal("tiny/gpt2")
    model = LanguageModel(loaded)
    text = "Thank you for your edit."
    logs = model.logprobs([loaded.tokenizer(text)["input_ids"]])
    nats = model.nats([text, ""])
    assert nats.tolist() == [pytest.approx(np.log(perplexity(logs))), 0.0]
    assert model.nats([]).shape == (0,)

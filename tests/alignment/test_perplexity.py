"""A causal model's log-probabilities of given ids: against its plain logits, and in number as an n-gram model's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detox.alignment.perplexity import LanguageModel
from detox.evaluation.ngram_model import NgramModel, perplexity
from detox.models.causal import load_causal

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

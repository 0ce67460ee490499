"""A neural model and an n-gram model are measured on the same tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detox.alignment.asked import asked_of, learnt_texts, texts_of
from detox.alignment.finetune_settings import FinetuneConfig, FinetuneEvaluationSettings
from detox.alignment.monitors import measure
from detox.alignment.ngram_baseline import ngram_nats
from detox.alignment.perplexity import LanguageModel
from detox.data.examples.example import Example
from detox.evaluation.ngram_model import NgramModel
from detox.models import tiny
from detox.models.loading import LoadedModel
from detox.runs.config import validated

EOS = 9


def test_only_the_response_is_counted() -> None:
    """Learned from 1 2 9 and 1 3 9 after the beginning, and from 4 after the prompt 5 6."""
    train = [([EOS], [1, 2, 9]), ([EOS], [1, 3, 9]), ([5, 6], [4, 9])]
    plain = NgramModel.fit([[1, 2, 9], [1, 3, 9], [5, 6, 4, 9]], 10, 2)
    [text, answer] = ngram_nats(train, [([EOS], [1, 2, 9]), ([5, 6], [4, 9])], EOS, 10, 2)
    [first, second] = plain.logprobs([[1, 2, 9], [5, 6, 4, 9]])
    assert text == pytest.approx(-first.mean())
    assert answer == pytest.approx(-second[2:].mean())


def test_an_ngram_model_learns_what_a_packed_model_learns() -> None:
    """Packed texts are learnt whole, others as far as the model reads; measured are all as far as it reads."""
    built = tiny.build("qwen2", head="causal_lm")
    loaded = LoadedModel(built.model, built.tokenizer, "qwen2", "")
    examples = [Example("", "Thank you for your edit. " * 20)]
    tree = {"method": "sft", "model": {"name": "any", "max_tokens": 32}}
    packed = validated(FinetuneConfig, tree | {"sft": {"packing": True}})
    [(_, whole)] = learnt_texts(examples, loaded, packed)
    [(_, cut)] = learnt_texts(examples, loaded, validated(FinetuneConfig, tree))
    [(_, measured)] = texts_of(examples, loaded, packed)
    assert len(whole) > 100
    assert cut == measured == whole[:31]


@pytest.mark.parametrize("name", ["qwen2", "gpt2", "mistral"])
def test_a_text_is_measured_from_its_first_token(name: str) -> None:
    """After BOS, or where there is none after EOS, as `LanguageModel` reads it; its own end counts."""
    built = tiny.build(name, head="causal_lm")
    tokenizer: Any = built.tokenizer
    settings = validated(FinetuneConfig, {"method": "sft", "model": {"name": "any", "max_tokens": 32}})
    texts = ["Thank you for your edit", "Shut up"]
    loaded = LoadedModel(built.model, tokenizer, name, "")
    everything = FinetuneEvaluationSettings(prompts=0, texts=0, max_new_tokens=8)
    asked = asked_of([Example("", text) for text in texts], loaded, settings, everything)
    found = measure(built.model, None, tokenizer, asked, 8)
    ids = [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in texts]
    logs = LanguageModel(loaded).logprobs(ids)
    np.testing.assert_allclose(found.nats_M, [-one.mean() for one in logs], rtol=1e-4)
    assert found.tokens_M.tolist() == [len(one) for one in ids]

"""The batched engine: order, duplicates, windows, token budget, padding, empty texts, NaN."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import pipeline

from detox.classifier import engine as engine_module
from detox.classifier.engine import Engine, window_length
from detox.models import tiny

WORDS = ["you", "are", "an", "idiot", "thank", "the", "page", "stupid", "2019", "é", "猫"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=25)


def spread(name: str = "bert", **options: object) -> tiny.TinyModel:
    """A tiny classifier whose logits differ from text to text: weights drawn ten times wider than usual."""
    return tiny.build(name, head="sequence_classification", initializer_range=0.2, num_labels=2, **options)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(*spread(), max_length=16, batch_tokens=64)


@settings(max_examples=30, deadline=None)
@given(TEXTS)
def test_a_text_scores_as_it_does_alone(engine: Engine, texts: list[str]) -> None:
    """Order, duplicates, neighbours and padding do not matter (to float32 rounding)."""
    together_NL = engine.probabilities(texts)
    assert together_NL.shape == (len(texts), 2)
    assert together_NL.dtype == np.float32
    for text, scores_L in zip(texts, together_NL, strict=True):
        np.testing.assert_allclose(scores_L, engine.probabilities([text])[0], atol=1e-6)


def test_scores_differ_between_texts(engine: Engine) -> None:
    """Guards the tests above: a model that says the same of every text would pass them."""
    assert np.ptp(engine.probabilities(["you idiot", "thank you", "the page"])[:, 0]) > 0.01


def test_chunks_do_not_show(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"you idiot {number}" for number in range(10)]
    whole = engine.probabilities(texts)
    monkeypatch.setattr(engine_module, "CHUNK", 3)
    np.testing.assert_allclose(engine.probabilities(texts), whole, atol=1e-6)


def test_a_long_text_scores_the_maximum_of_its_windows(engine: Engine) -> None:
    """16 tokens with [CLS] and [SEP] leave 14; a quarter, 3, is shared, so 30 tokens need windows at 0, 11 and 22:
    14 + 14 + 8 tokens.
    """
    words = (WORDS[:8] * 4)[:30]
    windows = engine.windows([" ".join(words), "thank you"])
    assert windows.text == [0, 0, 0, 1]
    assert [len(ids) for ids in windows.ids] == [16, 16, 10, 4]
    pieces = [" ".join(words[begin : begin + 14]) for begin in (0, 11, 22)]
    expected_L = engine.probabilities(pieces).max(axis=0)
    np.testing.assert_allclose(engine.probabilities([" ".join(words)])[0], expected_L, atol=1e-6)


@pytest.mark.parametrize(("problem_type", "activation"), [("multi_label_classification", "sigmoid"), (None, "softmax")])
def test_it_agrees_with_a_plain_pipeline(problem_type: str | None, activation: str) -> None:
    built = spread(problem_type=problem_type)
    texts = ["you are an idiot", "", "thank you for the page"]
    ours_NL = Engine(*built, activation=activation).probabilities(texts)
    theirs = pipeline("text-classification", model=built.model, tokenizer=built.tokenizer, top_k=None)(texts)
    for scores_L, row in zip(ours_NL, theirs, strict=True):
        by_label = {entry["label"]: entry["score"] for entry in row}
        np.testing.assert_allclose(scores_L, [by_label["LABEL_0"], by_label["LABEL_1"]], atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "deberta-v2", "xlm-roberta"])
def test_every_family_takes_empty_and_long_texts(name: str) -> None:
    engine = Engine(*spread(name), max_length=12, batch_tokens=48)
    texts = ["", "idiot", "you are stupid " * 20, "idiot"]
    np.testing.assert_allclose(
        engine.probabilities(texts), np.concatenate([engine.probabilities([text]) for text in texts]), atol=1e-6
    )


def test_each_distinct_text_is_computed_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = engine._forward
    monkeypatch.setattr(engine, "_forward", lambda ids: (seen.append(len(ids)), forward(ids))[1])
    engine.probabilities(["you idiot"] * 50 + ["thank you"] * 50)
    assert sum(seen) == 2


def test_nan_is_an_error_and_never_a_score() -> None:
    built = spread()
    with torch.no_grad():
        built.model.classifier.bias[0] = torch.nan
    with pytest.raises(ValueError, match="returned NaN or infinite logits"):
        Engine(*built).probabilities(["idiot"])


def test_bfloat16_is_close_to_float32() -> None:
    texts = ["you are an idiot", "thank you", "the page"]
    exact = Engine(*spread()).probabilities(texts)
    built = spread()
    rough = Engine(built.model.to(torch.bfloat16), built.tokenizer).probabilities(texts)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, exact, atol=0.05)


@pytest.mark.parametrize(("max_length", "sentence"), [(513, "the model reads 512 tokens"), (5, "at least four tokens")])
def test_a_window_must_fit_the_model_and_hold_something(max_length: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Engine(*spread(), max_length=max_length)


def test_the_window_length_is_known_from_the_config() -> None:
    built = spread("roberta")  # 514 positions, the first two of them for padding
    assert window_length(built.model.config, 0) == window_length(built.model.config, 512) == 512
    with pytest.raises(ValueError, match=r"the model reads 512 tokens, and max_length asks for 513: .*max-length 512"):
        window_length(built.model.config, 513)
    relative = spread("deberta-v2")
    assert window_length(relative.model.config, 2048) == 2048
    with pytest.raises(ValueError, match="the model reads 512 tokens"):  # its tokenizer says so
        window_length(relative.model.config, 2048, relative.tokenizer)


def test_few_compiled_kernels_are_kept_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else memory grows with the number of texts; `benchmarks.scoring` measures it."""
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    built = tiny.build("bert", head="sequence_classification", num_labels=1)
    monkeypatch.delenv(name, raising=False)
    Engine(built.model, built.tokenizer)
    assert os.environ[name] == "32"
    monkeypatch.setenv(name, "512")
    Engine(built.model, built.tokenizer)
    assert os.environ[name] == "512"

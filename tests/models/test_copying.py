"""T5 with a copy head: a mixture that sums to one, that generation and storage take like any other model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

from detox.models.copying import CopyT5Config, CopyT5ForConditionalGeneration

VOCABULARY = 60


def build(seed: int = 0, **changes: object) -> CopyT5ForConditionalGeneration:
    torch.manual_seed(seed)
    settings = {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
        "dropout_rate": 0.0,
    }
    return CopyT5ForConditionalGeneration(CopyT5Config(**(settings | changes))).eval()


def batch() -> dict[str, torch.Tensor]:
    """Two sources, the second padded."""
    ids = torch.tensor([[5, 6, 7, 8, 1], [9, 10, 1, 0, 0]])
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "labels": torch.tensor([[5, 7, 8, 1], [9, 10, 1, -100]]),
    }


def test_the_logits_are_log_probabilities() -> None:
    outputs = build()(**batch())
    sums_BT = outputs.logits.logsumexp(-1)
    assert torch.allclose(sums_BT, torch.zeros_like(sums_BT), atol=1e-4)
    assert outputs.loss.isfinite()


@pytest.mark.parametrize("tied", [True, False])
def test_the_gate_decides_between_writing_and_copying(tied: bool) -> None:
    """A gate of +30 copies: nothing but source tokens has a probability to speak of; padding is never copied."""
    model = build(tie_word_embeddings=tied)
    torch.nn.init.zeros_(model.copy_gate.weight)
    torch.nn.init.constant_(model.copy_gate.bias, 30.0)
    probabilities_BTV = model(**batch()).logits.exp()
    for row, source in enumerate(([5, 6, 7, 8, 1], [9, 10, 1])):
        assert probabilities_BTV[row, :, source].sum(-1).min() > 0.9999
        assert probabilities_BTV[row, :, 0].max() < 1e-6


def test_source_tokens_travel_with_the_encoders_output() -> None:
    """As in generation, where the decoder sees the encoder's output only; plain states need the ids beside them."""
    model, inputs = build(), batch()
    whole = model(**inputs).logits
    encoded = model.get_encoder()(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    rest = {key: inputs[key] for key in ("attention_mask", "labels")}
    assert torch.allclose(model(encoder_outputs=encoded, **rest).logits, whole, atol=1e-5)
    plain = BaseModelOutput(last_hidden_state=encoded.last_hidden_state)
    assert torch.allclose(model(encoder_outputs=plain, input_ids=inputs["input_ids"], **rest).logits, whole, atol=1e-5)
    with pytest.raises(ValueError, match="must know the source's tokens"):
        model(encoder_outputs=plain, **rest)


def test_generation_with_cache_and_beams_equals_teacher_forcing() -> None:
    model, inputs = build(3), batch()
    source = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    for options in ({}, {"num_beams": 3}, {"use_cache": False}):
        found = model.generate(**source, max_new_tokens=6, do_sample=False, **options)
        assert found.shape[0] == 2
    greedy = model.generate(**source, max_new_tokens=6, do_sample=False)
    forced = model(**source, decoder_input_ids=greedy[:, :-1]).logits.argmax(-1)
    for row in range(2):
        for at in range(greedy.shape[1] - 1):
            assert forced[row, at] == greedy[row, at + 1]
            if greedy[row, at + 1] == 1:
                break


def test_it_is_stored_and_loaded_by_its_name(tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert isinstance(again, CopyT5ForConditionalGeneration)
    assert torch.allclose(again(**batch()).logits, model(**batch()).logits, atol=1e-6)

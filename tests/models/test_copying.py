"""T5 with a copy head: a mixture that sums to one, that generation and storage take like any other model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

from detox.classifier.batching import pad_rows
from detox.models import tiny
from detox.models.copying import CopyT5Config, CopyT5ForConditionalGeneration, _with_copies
from detox.rewriter.batches import padded
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings
from detox.rewriter.preference import IGNORED, decode, sequence_logprobs

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


def test_raising_the_source_tokens_equals_the_mixture_written_out() -> None:
    """Values and gradients against p(v) = (1 - g) softmax(v) + g Σ attention at v, with a token that stands twice."""
    torch.manual_seed(0)
    logits_BTV = torch.randn(2, 3, 7, requires_grad=True)
    gate_BT1 = torch.randn(2, 3, 1, requires_grad=True)
    attention_BTS = torch.rand(2, 3, 4).softmax(-1).requires_grad_()
    ids_BS = torch.tensor([[2, 5, 2, 1], [3, 3, 3, 0]])
    leaves = (logits_BTV, gate_BT1, attention_BTS)
    gate = gate_BT1.sigmoid()
    copied_BTV = torch.zeros(2, 3, 7).scatter_add(2, ids_BS[:, None].expand(-1, 3, -1), attention_BTS)
    plain_BTV = ((1 - gate) * logits_BTV.softmax(-1) + gate * copied_BTV).log()
    found_BTV = _with_copies(*leaves[:2], attention_BTS, ids_BS)
    assert torch.allclose(found_BTV, plain_BTV, atol=1e-5)
    weights_BTV = torch.randn(2, 3, 7)
    expected = torch.autograd.grad((plain_BTV * weights_BTV).sum(), leaves)
    for mine, plain in zip(torch.autograd.grad((found_BTV * weights_BTV).sum(), leaves), expected, strict=True):
        assert torch.allclose(mine, plain, atol=1e-4)


def test_the_reader_is_behind_the_last_word_that_both_texts_have() -> None:
    """Source 5 6 7 5 1; written: start, 5 (place 0: reader at 1), 9 (not there: stays), 7 (place 2: at 3), 5 (the
    second one, place 3: at 4), 6 (only behind, place 1: at 2), 5 (one ahead, place 3, not place 0: at 4)."""
    source, prefix = torch.tensor([[5, 6, 7, 5, 1]]), torch.tensor([[0, 5, 9, 7, 5, 6, 5]])
    assert build()._places(source, None, prefix).tolist() == [[0, 1, 1, 3, 4, 2, 4]]


def test_padding_is_nowhere_and_case_does_not_matter() -> None:
    """Token 0 is start, padding and written; of the source 5 0 0 only the first is a token. 6 folds to 5."""
    model = build()
    model.folded_V[6] = 5
    mask = torch.tensor([[1, 0, 0]])
    assert model._places(torch.tensor([[5, 0, 0]]), mask, torch.tensor([[0, 0, 6]])).tolist() == [[0, 0, 1]]


def test_an_untrained_model_copies() -> None:
    """The pull to the reader's place is 4 and the gate open: most of each step's probability is on the next token."""
    torch.manual_seed(0)
    ids_BS = torch.stack([torch.randperm(VOCABULARY - 3)[:8] + 3 for _ in range(16)])
    logprobs_BTV = build()(input_ids=ids_BS, attention_mask=torch.ones_like(ids_BS), labels=ids_BS).logits
    assert (logprobs_BTV.argmax(-1) == ids_BS).float().mean() > 0.9


def test_a_cache_without_its_tokens_is_refused() -> None:
    model, inputs = build(), batch()
    source = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    first = model(**source, decoder_input_ids=torch.zeros(2, 1, dtype=torch.long), use_cache=True)
    following = torch.tensor([[5], [9]])
    with pytest.raises(ValueError, match="decoder_prefix_ids"):
        model(**source, decoder_input_ids=following, past_key_values=first.past_key_values)


def test_a_few_steps_teach_it_which_tokens_to_leave_out() -> None:
    """Tokens below 20 must go, wherever they stand; the rest of a random sequence is copied, in order."""
    torch.manual_seed(0)
    model = build(d_model=64, num_heads=4).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def pairs(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids_BS = torch.stack([torch.randperm(40)[:8] + 20 for _ in range(rows)])
        ids_BS.scatter_(1, torch.randint(8, (rows, 1)), torch.randint(3, 20, (rows, 1)))
        kept = torch.stack([row[row >= 20] for row in ids_BS])
        end = torch.ones(rows, 1, dtype=torch.long)
        return torch.cat([ids_BS, end], dim=1), torch.cat([kept, end], dim=1)

    for _ in range(100):
        ids_BS, labels_BT = pairs(32)
        model(input_ids=ids_BS, attention_mask=torch.ones_like(ids_BS), labels=labels_BT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    ids_BS, labels_BT = pairs(64)
    found_BT = model.eval().generate(input_ids=ids_BS, max_new_tokens=8, do_sample=False)[:, 1:]
    assert (found_BT == labels_BT).all(-1).float().mean() > 0.9


def test_its_encoder_begins_as_t5s() -> None:
    """Every weight of the layers has the spread that T5 gives it: queries (d_model d_kv)^-1/2, here 1/22.6."""
    query = build().encoder.block[0].layer[0].SelfAttention.q.weight
    assert float(query.detach().std()) == pytest.approx((32 * 16) ** -0.5, rel=0.1)


def test_its_tokenizer_gives_every_text_back() -> None:
    """Characters that its training text does not have are spelled in bytes; none is folded into another."""
    tokenizer = tiny.build_tokenizer("copy_t5", ["hello world, you idiot", "guten tag"], 400)
    for text in ("hello ñandú", "የኢት 你好，世界", "a 😀 b", "½ ﬁ Ａ"):
        ids = tokenizer(text)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


SAMPLED = GenerationSettings(mode="sample", candidates=4, max_new_tokens=8, logprobs=True)


def forced(model: CopyT5ForConditionalGeneration, rows: list[list[int]], labels: list[list[int]]) -> torch.Tensor:
    """Log-probability of each label row under teacher forcing, as a policy gradient needs it `[B]`."""
    inputs = pad_rows([np.array(row) for row in rows], 0)
    labels_BT = padded([np.array(row) for row in labels], IGNORED)
    return sequence_logprobs(decode(model, inputs, labels_BT).logits_BTV, labels_BT).sums


def rollout(model: CopyT5ForConditionalGeneration) -> tuple[list[list[int]], list[list[int]], list[float]]:
    """Sampled texts with their sources, EOS included where they have it, and what sampling gave for likelihood."""
    sources = [[5, 6, 7, 8, 1], [9, 10, 11, 1], [12, 13, 5, 6, 7, 1]]
    found = generate(model, sources, SAMPLED)
    texts = [(source, one) for source, row in zip(sources, found, strict=True) for one in row]
    labels = [[*one.tokens, *([1] if one.finished else [])] for _, one in texts]
    return [source for source, _ in texts], labels, [one.logprob for _, one in texts]


def test_sampled_texts_are_as_likely_under_teacher_forcing() -> None:
    """What a rollout says of its texts is what PPO's update computes for them, so the first ratio is 1."""
    model = build(5)
    rows, labels, sampled = rollout(model)
    with torch.no_grad():
        np.testing.assert_allclose(forced(model, rows, labels), sampled, atol=1e-3)


def test_a_policy_gradient_step_makes_rewarded_texts_likelier() -> None:
    """A reward for every copied token, its mean as the baseline; the copy head and the encoder get a gradient."""
    model = build(5)
    rows, labels, _ = rollout(model)
    rewards_B = torch.tensor(
        [sum(token in row[:-1] for token in label) / len(label) for row, label in zip(rows, labels, strict=True)]
    )
    advantages_B = rewards_B - rewards_B.mean()
    assert advantages_B.abs().max() > 0.05
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    before_B = forced(model, rows, labels)
    (-(advantages_B * before_B).mean()).backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in (model.copy_gate, model.copy_query, model.copy_jump))
    assert model.encoder.block[0].layer[0].SelfAttention.q.weight.grad.abs().sum() > 0
    optimiser.step()
    with torch.no_grad():
        after_B = forced(model, rows, labels)
    assert (advantages_B * (after_B - before_B.detach())).sum() > 0

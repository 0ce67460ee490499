"""Preference losses: hand-worked values, TRL's formulas row by row, and what the model is asked for them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import log_softmax

from detox.models import tiny
from detox.rewriter.preference import (
    IGNORED,
    contrastive_unlikelihood,
    decode,
    dpo,
    log1mexp,
    odds_ratio,
    reference_logprobs,
    sequence_logprobs,
)

LN = math.log
SOURCES = ["You are an idiot and nobody wants to read your stupid comments.", "Shut up, please."]
REFERENCES = ["Nobody wants to read your comments.", "Please stop."]


def logs(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()


def random_targets(seed: int) -> tuple[Tensor, Tensor]:
    """Logits `[4, 5, 7]` and labels of which row i has i."""
    generator = torch.Generator().manual_seed(seed)
    logits_BTV = torch.randn(4, 5, 7, generator=generator) * 3
    labels_BT = torch.randint(7, (4, 5), generator=generator)
    return logits_BTV, labels_BT.masked_fill(torch.arange(5) >= torch.arange(4)[:, None], IGNORED)


def pairs(name: str = "t5", **options: Any) -> tuple[Any, dict[str, Tensor]]:
    """A tiny policy and a batch of two pairs with their copies."""
    model, tokenizer = tiny.build(name, SOURCES + REFERENCES, head="seq2seq_lm", **options)
    encoded = tokenizer(SOURCES, padding=True, return_tensors="pt")
    labels_BT = tokenizer(REFERENCES, padding=True, return_tensors="pt").input_ids
    copies_BC = encoded.input_ids.masked_fill(encoded.attention_mask == 0, IGNORED)
    return model, {
        "input_ids": encoded.input_ids,
        "attention_mask": encoded.attention_mask,
        "labels": labels_BT.masked_fill(labels_BT == tokenizer.pad_token_id, IGNORED),
        "copy_labels": copies_BC,
    }


def test_sequence_logprobs_by_hand() -> None:
    """Probabilities 1/4 and 3/4 at the first position, 1/2 each at the second: ln 3/4 + ln 1/2 for labels 1, 0; the
    second row's second label is ignored, which leaves ln 1/4."""
    logits_BTV = logs(0.25, 0.75, 0.5, 0.5).reshape(1, 2, 2).repeat(2, 1, 1)
    found = sequence_logprobs(logits_BTV, torch.tensor([[1, 0], [0, IGNORED]]))
    assert found.sums.tolist() == pytest.approx([LN(3 / 8), LN(1 / 4)])
    assert found.counts.tolist() == [2, 1]
    assert found.means.tolist() == pytest.approx([LN(3 / 8) / 2, LN(1 / 4)])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-20, 20))
def test_sequence_logprobs_equal_a_loop_over_rows(seed: int, shift: float) -> None:
    """Also of shifted logits, which are the same distribution; row 0 has no targets: sum and mean 0."""
    logits_BTV, labels_BT = random_targets(seed)
    found = sequence_logprobs(logits_BTV + shift, labels_BT)
    for row in range(4):
        expected = sum(float(log_softmax(logits_BTV[row, t], 0)[labels_BT[row, t]]) for t in range(row))
        assert float(found.sums[row]) == pytest.approx(expected, abs=1e-4)
        assert float(found.means[row]) == pytest.approx(expected / max(row, 1), abs=1e-4)


def test_log_probabilities_and_half_precision_serve_as_logits() -> None:
    """A copy head returns log-probabilities, where a token can be impossible (-inf); bf16 is computed in float32."""
    logits_BTV, labels_BT = random_targets(3)
    expected = sequence_logprobs(logits_BTV, labels_BT).sums
    torch.testing.assert_close(sequence_logprobs(log_softmax(logits_BTV, 2), labels_BT).sums, expected)
    half = logits_BTV.bfloat16()
    torch.testing.assert_close(
        sequence_logprobs(half, labels_BT).sums, sequence_logprobs(half.float(), labels_BT).sums, rtol=0, atol=0
    )
    impossible_BTV = logs(0.5, 0.5, 0.0).reshape(1, 1, 3).requires_grad_()
    found = sequence_logprobs(impossible_BTV, torch.tensor([[0]])).sums
    found.sum().backward()
    assert found.item() == pytest.approx(LN(0.5))
    assert impossible_BTV.grad is not None
    assert impossible_BTV.grad.tolist() == [[[0.5, -0.5, 0.0]]]


def test_log1mexp_is_stable_at_both_ends() -> None:
    """p = 1/2 gives ln 1/2; p = 0 gives 0 and no gradient; p = 1 gives the bound, ln 1e-6, with a gradient that is
    large, negative and finite (d/dx log(1 - e^x) = -e^x / (1 - e^x), about -1e6 at the bound)."""
    x = torch.tensor([-LN(2), -torch.inf, 0.0], requires_grad=True)
    found = log1mexp(x)
    found.sum().backward()
    assert found.tolist() == pytest.approx([-LN(2), 0.0, LN(1e-6)], rel=1e-4)
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([-1.0, 0.0, -1e6], rel=1e-3)


def test_count_by_hand() -> None:
    """e^s of 1/2 for the reference and 1/4 for the copy: -ln((1/2) / (3/4)) = ln 3/2; with another source of 1/4 as a
    negative -ln(1/2) = ln 2; where none is kept 0."""
    reference_B = logs(0.5, 0.5, 0.5)
    copies_BN = logs(0.25, 0.25).repeat(3, 1)
    keep_BN = torch.tensor([[True, False], [True, True], [False, False]])
    found = contrastive_unlikelihood(reference_B, copies_BN, keep_BN)
    assert found.tolist() == pytest.approx([LN(1.5), LN(2), 0.0], abs=1e-6)
    assert contrastive_unlikelihood(reference_B, copies_BN[:, :1]).tolist() == pytest.approx([LN(1.5)] * 3)


def test_count_is_stable_where_its_formula_is_not() -> None:
    """e^-200 is 0 in float32, and the formula 0 / 0; the loss of equals is ln 2, of a copy 50 nats likelier 50."""
    reference_B = torch.tensor([-200.0, -250.0], requires_grad=True)
    found = contrastive_unlikelihood(reference_B, torch.tensor([[-200.0], [-200.0]]))
    found.sum().backward()
    assert found.tolist() == pytest.approx([LN(2), 50.0])
    assert reference_B.grad is not None
    assert reference_B.grad.tolist() == pytest.approx([-0.5, -1.0])


def test_odds_ratio_by_hand() -> None:
    """p of 4/5 and 1/2 are odds of 4 and 1: -ln sigmoid(ln 4) = -ln 4/5; the other way round -ln 1/5."""
    found = odds_ratio(logs(0.8, 0.5), logs(0.5, 0.8))
    assert found.losses_B.tolist() == pytest.approx([LN(1.25), LN(5)], rel=1e-4)
    assert (found.chosen_B - found.rejected_B).tolist() == pytest.approx([LN(1.6), -LN(1.6)])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)), min_size=1, max_size=5))
def test_odds_ratio_equals_its_definition(pairs: list[tuple[float, float]]) -> None:
    chosen_B, rejected_B = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    ratio_B = (chosen_B / (1 - chosen_B)) / (rejected_B / (1 - rejected_B))
    found = odds_ratio(chosen_B.log(), rejected_B.log()).losses_B
    torch.testing.assert_close(found, (1 + 1 / ratio_B).log())


def test_odds_ratio_pushes_a_certain_copy_down() -> None:
    """At p = 1 the odds are infinite; the held value still has the sign and a finite gradient."""
    rejected_B = torch.zeros(1, requires_grad=True)
    loss_B = odds_ratio(logs(0.5), rejected_B).losses_B
    loss_B.sum().backward()
    assert loss_B.item() == pytest.approx(LN(1e6), rel=1e-3)
    assert rejected_B.grad is not None
    assert 0 < rejected_B.grad.item() < 1e7


def test_dpo_by_hand() -> None:
    """Log-ratios ln 2 (chosen) and -ln 2 (rejected) times beta 1/2: rewards of ±ln 2 / 2, margin ln 2, sigmoid 2/3, so
    ln 3/2; with label smoothing 0.1, 0.9 ln 3/2 + 0.1 ln 3."""
    arguments = logs(0.5), logs(0.25), logs(0.25), logs(0.5)
    found = dpo(*arguments, beta=0.5)
    assert found.losses_B.tolist() == pytest.approx([LN(1.5)])
    assert found.chosen_B.tolist() == pytest.approx([LN(2) / 2])
    assert found.rejected_B.tolist() == pytest.approx([-LN(2) / 2])
    smoothed = dpo(*arguments, beta=0.5, label_smoothing=0.1).losses_B
    assert smoothed.tolist() == pytest.approx([0.9 * LN(1.5) + 0.1 * LN(3)])


def test_dpo_leaves_the_reference_alone() -> None:
    leaves = [logs(0.5).requires_grad_() for _ in range(4)]
    dpo(*leaves).losses_B.sum().backward()
    assert leaves[0].grad is not None
    assert leaves[0].grad.item() == pytest.approx(-0.05)  # -beta sigmoid(0) = -0.1 / 2
    assert leaves[1].grad is not None
    assert leaves[1].grad.item() == pytest.approx(0.05)
    assert leaves[2].grad is leaves[3].grad is None


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_decode_is_the_models_own_teacher_forcing(name: str) -> None:
    """The logits of `model(labels=...)`, with and without the encoder's states; HF's loss is the mean over tokens. A
    label may be missing in the middle, too."""
    model, inputs = pairs(name)
    inputs["labels"][0, 1] = IGNORED
    expected = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=inputs["labels"])
    found = decode(model, inputs, inputs["labels"])
    known_BT = inputs["labels"] != IGNORED
    torch.testing.assert_close(found.logits_BTV[known_BT], expected.logits[known_BT])
    again = decode(model, inputs, inputs["labels"], found.states_BSD)
    torch.testing.assert_close(again.logits_BTV, found.logits_BTV)
    logprobs = sequence_logprobs(found.logits_BTV, inputs["labels"])
    torch.testing.assert_close(-logprobs.sums.sum() / logprobs.counts.sum(), expected.loss)


def test_the_reference_of_dpo_is_the_model_without_its_adapter() -> None:
    """An adapter that has learned nothing is the reference; one with other weights is not, and disabling it is."""
    model, inputs = pairs()
    before = reference_logprobs(model, inputs)
    policy = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"]))
    policy.eval()
    torch.testing.assert_close(reference_logprobs(policy, inputs), before)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weight)
    assert (reference_logprobs(policy, inputs)[0] - before[0]).abs().min() > 1e-3
    with policy.disable_adapter():
        found = reference_logprobs(policy, inputs)
    torch.testing.assert_close(found, before)
    assert not any(values_B.requires_grad for values_B in found)


def test_reference_logprobs_equal_single_rows() -> None:
    """Padding and batch mates do not matter: each row alone, by HF's own loss times its tokens."""
    model, inputs = pairs()
    chosen_B, rejected_B = reference_logprobs(model, inputs)
    for row in range(2):
        ids = inputs["input_ids"][row : row + 1, : int(inputs["attention_mask"][row].sum())]
        for name, found_B in (("labels", chosen_B), ("copy_labels", rejected_B)):
            labels = inputs[name][row : row + 1]
            labels = labels[:, : int((labels != IGNORED).sum())]
            expected = -model(input_ids=ids, labels=labels).loss * labels.shape[1]
            torch.testing.assert_close(found_B[row], expected.detach(), rtol=1e-4, atol=1e-4)

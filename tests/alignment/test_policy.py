"""Policies: log-probabilities and values against the model's own logits, padding, adapters, checkpointing, rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration
from transformers.modeling_layers import GradientCheckpointingLayer

from detox.alignment.policy import REFERENCE, CausalPolicy, Policy, Reference, Sequences, policy_of
from detox.alignment.rollout import PolicyRollout
from detox.models import tiny

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
RESPONSES = [[20, 21, 1], [22, 1], [23, 24, 25, 26, 27]]
ARCHITECTURES = ["t5", "mt5", "copy_t5", "gpt2", "qwen2", "mistral"]
TARGETS = {"t5": ["q", "v"], "gpt2": ["c_attn"]}


def build(architecture: str, lora: bool = False, temperature: float = 1.0, targets: Any = None) -> Policy:
    causal = architecture not in {"t5", "mt5", "copy_t5"}
    model: Any = tiny.build(architecture, head="causal_lm" if causal else "seq2seq_lm", hidden=32).model
    if lora:
        kind = "CAUSAL_LM" if causal else "SEQ_2_SEQ_LM"
        targets = targets or TARGETS.get(architecture, ["q_proj", "v_proj"] if causal else ["q", "v"])
        model = get_peft_model(model, LoraConfig(task_type=kind, r=4, lora_dropout=0.5, target_modules=targets))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    policy = policy_of(model, temperature)
    with torch.no_grad():
        policy.value_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return policy


def one_by_one(policy: Policy, row: int) -> Tensor:
    """Log-probabilities of a row alone, from the whole model's logits."""
    prompt, response = torch.tensor([PROMPTS[row]]), torch.tensor([RESPONSES[row]])
    if isinstance(policy, CausalPolicy):
        logits_TV = policy.model(input_ids=torch.cat([prompt, response], 1)).logits[0, prompt.shape[1] - 1 : -1]
    else:
        start = torch.tensor([[policy.model.config.decoder_start_token_id]])
        before = torch.cat([start, response[:, :-1]], 1)
        logits_TV = policy.model(input_ids=prompt, decoder_input_ids=before).logits[0]
    return (logits_TV / policy.temperature).log_softmax(-1).gather(1, response[0][:, None])[:, 0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lora", [False, True])
def test_log_probabilities_are_the_models_whatever_stands_beside_a_row(architecture: str, lora: bool) -> None:
    policy = build(architecture, lora, temperature=0.7)
    batch = Sequences.of(PROMPTS, RESPONSES, pad_id=0)
    found = policy(batch)
    for row, response in enumerate(RESPONSES):
        wanted_T = one_by_one(policy, row)
        torch.testing.assert_close(found.logprobs_BT[row, : len(response)], wanted_T, atol=1e-5, rtol=1e-5)
        assert not any(values[row, len(response) :].any() for values in found)
        alone = policy(Sequences.of([PROMPTS[row]], [response], pad_id=0))
        torch.testing.assert_close(alone.values_BT[0], found.values_BT[row, : len(response)], atol=1e-5, rtol=1e-5)
    assert found.values_BT.abs().max() > 0.01
    assert (found.entropy_BT[batch.mask_BT] > 0).all()
    torch.testing.assert_close(policy.logprobs(batch), found.logprobs_BT)


@pytest.mark.parametrize("architecture", ["t5", "copy_t5", "qwen2"])
def test_the_reference_is_the_model_without_adapters(architecture: str) -> None:
    batch = Sequences.of(PROMPTS, RESPONSES, pad_id=0)
    tuned, bare = build(architecture, lora=True), build(architecture)
    found = Reference(tuned).logprobs(batch)
    torch.testing.assert_close(found, bare.logprobs(batch))
    assert (tuned.logprobs(batch) - found).abs().max() > 0.01


def test_adapters_that_were_trained_before_begin_as_their_own_reference(tmp_path: Path) -> None:
    batch = Sequences.of(PROMPTS, RESPONSES, pad_id=0)
    trained = build("t5", lora=True)
    trained.model.save_pretrained(tmp_path)
    trained.model.load_adapter(str(tmp_path), REFERENCE)
    before = trained.logprobs(batch).detach()
    reference = Reference(trained)
    torch.testing.assert_close(reference.logprobs(batch), before)
    learnt = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in learnt:
            parameter.add_(0.05)
    torch.testing.assert_close(reference.logprobs(batch), before)
    assert (trained.logprobs(batch) - before).abs().max() > 0.01
    assert {id(one) for one in trained.parameters() if one.requires_grad} == {id(one) for one in learnt}


def test_a_whole_model_keeps_a_copy() -> None:
    policy = build("t5")
    batch = Sequences.of(PROMPTS, RESPONSES, pad_id=0)
    reference = Reference(policy)
    before = policy.logprobs(batch).detach()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(reference.logprobs(batch), before)
    assert (policy.logprobs(batch) - before).abs().max() > 0.01


def test_the_encoder_runs_once_where_nothing_in_it_is_trained() -> None:
    batch = Sequences.of(PROMPTS, RESPONSES, pad_id=0)
    assert build("t5", lora=True).encode(batch) is None
    whole = build("t5", lora=True, targets=r".*decoder.*\.(q|v)")
    encoded = whole.encode(batch)
    assert encoded is not None
    torch.testing.assert_close(whole(batch, encoded).logprobs_BT, whole(batch).logprobs_BT)
    calls: list[int] = []
    whole.base.get_encoder().register_forward_hook(lambda *_: calls.append(1))
    whole(batch, encoded)
    Reference(whole).logprobs(batch, encoded)
    assert not calls


@pytest.mark.parametrize("architecture", ["t5", "qwen2", "gpt2"])
def test_dropout_is_off_and_checkpointing_on_while_training(architecture: str) -> None:
    """Two passes agree to the last bit, and so do the gradients with and without gradient checkpointing."""
    batch = Sequences.of(PROMPTS, RESPONSES, pad_id=0)
    policy = build(architecture, lora=True).train()
    assert torch.equal(policy(batch).logprobs_BT, policy(batch).logprobs_BT)
    gradients, calls = [], []
    for checkpoints in (False, True):
        if checkpoints:
            policy.model.activation_checkpointing_enable()
        policy.train().zero_grad()
        layers = [module for module in policy.modules() if isinstance(module, GradientCheckpointingLayer)]
        inside = [next(leaf for leaf in layer.modules() if not list(leaf.children())) for layer in layers]
        hooks = [child.register_forward_pre_hook(lambda *_, on=checkpoints: calls.append(on)) for child in inside]
        policy(batch).logprobs_BT.sum().backward()
        gradients.append([parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None])
        for hook in hooks:
            hook.remove()
    assert calls.count(True) == 2 * calls.count(False) > 0  # once more on the way back
    assert len(gradients[0]) == len(gradients[1]) > 0
    for without, with_ in zip(*gradients, strict=True):
        torch.testing.assert_close(without, with_)


def test_layers_that_drop_out_states_themselves_do_not() -> None:
    config = BartConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, dropout=0.5, activation_dropout=0.5,
    )  # fmt: skip
    policy = policy_of(BartForConditionalGeneration(config)).train()
    batch = Sequences.of(PROMPTS, RESPONSES, pad_id=1)
    assert torch.equal(policy(batch).logprobs_BT, policy(batch).logprobs_BT)


def test_adapters_of_the_output_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="output layer"):
        build("t5", lora=True, targets=["q", "lm_head"])


def test_a_response_ends_with_the_token_that_ended_it() -> None:
    """Of several EOS tokens, the one that was drawn."""
    policy = build("qwen2", temperature=2)
    policy.model.generation_config.eos_token_id = [0, *range(10, 60)]
    found = PolicyRollout(policy, max_new_tokens=8)(PROMPTS * 20, range(60), seed=0)
    ends = {response.tokens[-1] for response in found if response.ended}
    assert len(ends) > 5
    assert ends <= {0, *range(10, 60)}
    assert not any(token in range(10, 60) for response in found for token in response.tokens[:-1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lora", [False, True])
def test_a_rollout_says_what_the_policy_finds_likely(architecture: str, lora: bool) -> None:
    """The log-probability of 600 sampled first tokens is on average minus the entropy; a row says the same whatever is
    beside it."""
    policy = build(architecture, lora, temperature=40 if architecture in {"t5", "mt5"} else 2)  # those are very sure
    policy.model.activation_checkpointing_enable()
    rollout = PolicyRollout(policy, max_new_tokens=6)
    eos = policy.model.config.eos_token_id
    end = [] if isinstance(policy, CausalPolicy) else [eos]
    prompts = [[*prompt, *end] for prompt in PROMPTS]
    together = rollout(prompts, [3, 4, 5], seed=1)
    for row, prompt in enumerate(prompts):
        assert rollout([prompt], [3 + row], seed=1) == [together[row]]
    assert rollout(prompts, [3, 4, 5], seed=2) != together
    for tokens, ended in together:
        assert 1 <= len(tokens) <= 6
        assert ended == (tokens[-1] == eos)
    many = PolicyRollout(policy, max_new_tokens=1)([prompts[0]] * 600, range(600), seed=0)
    found = policy(Sequences.of([prompts[0]] * 600, [response.tokens for response in many], pad_id=0))
    error = float(found.logprobs_BT.detach().std()) / 600**0.5
    assert float(found.logprobs_BT.mean()) == pytest.approx(-float(found.entropy_BT[0, 0]), abs=4 * error)

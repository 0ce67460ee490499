"""Figures of a model while it is tuned, against plain computations of the same."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model

from detox.alignment.asked import Asked
from detox.alignment.finetune_finish import Outcome
from detox.alignment.finetune_report import NAMES, figures_table
from detox.alignment.monitors import Beginning, lora_norm, measure
from detox.models import tiny
from detox.models.tiny import TinyModel

ROWS = [([3, 4, 5], [6, 7]), ([], [8, 9, 10, 11]), ([12], [13])]


@pytest.fixture(scope="module")
def built() -> TinyModel:
    return tiny.build("qwen2", head="causal_lm", vocab_size=300)


def adapted(built: TinyModel) -> torch.nn.Module:
    torch.manual_seed(0)
    model = get_peft_model(copy.deepcopy(built.model), LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=20)
    return model


def logprobs(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)


@torch.no_grad()
def test_perplexity_is_that_of_each_text_by_itself(built: TinyModel) -> None:
    found = measure(built.model, None, built.tokenizer, Asked([], ROWS), 4)
    for (prompt, response), nats in zip(ROWS, found.nats_M, strict=True):
        said = logprobs(built.model, [*prompt, *response])
        begin = max(1, len(prompt))
        ids = [*prompt, *response]
        expected = [-float(said[at - 1, ids[at]]) for at in range(begin, len(ids))]
        assert nats == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert found.tokens_M.tolist() == [2, 4, 1]
    weighted = sum(nats * count for nats, count in zip(found.nats_M, (2, 4, 1), strict=True)) / 7
    assert found.figures()["perplexity"] == pytest.approx(math.exp(weighted))


@torch.no_grad()
def test_kl_is_over_the_whole_vocabulary_at_each_token_of_its_own_responses(built: TinyModel) -> None:
    model = adapted(built)
    found = measure(model, Beginning(model, is_adapted=True), built.tokenizer, Asked([[3, 4], [5]], []), 5, seed=1)
    same = measure(model, None, built.tokenizer, Asked([[3, 4], [5]], []), 5, seed=1)
    assert found.responses == same.responses
    assert same.kl_N.tolist() == [0, 0]
    from detox.rewriter.generation import generate
    from detox.rewriter.generation_settings import GenerationSettings

    settings = GenerationSettings(mode="sample", max_new_tokens=5, temperature=1.0)
    for prompt, [one], kl in zip(
        ([3, 4], [5]), generate(model.eval(), [[3, 4], [5]], settings, seed=1), found.kl_N, strict=True
    ):
        ids = [*prompt, *one.tokens]
        now, before = logprobs(model, ids), logprobs(built.model, ids)
        each = (now.exp() * (now - before)).sum(-1)[len(prompt) - 1 : len(ids) - 1]
        assert kl == pytest.approx(float(each.mean()), abs=1e-6)
        assert kl > 0


def test_the_norm_of_adapters_is_that_of_what_they_add(built: TinyModel) -> None:
    """Scaling is alpha over rank, 2; the sum of squares over both layers."""
    model = adapted(built)
    total = 0.0
    for layer in model.modules():
        if hasattr(layer, "lora_A") and "default" in layer.lora_A:
            total += float((2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight).square().sum())
    assert lora_norm(model) == pytest.approx(math.sqrt(total), rel=1e-5)


def test_without_adapters_there_is_no_norm_of_them(built: TinyModel) -> None:
    """Not even a row of 0 in a report, which would say that there are some."""
    found = measure(built.model, None, built.tokenizer, Asked([], ROWS), 4)
    assert found.lora_norm is None
    assert found.figures().keys() == {"perplexity"}
    outcome = Outcome(found.figures(), found.figures(), {})
    assert [row[0] for row in figures_table(outcome).rows] == [NAMES["perplexity"]]


def test_measuring_changes_nothing_of_the_training(built: TinyModel) -> None:
    model = adapted(built)
    model.train()
    learns = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    state = torch.get_rng_state()
    measure(model, Beginning(model, is_adapted=True), built.tokenizer, Asked([[3, 4]], ROWS), 4)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert learns == [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_a_copy_is_kept_of_a_model_that_is_trained_whole(built: TinyModel) -> None:
    model = copy.deepcopy(built.model)
    beginning = Beginning(model, is_adapted=False)
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_()
    found = measure(model, beginning, built.tokenizer, Asked([[3, 4]], []), 4)
    assert found.kl_N[0] > 0.1


@pytest.fixture(scope="module")
def summariser() -> TinyModel:
    return tiny.build("t5", head="seq2seq_lm", vocab_size=300)


def decoded(model: torch.nn.Module, prompt: list[int], response: list[int]) -> torch.Tensor:
    """Of an encoder-decoder: its own loss, token by token, from the labels."""
    labels = torch.tensor([response])
    return model(input_ids=torch.tensor([prompt]), labels=labels).logits[0].log_softmax(-1)


@torch.no_grad()
def test_an_encoder_decoder_is_asked_for_every_token_of_a_response(summariser: TinyModel) -> None:
    rows = [([3, 4, 5, 1], [6, 7, 1]), ([12, 1], [13, 1]), ([5, 6, 7, 8, 9, 1], [9, 8, 7, 6, 1])]
    found = measure(summariser.model, None, summariser.tokenizer, Asked([], rows), 4)
    for (prompt, response), nats in zip(rows, found.nats_M, strict=True):
        said = decoded(summariser.model, prompt, response)
        assert nats == pytest.approx(-float(said.gather(1, torch.tensor(response)[:, None]).mean()), rel=1e-5)
    assert found.tokens_M.tolist() == [3, 2, 5]


@torch.no_grad()
def test_kl_of_an_encoder_decoder_is_that_of_its_decoder(summariser: TinyModel) -> None:
    model = copy.deepcopy(summariser.model)
    beginning = Beginning(model, is_adapted=False)
    model.get_output_embeddings().weight.normal_(std=0.3)
    asked = Asked([[3, 4, 1], [5, 1]], [])
    found = measure(model, beginning, summariser.tokenizer, asked, 5, mode="greedy")
    again = measure(model, beginning, summariser.tokenizer, asked, 5, seed=1, mode="greedy")
    assert again.responses == found.responses
    for prompt, text_kl in zip(asked.prompts, found.kl_N, strict=True):
        [ids] = model.generate(torch.tensor([prompt]), max_new_tokens=5, do_sample=False)
        said = [token for token in ids[1:].tolist() if token != 1]
        now, before = decoded(model, prompt, said), decoded(summariser.model, prompt, said)
        assert text_kl == pytest.approx(float((now.exp() * (now - before)).sum(-1).mean()), rel=1e-4)
        assert text_kl > 0.01

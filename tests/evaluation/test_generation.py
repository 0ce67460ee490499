"""Continuing prompts: what `generate` of transformers gives to each alone, whatever stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from detox.evaluation.generation import Continuer
from detox.evaluation.generation_settings import CONSTRAINED, SamplingSettings
from detox.evaluation.prompts import Prompt
from detox.models import tiny
from detox.models.adapters import load_merged
from detox.models.causal import load_causal
from detox.models.loading import LoadedModel
from detox.runs.config import override

PROMPTS = [
    "Please stop",
    "You are an idiot and nobody wants",
    "What a great game, well played everyone! The source does not",
    "Thank you",
    "a",
]
DEFAULT = SamplingSettings()


@pytest.fixture(scope="module", params=["gpt2", "qwen2"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return load_causal(f"tiny/{request.param}")


def alone(loaded: LoadedModel, prompt: str, settings: SamplingSettings) -> tuple[list[int], str]:
    """What transformers' own greedy `generate` says after a prompt."""
    model, tokenizer = loaded.model, loaded.tokenizer
    given: Any = tokenizer(prompt, return_tensors="pt")
    length = given["input_ids"].shape[1]
    tokens = model.generate(  # type: ignore[operator]
        **given,
        do_sample=False,
        max_length=settings.max_length,
        repetition_penalty=settings.repetition_penalty,
        min_new_tokens=settings.min_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )[0, length:].tolist()
    return tokens, str(tokenizer.decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize("settings", [DEFAULT, CONSTRAINED], ids=["default", "constrained"])
def test_greedy_is_what_generate_says_to_each_prompt_alone(loaded: LoadedModel, settings: SamplingSettings) -> None:
    """With top-k 1. A repetition penalty that forgot the prompt, or that counted padding, gives other texts here."""
    greedy = override(settings, {"top_k": 1, "max_length": 60})
    for prompt, [made] in zip(PROMPTS, Continuer(loaded, greedy, seed=3)(PROMPTS, 1), strict=True):
        tokens, text = alone(loaded, prompt, greedy)
        assert (made.text, made.tokens) == (text, len(tokens))


def test_sampling_draws_from_what_generate_draws_from() -> None:
    """Every token that is drawn is among those that transformers' processors leave, after prompt and all before it."""
    loaded = load_causal("tiny/gpt2")
    settings = SamplingSettings(top_k=3, repetition_penalty=1.5, min_new_tokens=5, max_length=40)
    continuer = Continuer(loaded, settings, seed=1)
    [made] = continuer(PROMPTS[:1], 20)
    tokenizer, model = loaded.tokenizer, loaded.model
    ids: list[int] = tokenizer(PROMPTS[0])["input_ids"]  # type: ignore[assignment]
    firsts = set()
    for one in made:
        rest: list[int] = tokenizer(one.text)["input_ids"]  # type: ignore[assignment]
        with torch.no_grad():
            logits_V = model(torch.tensor([ids])).logits[0, -1]
        for token in set(ids):
            logits_V[token] *= 1.5 if logits_V[token] < 0 else 1 / 1.5
        logits_V[tokenizer.eos_token_id] = -torch.inf
        assert tokenizer.decode(logits_V.topk(3).indices.tolist()).find(one.text[:1]) >= 0 or rest[0] in set(
            logits_V.topk(3).indices.tolist()
        )
        firsts.add(one.text[:1])
    assert len(firsts) > 1


def test_neither_batches_nor_neighbours_nor_order_change_a_continuation(loaded: LoadedModel) -> None:
    whole = Continuer(loaded, CONSTRAINED, seed=5)(PROMPTS, 4)
    small = Continuer(loaded, CONSTRAINED, seed=5, batch_tokens=1)
    assert small(PROMPTS, 4) == whole
    assert small(PROMPTS[::-1], 4) == whole[::-1]
    assert small(PROMPTS[2:3], 4) == whole[2:3]
    assert small(PROMPTS, 2) == [row[:2] for row in whole]  # more leave the others as they are
    assert Continuer(loaded, CONSTRAINED, seed=6)(PROMPTS, 4) != whole
    assert len({one.text for one in whole[0]}) == 4


def test_lengths_are_kept(loaded: LoadedModel) -> None:
    """At most `max_length` with the prompt, at least `min_new_tokens` without it, each prompt by its own length."""
    lengths = [len(row) for row in loaded.tokenizer(PROMPTS)["input_ids"]]  # type: ignore[arg-type]
    for length, row in zip(lengths, Continuer(loaded, CONSTRAINED, seed=5)(PROMPTS, 6), strict=True):
        assert all(20 < one.tokens <= 100 - length for one in row if one.ended)
        assert all(one.tokens == 100 - length for one in row if not one.ended)


def test_prompts_without_room_are_refused(loaded: LoadedModel) -> None:
    """Of 30 tokens 20 must be new, so a prompt of 10 is continued and one of 11 is not; the model's own 512 count."""
    tokenizer = loaded.tokenizer
    ten, eleven = ("a" * count for count in (10, 11))
    assert [len(row) for row in tokenizer([ten, eleven])["input_ids"]] == [10, 11]  # type: ignore[arg-type]
    prompts = [Prompt(0, ten), Prompt(1, eleven), Prompt(2, "")]
    refused = Continuer(loaded, override(CONSTRAINED, {"max_length": 30}), 1).refused(prompts)
    assert [(one.row, one.rule) for one in refused] == [(1, "too_long"), (2, "empty")]
    assert refused[0].reason == "11 tokens, and at most 10 leave room"
    long = Continuer(loaded, SamplingSettings(max_length=9999), 1).refused([Prompt(0, "a" * 512), Prompt(1, "a" * 511)])
    assert [one.row for one in long] == [0]


def test_adapters_are_loaded_on_top_of_their_base(tmp_path: Path) -> None:
    """Folded into the weights they say what PEFT's own model says, and not what the base says."""
    base = tiny.write_checkpoint("gpt2", tmp_path / "base", head="causal_lm")
    torch.manual_seed(0)
    model: Any = get_peft_model(
        load_causal(str(base)).model, LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], r=4)
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(tmp_path / "adapters")
    merged = load_merged(str(tmp_path / "adapters"))
    assert not isinstance(merged.model, PeftModel)
    assert not merged.model.training
    given: Any = merged.tokenizer("Thank you", return_tensors="pt")
    with torch.no_grad():
        ours, theirs, before = (
            one(**given).logits for one in (merged.model, model.eval(), load_merged(str(base)).model)
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (ours - before).abs().max() > 0.01

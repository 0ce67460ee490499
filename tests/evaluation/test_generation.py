"""Continuing prompts: what `generate` of transformers gives to each alone, whatever stands beside it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from detox.evaluation.generation import Continuer, repetition_penalty
from detox.evaluation.generation_settings import CONSTRAINED, SamplingSettings
from detox.evaluation.prompts import Prompt
from detox.models import tiny
from detox.models.causal import load_causal, load_merged
from detox.models.loading import LoadedModel
from detox.rewriter.control import Step
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


def test_a_model_that_would_end_goes_on_for_as_long_as_generate_has_it() -> None:
    """Every other token ends a text (and none is likely twice): it ends after exactly 20 that do not."""
    loaded = load_causal("tiny/gpt2")
    loaded.model.generation_config.eos_token_id = list(range(0, len(loaded.tokenizer), 2))  # type: ignore[union-attr]
    greedy = override(CONSTRAINED, {"top_k": 1, "max_length": 60, "repetition_penalty": 5.0})
    made = [one for [one] in Continuer(loaded, greedy, seed=3)(PROMPTS, 1)]
    assert [one.tokens for one in made] == [len(alone(loaded, prompt, greedy)[0]) for prompt in PROMPTS]
    assert min(one.tokens for one in made) == 21


def test_the_penalty_counts_prompt_and_continuation_and_no_padding() -> None:
    """Scores of 1, penalty 2: half for 5 (prompt) and 3 (continuation) of the first row, for 7, 8 and 4 of the second;
    the start token 0 and what fills up the shorter prompt do not count."""
    control = repetition_penalty([[5], [7, 8]], 2.0, torch.device("cpu"))
    step = Step(torch.tensor([[0, 4], [0, 3]]), torch.tensor([1, 0]))
    found_RV = control(step, torch.ones(2, 9))
    assert [[token for token in range(9) if row[token] == 0.5] for row in found_RV] == [[4, 7, 8], [3, 5]]
    assert (found_RV == 1).sum() == 18 - 5


def test_first_tokens_come_as_often_as_transformers_has_them_likely(loaded: LoadedModel) -> None:
    """4,000 continuations of one token, by the text they make: within four standard errors of what transformers' own
    processors and warpers leave after the prompt, and nothing else."""
    settings = SamplingSettings(top_k=8, top_p=0.8, temperature=0.2, repetition_penalty=1.5, min_new_tokens=1)
    ids_BT = torch.tensor([loaded.tokenizer(PROMPTS[1])["input_ids"]])
    one_more = override(settings, {"max_length": ids_BT.shape[1] + 1})
    [made] = Continuer(loaded, one_more, seed=1, batch_tokens=1_000_000)([PROMPTS[1]], 4000)
    with torch.no_grad():
        scores_BV = loaded.model(ids_BT).logits[:, -1]
    for process in (
        RepetitionPenaltyLogitsProcessor(1.5),
        MinNewTokensLengthLogitsProcessor(ids_BT.shape[1], 1, loaded.tokenizer.eos_token_id),
        TemperatureLogitsWarper(0.2),
        TopKLogitsWarper(8),
        TopPLogitsWarper(0.8),
    ):
        scores_BV = process(ids_BT, scores_BV)
    wanted: Counter[str] = Counter()
    for token, share in enumerate(scores_BV.softmax(-1)[0].tolist()):
        if share:
            wanted[str(loaded.tokenizer.decode([token]))] += share
    found = Counter(one.text for one in made)
    assert found.keys() <= wanted.keys()
    assert len(wanted) > 3
    for text, share in wanted.items():
        assert found[text] / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


def test_neither_batches_nor_neighbours_nor_order_change_a_continuation(loaded: LoadedModel) -> None:
    settings = override(CONSTRAINED, {"max_length": 60})
    whole = Continuer(loaded, settings, seed=5)(PROMPTS, 4)
    small = Continuer(loaded, settings, seed=5, batch_tokens=1)
    assert small(PROMPTS, 4) == whole
    assert small(PROMPTS[::-1], 4) == whole[::-1]
    assert small(PROMPTS[2:3], 4) == whole[2:3]
    assert small(PROMPTS, 2) == [row[:2] for row in whole]  # more leave the others as they are
    assert Continuer(loaded, settings, seed=6)(PROMPTS, 4) != whole
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

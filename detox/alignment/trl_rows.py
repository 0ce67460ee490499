"""Examples as the data sets that TRL's trainers take (its dataset formats: language modelling, prompt-completion,
preference, unpaired preference, prompt only)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from detox.alignment.finetune_settings import Method
from detox.alignment.tunable import as_messages, is_chat, plain_prompt, response_to, written
from detox.data.examples.example import Example, Prompt

SOURCE, REFERENCE_RESPONSE = "source", "reference"
"""Columns of prompts for rewards: what was asked last, and the response that the data has."""


def dataset_of(examples: Sequence[Example], method: Method, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """What a method learns from; examples that it cannot learn from are left out.

    Raises:
        ValueError: none is left, or some prompts are chats and others texts.
    """
    kinds = {is_chat(example.prompt, tokenizer) for example in examples if example.prompt}
    if len(kinds) > 1:
        raise ValueError(
            "some prompts are dialogues, which the model's chat template writes, and others are texts: one data set "
            "holds one kind; name sources of one kind in --data.source"
        )
    has_prompts = any(example.prompt for example in examples)
    rows = [row for example in examples for row in _rows(example, method, tokenizer, has_prompts)]
    if not rows:
        wanted = "a prompt" if method in ("grpo", "rloo") else "two responses" if method != "sft" else "a response"
        raise ValueError(f"{method} learns from examples with {wanted}, and of {len(examples):,} none has any")
    return Dataset.from_list(rows)


def usable(examples: Sequence[Example], method: Method | Literal["ppo"]) -> list[Example]:
    """The examples that a method can learn from, or be measured by."""
    if method in ("grpo", "rloo", "ppo"):
        return [example for example in examples if example.prompt]
    if method == "sft":
        return [example for example in examples if example.chosen]
    return [example for example in examples if example.prompt and example.chosen and example.rejected]


def _rows(
    example: Example, method: Method, tokenizer: PreTrainedTokenizerBase, has_prompts: bool
) -> Iterator[dict[str, Any]]:
    if not usable([example], method):
        return
    prompt = _prompt(example.prompt, tokenizer)
    chosen, rejected = (_response(example.prompt, text, tokenizer) for text in (example.chosen, example.rejected))
    if method == "sft":
        yield {"prompt": prompt, "completion": chosen} if has_prompts else {"text": example.chosen}
    elif method == "kto":
        yield {"prompt": prompt, "completion": chosen, "label": True}
        yield {"prompt": prompt, "completion": rejected, "label": False}
    elif method in ("dpo", "reward"):
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    else:
        yield {"prompt": prompt, SOURCE: plain_prompt(example.prompt), REFERENCE_RESPONSE: example.chosen}


def _prompt(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Any:
    return as_messages(prompt) if is_chat(prompt, tokenizer) else written(prompt, tokenizer)


def _response(prompt: Prompt, text: str, tokenizer: PreTrainedTokenizerBase) -> Any:
    if is_chat(prompt, tokenizer):
        return [{"role": "assistant", "content": text}]
    return response_to(prompt, text, tokenizer)

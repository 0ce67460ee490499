"""What a language model is measured on: prompts that it goes on from, texts that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from detox.alignment.finetune_settings import FinetuneConfig, FinetuneEvaluationSettings, MonitorSettings
from detox.alignment.settings import AlignModelConfig
from detox.alignment.tunable import prompt_ids, prompt_room, response_to
from detox.data.examples.example import Example
from detox.models.loading import LoadedModel

BEGINNING_TOKENS = 8
"""Of a text without a prompt, that a model goes on from."""

Text = tuple[list[int], list[int]]
"""A prompt (perhaps empty) and the response that the data have, as token ids."""


class Asked(NamedTuple):
    """What a model is measured on, as token ids."""

    prompts: list[list[int]]
    """That it goes on from."""
    texts: list[Text]
    examples: Sequence[Example] = ()
    """Those that the prompts are of."""


def asked_of(
    examples: Sequence[Example],
    loaded: LoadedModel,
    config: FinetuneConfig | AlignModelConfig,
    wanted: MonitorSettings | FinetuneEvaluationSettings,
) -> Asked:
    """The first so many prompts that leave room for so many new tokens, and the first so many texts, as is wanted."""
    room = prompt_room(loaded.model, config.model.max_tokens, wanted.max_new_tokens)
    beginnings = ((example, beginning_of_answer(example, loaded)) for example in examples)
    fitting = ((example, begun) for example, begun in beginnings if 0 < len(begun) <= room)
    found = list(islice(fitting, wanted.prompts or None))
    return Asked(
        [begun for _, begun in found],
        list(islice(texts_of(examples, loaded, config), wanted.texts or None)),
        [example for example, _ in found],
    )


def learnt_texts(
    examples: Sequence[Example], loaded: LoadedModel, config: FinetuneConfig | AlignModelConfig
) -> Iterator[Text]:
    """The same texts as the model learns from: where they are packed it reads the longest whole, piece by piece."""
    is_packed = isinstance(config, FinetuneConfig) and config.sft.packing
    return texts_of(examples, loaded, config, is_cut=not is_packed)


def texts_of(
    examples: Sequence[Example],
    loaded: LoadedModel,
    config: FinetuneConfig | AlignModelConfig,
    is_cut: bool = True,
) -> Iterator[Text]:
    """The chosen responses after their prompts, cut at the end to what the model reads; of prompts that are too long
    for that, none.

    A text without a prompt stands after the token that texts begin with; an encoder has nothing of it to read, so there
    it is left out.
    """
    tokenizer: Any = loaded.tokenizer
    most, has_encoder = config.model.max_tokens, loaded.model.config.is_encoder_decoder
    room = prompt_room(loaded.model, most, 1)
    for example in examples:
        if not example.chosen or (has_encoder and not example.prompt):
            continue
        before = prompt_of(example, tokenizer) or [beginning_token(tokenizer)]
        response = response_of(example, tokenizer)
        if not is_cut:
            yield before, response
        elif len(before) <= room:
            yield before, response[: most if has_encoder else most - len(before)]


def beginning_of_answer(example: Example, loaded: LoadedModel) -> list[int]:
    """What a model goes on from: the prompt, or a text's first words; of an encoder-decoder the prompt alone."""
    tokenizer = loaded.tokenizer
    if example.prompt or loaded.model.config.is_encoder_decoder:
        return prompt_of(example, tokenizer)
    return [beginning_token(tokenizer), *response_of(example, tokenizer)[:BEGINNING_TOKENS]]


def prompt_of(example: Example, tokenizer: Any) -> list[int]:
    return prompt_ids(example.prompt, tokenizer) if example.prompt else []


def response_of(example: Example, tokenizer: Any) -> list[int]:
    text = response_to(example.prompt, example.chosen, tokenizer)
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def beginning_token(tokenizer: Any) -> int:
    """That a text without a prompt stands after: the one of texts' beginning, or that the last text ended with."""
    return int(tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id)

"""Causal language models by name: `tiny/gpt2`, a folder, or `owner/name@revision` of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from detox.models import tiny
from detox.models.loading import Dtype, LoadedModel, ModelUnavailableError, commit, explained, give_padding, locate


def load_causal(
    name: str,
    *,
    texts_for_tokenizer: Sequence[str] = tiny.DEFAULT_TEXTS,
    seed: int = 0,
    dtype: Dtype = "float32",
    **tiny_options: Any,
) -> LoadedModel:
    """A causal language model in evaluation mode with its tokenizer.

    Args:
        name: `tiny/gpt2`, `tiny/qwen2`, `tiny/mistral`, a folder, or `owner/name@revision`.
        texts_for_tokenizer: what the tokenizer of a `tiny/…` model is trained on.
        seed: of a `tiny/…` model's weights.
        tiny_options: `hidden`, `vocab_size` and further config keys of a `tiny/…` model.

    Raises:
        ModelUnavailableError: no such model, no access to it, the hub cannot be reached, or it is no causal model.
    """
    if name.startswith("tiny/"):
        built = tiny.build(name.removeprefix("tiny/"), texts_for_tokenizer, head="causal_lm", seed=seed, **tiny_options)
        return LoadedModel(built.model.to(getattr(torch, dtype)), built.tokenizer, name, "")
    location = locate(name)
    with explained(location):
        revision = commit(location) if location.is_hub else location.revision
        config = AutoConfig.from_pretrained(location.source, revision=revision)
        if config.is_encoder_decoder:
            raise ModelUnavailableError(
                f"{location.name} is a {config.model_type}, an encoder-decoder: name a causal language model"
            )
        tokenizer = AutoTokenizer.from_pretrained(location.source, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(
            location.source, revision=revision, config=config, dtype=getattr(torch, dtype)
        )
    give_padding(model, tokenizer)
    return LoadedModel(model.eval(), tokenizer, location.name, revision if location.is_hub else "")

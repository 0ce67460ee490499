"""Causal language models by name: `tiny/gpt2`, a folder, or `owner/name@revision` of the hub."""

from __future__ import annotations

from typing import Any

from detox.models.loading import LoadedModel, load_language_model


def load_causal(name: str, **options: Any) -> LoadedModel:
    """A causal language model in evaluation mode with its tokenizer; see `load_language_model`."""
    return load_language_model(name, "causal_lm", **options)

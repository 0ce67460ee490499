"""Causal language models by name: `tiny/gpt2`, a folder, a run, or `owner/name@revision` of the hub; with adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from peft import PeftModel

from detox.models.loading import LoadedModel, explained, load_language_model, locate
from detox.models.weights import base_of_adapters


def load_causal(name: str, **options: Any) -> LoadedModel:
    """A causal language model in evaluation mode with its tokenizer; adapters stand on the base that they name.

    Args:
        options: see `load_language_model`.

    Returns:
        the model; of adapters a `PeftModel`, with the revision of its base.

    Raises:
        ModelUnavailableError: see `load_language_model`; of the base too.
    """
    base = adapters_base(name)
    if not base:
        return load_language_model(name, "causal_lm", **options)
    location, loaded = locate(name), load_language_model(base, "causal_lm", **options)
    with explained(location):
        model: Any = PeftModel.from_pretrained(loaded.model, location.source, revision=location.revision)
    return replace(loaded, model=model.eval(), name=location.name)


def load_merged(name: str, **options: Any) -> LoadedModel:
    """The same with adapters added to the weights that they stand on, so that nothing is left of them but their sum."""
    loaded = load_causal(name, **options)
    model: Any = loaded.model
    return replace(loaded, model=model.merge_and_unload().eval()) if isinstance(model, PeftModel) else loaded


def adapters_base(name: str) -> str:
    """The model that the adapters called `name` stand on; empty for a whole model.

    Raises:
        ModelUnavailableError: the name leads to no model.
    """
    if name.startswith("tiny/"):
        return ""
    location = locate(name)
    with explained(location):
        return base_of_adapters(location)

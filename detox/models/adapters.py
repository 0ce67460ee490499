"""Causal language models, whole or as LoRA adapters on top of their base model."""

from __future__ import annotations

from typing import Any

from peft import PeftModel

from detox.models.causal import load_causal
from detox.models.loading import Dtype, LoadedModel, explained, locate
from detox.models.weights import base_of_adapters


def load_merged(name: str, dtype: Dtype = "float32") -> LoadedModel:
    """A causal model as `load_causal` gives it; adapters (a folder, or a hub model, with `adapter_config.json`) are
    added to the weights of their base model, whose tokenizer it has.

    Raises:
        ModelUnavailableError: see `load_causal`; of the base model too.
    """
    location = None if name.startswith("tiny/") else locate(name)
    base_name = "" if location is None else base_of_adapters(location)
    if location is None or not base_name:
        return load_causal(name, dtype=dtype)
    base = load_causal(base_name, dtype=dtype)
    whole: Any = base.model
    with explained(location):
        model: Any = PeftModel.from_pretrained(whole, location.source, revision=location.revision)
    return LoadedModel(model.merge_and_unload().eval(), base.tokenizer, location.name, base.revision)

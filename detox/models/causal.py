"""Causal language models by name: `tiny/gpt2`, a folder, a run, or `owner/name@revision` of the hub; with adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel

from detox.models.loading import LoadedModel, load_language_model, local_folder


def load_causal(name: str, **options: Any) -> LoadedModel:
    """A causal language model in evaluation mode with its tokenizer; adapters stand on the base that they name.

    Args:
        options: see `load_language_model`.

    Raises:
        ModelUnavailableError: see `load_language_model`.
    """
    folder = None if name.startswith("tiny/") else local_folder(name)
    if folder is None or not is_adapters(folder):
        return load_language_model(name, "causal_lm", **options)
    base = load_language_model(base_name(folder), "causal_lm", **options)
    model: Any = PeftModel.from_pretrained(base.model, str(folder))
    return replace(base, model=model.eval(), name=name)


def is_adapters(folder: Path) -> bool:
    """Whether a folder holds adapters and no whole model."""
    return (folder / "adapter_config.json").is_file()


def base_name(folder: Path) -> str:
    """The model that the adapters in a folder stand on."""
    config = PeftConfig.from_pretrained(str(folder))
    return f"{config.base_model_name_or_path}@{config.revision}" if config.revision else config.base_model_name_or_path

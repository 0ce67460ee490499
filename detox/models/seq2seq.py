"""Encoder-decoders by name: `tiny/t5`, a folder, or `owner/name@revision` of the hub; with LoRA adapters if wanted."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import PreTrainedModel

from detox.models.copying import CopyT5ForConditionalGeneration
from detox.models.loading import (
    LoadedModel,
    ModelUnavailableError,
    check_available,
    check_kind,
    load_language_model,
    local_folder,
)


def load_seq2seq(name: str, **options: Any) -> LoadedModel:
    """An encoder-decoder in evaluation mode with its tokenizer; see `load_language_model`."""
    loaded = load_language_model(name, "seq2seq_lm", **options)
    if name.startswith("tiny/") and isinstance(loaded.model, CopyT5ForConditionalGeneration):
        loaded.model.fold(loaded.tokenizer)
    return loaded


def check_seq2seq(name: str) -> None:
    """Refuse a name that `load_seq2seq` cannot take, at the price of its config file.

    Raises:
        ValueError: no such model, no access to it, the hub cannot be reached, or it is no encoder-decoder.
    """
    folder = None if name.startswith("tiny/") else local_folder(name)
    if folder is not None and not (folder / "config.json").is_file():
        raise ModelUnavailableError(
            f"{name} holds adapters alone, and training begins with a whole model: name the one that they belong to"
        )
    check_kind(name, check_available(name), "seq2seq_lm")


def with_lora(
    model: PreTrainedModel, rank: int, alpha: float, dropout: float, target_modules: Sequence[str]
) -> PreTrainedModel:
    """The model with low-rank adapters, which alone are trained from now on.

    Raises:
        ValueError: a target module that the model does not have.
    """
    settings = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # annotated as int, used as a factor
        lora_dropout=dropout,
        target_modules=list(target_modules),
    )
    return get_peft_model(model, settings)  # type: ignore[return-value,arg-type]


def load_trained(folder: Path, base_model: str, base_revision: str, beside: LoadedModel | None = None) -> LoadedModel:
    """What a run of ours left: a whole model, or adapters on top of their base model.

    Args:
        beside: a model that is loaded already; adapters on the same base, of whatever run, share its weights. A base in
            a folder is the same by the folder's name: it must not be trained again while it is in use.

    Raises:
        ModelUnavailableError: the base model is not there.
    """
    if not (folder / "adapter_config.json").is_file():
        return load_seq2seq(str(folder))
    if beside is not None and _has_base(beside, base_model, base_revision):
        base = LoadedModel(base_of(beside), beside.tokenizer, base_model, base_revision)
    else:
        base = load_seq2seq(f"{base_model}@{base_revision}" if base_revision else base_model)
    model = PeftModel.from_pretrained(base.model, str(folder))
    return LoadedModel(model.eval(), base.tokenizer, base_model, base_revision)  # type: ignore[arg-type]


def _has_base(loaded: LoadedModel, base_model: str, base_revision: str) -> bool:
    return isinstance(loaded.model, PeftModel) and (loaded.name, loaded.revision) == (base_model, base_revision)


def base_of(loaded: LoadedModel) -> PreTrainedModel:
    """The model without its adapters: modules of its own, and the very same weights."""
    weights = {id(tensor): tensor for tensor in itertools.chain(loaded.model.parameters(), loaded.model.buffers())}
    return copy.deepcopy(loaded.model, weights).unload()  # type: ignore[operator]

"""Adapters and their base as one model: an explicit step, since the sum can be neither told apart nor taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detox.classifier.model_scorers import model_parent
from detox.governance.manifest import write_manifest
from detox.models.causal import adapters_base, kind_of, load_merged


def merge(name: str, folder: Path, dtype: str = "float32") -> Path:
    """Write the sum of adapters and their base to an empty folder, in Hugging Face's layout, with a signed manifest.

    Args:
        name: of the adapters: a run of `finetune` or `align_policy`, its artifact, a folder, or of the hub.
        dtype: of the weights; adapters that were trained on 4-bit weights are added to whole ones.

    Raises:
        ValueError: the name leads to no adapters, their manifest does not hold, or the folder is not empty.
    """
    if not adapters_base(name):
        raise ValueError(f"{name} is a whole model already: there is nothing to merge")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: name a new folder")
    parent = model_parent(name)
    loaded = load_merged(name, kind_of(name), dtype=dtype)
    model: Any = loaded.model
    model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    write_manifest(folder, {"job": "merge"}, [parent])
    return folder

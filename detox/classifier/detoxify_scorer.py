"""Detoxify's published classifiers (Hanu and Unitary, 2020), loaded by the real package, scored by our engine.

Detoxify's checkpoints are pickles, which can run code when loaded, so the file's SHA-256 is verified first: against the
digest given, or the eight hexadecimal digits in its name. These say whose file it is only where the name is one that
Detoxify publishes (and against accidents, not against someone who searches for a file with the same eight digits);
under any other name they only show that the file is undamaged, and it is loaded as plain tensors and values or not at
all. Offline, give the checkpoint
and a folder with the model's config.json (its number of labels included) and tokenizer files, as the hub has them under
`unitary/toxic-bert` (Detoxify's `huggingface_config_path`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from detoxify.detoxify import MODEL_URLS, get_model_and_tokenizer

from detox.classifier.engine import Engine
from detox.classifier.model_scorers import TransformerScorer

PUBLISHED = frozenset(url.rsplit("/", 1)[-1] for url in MODEL_URLS.values())
"""File names of the checkpoints on Detoxify's release pages."""
RENAMED = {"toxic": "toxicity", "identity_hate": "identity_attack", "severe_toxic": "severe_toxicity"}
"""Detoxify gives the labels of its models one spelling; so do we, to answer as it does."""


def load_detoxify(
    name: str,
    *,
    checkpoint: str | Path = "",
    sha256: str = "",
    huggingface_config_path: str | Path = "",
    device: str = "",
    dtype: str = "float32",
) -> TransformerScorer:
    """A Detoxify model.

    Args:
        name: `original`, `unbiased`, `multilingual`, `original-small` or `unbiased-small`; not read with `checkpoint`.
        checkpoint: a file in Detoxify's format (`config` and `state_dict`); empty: downloaded from its release page.
        sha256: the file's digest, all of it or how it begins; empty: as the file's name says (`…-c1212f89.ckpt`).
        huggingface_config_path: folder with the model's config.json and tokenizer files; empty: from the hub.
        device: empty: the GPU where there is one.
        dtype: of the weights.

    Raises:
        ValueError: an unknown name, a digest that does not match or is not known, a file of another format, or one
            that holds more than tensors and plain values while only its own name vouches for it.
    """
    path = Path(checkpoint) if checkpoint else _download(name)
    _verify(path, sha256)
    loaded = _load(path, is_vouched_for=bool(sha256) or path.name in PUBLISHED)
    if not isinstance(loaded, dict) or not {"config", "state_dict"} <= loaded.keys():
        raise ValueError(f"{path} is not a Detoxify checkpoint, which holds `config` and `state_dict`")
    arch = loaded["config"]["arch"]["args"]
    if huggingface_config_path:  # Detoxify would still ask the hub for the config of `model_type`
        arch = arch | {"model_type": str(huggingface_config_path)}
    model, tokenizer = get_model_and_tokenizer(
        **arch, state_dict=loaded["state_dict"], huggingface_config_path=str(huggingface_config_path) or None
    )
    labels = [RENAMED.get(label, label) for label in loaded["config"]["dataset"]["args"]["classes"]]
    return TransformerScorer(Engine(model.to(getattr(torch, dtype)), tokenizer, device=device), labels)


def load_detoxify_folder(folder: str | Path, *, device: str = "", dtype: str = "float32") -> TransformerScorer:
    """The one `.ckpt` file of `folder`, with the model's config.json and tokenizer beside it, offline.

    Raises:
        ValueError: none or several such files, or a digest that does not match the file's name.
    """
    found = sorted(Path(folder).glob("*.ckpt"))
    if len(found) != 1:
        raise ValueError(f"{folder} must hold one Detoxify checkpoint (.ckpt), and holds {len(found)}")
    return load_detoxify("", checkpoint=found[0], huggingface_config_path=folder, device=device, dtype=dtype)


def check_published(name: str) -> None:
    """Raises:
    ValueError: Detoxify has published no model of this name.
    """
    if name not in MODEL_URLS:
        raise ValueError(f"there is no detoxify/{name}: choose one of {', '.join(f'detoxify/{n}' for n in MODEL_URLS)}")


def _download(name: str) -> Path:
    check_published(name)
    url = MODEL_URLS[name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_digest_in_name(path))
    return path


def _load(path: Path, *, is_vouched_for: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if not is_vouched_for:
            raise ValueError(
                f"{path} holds more than tensors and plain values and may run code, and the digest in its name only "
                "shows that it is undamaged: if you trust its author, give the SHA-256 they state (`sha256=`)"
            ) from error
    return torch.load(path, map_location="cpu", weights_only=False)


def _digest_in_name(path: Path) -> str:
    match = re.search(r"-([0-9a-f]{8,})\.", path.name)
    return match[1] if match else ""


def _verify(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise ValueError(f"Detoxify checkpoint {path} does not exist")
    expected = sha256.lower() or _digest_in_name(path)
    if len(expected) < 8:
        raise ValueError(
            f"{path} is a pickle, which can run code, and its name carries no digest: give its SHA-256 (`sha256=`)"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise ValueError(f"{path} has SHA-256 {found}, which does not begin with {expected}: fetch it again")

"""The files that hold a model's weights, and their digest: which weights a figure is about.

The digest of one file is its SHA-256, as `sha256sum` and the hub's page of the file show it. Of several (shards, or
adapters and their base model) it is the SHA-256 of the lines that `sha256sum` prints for them, sorted by name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from transformers.utils import cached_file

from detox.governance.manifest import file_digest, verified
from detox.models.loading import Location, ModelUnavailableError, explained, local_folder, locate

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""In the order in which `from_pretrained` looks for them."""
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
ADAPTER_CONFIG = "adapter_config.json"
SHA256 = re.compile(r"[0-9a-f]{64}")


def verify_weights(name: str, expected: str = "") -> str:
    """The digest of a model's weights; empty for `tiny/…`, whose weights are made by a seed.

    A file that the hub's cache keeps under its SHA-256 is compared with that, too.

    Args:
        expected: the digest that it must have; empty: any.

    Raises:
        ModelUnavailableError: no such model, no access to it, the hub cannot be reached, or it has no weights.
        ValueError: another digest than expected, a damaged download, or weights that a run's manifest does not know.
    """
    check_signed(name)
    if name.startswith("tiny/"):
        if expected:
            raise ValueError(f"{name} is built here by a seed, so no digest of weights can be expected: leave it out")
        return ""
    files = weight_files(name)
    digests = {label: _checked_digest(path) for label, path in files.items()}
    lines = "".join(f"{digest}  {label}\n" for label, digest in sorted(digests.items()))
    found = next(iter(digests.values())) if len(digests) == 1 else hashlib.sha256(lines.encode()).hexdigest()
    if expected and found != expected:
        raise ValueError(
            f"the weights of {name} have the SHA-256 {found}, and {expected} is expected: name the revision that the "
            f"expected digest is of, fetch the weights again, or check --sha256 ({', '.join(sorted(files))})"
        )
    return found


def check_signed(name: str) -> None:
    """That the manifest of a run's model holds, and that of the base which its adapters stand on. Models without one,
    of the hub, or made by a seed have nothing to be held against.

    Raises:
        ManifestError: it does not, so the weights are not those that the run wrote.
    """
    folder = None if name.startswith("tiny/") else local_folder(name)
    if folder is not None:
        verified(folder)
        if base := base_of_adapters(Location(name, str(folder))):
            check_signed(base)


def weight_files(name: str) -> dict[str, Path]:
    """The files that are read when a model is loaded; of adapters also their base model's, as `base/…`.

    Raises:
        ModelUnavailableError: no such model, no access to it, the hub cannot be reached, or it has no weights.
    """
    location = locate(name)
    with explained(location):
        base = base_of_adapters(location)
        own = _own_files(location, ADAPTERS if base else WHOLE)
    if not own:
        wanted = " or ".join(ADAPTERS if base else WHOLE)
        raise ModelUnavailableError(f"{name} holds no weights: it needs {wanted}, whole or in shards")
    return own | ({f"base/{label}": path for label, path in weight_files(base).items()} if base else {})


def _own_files(location: Location, names: Sequence[str]) -> dict[str, Path]:
    """What there is of the first of these names, whole or in shards."""
    for name in names:
        if path := _file(location, name):
            return {name: path}
        if index := _file(location, f"{name}.index.json"):
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            return {shard: _needed(location, shard) for shard in shards}
    return {}


def _needed(location: Location, name: str) -> Path:
    path = _file(location, name)
    if path is None:
        raise ModelUnavailableError(f"{location.name} lacks {name}, a part of its weights: fetch the model again")
    return path


def base_of_adapters(location: Location) -> str:
    """Name of the model that adapters belong to, `name@revision` of the hub's; empty for a whole model."""
    path = _file(location, ADAPTER_CONFIG)
    if path is None:
        return ""
    settings = json.loads(path.read_text(encoding="utf-8"))
    base, revision = settings["base_model_name_or_path"], settings.get("revision")
    return f"{base}@{revision}" if revision and locate(base).is_hub else str(base)


def end_of_adapters(location: Location) -> str:
    """EOS of the tokenizer that adapters were kept with: a chat's end of a turn, say, which their base does not know as
    an end; empty where none was kept."""
    path = _file(location, "tokenizer_config.json")
    token = json.loads(path.read_text(encoding="utf-8")).get("eos_token") if path is not None else None
    return str(token["content"] if isinstance(token, dict) else token or "")


def _file(location: Location, name: str) -> Path | None:
    found = cached_file(location.source, name, revision=location.revision, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _checked_digest(path: Path) -> str:
    digest, recorded = file_digest(path), path.resolve().name
    if SHA256.fullmatch(recorded) and recorded != digest:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {digest}, and the hub has {recorded}; delete it, run again"
        )
    return digest

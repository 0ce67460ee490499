"""Digests of weights: what `sha256sum` says, of one file and of several; what ends in an error."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from detox.governance.manifest import ManifestError, write_manifest
from detox.models import tiny
from detox.models.loading import ModelUnavailableError, locate
from detox.models.weights import base_of_adapters, check_signed, verify_weights, weight_files


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_file_has_its_own_digest(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("gpt2", tmp_path, head="causal_lm")
    wanted = sha256(folder / "model.safetensors")
    assert verify_weights(str(folder)) == verify_weights(str(folder), wanted) == wanted


def test_several_have_that_of_their_list(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("gpt2", tmp_path, head="causal_lm")
    (folder / "model.safetensors").unlink()
    for number in (1, 2):
        (folder / f"part-{number}").write_bytes(b"weights %d" % number)
    index = {"weight_map": {"a": "part-2", "b": "part-1", "c": "part-2"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    lines = "".join(f"{sha256(folder / name)}  {name}\n" for name in ("part-1", "part-2"))  # what sha256sum prints
    assert verify_weights(str(folder)) == hashlib.sha256(lines.encode()).hexdigest()
    (folder / "part-1").unlink()
    with pytest.raises(ModelUnavailableError, match="lacks part-1"):
        verify_weights(str(folder))


def test_weights_that_a_run_did_not_write_are_refused_adapters_and_base_alike(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("gpt2", tmp_path / "run/artifact", head="causal_lm")
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "run")}))
    check_signed(str(adapters))  # nothing says yet what it should be
    write_manifest(tmp_path / "run", {"run": "r"})
    check_signed(str(adapters))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    for name in ("run", "adapters", "run/artifact"):
        with pytest.raises(ManifestError, match=r"model\.safetensors"):
            check_signed(str(tmp_path / name))


def test_adapters_count_with_their_base(tmp_path: Path) -> None:
    base = tiny.write_checkpoint("gpt2", tmp_path / "base", head="causal_lm")
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base), "revision": None}))
    with pytest.raises(ModelUnavailableError, match=r"holds no weights: it needs adapter_model\.safetensors"):
        weight_files(str(adapters))
    (adapters / "adapter_model.safetensors").write_bytes(b"few")
    assert list(weight_files(str(adapters))) == ["adapter_model.safetensors", "base/model.safetensors"]
    before = verify_weights(str(adapters))
    (base / "model.safetensors").write_bytes(b"others")
    assert verify_weights(str(adapters)) != before
    assert base_of_adapters(locate(str(base))) == ""


def test_other_weights_are_refused(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("gpt2", tmp_path, head="causal_lm")
    found = sha256(folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"have the SHA-256 {found}, and {'0' * 64} is expected"):
        verify_weights(str(folder), "0" * 64)
    assert verify_weights("tiny/gpt2") == ""
    with pytest.raises(ValueError, match="tiny/gpt2 is built here by a seed"):
        verify_weights("tiny/gpt2", "0" * 64)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailableError, match="holds no weights"):
        verify_weights(str(folder))


def test_a_damaged_download_is_found(tmp_path: Path) -> None:
    """The hub's cache keeps a file under its SHA-256 and links to it."""
    folder = tiny.write_checkpoint("gpt2", tmp_path / "model", head="causal_lm")
    weights = folder / "model.safetensors"
    blob = tmp_path / sha256(weights)
    weights.rename(blob)
    weights.symlink_to(blob)
    assert verify_weights(str(folder)) == blob.name
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=f"is damaged: .* the hub has {blob.name}"):
        verify_weights(str(folder))

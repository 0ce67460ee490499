"""Manifests: any change after signing is found and named."""

import json
import re

import pytest

from detox.governance.manifest import (
    MANIFEST,
    ManifestError,
    ensure_key,
    highest,
    trusted_keys,
    verify_manifest,
    write_manifest,
)


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    monkeypatch.setenv("DETOX_KEYS", str(tmp_path / "keys"))
    folder = tmp_path / "artifact"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer" / "vocab.txt").write_text("a\nb\n")
    write_manifest(folder, {"run": "r"})
    return folder


def test_a_fresh_manifest_verifies(artifact) -> None:
    found = verify_manifest(artifact)
    assert found["classification"] == "open"
    assert set(found["files"]) == {"model.safetensors", "tokenizer/vocab.txt"}


def test_a_changed_file_is_named(artifact) -> None:
    (artifact / "tokenizer" / "vocab.txt").write_text("a\nc\n")
    with pytest.raises(ManifestError, match=r"vocab.txt was changed"):
        verify_manifest(artifact)


def test_an_added_and_a_missing_file_are_named(artifact) -> None:
    (artifact / "extra.bin").write_text("x")
    with pytest.raises(ManifestError, match=r"extra.bin is not in the manifest"):
        verify_manifest(artifact)
    (artifact / "extra.bin").unlink()
    (artifact / "model.safetensors").unlink()
    with pytest.raises(ManifestError, match=r"model.safetensors is in the manifest and not on the disk"):
        verify_manifest(artifact)


def test_a_lowered_classification_breaks_the_signature(artifact) -> None:
    write_manifest(artifact, {"run": "r"}, classification="research-only")
    edited = json.loads((artifact / MANIFEST).read_text()) | {"classification": "open"}
    (artifact / MANIFEST).write_text(json.dumps(edited))
    with pytest.raises(ManifestError, match="signature does not match"):
        verify_manifest(artifact)


def test_a_strangers_key_is_not_trusted_until_it_is(artifact, tmp_path, monkeypatch) -> None:
    from cryptography.hazmat.primitives import serialization

    signer = serialization.load_pem_private_key((tmp_path / "keys" / "signing_key.pem").read_bytes(), None)
    monkeypatch.setenv("DETOX_KEYS", str(tmp_path / "other"))
    with pytest.raises(ManifestError, match="not trusted here"):
        verify_manifest(artifact)
    pem = signer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "other" / "trusted").mkdir(parents=True)
    (tmp_path / "other" / "trusted" / "them.pem").write_bytes(pem)
    assert verify_manifest(artifact)["run"] == "r"


def test_no_manifest_and_rubbish(artifact) -> None:
    (artifact / MANIFEST).write_text("{}")
    with pytest.raises(ManifestError, match="is not a manifest"):
        verify_manifest(artifact)
    (artifact / MANIFEST).unlink()
    with pytest.raises(ManifestError, match=r"has no manifest.json"):
        verify_manifest(artifact)


def test_a_child_is_as_restricted_as_its_parents(artifact) -> None:
    parents = [{"name": "p", "digest": "d", "classification": "research-only"}]
    assert write_manifest(artifact, {}, parents)["classification"] == "research-only"
    assert highest([]) == "open"
    with pytest.raises(ManifestError, match="was 'secret'"):
        highest(["secret"])


def test_the_key_is_private(artifact, tmp_path) -> None:
    assert (tmp_path / "keys" / "signing_key.pem").stat().st_mode & 0o077 == 0


def test_a_key_folder_that_cannot_be_written_names_its_setting(tmp_path, monkeypatch) -> None:
    (tmp_path / "home").write_text("a file in the way")
    monkeypatch.setenv("DETOX_KEYS", str(tmp_path / "home" / "detox"))
    with pytest.raises(OSError, match=r"cannot be made or read .*home.*set DETOX_KEYS to a folder"):
        ensure_key()


def test_a_key_file_that_holds_no_key_is_named(artifact, tmp_path) -> None:
    (tmp_path / "keys" / "signing_key.pem").write_text("")
    with pytest.raises(ManifestError, match=r"signing_key.pem is no private key"):
        ensure_key()


def test_the_key_is_made_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DETOX_KEYS", str(tmp_path))
    assert ensure_key().private_bytes_raw() == ensure_key().private_bytes_raw()
    assert [path.name for path in tmp_path.iterdir()] == ["signing_key.pem"]


def test_a_key_is_made_where_there_are_no_hard_links(tmp_path, monkeypatch) -> None:
    """As on gcsfuse, SMB and exFAT."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setenv("DETOX_KEYS", str(tmp_path))
    assert ensure_key().private_bytes_raw() == ensure_key().private_bytes_raw()
    assert (tmp_path / "signing_key.pem").stat().st_mode & 0o077 == 0


def test_a_worker_trusts_the_keys_that_its_driver_hands_it(artifact, tmp_path, monkeypatch) -> None:
    handed = ",".join(trusted_keys())
    monkeypatch.setenv("DETOX_KEYS", str(tmp_path / "worker"))
    with pytest.raises(ManifestError, match=f"DETOX_TRUSTED_KEYS={re.escape(handed)}"):
        verify_manifest(artifact)
    monkeypatch.setenv("DETOX_TRUSTED_KEYS", handed)
    assert verify_manifest(artifact)["run"] == "r"
    assert trusted_keys() == [handed]


def test_a_trusted_key_that_is_none_is_named(artifact, monkeypatch) -> None:
    monkeypatch.setenv("DETOX_TRUSTED_KEYS", "c2hvcnQ=")
    with pytest.raises(ManifestError, match="base64 of 32 bytes each, with commas between, was 'c2hvcnQ='"):
        verify_manifest(artifact)

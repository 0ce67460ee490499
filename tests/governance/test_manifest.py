"""Manifests: any change after signing is found and named."""

import json

import pytest

from detox.governance.manifest import MANIFEST, ManifestError, highest, verify_manifest, write_manifest


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

"""Signed manifests: what an artifact holds, what it came from, and who may load it.

`manifest.json` lists every file of a folder with its SHA-256, the digests of its parents and its classification (the
highest of its parents'), signed with Ed25519. The signing key is made on first use (`ensure_key`) in `$DETOX_KEYS`
(default `~/.config/detox`), and never leaves it.

A manifest is trusted when its public key is that key's, lies as a PEM file in `$DETOX_KEYS/trusted/`, or is among
`$DETOX_TRUSTED_KEYS`: public keys in base64, as a manifest has them, with commas between. `trusted_keys` lists them
all, so that a driver can hand them to its workers, whose nodes have other key folders:

    runtime_env={"env_vars": {"DETOX_TRUSTED_KEYS": ",".join(trusted_keys())}}
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from detox.runs.storage import create_alone

MANIFEST = "manifest.json"
TRUSTED_KEYS = "DETOX_TRUSTED_KEYS"
Classification = Literal["open", "restricted", "research-only"]
"""In rising order; an artifact has the highest of its own and its parents'."""


class ManifestError(ValueError):
    """The manifest is missing, was altered, or is not trusted."""


def highest(classes: Iterable[str]) -> Classification:
    """The strictest classification of several; `open` of none.

    Raises:
        ManifestError: a class that is not one of the three.
    """
    order = get_args(Classification)
    found = list(classes)
    for name in found:
        if name not in order:
            raise ManifestError(f"classification must be one of {', '.join(order)}, was {name!r}")
    return order[max((order.index(name) for name in found), default=0)]


def describe(
    folder: Path,
    facts: Mapping[str, Any],
    parents: Sequence[Mapping[str, Any]] = (),
    classification: Classification = "open",
) -> dict[str, Any]:
    """What a manifest says of everything below `folder`, still to be signed.

    Args:
        folder: the artifact; an older manifest in it does not count.
        facts: what else to record (run, job, config digest …), plain JSON values.
        parents: `{"name", "digest", "classification"}` of each input.
        classification: the artifact's own class; its parents' may raise it.
    """
    return {
        "schema": 1,
        **facts,
        "parents": [dict(parent) for parent in parents],
        "classification": highest([classification, *(str(parent["classification"]) for parent in parents)]),
        "files": file_digests(folder),
    }


def sign(body: Mapping[str, Any]) -> str:
    """The text of `manifest.json`: the description with this machine's public key and signature."""
    key = ensure_key()
    signed = dict(body) | {
        "public_key": _encode(key.public_key().public_bytes_raw()),
        "signature": _encode(key.sign(_canonical(body))),
    }
    return json.dumps(signed, indent=2, ensure_ascii=False) + "\n"


def write_manifest(
    folder: Path,
    facts: Mapping[str, Any],
    parents: Sequence[Mapping[str, Any]] = (),
    classification: Classification = "open",
) -> dict[str, Any]:
    """Describe, sign and write, where the signer has the files at hand; the arguments are `describe`'s."""
    body = describe(folder, facts, parents, classification)
    (folder / MANIFEST).write_text(sign(body), encoding="utf-8")
    return body


def verify_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, once its signature, its key and every digest hold.

    Raises:
        ManifestError: says which of them does not, and for which file.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ManifestError(f"{folder} has no {MANIFEST}: it was not written by a run of this project, or was stripped")
    try:
        signed = json.loads(path.read_text(encoding="utf-8"))
        body = {k: v for k, v in signed.items() if k not in {"public_key", "signature"}}
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signed["public_key"]))
        public.verify(base64.b64decode(signed["signature"]), _canonical(body))
    except (ValueError, KeyError, AttributeError) as error:
        raise ManifestError(f"{path} is not a manifest: {error}") from None
    except InvalidSignature:
        raise ManifestError(f"{path}: the signature does not match, so the manifest was altered") from None
    if signed["public_key"] not in trusted_keys():
        raise ManifestError(
            f"{path} is signed by a key that is not trusted here: put the signer's public key as a PEM file into "
            f"{keys_folder()}/trusted, or set {TRUSTED_KEYS}={signed['public_key']} if you trust it"
        )
    _compare(folder, body["files"])
    return signed


def verified(folder: Path) -> dict[str, Any]:
    """The manifest in an artifact's folder, or in the run directory above it, once it holds; empty where there is
    none."""
    for signed in (folder, folder.parent):
        if (signed / MANIFEST).is_file():
            return verify_manifest(signed)
    return {}


def _compare(folder: Path, expected: Mapping[str, str]) -> None:
    found = file_digests(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ManifestError(f"{folder / name} is in the manifest and not on the disk")
        if name not in expected:
            raise ManifestError(f"{folder / name} is not in the manifest: it was added afterwards")
        if found[name] != expected[name]:
            raise ManifestError(f"{folder / name} was changed after the manifest was signed")


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` but its manifest, by relative POSIX path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keys_folder() -> Path:
    return Path(os.environ.get("DETOX_KEYS") or Path.home() / ".config" / "detox")


def ensure_key() -> Ed25519PrivateKey:
    """The signing key, made on first use. Called before work starts, so that no run fails at its signature.

    Raises:
        OSError: the key folder cannot be written or read; the sentence names DETOX_KEYS.
        ManifestError: the file holds no Ed25519 key.
    """
    try:
        path = keys_folder() / "signing_key.pem"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            create_alone(path, pem, mode=0o600)  # where another process was first, its key counts
        found = path.read_bytes()
    except (OSError, RuntimeError) as error:  # Path.home() knows no home: RuntimeError
        raise OSError(
            f"the key that signs manifests cannot be made or read ({error}): set DETOX_KEYS to a folder that you can "
            "write"
        ) from error
    try:
        key = serialization.load_pem_private_key(found, password=None)
    except (ValueError, TypeError) as error:
        raise ManifestError(f"{path} is no private key ({error}): put the key back, or delete the file") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ManifestError(f"{path} must be an Ed25519 private key, was {type(key).__name__}: delete the file")
    return key


def trusted_keys() -> list[str]:
    """The public keys that this process trusts, base64 of 32 bytes as in `DETOX_TRUSTED_KEYS`, sorted.

    Raises:
        ManifestError: an entry of `DETOX_TRUSTED_KEYS` that is no such key.
    """
    trusted = {_checked(key.strip()) for key in os.environ.get(TRUSTED_KEYS, "").split(",") if key.strip()}
    if (keys_folder() / "signing_key.pem").exists():
        trusted.add(_encode(ensure_key().public_key().public_bytes_raw()))
    for path in sorted((keys_folder() / "trusted").glob("*.pem")):
        key = serialization.load_pem_public_key(path.read_bytes())
        if isinstance(key, Ed25519PublicKey):
            trusted.add(_encode(key.public_bytes_raw()))
    return sorted(trusted)


def _checked(key: str) -> str:
    try:
        return _encode(Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True)).public_bytes_raw())
    except ValueError:
        raise ManifestError(
            f"{TRUSTED_KEYS} must hold Ed25519 public keys, base64 of 32 bytes each, with commas between, was {key!r}"
        ) from None


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")

"""API keys: who may ask, what, and how often. The file holds hashes only, and is read again when it changes.

    {"keys": [{"id": "forum", "sha256": "…", "scopes": ["classify", "detoxify"], "per_minute": 600}]}

`python -m serve.keys new forum --scopes classify detoxify` prints a new key once, with the entry to put into the file.
A key is rotated by a second entry beside the first, and the first taken out later; nothing is restarted. Without a file
everybody may do everything: then listen on this machine only.

Keys have 256 random bits, so a plain SHA-256 is as good as a slow hash, and how long it takes to find one tells nobody
anything: there is nothing to guess.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from detox.runs.config import Config
from serve.errors import ApiError
from serve.settings import Bands

log = logging.getLogger("ray.serve")
KEY_HEADERS = ("authorization", "x-goog-api-key", "x-api-key")
"""Headers that may hold a key; the query's `key` may too."""
BEARER = "bearer "
Scope = Literal["classify", "detoxify", "explain", "feedback"]
SCOPES: tuple[Scope, ...] = ("classify", "detoxify", "explain", "feedback")
PREFIX = "detox-"
LOOK_EVERY = 2.0
"""Seconds between two looks at the file."""


class Key(Config):
    """One entry of the file."""

    id: str = Field(min_length=1)
    """Who it is for; in metrics and logs."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = SCOPES
    per_minute: int = Field(default=600, ge=1)
    """Requests a minute over all replicas of the gateway, however many texts each holds."""
    bands: Bands | None = None
    """In place of the service's own."""


class KeyFile(Config):
    keys: tuple[Key, ...]

    @model_validator(mode="after")
    def _hashes_differ(self) -> KeyFile:
        hashes = [key.sha256 for key in self.keys]
        if len(set(hashes)) < len(hashes):
            raise ValueError("two entries have the same key: give each its own")
        return self


ANYBODY = Key(id="anybody", sha256="0" * 64, per_minute=10**9)
"""Who asks where there is no file."""


class Keys:
    """The keys of a file, read again when it changes; a file that does not hold leaves the keys as they were.

    Args:
        path: empty: no keys, everybody may do everything.

    Raises:
        ValueError: the file is not there or does not hold, at the start.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._keys: Mapping[str, Key] = {}
        self._looked = self._changed = 0.0
        self.fault = ""
        """What `/health` says where the file could not be read again; empty: it could."""
        if self._path is not None:
            self._keys, self._changed = _read(self._path)
            self._looked = time.monotonic()

    def find(self, secret: str, scope: Scope) -> Key:
        """Whose key it is.

        Raises:
            ApiError: none is given, nobody has it, or it lacks the scope.
        """
        found = self.owner(secret)
        if scope not in found.scopes:
            raise ApiError("forbidden", f"The API key {found.id!r} may not {scope}: its scopes leave it out.")
        return found

    def owner(self, secret: str) -> Key:
        """Whose key it is, whatever it may do.

        Raises:
            ApiError: none is given, or nobody has it.
        """
        if self._path is None:
            return ANYBODY
        self._look(self._path)
        if not secret:
            raise ApiError("no_key", "An API key is needed, and none was given.")
        found = self._keys.get(digest(secret))
        if found is None:
            raise ApiError("bad_key", "API key not valid. Please pass a valid API key.")
        return found

    def _look(self, path: Path) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            if path.stat().st_mtime != self._changed:
                self._keys, self._changed = _read(path)
            self.fault = ""
        except (OSError, ValueError) as error:
            self.fault = "the file of keys does not hold; the keys are as they were"
            log.error("%s", error)


def _read(path: Path) -> tuple[dict[str, Key], float]:
    try:
        changed = path.stat().st_mtime
        found = KeyFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"the keys cannot be read ({error}): name a file, or none at all") from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)  # which may be a secret
        told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        raise ValueError(f"{path} is no file of keys: {told}") from None
    return {key.sha256: key for key in found.keys}, changed


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def new_key() -> str:
    """256 random bits, with a prefix by which scanners for leaked secrets know it."""
    return PREFIX + secrets.token_urlsafe(32)


def secret_of(headers: Mapping[str, str], in_query: str) -> str:
    """The API key, wherever one of the vendors' clients puts it; empty: none.

    Args:
        in_query: the query's `key`.
    """
    for name in KEY_HEADERS:
        value = headers.get(name, "")
        if name == "authorization":
            value = value[len(BEARER) :].strip() if value[: len(BEARER)].casefold() == BEARER else ""
        if value:
            return value
    return in_query


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m serve.keys", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="print a new key and its entry")
    new.add_argument("id", help="who it is for")
    new.add_argument("--scopes", nargs="+", choices=SCOPES, default=list(SCOPES))
    new.add_argument("--per-minute", type=int, default=600)
    options = parser.parse_args(arguments)
    secret = new_key()
    entry = Key(id=options.id, sha256=digest(secret), scopes=tuple(options.scopes), per_minute=options.per_minute)
    print(f"key, shown once: {secret}")
    print(f"entry: {json.dumps(entry.model_dump(mode='json', exclude_defaults=True))}")


if __name__ == "__main__":
    main()

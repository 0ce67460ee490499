"""API keys: where they are found, scopes, rotation without restart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from serve import keys as serve_keys
from serve.errors import ApiError
from serve.keys import ANYBODY, Keys, digest, new_key


def write(path: Path, *entries: dict[str, object], at: int = 0) -> Path:
    path.write_text(json.dumps({"keys": entries}))
    os.utime(path, (at, at))
    return path


def entry(secret: str, **fields: object) -> dict[str, object]:
    return {"id": "forum", "sha256": digest(secret)} | fields


def test_without_a_file_everybody_may_do_everything() -> None:
    assert Keys("").find("", "detoxify") is ANYBODY


def test_a_key_does_what_its_scopes_say(tmp_path: Path) -> None:
    found = Keys(str(write(tmp_path / "keys.json", entry("a", scopes=["classify"]))))
    assert found.find("a", "classify").id == "forum"
    for secret, scope, kind in (
        ("a", "detoxify", "forbidden"),
        ("", "classify", "no_key"),
        ("b", "classify", "bad_key"),
    ):
        with pytest.raises(ApiError) as caught:
            found.find(secret, scope)  # type: ignore[arg-type]
        assert caught.value.kind == kind
        assert secret not in ("b",) or "b" not in caught.value.message.split()


def test_a_key_is_rotated_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken file in between changes nothing, and is said."""
    monkeypatch.setattr(serve_keys, "LOOK_EVERY", 0.0)
    path = write(tmp_path / "keys.json", entry("old"), at=1)
    found = Keys(str(path))
    path.write_text("{")
    assert found.find("old", "classify").id == "forum"
    assert "does not hold" in found.fault
    write(path, entry("old"), entry("new"), at=3)
    assert found.find("new", "classify").id == "forum"
    assert found.fault == ""
    write(path, entry("new"), at=4)
    with pytest.raises(ApiError, match="not valid"):
        found.find("old", "classify")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no file of keys"),
        ('{"keys": [{"id": "a", "sha256": "secret"}]}', "sha256"),
        ('{"keys": [{"id": "a", "sha256": "%s", "scope": []}]}' % ("0" * 64), "scope"),
        (json.dumps({"keys": [entry("a"), entry("a")]}), "two entries have the same key"),
    ],
)
def test_a_file_that_does_not_hold_stops_the_start(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        Keys(str(tmp_path / "keys.json"))
    with pytest.raises(ValueError, match="cannot be read"):
        Keys(str(tmp_path / "gone.json"))


def test_a_new_key_works_and_only_its_hash_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve_keys.main(["new", "forum", "--scopes", "classify"])
    shown, kept = capsys.readouterr().out.splitlines()
    secret = shown.rpartition(" ")[2]
    made = json.loads(kept.partition(" ")[2])
    assert secret.startswith("detox-")
    assert len(secret) > 40
    assert secret not in kept
    path = write(tmp_path / "keys.json", made)
    assert Keys(str(path)).find(secret, "classify").scopes == ("classify",)
    assert new_key() != new_key()

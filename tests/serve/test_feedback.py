"""Suggestions on the disk: a row each, for the owner alone, and a refusal where they cannot be kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve.errors import ApiError
from serve.feedback import FeedbackStore, Suggestion

ONE = Suggestion("grüß \ud800 dich", {"toxic": 1.0, "insult": None}, "de", "forum", "s")


def test_each_suggestion_is_a_line(tmp_path: Path) -> None:
    store = FeedbackStore(str(tmp_path / "a" / "b"))
    store.add([ONE, ONE._replace(text="two")], "key")
    store.add([ONE], "key")
    [path] = (tmp_path / "a" / "b").iterdir()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == ["grüß ? dich", "two", "grüß ? dich"]
    assert {key: rows[0][key] for key in ("toxic", "insult", "lang", "community", "session", "key")} == {
        "toxic": 1.0, "insult": None, "lang": "de", "community": "forum", "session": "s", "key": "key",
    }  # fmt: skip
    assert path.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_known_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="feedback cannot be written to .*: name another folder"):
        FeedbackStore(str(tmp_path / "file"))


def test_what_cannot_be_kept_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = FeedbackStore(str(tmp_path))
    monkeypatch.setattr("serve.feedback.os.fsync", full)
    with pytest.raises(ApiError, match="could not be stored") as error:
        store.add([ONE], "key")
    assert (error.value.kind, error.value.retry_after) == ("unavailable", 60)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0]  # who is refused tells it again

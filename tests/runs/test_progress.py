"""What a worker says is shown by whoever follows, once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from detox.runs.progress import Listener, say
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage


def test_what_is_said_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(Storage(tmp_path))
    say(run, "before")
    with Listener(run, every=0.01):
        say(run, "first")
        deadline, shown = time.monotonic() + 10, ""
        while "first" not in shown:
            assert time.monotonic() < deadline, "nothing was shown in ten seconds"
            shown += capsys.readouterr().out
            time.sleep(0.01)
        say(run, "last")
    assert shown + capsys.readouterr().out == "first\nlast\n"

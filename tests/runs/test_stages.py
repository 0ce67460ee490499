"""The stage store: made once, found again, never half there."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import fsspec
import pytest

from detox.runs.rundir import LEASE, lease
from detox.runs.stages import StageStore, stage_key
from detox.runs.storage import Storage


def test_a_stage_is_made_once(tmp_path) -> None:
    made = []

    def produce(folder) -> None:
        made.append(1)
        (folder / "result.txt").write_text("42")

    store = StageStore(Storage(tmp_path))
    first = store.run("train", {"seed": 1}, produce)
    again = StageStore(Storage(tmp_path)).run("train", {"seed": 1}, produce)
    assert (first.uri, first.read_text("result.txt"), len(made)) == (again.uri, "42", 1)


def test_any_change_of_what_determines_it_is_another_stage() -> None:
    base = {"seed": 1, "data": "abc", "settings": {"lr": 0.1}}
    keys = {
        stage_key("train", base),
        stage_key("train", base | {"seed": 2}),
        stage_key("train", base | {"settings": {"lr": 0.2}}),
        stage_key("tune", base),
    }
    assert len(keys) == 4


def test_a_failed_stage_leaves_nothing_and_is_made_anew(tmp_path) -> None:
    store = StageStore(Storage(tmp_path))

    def fail(folder) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.run("train", {"seed": 1}, fail)
    folder = store.run("train", {"seed": 1}, lambda path: (path / "whole.txt").write_text("whole") and None)
    assert folder.exists("whole.txt")
    assert not folder.exists("half.txt")


def test_two_at_once_make_it_once(tmp_path) -> None:
    made = []
    inside = threading.Event()

    def produce(folder) -> None:
        made.append(1)
        inside.set()
        (folder / "x").write_text("x")

    store = StageStore(Storage(tmp_path))
    threads = [threading.Thread(target=store.run, args=("train", {"seed": 1}, produce)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert made == [1]


def test_a_stage_explains_itself(tmp_path) -> None:
    folder = StageStore(Storage(tmp_path)).run("train", {"seed": 1}, lambda path: None)
    assert '"seed": 1' in folder.read_text("stage.json")


KILLED = """
import os, signal, sys
from detox.runs.stages import StageStore
from detox.runs.storage import Storage

def produce(folder):
    (folder / "raw.txt").write_text("someone@example.org")
    os.kill(os.getpid(), signal.SIGKILL)

storage = Storage(sys.argv[1])
if not storage.is_local:  # as if the lease had expired since
    import detox.runs.stages
    detox.runs.stages.lease = lambda *_, **__: __import__("contextlib").nullcontext()
StageStore(storage).run("data", {"seed": 1}, produce)
"""


@pytest.mark.parametrize("remote", [False, True])
def test_what_a_killed_process_left_is_cleared(remote: bool, tmp_path, monkeypatch) -> None:
    """Raw comments name people: a kill must not keep them. Of remote storage the scratch is in the temporary folder."""
    fsspec.filesystem("memory").store.clear()
    uri = f"memory://bucket/{tmp_path.name}" if remote else str(tmp_path / "runs")
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([sys.executable, "-c", KILLED, uri], env=environment, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("raw.txt"))) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    seen = []
    StageStore(Storage(uri)).run("data", {"seed": 1}, lambda folder: seen.extend(tmp_path.rglob("raw.txt")))
    assert not seen
    assert not list(tmp_path.rglob("raw.txt"))
    assert not list(tmp_path.rglob(".making-*"))


def test_remote_results_are_copied_piece_by_piece(tmp_path, monkeypatch) -> None:
    """Files of gigabytes are never held whole; what an earlier try left under the same name is replaced."""

    def produce(folder: Path) -> None:
        (folder / "train.parquet").write_bytes(b"rows")
        (folder / "plots").mkdir()
        (folder / "plots" / "a.png").write_bytes(b"pixels")

    fsspec.filesystem("memory").store.clear()
    store = StageStore(Storage(f"memory://bucket/{tmp_path.name}"))
    store.folder("data", {}).child("plots").write_text("old.png", "of a try that was cut off")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path.name} was read whole"))
    folder = store.run("data", {}, produce)
    assert folder.read_text("train.parquet") == "rows"
    assert folder.child("plots").names() == ["a.png"]
    assert {"COMPLETE", "stage.json"} <= set(folder.names())


def test_who_waits_says_for_whom_and_where(tmp_path, capsys) -> None:
    store = StageStore(Storage(tmp_path))
    folder = store.folder("data", {})
    waiting = threading.Thread(target=store.run, args=("data", {}, lambda path: None))
    said = ""
    with lease(folder):
        waiting.start()
        while waiting.is_alive() and "\n" not in said:
            waiting.join(0.1)
            said += capsys.readouterr().out
    waiting.join(20)
    assert said == (
        f"waiting up to 24 hours for the same stage to be made elsewhere: {folder.uri} is in use by process "
        f"{os.getpid()} on {os.uname().nodename}: wait, or stop it\n"
    )
    assert folder.exists("COMPLETE")
    assert not folder.exists(LEASE)

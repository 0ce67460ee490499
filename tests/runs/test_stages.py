"""The stage store: made once, found again, never half there."""

import threading

import pytest

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

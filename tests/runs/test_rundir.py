"""Run directories: stable names, resume policy, one holder at a time."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from detox.runs import rundir
from detox.runs.config import override
from detox.runs.rundir import LEASE, RunExists, lease, open_run, run_name
from detox.runs.storage import Storage
from rayjobs.train_classifier import minilm


def config(tmp_path, **changes):
    return override(minilm(), {"run.storage": str(tmp_path), **{k.replace("__", "."): v for k, v in changes.items()}})


def test_name_is_stable_and_says_what_it_is() -> None:
    assert run_name("train_classifier", "minilm", minilm().run) == "train-classifier-minilm-s42"


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden"])
def test_a_name_is_one_folder(name: str) -> None:
    with pytest.raises(ValueError, match="one folder name"):
        run_name("j", "r", override(minilm(), {"run.name": name}).run)


def test_config_is_written_first_and_the_same_command_finds_it(tmp_path) -> None:
    run = open_run(config(tmp_path), "train_classifier", "minilm")
    saved = run.read_json("config.json")
    assert saved["_recipe"] == "minilm"
    assert saved["optimiser"]["lr"] == 2e-4
    assert "torch" in run.read_json("environment.json")["packages"]
    assert open_run(config(tmp_path), "train_classifier", "minilm").uri == run.uri


def test_another_setting_under_the_same_name_shows_the_difference(tmp_path) -> None:
    run = open_run(config(tmp_path), "train_classifier", "minilm")
    run.storage.write_text("metrics.jsonl", "")
    with pytest.raises(RunExists, match=r"optimiser.lr: 0.0002 there, 0.5 here"):
        open_run(config(tmp_path, optimiser__lr=0.5), "train_classifier", "minilm")


def test_a_run_that_stopped_before_any_work_takes_the_corrected_config(tmp_path) -> None:
    """But not under the hands of a process that is still preparing its data."""
    run = open_run(config(tmp_path), "train_classifier", "minilm")
    with lease(run.storage), pytest.raises(RunExists, match=r"optimiser.lr: 0.0002 there, 0.5 here"):
        open_run(config(tmp_path, optimiser__lr=0.5), "train_classifier", "minilm")
    open_run(config(tmp_path, optimiser__lr=0.5), "train_classifier", "minilm")
    assert run.read_json("config.json")["optimiser"]["lr"] == 0.5


def test_resume_policies(tmp_path) -> None:
    with pytest.raises(RunExists, match="does not exist and --run.resume is must"):
        open_run(config(tmp_path, run__resume="must"), "train_classifier", "minilm")
    open_run(config(tmp_path), "train_classifier", "minilm")
    open_run(config(tmp_path, run__resume="must"), "train_classifier", "minilm")
    with pytest.raises(RunExists, match="--run.resume is never"):
        open_run(config(tmp_path, run__resume="never"), "train_classifier", "minilm")


def test_another_jobs_name_is_refused(tmp_path) -> None:
    open_run(config(tmp_path, run__name="x"), "train_classifier", "minilm")
    with pytest.raises(RunExists, match="belongs to job 'train_classifier'"):
        open_run(config(tmp_path, run__name="x"), "evaluate", "minilm")


def test_a_live_holder_is_named(tmp_path) -> None:
    storage = Storage(tmp_path)
    with lease(storage), pytest.raises(RunExists, match=f"in use by process {os.getpid()}"), lease(storage, wait=0):
        pass


def test_a_lease_is_given_back(tmp_path) -> None:
    storage = Storage(tmp_path)
    with lease(storage):
        assert storage.exists(LEASE)
    assert not storage.exists(LEASE)


def test_a_dead_process_of_this_host_holds_nothing(tmp_path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held = {"token": "t", "pid": gone.pid, "host": socket.gethostname(), "time": time.time()}
    (tmp_path / LEASE).write_text(json.dumps(held))
    with lease(Storage(tmp_path), wait=0):
        pass


def test_a_silent_holder_of_another_host_expires(tmp_path) -> None:
    held = {"token": "t", "pid": 1, "host": "elsewhere", "time": time.time() - 31}
    (tmp_path / LEASE).write_text(json.dumps(held))
    with lease(Storage(tmp_path), wait=0):
        pass


def test_a_holder_renews_while_it_works(tmp_path) -> None:
    with lease(Storage(tmp_path), seconds=0.3):
        first = json.loads((tmp_path / LEASE).read_text())["time"]
        time.sleep(0.5)
        assert json.loads((tmp_path / LEASE).read_text())["time"] > first


def test_who_waits_gets_the_lease_when_it_is_given_back(tmp_path) -> None:
    storage, entered = Storage(tmp_path), threading.Event()

    def second() -> None:
        with lease(storage, seconds=1, wait=10):
            entered.set()

    with lease(storage, seconds=1):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.3)
    thread.join(10)
    assert entered.is_set()


def test_a_renewal_that_failed_is_tried_again(tmp_path, monkeypatch) -> None:
    write, failures = Storage.write_text, []

    def fail_once(self: Storage, name: str, text: str) -> None:
        if threading.current_thread().name == "run lease" and not failures:
            failures.append(name)
            raise OSError("SlowDown: please reduce your request rate")
        write(self, name, text)

    monkeypatch.setattr(Storage, "write_text", fail_once)
    with lease(Storage(tmp_path), seconds=0.3):
        first = json.loads((tmp_path / LEASE).read_text())["time"]
        time.sleep(0.6)
        assert failures == [LEASE]
        assert json.loads((tmp_path / LEASE).read_text())["time"] > first


def test_a_lease_lost_while_the_process_stood_still_stays_its_new_holders(tmp_path, capsys) -> None:
    theirs = json.dumps({"token": "theirs", "pid": 1, "host": "elsewhere", "time": time.time()})
    with lease(Storage(tmp_path), seconds=0.3):
        (tmp_path / LEASE).write_text(theirs)
        time.sleep(0.5)
        assert (tmp_path / LEASE).read_text() == theirs
    assert (tmp_path / LEASE).read_text() == theirs
    assert capsys.readouterr().err.count("was taken by process 1 on elsewhere") == 1


def test_of_two_claimants_of_a_stale_lease_one_wins(tmp_path, monkeypatch) -> None:
    """The second found the lease stale before the first took it, and comes to remove it afterwards."""
    storage, holder = Storage(tmp_path), rundir._holder
    (tmp_path / LEASE).write_text(json.dumps({"token": "t", "pid": 1, "host": "elsewhere", "time": 0}))

    def first_is_faster(storage: Storage, seconds: float) -> None:
        monkeypatch.setattr(rundir, "_holder", holder)
        assert rundir._claim(storage, "first", seconds)

    monkeypatch.setattr(rundir, "_holder", first_is_faster)
    assert not rundir._claim(storage, "second", 30)
    assert json.loads((tmp_path / LEASE).read_text())["token"] == "first"
    assert [path.name for path in tmp_path.iterdir()] == [LEASE]


def test_many_claimants_of_a_stale_lease_go_one_after_the_other(tmp_path) -> None:
    (tmp_path / LEASE).write_text(json.dumps({"token": "t", "pid": 1, "host": "elsewhere", "time": 0}))
    inside, most = [], []

    def claim() -> None:
        with lease(Storage(tmp_path), seconds=3, wait=60):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 8


def test_a_late_claimant_does_not_take_the_fresh_lease_away(tmp_path, monkeypatch) -> None:
    """Two claimants see the same stale lease; the second reaches for it after the first has made its own."""
    (tmp_path / LEASE).write_text(json.dumps({"token": "t", "pid": 1, "host": "elsewhere", "time": 0}))
    storage = Storage(tmp_path)
    assert rundir._claim(storage, "first", 30)
    renamed: list[object] = []
    monkeypatch.setattr("os.rename", lambda *names: renamed.append(names))
    assert not rundir._claim(storage, "second", 30)
    assert not renamed
    assert rundir._is_ours(storage, "first")


def test_a_lease_where_there_are_no_hard_links(tmp_path, monkeypatch) -> None:
    """As on gcsfuse, SMB and exFAT."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    with lease(Storage(tmp_path)), pytest.raises(RunExists, match="in use by"), lease(Storage(tmp_path), wait=0):
        pass
    assert not (tmp_path / LEASE).exists()


def test_a_lease_on_an_object_store(bucket, tmp_path) -> None:
    storage = Storage(bucket.format(tmp_path.name))
    with lease(storage), pytest.raises(RunExists, match="in use by"), lease(storage, wait=0):
        pass
    assert not storage.exists(LEASE)


def test_a_winner_whose_fresh_lease_was_moved_and_put_back_has_it(tmp_path, monkeypatch) -> None:
    claim = rundir._claim

    def moved_at_that_moment(storage: Storage, token: str, seconds: float) -> bool:
        claim(storage, token, seconds)
        return False

    monkeypatch.setattr(rundir, "_claim", moved_at_that_moment)
    with lease(Storage(tmp_path), seconds=10, wait=0):
        pass

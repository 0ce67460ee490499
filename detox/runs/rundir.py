"""A run directory explains itself and resumes.

<run.storage>/<run.name>/
    config.json        resolved config, written first
    environment.json   versions, git commit, hardware
    metrics.jsonl      a line an event
    checkpoints/       Ray Train's, one folder a checkpoint
    trained/           what the last step left, where the job keeps it
    artifact/          the final model, Hugging Face layout, with its signed manifest.json
    baseline/          TF-IDF + logistic regression on the same rows
    summary.json       final figures, flat names
    report.html        the page to look at
    COMPLETE           written last
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detox.runs.config import JobConfig, RunSettings, differences, to_json
from detox.runs.environment import environment
from detox.runs.storage import Storage, create_alone

COMPLETE = "COMPLETE"
TRAINED = "trained"
DONE = "DONE"
"""Written last into `TRAINED`."""
LEASE = "lease.json"
LEASE_SECONDS = 30.0
LOCK_SECONDS = 2.0


class RunExists(ValueError):
    """The run name is taken in a way that the resume policy does not allow."""


class RunDirectory:
    """One run's folder. `open_run` makes it; workers rebuild it from its URI."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.name = storage.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def is_complete(self) -> bool:
        return self.storage.exists(COMPLETE)

    @property
    def uri(self) -> str:
        return self.storage.uri

    def read_json(self, name: str) -> dict[str, Any]:
        return json.loads(self.storage.read_text(name))

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.storage.write_text(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def summary(self) -> dict[str, Any]:
        return self.read_json("summary.json")

    @property
    def trained(self) -> Storage:
        """What `keep_trained` kept."""
        return self.storage.child(TRAINED)

    @property
    def is_trained(self) -> bool:
        return self.trained.exists(DONE)

    def keep_trained(self, folder: Path) -> None:
        """Keep what the last step left, from which the run is finished without training again."""
        self.storage.upload(folder, TRAINED)
        self.trained.write_text(DONE, "")

    def complete(self) -> None:
        """Mark the run as done: written last, so that its presence vouches for everything else."""
        self.storage.write_text(COMPLETE, time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))


def run_name(job: str, recipe: str, run: RunSettings) -> str:
    """`run.name`, or the stable `<job>-<recipe>-s<seed>`."""
    name = run.name or f"{job}-{recipe}-s{run.seed}".replace("_", "-")
    if "/" in name or name in {".", ".."} or name.startswith("."):
        raise ValueError(f"run.name must be one folder name without '/' or a leading dot, was {name!r}")
    return name


def open_run(config: JobConfig, job: str, recipe: str) -> RunDirectory:
    """The run's directory, new or to be resumed, checked before any work.

    Raises:
        RunExists: `resume="never"` and the run exists; `resume="must"` and it does not; or it has begun with another
            result-affecting setting (the differences are listed). A run that stopped before any work takes the
            corrected config.
        OSError: storage that cannot be written.
    """
    storage = Storage(config.run.storage).child(run_name(job, recipe, config.run))
    run = RunDirectory(storage)
    exists = storage.exists("config.json")
    if exists and config.run.resume == "never":
        raise RunExists(f"run {run.uri} exists and --run.resume is never: choose another --run.name, or delete it")
    if not exists and config.run.resume == "must":
        raise RunExists(f"run {run.uri} does not exist and --run.resume is must: check --run.storage and --run.name")
    begun = exists and _has_begun(storage)
    if exists:
        _refuse_another_job(run, job)
    if begun:
        _refuse_another_config(run, config)
    storage.check_writable()
    if not begun:
        header = {"_job": job, "_recipe": recipe}
        storage.write_text("config.json", json.dumps(header | json.loads(to_json(config)), indent=2) + "\n")
    if not run.is_complete:
        run.write_json("environment.json", environment())
    return run


def _has_begun(storage: Storage) -> bool:
    """Whether a run left anything that another config would spoil, or is at work."""
    found = {name for name in storage.names() if not name.startswith(".")}
    return bool(found - {"config.json", "environment.json", LEASE}) or _holder(storage, LEASE_SECONDS) is not None


def _refuse_another_job(run: RunDirectory, job: str) -> None:
    there = run.read_json("config.json").get("_job")
    if there != job:
        raise RunExists(f"run {run.uri} belongs to job {there!r}, not {job!r}: choose another --run.name")


def _refuse_another_config(run: RunDirectory, config: JobConfig) -> None:
    there = run.read_json("config.json")
    found = list(differences({k: v for k, v in there.items() if not k.startswith("_")}, config))
    if found:
        listed = "\n  ".join(found)
        raise RunExists(f"run {run.uri} exists with other settings; choose another --run.name:\n  {listed}")


@contextmanager
def lease(storage: Storage, seconds: float = LEASE_SECONDS, wait: float = 60.0) -> Iterator[None]:
    """Hold a folder alone. A holder that died without a word loses it after `seconds`, or at once if it was a
    process of this host that is gone. The holder renews it from a thread, and says so on stderr where another took the
    folder while this process stood still.

    Raises:
        RunExists: another live process holds the folder longer than `wait` seconds.
    """
    token = uuid.uuid4().hex
    deadline = time.monotonic() + wait
    while True:
        holder = _holder(storage, seconds)
        if _claim(storage, token, seconds) if holder is None else holder["token"] == token:
            break
        if holder is not None and time.monotonic() > deadline:
            raise RunExists(f"{storage.uri} is in use by process {holder['pid']} on {holder['host']}: wait, or stop it")
        time.sleep(min(1.0, seconds / 10))
    renewal = _Renewal(storage, token, seconds)
    renewal.start()
    try:
        yield
    finally:
        renewal.stop()


def _holder(storage: Storage, seconds: float, name: str = LEASE) -> dict[str, Any] | None:
    held = _read_lease(storage, name)
    if held is None or time.time() - held["time"] > seconds:
        return None
    if held["host"] == socket.gethostname() and not _alive(held["pid"]):
        return None
    return held


def _read_lease(storage: Storage, name: str = LEASE) -> dict[str, Any] | None:
    """What the lease says; None where there is none, or one half written by a process that died."""
    try:
        held: dict[str, Any] = json.loads(storage.read_text(name))
    except (json.JSONDecodeError, FileNotFoundError):
        return None
    return held


def _is_ours(storage: Storage, token: str) -> bool:
    held = _read_lease(storage)
    return held is not None and held["token"] == token


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _claim(storage: Storage, token: str, seconds: float) -> bool:
    """Take a free folder; False where another was faster. On a file system one of several makes the file; an object
    store has the last writer win, and each looks again before it believes."""
    if not storage.is_local:
        storage.write_text(LEASE, _lease_text(token))
        time.sleep(0.5)
        return _is_ours(storage, token)
    storage.make()
    with _alone(storage):
        if _holder(storage, seconds) is None:
            _remove_stale(storage, seconds)
        return create_alone(storage.local_path / LEASE, _lease_text(token).encode()) and _is_ours(storage, token)


@contextmanager
def _alone(storage: Storage) -> Iterator[None]:
    """Looking at a lease and changing it is one step, by a lock on the folder, which ends with its process. Where the
    file system has no such lock, or a process stands still within the step, the step goes on without it."""
    if not storage.is_local:
        yield
        return
    folder = os.open(storage.local_path, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.005)
            except OSError:
                break
        yield
    finally:
        os.close(folder)


def _remove_stale(storage: Storage, seconds: float) -> None:
    """Remove a lease that expired or whose holder is dead. Where the folder could not be locked, one of several
    claimants wins the rename; a late one may catch the winner's fresh lease, and puts it back: `lease` finds it at its
    next look."""
    aside = storage.local_path / f".{LEASE}.{uuid.uuid4().hex}"
    try:
        os.rename(storage.local_path / LEASE, aside)
    except FileNotFoundError:
        return  # there was none, or another claimant was faster
    if _holder(storage, seconds, aside.name) is not None:
        create_alone(storage.local_path / LEASE, aside.read_bytes())
    aside.unlink()


def _lease_text(token: str) -> str:
    return json.dumps({"token": token, "pid": os.getpid(), "host": socket.gethostname(), "time": time.time()})


class _Renewal:
    def __init__(self, storage: Storage, token: str, seconds: float) -> None:
        self._storage, self._token, self._seconds = storage, token, seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="run lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()
        try:
            with _alone(self._storage):
                if _is_ours(self._storage, self._token):
                    self._storage.delete(LEASE)
        except Exception as error:  # the work is done, and file systems' libraries raise what they like
            print(f"{self._storage.uri}/{LEASE} stays until it expires: {error}", file=sys.stderr)

    def _run(self) -> None:
        while not self._done.wait(self._seconds / 3):
            try:
                with _alone(self._storage):
                    held = _read_lease(self._storage)
                    if held is None or held["token"] == self._token:
                        self._storage.write_text(LEASE, _lease_text(self._token))
                        continue
                print(
                    f"{self._storage.uri} was taken by process {held['pid']} on {held['host']} while this process "
                    f"stood still for more than {self._seconds:g} s: stop one of the two",
                    file=sys.stderr,
                )
                return
            except Exception:  # a hiccup of the storage, whose library raises what it likes
                continue  # the next turn comes before the lease expires

"""What a killed build leaves behind does not hold up the next run; a build under way is waited for."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from detox.classifier.zero import await_builds, deepspeed_config


def build(folder: Path, age: float) -> Path:
    """A build's folder whose files were last written `age` seconds ago; returns its lock."""
    place = folder / "py311_cpu" / "deepspeed_shm_comm"
    place.mkdir(parents=True)
    for name in ("lock", "shm.o"):
        (place / name).touch()
        os.utime(place / name, (time.time() - age, time.time() - age))
    return place / "lock"


def test_the_lock_of_a_dead_process_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = build(tmp_path, age=400)
    await_builds(tmp_path, every=0.01)
    assert not lock.exists()
    assert (lock.parent / "shm.o").exists()
    assert f"removed {lock}" in capsys.readouterr().out


def test_a_build_under_way_is_waited_for(tmp_path: Path) -> None:
    lock = build(tmp_path, age=1)
    began = time.monotonic()
    threading.Timer(0.3, lock.unlink).start()
    await_builds(tmp_path, every=0.01)
    assert 0.3 <= time.monotonic() - began < 5


def test_one_that_dies_meanwhile_is_given_up(tmp_path: Path) -> None:
    """Its lock is new, but nothing is written any more."""
    lock = build(tmp_path, age=0)
    await_builds(tmp_path, dead_after=0.2, every=0.01)
    assert not lock.exists()


def test_nothing_to_wait_for(tmp_path: Path) -> None:
    await_builds(tmp_path / "none", every=60)


def test_stage_3_gathers_its_weights() -> None:
    assert deepspeed_config("zero2")["zero_optimization"]["stage"] == 2
    assert deepspeed_config("zero3")["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True

"""metrics.jsonl is always written, survives a kill, and a resumed run overwrites what it repeats."""

import json
from typing import Any

import pytest

from detox.runs.config import TrackingSettings, WandbSettings
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage
from detox.runs.tracking import Tracker, read_metrics


def test_events_in_order(tmp_path) -> None:
    run = RunDirectory(Storage(tmp_path))
    tracker = Tracker(run, TrackingSettings(), {})
    tracker.log("train", 1, {"loss": 0.5})
    tracker.log("validation", 1, {"roc_auc/macro": float("nan")})
    events = read_metrics(run)
    assert [(e["event"], e["step"]) for e in events] == [("train", 1), ("validation", 1)]
    assert events[1]["roc_auc/macro"] is None  # JSON has no NaN


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path) -> None:
    run = RunDirectory(Storage(tmp_path))
    tracker = Tracker(run, TrackingSettings(), {})
    for step in (10, 20, 30):
        tracker.log("train", step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "tra')  # killed while writing
    Tracker(run, TrackingSettings(), {}, resume_step=20).log("train", 30, {"loss": 0})
    assert [(e["step"], e["loss"]) for e in read_metrics(run)] == [(10, 10), (20, 20), (30, 0)]


def test_an_object_store_is_rewritten_at_validations_and_at_the_end(bucket, tmp_path) -> None:
    run = RunDirectory(Storage(bucket.format(tmp_path.name)))
    tracker = Tracker(run, TrackingSettings(), {})
    tracker.log("train", 1, {"loss": 1.0})
    assert read_metrics(run) == []  # at most every ten seconds
    tracker.log("validation", 1, {"loss": 0.5})
    assert [e["loss"] for e in read_metrics(run)] == [1.0, 0.5]
    tracker.log("train", 2, {"loss": 0.25})
    tracker.close()
    assert [e["loss"] for e in read_metrics(run)] == [1.0, 0.5, 0.25]


def test_wandb_without_a_key_goes_offline(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = RunDirectory(Storage(tmp_path / "r"))
    run.storage.make()
    tracker = Tracker(run, TrackingSettings(wandb=WandbSettings(project="p")), {"lr": 0.1})
    tracker.log("train", 1, {"loss": 1.0})
    tracker.close()
    assert list((tmp_path / "r" / "wandb").glob("offline-run-*/run-*.wandb"))


def test_tensorboard_by_config(tmp_path) -> None:
    run = RunDirectory(Storage(tmp_path))
    tracker = Tracker(run, TrackingSettings(tensorboard=True), {})
    tracker.log("train", 1, {"loss": 1.0})
    tracker.close()
    assert list((tmp_path / "tensorboard").glob("events.*"))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] == 1.0


def test_tensorboard_and_wandb_of_a_run_on_an_object_store(bucket, tmp_path, monkeypatch) -> None:
    """Written aside and uploaded, beside what the run wrote before it was resumed; nothing stays here."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name in ("home", "scratch", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path / "work")
    run = RunDirectory(Storage(bucket.format(tmp_path.name)))
    run.storage.child("tensorboard").write_text("events.before", "")
    tracker = Tracker(run, TrackingSettings(tensorboard=True, wandb=WandbSettings(project="p")), {"lr": 0.1})
    tracker.log("train", 1, {"loss": 1.0})
    tracker.close()
    before, written = run.storage.child("tensorboard").names()
    assert before == "events.before"
    assert written.startswith("events.out.tfevents")
    (offline,) = [name for name in run.storage.child("wandb").names() if name.startswith("offline-run-")]
    assert any(name.endswith(".wandb") for name in run.storage.child("wandb", offline).names())
    assert not list((tmp_path / "work").iterdir())
    assert not list((tmp_path / "scratch").glob("detox-tracking-*"))


@pytest.mark.parametrize(
    ("variables", "mode"),
    [({}, "offline"), ({"WANDB_API_KEY": "k"}, None), ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, None)],
)
def test_wandb_is_put_offline_only_where_there_is_no_key_and_no_mode(
    tmp_path, monkeypatch, variables: dict[str, str], mode: str | None
) -> None:
    """A mode that is passed would win over the user's WANDB_MODE."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    passed: dict[str, Any] = {}
    monkeypatch.setattr("wandb.init", lambda **settings: passed.update(settings))
    Tracker(RunDirectory(Storage(tmp_path)), TrackingSettings(wandb=WandbSettings(project="p")), {})
    assert passed["mode"] == mode

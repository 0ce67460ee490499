"""What is refused before Ray does any work: paths that would be looked for elsewhere, room that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from detox.runs.config import ScalingSettings, override
from detox.runs.storage import Storage
from rayjobs.ray_glue.launch import _paths, check_paths, check_room, check_seen
from rayjobs.score_corpus import default
from rayjobs.train_classifier import minilm

ABSOLUTE = {"run.storage": "/mnt/runs", "data.source": ("/mnt/comments.csv",)}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("run.storage", "runs"),
        ("data.source", ("comments.csv",)),
        ("data.source", ("parts/*.csv",)),
        ("data.source", ("prepared",)),
        ("data.local", "jigsaw"),
        ("model.name", "./run"),
        ("model.name", "prepared"),
        ("submission", "test.csv"),
        ("submission", "test@home.csv"),
    ],
)
def test_a_submitted_job_takes_no_relative_path(
    setting: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prepared").mkdir()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    check_paths(override(minilm(), ABSOLUTE))
    with pytest.raises(
        ValueError, match=f"{setting} is the relative path .* give an absolute path that every node sees"
    ):
        check_paths(override(minilm(), ABSOLUTE | {setting: value}))


@pytest.mark.parametrize("name", ["embedded/minilm", "owner/name@main", "tiny/bert", "s3://bucket/run", "/mnt/run"])
def test_names_of_models_are_no_paths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    check_paths(override(minilm(), ABSOLUTE | {"model.name": name}))


@pytest.mark.parametrize("model", ["tfidf:folder", "lexicon:words.txt", "./run"])
def test_a_scorer_may_name_a_path(model: str) -> None:
    assert _paths(override(default(), {"model": model}))["model"] == [model.partition(":")[2] or model]


def test_workers_of_a_cluster_open_no_relative_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver alone opens, the storage and the data, may be relative: it stays where it is."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check_paths(override(minilm(), {"run.storage": "runs", "data.source": ("comments.csv",)}))
    with pytest.raises(ValueError, match="model.name is the relative path './run', and the workers of a cluster"):
        check_paths(override(minilm(), {"model.name": "./run"}))
    with pytest.raises(ValueError, match=r"model is the relative path .*every node sees$"):
        check_paths(override(default(), {"model": "tfidf:folder"}))


def test_more_workers_than_there_is_room_for() -> None:
    with pytest.raises(ValueError, match=r"asks for 8 CPU \(4 workers of 2\) and Ray has 2 .* lower --scaling"):
        check_room(ScalingSettings(num_workers=4, resources_per_worker={"CPU": 2}), {"CPU": 2.0})
    with pytest.raises(ValueError, match=r"asks for 2 GPU \(2 workers of 1\) and Ray has 0"):
        check_room(ScalingSettings(num_workers=2, use_gpu=True), {"CPU": 2.0})


def test_a_node_that_does_not_see_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"does not see .*data, which the driver does: let data.source be a folder"):
        check_seen(Storage(tmp_path), Storage(tmp_path / "data"))
    with pytest.raises(ValueError, match=r"let run.storage be a folder that is mounted on every node, or a URI"):
        check_seen(Storage(tmp_path / "run"), Storage(tmp_path))

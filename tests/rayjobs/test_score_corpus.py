"""The job `score_corpus`: its output, resuming, what it refuses before any work, Ray Data beside one process."""

from __future__ import annotations

import json
import os
import pickle
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detox.classifier import corpus
from detox.classifier.corpus_reading import open_corpus
from detox.classifier.lexicon import LexiconScorer
from detox.classifier.scorer import Scores, load_scorer
from detox.models import tiny
from detox.runs.config import override
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage
from rayjobs import cli
from rayjobs.ray_glue import shards
from rayjobs.ray_glue.corpus_job import named
from rayjobs.ray_glue.shards import ShardWorker, check_room
from rayjobs.score_corpus import JOB, RECIPES, SCORING, loader, run

TEXTS = ["thank you", "you idiot", None, "été 猫", "", "stupid page", "line\nbreak"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus and a lexicon; no Ray may start."""
    monkeypatch.setattr("rayjobs.ray_glue.launch.connect", lambda _: pytest.fail("Ray was started"))
    write_input(tmp_path)
    (tmp_path / "terms.txt").write_text("idiot\nstupid\n")
    return tmp_path


def write_input(folder: Path) -> None:
    pq.write_table(pa.table({"id": range(7), "text": TEXTS, "toxic": ["x"] * 7}), folder / "in.parquet")


def main(place: Path, *words: str, output: str = "out.parquet", **changes: str) -> None:
    settings = {
        "model": f"lexicon:{place / 'terms.txt'}",
        "input": str(place / "in.parquet"),
        "output": str(place / output),
        "workers": "0",
        "shard-rows": "2",
        "run.storage": str(place / "runs"),
    } | changes
    cli.main(JOB, "", RECIPES, run, ["default", *(w for k, v in settings.items() for w in (f"--{k}", v)), *words])


def refused(place: Path, capsys: pytest.CaptureFixture[str], *words: str, **changes: str) -> str:
    """The sentence with which a run ends before it has begun."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(place, *words, **changes)
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def run_folder(place: Path) -> Path:
    (folder,) = (place / "runs").iterdir()
    return folder


def test_a_corpus_is_scored(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(place)
    output = pq.read_table(place / "out.parquet")
    scorer = load_scorer(f"lexicon:{place / 'terms.txt'}")
    name = "score_toxic"  # `toxic` is a column of the input
    assert output.column_names == ["id", "text", "toxic", name]
    assert output["text"].to_pylist() == TEXTS
    expected = iter(scorer.score([text for text in TEXTS if text is not None]).values_NL[:, 0].tolist())
    assert output[name].to_pylist() == [None if text is None else next(expected) for text in TEXTS]
    assert output[name].to_pylist().count(1.0) == 2
    said = capsys.readouterr().out
    assert "scored 7 of 7 rows" in said
    assert f"7 rows scored: {name}; 1 of them have no text and null scores\noutput: {place}/out.parquet" in said
    folder = run_folder(place)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["rows"], summary["rows_without_text"], summary["rows_refused"]) == (7, 1, 0)
    assert (folder / "COMPLETE").exists()
    assert not (folder / "shards").exists()
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["rows"] == 7


def test_the_same_command_again_has_nothing_to_do(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(place)
    before = (place / "out.parquet").stat().st_mtime_ns
    monkeypatch.setattr(LexiconScorer, "score", lambda *_: pytest.fail("scored again"))
    for words in ([], ["--overwrite", "True"]):
        main(place, *words)
        assert f"already complete: {place}/out.parquet" in capsys.readouterr().out
    assert (place / "out.parquet").stat().st_mtime_ns == before


def test_an_output_that_went_is_made_again(place: Path) -> None:
    main(place)
    first = (place / "out.parquet").read_bytes()
    (place / "out.parquet").unlink()
    main(place)
    assert (place / "out.parquet").read_bytes() == first


def test_another_output_is_not_overwritten_unasked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "out.parquet").write_text("precious")
    assert "exists and is not, or no longer, what this command wrote" in refused(place, capsys)
    assert (place / "out.parquet").read_text() == "precious"
    said = refused(place, capsys, "--overwrite", "True", output="in.parquet")
    assert "in.parquet is one of the files that --input matches" in said
    assert not (place / "runs").exists()
    main(place, "--overwrite", "True")
    assert pq.read_table(place / "out.parquet").num_rows == 7


def test_changed_contents_are_another_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default under another name; under a name that is given, refused."""
    main(place, **{"run.name": "mine"})
    (place / "terms.txt").write_text("page\n")
    said = refused(place, capsys, **{"run.name": "mine"})
    assert "the model has changed since run" in said
    said = refused(place, capsys, output="other.parquet", **{"run.name": "mine"})
    assert "exists with other settings; choose another --run.name: output:" in said
    main(place, output="other.parquet")
    assert len(list((place / "runs").iterdir())) == 2


@pytest.mark.parametrize("times", [1, 3])
def test_a_killed_run_goes_on(
    place: Path, times: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four shards, killed in the second, or in each of three calls after one more: every row is scored once."""
    whole = LexiconScorer.score
    seen: list[str] = []
    calls = 0

    def once_then_killed(self: LexiconScorer, texts: Sequence[str]) -> Scores:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise KeyboardInterrupt
        seen.extend(texts)
        return whole(self, texts)

    monkeypatch.setattr(LexiconScorer, "score", once_then_killed)
    for _ in range(times):
        with pytest.raises(KeyboardInterrupt):
            main(place)
        assert not (place / "out.parquet").exists()
    monkeypatch.setattr(LexiconScorer, "score", lambda self, texts: seen.extend(texts) or whole(self, texts))
    main(place)
    assert seen == [text for text in TEXTS if text is not None]
    assert f"going on: {2 * times} of 7 rows are scored" in capsys.readouterr().out
    assert pq.read_table(place / "out.parquet")["text"].to_pylist() == TEXTS


def test_killed_between_the_output_and_its_completion(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is known as the run's own, and nothing is scored again."""
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "complete", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            main(place)
    assert (place / "out.parquet").exists()
    monkeypatch.setattr(LexiconScorer, "score", lambda *_: pytest.fail("scored again"))
    main(place)
    assert (run_folder(place) / "COMPLETE").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": ""}, "no model is given"),
        ({"model": "no-such-model"}, "'no-such-model' is no folder here, and hub models are written owner/name"),
        ({"model": "detoxify/orginal"}, "there is no detoxify/orginal"),
        ({"input": "{place}/gone.csv"}, "no file matches --input"),
        ({"input": "{place}/terms.txt"}, "has an unknown ending"),
        ({"text-column": "body"}, "has no column 'body'; it has 'id', 'text', 'toxic': name one with --text-column"),
        ({"text-column": "id"}, "holds int64, not text"),
        ({"output": "out.xlsx"}, "has an unknown ending"),
        ({"output": "terms.txt/out.csv"}, "cannot be written"),
        ({"shard-rows": "0"}, "greater than or equal to 1"),
    ],
)
def test_bad_input_stops_before_work(
    place: Path, changes: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {key: value.format(place=place) for key, value in changes.items()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(place, **given)
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (place / "runs").exists()


def test_runs_are_named_by_what_determines_the_output() -> None:
    config = override(RECIPES["default"](), {"model": "m", "input": "i.csv", "output": "o.csv"})
    facts = {"input": [["i.csv", "1"]], "model": {}}
    name = named(SCORING, config, facts).run.name
    assert name.startswith("score-corpus-")
    for same in ({"workers": 7}, {"overwrite": True}, {"run.storage": "elsewhere"}, {"tracking.tensorboard": True}):
        assert named(SCORING, override(config, same), facts).run.name == name
    for other in ({"model": "n"}, {"output": "p.csv"}, {"text_column": "body"}, {"shard_rows": 9}):
        assert named(SCORING, override(config, other), facts).run.name != name
    assert named(SCORING, config, facts | {"model": {"config.json": "1"}}).run.name != name


class DyingOnce(ShardWorker):
    """A worker that the system kills at shard 3, the first time."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        marker = self._run.local_path / "died"
        if row["shard"] == 3 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(row)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_workers_write_what_one_process_writes(
    tmp_path: Path, own_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neural model, five shards, two workers, one of which is killed, is replaced, and its shard scored again."""
    monkeypatch.setattr(shards, "ShardWorker", DyingOnce)
    options = {"num_labels": 2, "problem_type": "multi_label_classification", "initializer_range": 0.2}
    tiny.write_checkpoint("bert", tmp_path / "model", head="sequence_classification", **options)
    pq.write_table(pa.table({"id": range(49), "text": TEXTS * 7}), tmp_path / "in.parquet")
    words = {"model": str(tmp_path / "model"), "shard-rows": "10"}
    main(tmp_path, output="plain.parquet", **words)
    main(tmp_path, output="ray.parquet", **words | {"workers": "2"})
    plain, on_ray = pq.read_table(tmp_path / "plain.parquet"), pq.read_table(tmp_path / "ray.parquet")
    assert list((tmp_path / "runs").glob("*/died"))
    assert on_ray.select(["id", "text"]).equals(plain.select(["id", "text"]))
    for label in plain.column_names[2:]:
        expected = [None if score is None else pytest.approx(score, abs=1e-6) for score in plain[label].to_pylist()]
        assert on_ray[label].to_pylist() == expected
    with pytest.raises(ValueError, match="--workers 999 needs as many CPUs, and this machine has"):
        check_room(999, use_gpu=False)


def test_an_error_of_a_worker_comes_back_as_it_was_raised(place: Path) -> None:
    """Ray Data would put it into words of its own, after restarting a worker that fails while it starts."""
    opened, run_place = open_corpus(str(place / "in.parquet"), "text"), Storage(place / "run")
    plan = corpus.stage(opened, run_place, ("toxic",), 10, {})
    gone = override(RECIPES["default"](), {"model": "lexicon:gone"})
    outcome = ShardWorker(run_place.uri, plan, loader(gone, "cpu"))({"shard": 0})
    rows, error = pickle.loads(outcome["outcome"])
    assert isinstance(error, ValueError)
    assert (rows, str(error)[:28]) == (0, "lexicon gone does not exist:")

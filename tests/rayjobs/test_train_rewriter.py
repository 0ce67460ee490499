"""The rewriter's job: pairs in, artifact and report out; on real Ray a killed driver changes nothing."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import psutil
import pytest

import detox
from benchmarks.ablation import unseen
from detox.data.pairs.prepared import cases
from detox.data.synthetic_pairs import generate_pairs
from detox.evaluation.judges import offline_judges
from detox.governance.manifest import verify_manifest
from detox.rewriter.comparison import judged_systems
from detox.rewriter.evaluation import Judged, judge
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.rerank import How
from detox.rewriter.settings import StageSettings, TrainRewriterConfig
from detox.runs.config import override, to_json
from rayjobs import train_rewriter
from rayjobs.train_rewriter import DEMO_HABIT, demo, demo_baseline


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """240 synthetic pairs, one without a target and one that is no JSON."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = [json.dumps(pair) for pair in generate_pairs(240)]
    path.write_text("\n".join([*lines, json.dumps({"toxic": "you idiot", "neutral": "", "lang": "en"}), "{no json"]))
    return path


def config(source: Path, storage: Path, **patch: object) -> TrainRewriterConfig:
    """Two short stages of a small model with a copy head."""
    small = {
        "data.source": (str(source),),
        "model.name": "tiny/copy_t5",
        "model.tiny_width": 16,
        "model.tiny_layers": 1,
        "model.tiny_vocabulary": 400,
        "model.max_target_tokens": 32,
        "batch.size": 16,
        "batch.per_forward": 8,
        "optimiser.precision": "fp32",
        "optimiser.lr": 1e-3,
        "checkpoints.every_steps": 4,
        "evaluation.stage_texts": 8,
        "evaluation.test_texts": 10,
        "tracking.log_every": 1,
        "curriculum.stages": (StageSettings(stage="easy", epochs=3), StageSettings(stage="full", epochs=1)),
        "scaling.num_workers": 0,
        "run.storage": str(storage),
        "run.name": "run",
    }
    return override(TrainRewriterConfig(), small | patch)


@pytest.fixture(scope="module")
def inside(source: Path, tmp_path_factory) -> Path:
    """A finished run in this process."""
    storage = tmp_path_factory.mktemp("inside")
    train_rewriter.run(config(source, storage), "demo")
    return storage / "run"


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"data.judge_share": 0.0}, "no pairs to train the judges on: set --data.judge-share above 0"),
        ({"data.split.ratios": (0.9, 0.1, 0.0)}, "no pairs to test the rewriter on"),
    ],
)
def test_what_only_the_report_would_miss_is_missed_before_training(source, tmp_path, patch, said) -> None:
    with pytest.raises(ValueError, match=said):
        train_rewriter.run(config(source, tmp_path, **patch), "demo")
    assert not list((tmp_path / "stages").glob("rewriter-*"))


def test_pairs_in_artifact_and_report_out(inside: Path) -> None:
    summary = json.loads((inside / "summary.json").read_text())
    assert {
        "j_2024/full",
        "copy/greedy",
        "j_2024/copy",
        "j_2024/delete",
        "copy_rate/stage/1-easy",
        "bert_score/stage/2-full",
    } <= summary.keys()
    assert verify_manifest(inside / "artifact")["classification"] == "open"
    assert "<svg" in (inside / "report.html").read_text()
    events = [json.loads(line) for line in (inside / "metrics.jsonl").read_text().splitlines()]
    assert {event["stage"] for event in events} == {"1-easy", "2-full"}
    steps = [event["step"] for event in events if event["event"] == "train"]
    assert steps == sorted(set(steps))  # counted over both stages


def test_its_artifact_rewrites(inside: Path) -> None:
    (rewrite,) = detox.Rewriter.load(str(inside)).rewrite("You are an idiot, look at the map again.", lang="en")
    assert rewrite.text
    assert rewrite.how in get_args(How)


def test_bad_pairs_are_kept_with_their_reason(inside: Path) -> None:
    (pairs,) = (inside.parent / "stages").glob("pairs-*")
    assert {"missing_side", "malformed_row"} <= json.loads((pairs / "pairs.json").read_text())["refused"].keys()


def test_the_same_command_again_ends_at_once(source: Path, inside: Path, capsys) -> None:
    train_rewriter.run(config(source, inside.parent), "demo")
    assert "already complete" in capsys.readouterr().out


def test_a_stage_without_pairs_stops_before_any_training(source: Path, tmp_path: Path) -> None:
    none_hard = {
        "data.difficulty.borders": "fixed",
        "data.difficulty.easy_until": 0.98,
        "data.difficulty.medium_until": 0.99,
        "curriculum.stages": (StageSettings(stage="easy"), StageSettings(stage="hard")),
    }
    with pytest.raises(ValueError, match="stage 2, hard, has no pairs"):
        train_rewriter.run(config(source, tmp_path, **none_hard), "demo")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"model.name": "tiny/bert"}, "tiny/bert is a bert, and a rewriter is an encoder-decoder: name a T5"),
        ({"model.name": "tiny/t6"}, "there is no tiny/t6: choose one of"),
        ({"model.name": "nowhere"}, "model 'nowhere' is no folder here"),
        ({"evaluation.judges": "pan2026"}, "model 'pan2026' is no folder here"),
        ({"evaluation.judges": "lexicon:nowhere.txt"}, "nowhere.txt"),
    ],
)
def test_a_model_or_judge_that_is_not_there_stops_before_any_work(source, tmp_path, patch, said) -> None:
    with pytest.raises(ValueError, match=said):
        train_rewriter.run(config(source, tmp_path, **patch), "demo")
    assert not list(tmp_path.iterdir())


def test_pairs_that_the_model_cannot_read_are_kept_with_their_reason(inside: Path) -> None:
    """Of rewrites the longer ones are in the run's rejects, in its summary and in its report."""
    refused = [json.loads(line) for line in (inside / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["rule"] for row in refused} == {"too_many_tokens"}
    assert all(row["toxic"] and row["neutral"] and "tokens, and" in row["reason"] for row in refused)
    assert json.loads((inside / "summary.json").read_text())["refused/too_many_tokens"] == len(refused) > 0
    assert "a side has more tokens than the model reads or writes" in (inside / "report.html").read_text(
        encoding="utf-8"
    )


def test_the_rewriter_of_an_earlier_stage_needs_no_training(source: Path, inside: Path) -> None:
    """The same schedule without its last stage: its stage is in the store, and the new run writes its artifact."""
    first = override(config(source, inside.parent), {"curriculum.stages": (StageSettings(stage="easy", epochs=3),)})
    train_rewriter.run(override(first, {"run.name": "first"}), "demo")
    events = [json.loads(line)["event"] for line in (inside.parent / "first" / "metrics.jsonl").open(encoding="utf-8")]
    assert "train" not in events
    earlier, later = (json.loads((inside.parent / name / "stages.json").read_text()) for name in ("first", "run"))
    assert earlier["weights"] == later["weights"][:1]
    assert detox.Rewriter.load(str(inside.parent / "first")).rewrite("you idiot")[0].how in get_args(How)


def test_a_missing_source_stops_before_the_run_takes_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere.csv"):
        train_rewriter.run(config(tmp_path / "nowhere.csv", tmp_path), "demo")
    assert not (tmp_path / "run").exists()


def command(source: Path, storage: Path) -> list[str]:
    """The same on Ray, with two workers."""
    path = storage / "config.json"
    storage.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(config(source, storage, **{"scaling.num_workers": 2})))
    return [sys.executable, "-m", "rayjobs.train_rewriter", str(path)]


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {"PYTHONUNBUFFERED": "1"}


def run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def outcome(directory: Path) -> tuple[str, dict[str, object]]:
    """Weights and figures, which must be equal to the last bit."""
    weights = hashlib.sha256((directory / "artifact" / "model.safetensors").read_bytes()).hexdigest()
    return weights, json.loads((directory / "summary.json").read_text())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_killed_driver_and_the_same_command_change_nothing(source: Path, tmp_path: Path) -> None:
    """Killed in the second stage; the first is then taken from the store, the second goes on at its checkpoint."""
    assert "report:" in run(command(source, tmp_path / "whole"))
    words = command(source, tmp_path / "killed")
    directory = tmp_path / "killed" / "run"
    driver = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not (directory / "metrics.jsonl").exists() or "2-full" not in (directory / "metrics.jsonl").read_text():
        assert driver.poll() is None, "the run ended before it could be interrupted"
        assert time.monotonic() < deadline, "the second stage did not begin in three minutes"
        time.sleep(0.02)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    run(words)
    assert outcome(directory) == outcome(tmp_path / "whole" / "run")
    psutil.wait_procs(children, timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_shows_s2s_problem_and_its_end(tmp_path: Path) -> None:
    """S2 5.1, on texts that none has seen: the baseline copies most of its inputs; the curriculum alone at most a
    quarter and less than the baseline does after as many steps; with decoding at most a tenth, at a higher J, as near
    to the sources as people's rewrites are but for 0.05. `benchmarks.ablation` shows three seeds."""
    as_long = StageSettings(stage="full", epochs=5, lr=2e-3)
    configs = {
        "baseline": demo_baseline(),
        "as-long": override(demo_baseline(), {"curriculum.stages": (DEMO_HABIT, as_long)}),
        "demo": demo(),
    }
    common = {"scaling.num_workers": 0, "run.storage": str(tmp_path), "evaluation.test_texts": 20}
    for name, recipe in configs.items():
        train_rewriter.run(override(recipe, common | {"run.name": name}), name)
    pairs = unseen(tmp_path / "pairs", demo().data.limit)
    wanted, judge_rows = cases(pairs.part("test")), pairs.part("judge")
    judges, lexicon = offline_judges(judge_rows), Lexicon.fit((row.lang, row.toxic, row.neutral) for row in judge_rows)
    found: dict[str, Judged] = {}
    for name in configs:
        variants = ("greedy", "full") if name == "demo" else ("greedy",)
        rewriter = detox.Rewriter.load(str(tmp_path / name))
        for system in judged_systems(rewriter, wanted, judges, lexicon, variants, name):
            found[system.name] = system.judged
    alone, full = found["demo/greedy"], found["demo/full"]
    assert found["baseline/greedy"].mean("copy") >= 0.5
    assert alone.mean("copy") <= 0.25
    assert alone.mean("copy") < found["as-long/greedy"].mean("copy")
    assert full.mean("copy") <= 0.10
    assert full.mean("j_2024") > alone.mean("j_2024") > found["as-long/greedy"].mean("j_2024")
    people = judge("people", [case.references[0] for case in wanted], wanted, judges, lexicon)
    assert full.mean("similarity") >= people.mean("similarity") - 0.05

"""Aligning a rewriter from its artifact to the next: what a run leaves, and that a stop changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import detox
from detox.alignment.settings import AlignPolicyConfig
from detox.governance.manifest import verify_manifest
from detox.runs.config import override
from detox.runs.storage import Storage
from rayjobs import align_policy, cli, train_rewriter
from tests.rewriter.artifacts import write_rewriter
from tests.serve.models import write_classifier


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "words.txt").write_text("idiot\nmoron\nstupid\nplonker\n")
    return write_rewriter(folder / "rewriter"), folder / "words.txt"


def config(models: tuple[Path, Path], storage: Path, **patch: Any) -> AlignPolicyConfig:
    rewriter, words = models
    return override(
        align_policy.rewriter_ppo(),
        {
            "policy.name": str(rewriter),
            "run.storage": str(storage),
            "data.source": ("synthetic_pairs",),
            "data.limit": 400,
            "reward.scorer": f"lexicon:{words}",
            "ppo.iterations": 3,
            "ppo.prompts": 8,
            "ppo.minibatches": 2,
            "ppo.max_new_tokens": 12,
            "ppo.precision": "fp32",
            "checkpoints.every": 1,
            "evaluation.test_texts": 20,
            "scaling.num_workers": 0,
            **patch,
        },
    )


def test_a_rewriter_comes_out_that_can_be_loaded(models: tuple[Path, Path], tmp_path: Path) -> None:
    summary = align_policy.run(config(models, tmp_path), "rewriter_ppo")
    run = tmp_path / "align_policy-rewriter_ppo-s42"
    run = run if run.is_dir() else next(path for path in tmp_path.iterdir() if (path / "COMPLETE").exists())
    assert "the greedy outputs change in toxicity by" in summary["headline"]
    assert {"change/toxicity_after/greedy", "change_low/similarity/full"} <= summary.keys()
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events] == [1, 2, 3]
    assert {"reward", "kl", "kl_coefficient", "rewards/toxicity/mean", "rewards/similarity/mean"} <= events[-1].keys()
    page = (run / "report.html").read_text()
    assert "From start to aligned" in page
    assert "KL to the reference" in page
    assert "was not trained on these prepared pairs" in page
    [rewrite] = detox.Rewriter.load(str(run)).rewrite(["you are a stupid idiot"], "en")
    assert rewrite.text


def test_a_run_that_was_stopped_leaves_the_same_weights(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    align_policy.run(config(models, tmp_path / "whole"), "rewriter_ppo")
    from detox.alignment.ppo import PpoTrainer

    step = PpoTrainer.step

    def stops(self: PpoTrainer) -> Any:
        if self.iteration == 2:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(PpoTrainer, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        align_policy.run(config(models, tmp_path / "stopped"), "rewriter_ppo")
    monkeypatch.setattr(PpoTrainer, "step", step)
    upload = Storage.upload
    monkeypatch.setattr(Storage, "upload", lambda *args: fails(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):  # after the last checkpoint
        align_policy.run(config(models, tmp_path / "stopped"), "rewriter_ppo")
    monkeypatch.setattr(Storage, "upload", upload)
    align_policy.run(config(models, tmp_path / "stopped"), "rewriter_ppo")
    states = [
        torch.load(next(tmp_path.glob(f"{name}/*/trained/ppo.pt")), weights_only=True) for name in ("whole", "stopped")
    ]
    assert states[0]["kl_controller"] == states[1]["kl_controller"]
    for name, weight in states[0]["weights"].items():
        assert torch.equal(weight, states[1]["weights"][name]), name


def fails(error: Exception) -> None:
    raise error


def test_adapters_are_merged_into_what_they_were_trained_on(models: tuple[Path, Path], tmp_path: Path) -> None:
    align_policy.run(config(models, tmp_path, **{"policy.lora.rank": 4, "ppo.iterations": 1}), "rewriter_ppo")
    run = next(path.parent for path in tmp_path.glob("*/COMPLETE"))
    assert (run / "artifact" / "model.safetensors").is_file()
    assert detox.Rewriter.load(str(run)).rewrite(["you are a stupid idiot"], "en")


@pytest.mark.parametrize(
    ("patch", "rule"),
    [
        ({"policy.name": "nowhere/at/all"}, "no rewriter"),
        ({"reward.scorer": "nowhere/at/all"}, "nowhere/at/all"),
        ({"reward.label": "polite"}, "no label 'polite'"),
        ({"scaling.num_workers": 5}, "too few for 5 workers"),
        ({"reward.pool.actors": 2}, "trains in this process without Ray"),
        ({"languages": ("de",)}, "no texts in de"),
        ({"policy.lora.rank": 4, "policy.lora.target_modules": ("nothing",)}, "nothing"),
    ],
)
def test_what_cannot_work_stops_before_any_training(
    models: tuple[Path, Path], tmp_path: Path, patch: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        align_policy.run(config(models, tmp_path, **patch), "rewriter_ppo")
    assert not list(tmp_path.glob("*/checkpoints/*"))


def test_the_demo_goes_on_from_the_other_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both have left their runs, the command needs nothing but its name; here with fewer steps and texts."""
    monkeypatch.chdir(tmp_path)
    write_rewriter(tmp_path / align_policy.DEMO_REWRITER)
    write_classifier(tmp_path / align_policy.DEMO_CLASSIFIER)
    for made in align_policy.MADE_BY:
        (tmp_path / made / "COMPLETE").touch()
    short = ["--ppo.iterations", "2", "--ppo.prompts", "8", "--ppo.max-new-tokens", "12", "--data.limit", "400"]
    words = ["demo", *short, "--evaluation.test-texts", "20"]
    cli.main(align_policy.JOB, "", align_policy.RECIPES, align_policy.run, [*words, "--scaling.num-workers", "0"])
    run = tmp_path / "runs/align-policy-demo-s42"
    assert (run / "COMPLETE").exists()
    manifest = verify_manifest(run / "artifact")
    assert len(manifest["parents"]) == 2
    assert "in toxicity by" in json.loads((run / "summary.json").read_text())["headline"]


def test_checkpointing_that_ppo_does_not_do_is_refused() -> None:
    """By a setting that finetune has, and that PPO has elsewhere."""
    with pytest.raises(ValueError, match=r"set ppo\.gradient_checkpointing instead"):
        override(
            align_policy.scratch_lm_ppo(),
            {"reward.scorer": "x", "evaluation.judge": "y", "model.gradient_checkpointing": True},
        )


@pytest.mark.parametrize("there", [[], [align_policy.DEMO_REWRITER]])
def test_the_demo_says_what_to_run_first(there: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both commands, in the order of the README, or the one that has not been run to its end."""
    monkeypatch.chdir(tmp_path)
    for name in there:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "COMPLETE").touch()
    with pytest.raises(ValueError, match="run `python -m rayjobs.train_classifier demo`") as raised:
        align_policy.run(align_policy.demo(), "demo")
    assert ("`python -m rayjobs.train_rewriter demo` first" in str(raised.value)) == (not there)


def test_the_demo_learns_from_what_its_rewriter_was_trained_on() -> None:
    """The same pairs and seed, so that the same texts are held out."""
    ours, theirs = align_policy.demo(), train_rewriter.demo()
    assert (ours.data, ours.run.seed) == (theirs.data, theirs.run.seed)


def test_the_rewards_scorer_is_no_judge(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot judge what comes of it"):
        config(models, tmp_path, **{"evaluation.judges": f"lexicon:{models[1]}"})

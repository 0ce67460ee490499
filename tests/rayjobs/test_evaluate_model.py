"""The job `evaluate_model`: what it leaves, how it goes on, what it compares, what it refuses. Without Ray."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from detox.evaluation import generation_run
from detox.evaluation.generation import Continuer
from detox.evaluation.generation_settings import CONSTRAINED
from detox.models import tiny
from detox.models.loading import PINNED
from rayjobs import cli, evaluate_model
from rayjobs.evaluate_model import JOB, RECIPES, run
from tests.hub import run_python, stub_hub
from tests.hub_contents import JIGSAW_LABELS, write_csv, write_datasets

PROMPTS = ["Please stop", "You are an idiot and nobody", "What a great game", "Thank you", "Shut up, you", "The source"]
LONG = "a " * 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts, two of which cannot be continued, a model, another one, and a lexicon that judges."""
    place = tmp_path_factory.mktemp("evaluate-model")
    rows = [{"prompt": prompt} for prompt in (*PROMPTS, " ", LONG)]
    write_csv(place / "prompts.csv", rows)
    tiny.write_checkpoint("gpt2", place / "model", head="causal_lm")
    tiny.write_checkpoint("gpt2", place / "other", head="causal_lm", seed=1)
    (place / "terms.txt").write_text("a\ne\nthe\nyou\nis\n")
    return place


def main(place: Path, runs: Path | None = None, recipe: str = "default", **changes: str) -> None:
    settings = {
        "model": str(place / "model"),
        "judge": f"lexicon:{place / 'terms.txt'}",
        "language-model": "tiny/qwen2",
        "prompts.source": str(place / "prompts.csv"),
        "continuations": "3",
        "run.storage": str(runs or place / "runs"),
    } | changes
    given = [word for key, value in settings.items() for word in (f"--{key}", value)]
    cli.main(JOB, "", RECIPES, run, [recipe, *given])


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """A finished run, in chunks of two prompts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rayjobs.ray_glue.launch.connect", lambda _: pytest.fail("Ray was started"))
        patch.setattr(generation_run, "CHUNK", 2)
        main(place)
    return place / "runs" / "evaluate-model-default-s42"


def summary(folder: Path) -> dict[str, float]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_every_continuation_has_a_row_and_the_figures_follow(done: Path) -> None:
    rows = pq.read_table(done / "generations.parquet").to_pylist()
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    assert sorted(prompts) == sorted(PROMPTS)
    assert [row["number"] for row in rows] == [0, 1, 2] * 6
    assert {row["row"] for row in rows} == set(range(6))
    found = summary(done)
    by_prompt = [[row["toxicity"] for row in rows if row["prompt"] == prompt] for prompt in prompts]
    assert found["toxicity_rate"] == pytest.approx(sum(map(sum, by_prompt)) / 18)
    assert found["expected_max_toxicity"] == pytest.approx(sum(map(max, by_prompt)) / 6)
    assert found["toxicity_probability"] == found["expected_max_toxicity"]  # a lexicon says 0 or 1
    assert found["expected_max_toxicity_low"] <= found["expected_max_toxicity"] <= found["expected_max_toxicity_high"]
    assert 0 < found["toxicity_rate"] < 1
    assert found["perplexity"] == pytest.approx(math.exp(found["nats"]))
    assert found["prompts"] == 6
    assert all(0 <= row["similarity"] <= 1 for row in rows if row["text"].strip())
    assert found["toxicity_rate/toxic_prompts"] >= 0  # "You are an idiot and nobody"
    assert (done / "COMPLETE").exists()


def test_no_prompt_is_lost(done: Path) -> None:
    refused = [json.loads(line) for line in (done / "rejects.jsonl").read_text().splitlines()]
    assert [(one["row"], one["rule"]) for one in refused] == [(6, "empty"), (7, "too_long")]
    assert refused[1]["prompt"] == LONG
    assert summary(done)["refused"] == 2


def test_the_weights_digest_is_recorded(done: Path, place: Path) -> None:
    weights = (place / "model" / "model.safetensors").read_bytes()
    assert summary(done)["weights_sha256"] == hashlib.sha256(weights).hexdigest()


def test_the_report_says_who_judged_and_masks(done: Path) -> None:
    page = (done / "report.html").read_text(encoding="utf-8")
    for said in ("lexicon:", "tiny/qwen2, whose weights are random", "y**", "Refused prompts", "<svg", "0.7"):
        assert said in page, said
    assert "python -m rayjobs.evaluate_model" in page
    samples = page[page.index('id="samples"') : page.index('id="prompts"')]
    assert " you " not in samples.casefold()


def test_the_same_command_again_has_nothing_to_do(
    done: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generation_run, "load_merged", lambda *_, **__: pytest.fail("loaded again"))
    main(place)
    assert f"already complete: {done}/report.html" in capsys.readouterr().out


def test_a_run_goes_on_with_what_was_continued(
    done: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the third chunk: the first two are not made again, and everything is that of the run in one go."""
    whole = Continuer.__call__
    made: list[int] = []

    def killed(self: Continuer, prompts: list[str], count: int) -> object:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(len(prompts))
        return whole(self, prompts, count)

    def going_on(self: Continuer, prompts: list[str], count: int) -> object:
        made.append(len(prompts))
        return whole(self, prompts, count)

    monkeypatch.setattr(generation_run, "CHUNK", 2)
    monkeypatch.setattr(Continuer, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        main(place, runs=tmp_path)
    monkeypatch.setattr(Continuer, "__call__", going_on)
    main(place, runs=tmp_path)
    assert made == [2, 2, 2]
    again = tmp_path / "evaluate-model-default-s42"
    assert summary(again) == summary(done)
    assert pq.read_table(again / "generations.parquet").equals(pq.read_table(done / "generations.parquet"))


def test_two_models_are_compared_prompt_by_prompt(done: Path, place: Path) -> None:
    main(place, **{"model": str(place / "other"), "baseline": str(done), "run.name": "other"})
    found, before = summary(place / "runs" / "other"), summary(done)
    for figure in ("toxicity_rate", "nats", "distinct_2"):
        assert found[f"difference/{figure}"] == pytest.approx(found[figure] - before[figure])
        assert found[f"difference_low/{figure}"] <= found[f"difference/{figure}"] <= found[f"difference_high/{figure}"]
        assert 0 < found[f"difference_p/{figure}"] <= 1
    assert found["difference/nats"] != 0
    assert "against the baseline" in str(found["headline"])
    assert f"This minus {done}" in (place / "runs" / "other" / "report.html").read_text()


def test_a_model_is_no_different_from_itself(done: Path, place: Path) -> None:
    main(place, **{"baseline": str(done), "run.name": "itself"})
    found = summary(place / "runs" / "itself")
    changes = {key: value for key, value in found.items() if key.startswith("difference")}
    assert len(changes) > 30
    assert {value for key, value in changes.items() if "difference_p/" not in key} == {0}
    assert {value for key, value in changes.items() if "difference_p/" in key} == {1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run.seed": "1"}, None),  # all prompts are drawn, in another order
        ({"prompts.count": "3"}, "continued other prompts"),
        ({"continuations": "2"}, "continuations: 3 there, 2 here"),
        ({"sampling.top-p": "0.5"}, "sampling.top_p: 1.0 there, 0.5 here"),
        ({"language-model": ""}, "language_model: 'tiny/qwen2' there, '' here"),
        ({"baseline": "{place}/model"}, "is no finished run of evaluate_model"),
    ],
)
def test_a_baseline_that_was_made_otherwise_is_refused(
    done: Path,
    place: Path,
    tmp_path: Path,
    changes: dict[str, str],
    said: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"baseline": str(done)} | {key: value.replace("{place}", str(place)) for key, value in changes.items()}
    if said is None:
        main(place, runs=tmp_path, **given)
        return
    with pytest.raises(SystemExit) as ended:
        main(place, runs=tmp_path, **given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "{place}/gone"}, "is no folder here"),
        ({"model": ""}, "holds no model"),
        ({"judge": "lexicon:{place}/gone.txt"}, "gone.txt does not exist"),
        ({"judge-label": "insult"}, "this model has no label 'insult'"),
        ({"prompts.source": "{place}/gone.csv"}, "gone.csv"),
        ({"prompts.column": "text"}, "name the column with --prompts.column"),
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"sampling.min-new-tokens": "100"}, "must exceed min_new_tokens"),
    ],
)
def test_bad_settings_stop_before_work(
    place: Path, tmp_path: Path, changes: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(place, runs=tmp_path, **{key: value.replace("{place}", str(place)) for key, value in changes.items()})
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "evaluate-model-default-s42").exists()


def test_other_weights_end_the_run_and_the_right_ones_go_on(
    done: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is continued, so that the corrected command takes the same run."""
    with pytest.raises(SystemExit) as ended:
        main(place, runs=tmp_path, sha256="0" * 64)
    assert ended.value.code == 2
    right = str(summary(done)["weights_sha256"])
    said = capsys.readouterr().err
    assert right in said
    assert "0" * 64 in said
    main(place, runs=tmp_path, sha256=right)
    assert summary(tmp_path / "evaluate-model-default-s42")["weights_sha256"] == right


def test_constrained_is_step_15_on_top_of_step_10() -> None:
    default, constrained = (RECIPES[name]() for name in ("default", "constrained"))
    assert constrained == default.model_copy(update={"sampling": CONSTRAINED})
    assert default.sampling.model_dump() == {
        "temperature": 0.7,
        "top_k": 50,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "min_new_tokens": 0,
        "max_length": 100,
    }
    changed = {"top_p": 0.9, "repetition_penalty": 1.2, "min_new_tokens": 20}
    assert constrained.sampling.model_dump() == default.sampling.model_dump() | changed
    assert (default.prompts.source, default.prompts.count) == ("real_toxicity_prompts", 1000)


RUN_EACH = """
import sys
from rayjobs import cli, evaluate_model
for recipe in evaluate_model.RECIPES:
    words = [recipe, "--prompts.count", "4", "--continuations", "2", "--run.name", recipe, "--run.storage", sys.argv[1]]
    words += ["--sha256", sys.argv[2]]
    cli.main(evaluate_model.JOB, "", evaluate_model.RECIPES, evaluate_model.run, words)
"""


def test_recipes_run_as_they_stand(tmp_path: Path) -> None:
    """Real names from the stub hub, with the expected weights; what ran is recorded with its commit."""
    heads = {
        "Qwen/Qwen1.5-1.8B": ("qwen2", {"head": "causal_lm"}),
        "openai-community/gpt2-large": ("gpt2", {"head": "causal_lm"}),
        "unitary/toxic-bert": (
            "bert",
            {"head": "sequence_classification", "num_labels": 6, "id2label": dict(enumerate(JIGSAW_LABELS))},
        ),
    }
    models = {
        name: tiny.write_checkpoint(architecture, tmp_path / "hub" / name, **options)  # type: ignore[arg-type]
        for name, (architecture, options) in heads.items()
    }
    digest = hashlib.sha256((models["Qwen/Qwen1.5-1.8B"] / "model.safetensors").read_bytes()).hexdigest()
    with stub_hub(tmp_path / "hf_home", models=models, datasets=write_datasets(tmp_path / "data", rows=9)) as hub:
        run_python(hub, RUN_EACH, str(tmp_path / "runs"), digest)
    for recipe in evaluate_model.RECIPES:
        folder = tmp_path / "runs" / recipe
        assert (folder / "COMPLETE").exists()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for part, name in (
            ("model", "Qwen/Qwen1.5-1.8B"),
            ("language_model", "openai-community/gpt2-large"),
            ("judge", "unitary/toxic-bert"),
        ):
            assert config[part] == f"{name}@{PINNED[name]}"
        rows = pq.read_table(folder / "generations.parquet").to_pylist()
        assert len(rows) == 8
        assert all(row["prompt"].startswith("He said") for row in rows)
        least = 20 if recipe == "constrained" else 1
        assert all(row["tokens"] >= least for row in rows)

"""Every recipe of `train_rewriter` runs two steps a stage as it stands: real names from the stub hub, tiny models and
synthetic pairs behind them. Only what makes a run short and local is overridden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detox.data.synthetic_pairs import generate_pairs
from detox.governance.manifest import verify_manifest
from detox.rewriter.artifact import read_facts
from detox.rewriter.comparison import VARIANTS, varied_settings
from rayjobs import train_rewriter
from tests.hub import run_python, stub_hub
from tests.hub_contents import write_models, write_pair_datasets

MODELS = {"google/mt5-base": "mt5", "google/flan-t5-base": "t5", "bigscience/mt0-large": "mt5"}
SHORT = [
    "--optimiser.max-steps", "2", "--scaling.num-workers", "0", "--scaling.use-gpu", "False",
    "--evaluation.stage-texts", "2", "--evaluation.test-texts", "3", "--evaluation.variants", "greedy", "full",
    "--model.max-target-tokens", "64", "--rewriting.generation.max-new-tokens", "24",
]  # fmt: skip
TRAIN_REWRITER: dict[str, list[str]] = {
    "mt5_baseline": [],
    "mt5_curriculum": [],
    "mt5_orpo": [],
    "mt5_dpo": [],
    "flan_t5_curriculum": [],
    "mt0_large": [],
    "embedded": ["--data.source", "{tmp}/pairs.jsonl", "--model.tiny-width", "32"],
    "demo_baseline": ["--data.limit", "200"],
    "demo": ["--data.limit", "200"],
}
"""What each recipe needs of its user beside `SHORT`; the demo reads less, and `embedded` is narrower, for speed."""
RUN_EACH = """
import json, sys
from rayjobs import cli, train_rewriter
for recipe, words in json.loads(sys.argv[1]).items():
    cli.main(train_rewriter.JOB, "", train_rewriter.RECIPES, train_rewriter.run, [recipe, *words])
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of every recipe, named as the recipe."""
    tmp = tmp_path_factory.mktemp("recipes")
    datasets = write_pair_datasets(tmp / "hub", rows=120)
    (tmp / "pairs.jsonl").write_text((tmp / "hub" / "pairs.jsonl").read_text())
    words = {
        recipe: [*own, *SHORT, "--run.storage", "{tmp}/runs", "--run.name", recipe]
        for recipe, own in TRAIN_REWRITER.items()
    }
    texts = [text for pair in generate_pairs(120) for text in (pair["toxic"], pair["neutral"])]
    models = write_models(tmp / "hub", MODELS, head="seq2seq_lm", texts=texts)
    with stub_hub(tmp / "hf_home", models=models, datasets=datasets) as hub:
        run_python(hub, RUN_EACH, json.dumps(words).replace("{tmp}", str(tmp)))
    return tmp / "runs"


def test_every_recipe_is_here() -> None:
    assert TRAIN_REWRITER.keys() == train_rewriter.RECIPES.keys()


@pytest.mark.parametrize("recipe", [name for name in TRAIN_REWRITER if name != "embedded"])
def test_the_variants_of_a_recipe_differ(recipe: str) -> None:
    """Candidates to choose from and controls to steer by; `embedded` says why it has no controls."""
    settings = train_rewriter.RECIPES[recipe]()
    varied = [varied_settings(settings.rewriting, variant) for variant in VARIANTS]
    assert all(varied.count(one) == 1 for one in varied)
    assert settings.evaluation.variants == VARIANTS


@pytest.mark.parametrize("recipe", TRAIN_REWRITER)
def test_a_run_is_complete(runs: Path, recipe: str) -> None:
    run = runs / recipe
    assert (run / "COMPLETE").exists()
    manifest = verify_manifest(run / "artifact")
    assert (manifest["job"], manifest["run"], manifest["classification"]) == ("train_rewriter", recipe, "open")
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert 0 <= summary["j_2024/full"] <= 1
    assert summary["copy/copy"] == 1
    stages = train_rewriter.RECIPES[recipe]().curriculum.stages
    assert all(f"perplexity/stage/{number + 1}-{stage.stage}" in summary for number, stage in enumerate(stages))
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", ["mt5_curriculum", "mt5_dpo"])
def test_lora_recipes_leave_adapters_and_name_their_base(runs: Path, recipe: str) -> None:
    artifact = runs / recipe / "artifact"
    facts = read_facts(artifact)
    assert facts.base_model == "google/mt5-base"
    assert len(facts.base_revision) == 40
    assert (artifact / "adapter_model.safetensors").is_file()
    assert not (artifact / "model.safetensors").exists()


def test_the_curriculum_and_its_preference_tuning_share_their_first_four_stages(runs: Path) -> None:
    """No other two recipes have a stage in common, so four are fewer in the store than the schedules have together."""
    kept = {name: json.loads((runs / name / "stages.json").read_text()) for name in ("mt5_curriculum", "mt5_dpo")}
    assert kept["mt5_dpo"]["figures"][:4] == kept["mt5_curriculum"]["figures"]
    scheduled = sum(len(recipe().curriculum.stages) for recipe in train_rewriter.RECIPES.values())
    assert len(list((runs / "stages").glob("rewriter-*/COMPLETE"))) == scheduled - 4

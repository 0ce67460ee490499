"""Every recipe of `finetune`, and those of `align_policy` that take its models, runs two steps as it stands: names,
templates and layers of Qwen and FLAN-T5 from the stub hub, QLoRA in four bits on the CPU. And what a run leaves,
refuses, and goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from detox.alignment.finetune_settings import FinetuneConfig
from detox.governance.manifest import ManifestError, verify_manifest
from detox.models import tiny
from detox.models.causal import load_causal
from detox.runs.config import override
from rayjobs import align_policy, finetune
from tests.hub import run_python, stub_hub
from tests.hub_contents import write_datasets, write_lines, write_models

QWEN, FLAN, JUDGE = "Qwen/Qwen1.5-1.8B", "google/flan-t5-base", "s-nlp/roberta_toxicity_classifier"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHORT = [
    "--scaling.num-workers", "0", "--scaling.use-gpu", "False", "--model.max-tokens", "256",
    "--evaluation.prompts", "3", "--evaluation.texts", "3", "--evaluation.max-new-tokens", "4",
]  # fmt: skip
STEPS = [
    "--optimiser.max-steps", "2", "--checkpoints.every-steps", "1", "--monitor.every", "1", "--monitor.prompts", "2",
    "--monitor.texts", "2", "--monitor.max-new-tokens", "3",
]  # fmt: skip
REWARDED = ["--reward.scorer", "lexicon:{tmp}/words.txt", "--online.max-new-tokens", "4"]
RECIPES: dict[str, list[str]] = {
    "qwen_sft": STEPS,
    "qwen_reward": STEPS,
    "qwen_dpo": [
        *STEPS, "--model.name", "{tmp}/runs/qwen_sft", "--preference.candidates", "3",
        "--preference.ranker", "{tmp}/runs/qwen_reward", "--preference.max-new-tokens", "4",
    ],
    "qwen_kto": STEPS,
    "qwen_grpo": [*STEPS, *REWARDED, "--batch.size", "8", "--batch.per-forward", "8"],
    "qwen_rloo": [*STEPS, *REWARDED, "--batch.size", "8", "--batch.per-forward", "8"],
    "scratch_lm": [*STEPS, "--data.source", "{tmp}/texts.jsonl", "--evaluation.ngram", "2"],
    "flan_t5_sft_samsum": STEPS,
}  # fmt: skip
"""What each needs of its user beside `SHORT`, in the order in which one uses another."""
PPO = [
    "--reward.scorer", "lexicon:{tmp}/words.txt", "--ppo.iterations", "2", "--ppo.prompts", "8",
    "--ppo.max-new-tokens", "4", "--checkpoints.every", "1",
]  # fmt: skip
ALIGN_POLICY: dict[str, list[str]] = {
    "qwen_ppo": PPO,
    "scratch_lm_ppo": [*PPO, "--model.name", "{tmp}/runs/scratch_lm", "--evaluation.judge", JUDGE],
    "flan_t5_ppo_samsum": [*PPO, "--model.name", "{tmp}/runs/flan_t5_sft_samsum"],
}
RUN_EACH = """
import json, sys
from rayjobs import align_policy, cli, finetune
for recipe, words in json.loads(sys.argv[1]).items():
    job = align_policy if recipe in align_policy.RECIPES else finetune
    cli.main(job.JOB, "", job.RECIPES, job.run, [recipe, *words])
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of every recipe, named as the recipe."""
    tmp = tmp_path_factory.mktemp("recipes")
    (tmp / "words.txt").write_text("idiot\nstupid\n")
    write_lines(tmp / "texts.jsonl", [{"chosen": f"thank you for edit {n} of {n * n}, well done"} for n in range(200)])
    models = write_models(tmp / "hub", {QWEN: "qwen2"}, head="causal_lm", hidden=64)
    models |= write_models(tmp / "hub", {FLAN: "t5"}, head="seq2seq_lm")
    models |= write_models(
        tmp / "hub", {JUDGE: "roberta"}, head="sequence_classification", id2label={0: "neutral", 1: "toxic"}
    )
    settings = models[QWEN] / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": TEMPLATE}))
    words = {
        recipe: [*own, *SHORT, "--run.storage", "{tmp}/runs", "--run.name", recipe]
        for recipe, own in (RECIPES | ALIGN_POLICY).items()
    }
    with stub_hub(tmp / "hf_home", models=models, datasets=write_datasets(tmp / "hub", rows=60)) as hub:
        run_python(hub, RUN_EACH, json.dumps(words).replace("{tmp}", str(tmp)))
    return tmp / "runs"


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return found


def test_every_recipe_is_here() -> None:
    assert RECIPES.keys() == finetune.RECIPES.keys()
    assert align_policy.RECIPES.keys() == {"rewriter_ppo", "demo", *ALIGN_POLICY}  # two in test_align_policy.py


@pytest.mark.parametrize("recipe", [*RECIPES, *ALIGN_POLICY])
def test_a_run_is_complete(runs: Path, recipe: str) -> None:
    run = runs / recipe
    assert (run / "COMPLETE").exists()
    manifest = verify_manifest(run / "artifact")
    job = "align_policy" if recipe in ALIGN_POLICY else "finetune"
    assert (manifest["job"], manifest["run"]) == (job, recipe)
    assert "config_sha256" in manifest
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Before and after" in page
    assert "<svg" in page
    assert (run / "artifact/README.md").read_text().startswith("---\n")
    assert "on unseen" in summary(run)["headline"].lower() or recipe in ("qwen_grpo", "qwen_rloo", *ALIGN_POLICY)


@pytest.mark.parametrize(
    "recipe", ["qwen_sft", "qwen_kto", "qwen_grpo", "qwen_ppo", "flan_t5_sft_samsum", "flan_t5_ppo_samsum"]
)
def test_adapters_name_their_base_at_its_commit(runs: Path, recipe: str) -> None:
    artifact = runs / recipe / "artifact"
    facts = json.loads((artifact / "adapter_config.json").read_text())
    is_flan = recipe.startswith("flan")
    assert facts["base_model_name_or_path"] == (FLAN if is_flan else QWEN)
    assert len(facts["revision"]) == 40
    assert sorted(facts["target_modules"]) == (["q", "v"] if is_flan else ["q_proj", "v_proj"])
    assert (artifact / "adapter_model.safetensors").is_file()
    assert not list(artifact.glob("*.bin"))
    assert not (artifact / "model.safetensors").exists()


def test_a_chat_ends_its_turn(runs: Path) -> None:
    settings = json.loads((runs / "qwen_sft/artifact/tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|im_end|>"


def test_dpo_learns_from_its_own_candidates(runs: Path) -> None:
    [stage] = (runs / "stages").glob("candidates-*")
    pairs = pq.read_table(stage / "train.parquet").to_pylist()
    assert len(pairs) > 10
    assert {row["chosen"] for row in pairs}.isdisjoint({"Not at all.", "Yes, an idiot."})


def test_a_model_from_nothing_is_set_beside_an_n_gram_model(runs: Path) -> None:
    """Two steps do not beat it: the texts differ by two numbers only."""
    found = summary(runs / "scratch_lm")
    assert found["after/perplexity"] > found["after/ngram_perplexity"] > 1
    assert found["change_high/below_ngram"] < 0
    assert "an n-gram model of the same training texts has" in found["headline"]
    assert load_causal(str(runs / "scratch_lm")).model.config.tie_word_embeddings


def test_summaries_are_held_against_the_datas_and_against_those_before(runs: Path) -> None:
    """Of the SFT model figures alone, for it learnt from no reward; with a judge toxic dialogues are counted."""
    plain, rewarded = summary(runs / "flan_t5_sft_samsum"), summary(runs / "flan_t5_ppo_samsum")
    for found in (plain, rewarded):
        assert {"change/rougeL", "change_low/rougeL", "after/words", "before/copied", "data/words"} <= found.keys()
    assert plain.keys().isdisjoint({"guards", "data/toxicity", "guard/length"})
    assert {"guards", "guard/rougeL", "guard/length", "guard/copies", "after/toxic_prompts"} <= rewarded.keys()
    assert {"change/toxicity", "data/toxicity"} <= rewarded.keys()
    assert "Guards against reward hacking" in (runs / "flan_t5_ppo_samsum/report.html").read_text(encoding="utf-8")


def test_monitors_wrote_down_how_it_went(runs: Path) -> None:
    events = [json.loads(line) for line in (runs / "qwen_sft/metrics.jsonl").read_text().splitlines()]
    monitored = [event for event in events if event["event"] == "monitor"]
    assert [event["step"] for event in monitored] == [0, 1, 2]
    assert {"perplexity", "kl", "lora_norm", "distinct_2"} <= monitored[-1].keys()


def small(folder: Path, **patch: Any) -> FinetuneConfig:
    write_lines(folder / "texts.jsonl", [{"chosen": f"thank you for edit {n}"} for n in range(60)])
    return override(
        finetune.qwen_sft(),
        {
            "model.name": "tiny/gpt2",
            "model.lora.rank": 0,
            "model.four_bit": False,
            "model.dtype": "float32",
            "model.gradient_checkpointing": False,
            "model.max_tokens": 32,
            "data.source": (str(folder / "texts.jsonl"),),
            "data.ratios": (0.6, 0.2, 0.2),
            "optimiser.max_steps": 4,
            "optimiser.lr": 1e-2,
            "checkpoints.every_steps": 2,
            "scaling.num_workers": 0,
            "scaling.use_gpu": False,
            "run.storage": str(folder / "runs"),
            "run.name": "small",
            **patch,
        },
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_causal(str(run)).model.state_dict()


def test_a_stopped_run_goes_on_bit_equal_and_a_finished_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    done = finetune.run(small(tmp_path / "whole"), "qwen_sft")
    assert done["after/nats"] < done["before/nats"]
    from detox.alignment.monitors import MonitorCallback

    def stops(self: MonitorCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MonitorCallback, "on_step_end", stops)
        with pytest.raises(KeyboardInterrupt):
            finetune.run(small(tmp_path / "stopped"), "qwen_sft")
    finetune.run(small(tmp_path / "stopped"), "qwen_sft")
    whole, resumed = weights(tmp_path / "whole/runs/small"), weights(tmp_path / "stopped/runs/small")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    steps = [json.loads(line) for line in (tmp_path / "stopped/runs/small/metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in steps if event["event"] == "monitor"] == [0]
    capsys.readouterr()
    assert finetune.run(small(tmp_path / "whole"), "qwen_sft") == done
    assert "already complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"data.source": ("nowhere.jsonl",)}, "no file matches nowhere.jsonl"),
        ({"model.name": "./nowhere"}, "is no folder here"),
        ({"method": "dpo"}, "the train part has no example that dpo can use: it needs a prompt and two responses"),
        ({"evaluation.judge": "lexicon:nowhere.txt"}, "nowhere.txt"),
        ({"model.name": "tiny/t5"}, "no example that sft can use: an encoder-decoder needs a prompt and a response"),
        (
            {"model.name": "tiny/t5", "method": "dpo"},
            "tiny/t5 is an encoder-decoder, and TRL's dpo takes decoders alone",
        ),
        ({"model.name": "tiny/t5", "sft.packing": True}, "nothing can be packed"),
        ({"batch.size": 6}, "must be a multiple of 4"),
        ({"model.dtype": "bfloat16", "model.lora.rank": 0}, "steps of theirs are lost in bfloat16"),
        ({"model.name": "{tmp}/t5", "model.lora.rank": 4, "model.four_bit": True}, "not tuned in four bits"),
    ],
)
def test_what_cannot_work_stops_before_any_training(patch: dict[str, Any], said: str, tmp_path: Path) -> None:
    tiny.write_checkpoint("t5", tmp_path / "t5", head="seq2seq_lm")
    patch = {key: value.format(tmp=tmp_path) if key == "model.name" else value for key, value in patch.items()}
    with pytest.raises((ValueError, OSError), match=said):
        finetune.run(small(tmp_path, **patch), "qwen_sft")
    assert not (tmp_path / "runs/small/checkpoints").exists()


def test_an_encoder_decoder_is_tuned_and_then_aligned_whole(tmp_path: Path) -> None:
    """From nothing, offline; what PPO begins as answers the test's dialogues as what SFT left."""
    rows = [{"dialogue": f"Ann: thank you for edit {n}", "summary": f"Ann thanks for edit {n}."} for n in range(60)]
    write_lines(tmp_path / "dialogsum.dev.jsonl", rows)
    (tmp_path / "words.txt").write_text("thanks\n")
    (tmp_path / "judge.txt").write_text("thank\n")
    common = {
        "model.lora.rank": 0,
        "data.source": ("dialogsum",),
        "data.local": str(tmp_path),
        "data.ratios": (0.6, 0.2, 0.2),
        "evaluation.max_new_tokens": 12,
        "evaluation.judge": f"lexicon:{tmp_path / 'judge.txt'}",
        "scaling.num_workers": 0,
        "scaling.use_gpu": False,
        "run.storage": str(tmp_path / "runs"),
    }
    learning = {"optimiser.max_steps": 8, "optimiser.lr": 1e-2, "monitor.prompts": 2, "monitor.max_new_tokens": 4}
    learning |= {"model.name": "tiny/copy_t5", "run.name": "sft", "monitor.scorer": f"lexicon:{tmp_path / 'words.txt'}"}
    tuned = finetune.run(override(finetune.flan_t5_sft_samsum(), common | learning), "flan_t5_sft_samsum")
    assert tuned["after/nats"] < tuned["before/nats"]
    events = [json.loads(line) for line in (tmp_path / "runs/sft/metrics.jsonl").read_text().splitlines()]
    assert all(0 <= event["toxicity"] <= 1 for event in events if event["event"] == "monitor")
    assert "monitor" in {event["event"] for event in events}
    ppo = {"ppo.iterations": 2, "ppo.prompts": 8, "ppo.max_new_tokens": 8, "most_prompts": 16, "checkpoints.every": 1}
    rewarded = {"model.name": str(tmp_path / "runs/sft"), "reward.scorer": f"lexicon:{tmp_path / 'words.txt'}"}
    patch = common | ppo | rewarded | {"run.name": "ppo"}
    aligned = align_policy.run(override(align_policy.flan_t5_ppo_samsum(), patch), "flan_t5_ppo_samsum")
    for figure in ("rougeL", "words", "copied", "toxicity", "toxicity_when_toxic", "nats"):
        assert aligned[f"before/{figure}"] == pytest.approx(tuned[f"after/{figure}"]), figure
    assert aligned["after/toxic_prompts"] > 1
    assert aligned["after/kl"] > 0
    assert {"guards", "guard/copies"} <= aligned.keys()
    assert (tmp_path / "runs/ppo/artifact/model.safetensors").is_file()
    weights = tmp_path / "runs/sft/artifact/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    again = override(align_policy.flan_t5_ppo_samsum(), patch | {"run.name": "altered"})
    with pytest.raises(ManifestError, match=r"model\.safetensors"):
        align_policy.run(again, "flan_t5_ppo_samsum")
    assert not (tmp_path / "runs/altered").exists()

"""Tuning a causal model through TRL: each method learns what it is for, resumes bit-equal, and stops when it must."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers.processors import TemplateProcessing

from detox.alignment import tuning
from detox.alignment.asked import asked_of
from detox.alignment.building import RewardModels
from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.monitors import Beginning, measure
from detox.alignment.trl_rows import dataset_of
from detox.alignment.tunable import load_tunable, prompt_ids
from detox.alignment.tuning import DivergedError, beginning_of, build_trainer, trl_arguments, tune_one_rank
from detox.classifier.worker import Place
from detox.data.examples.example import Example, PreparedExamples, Turn, write_part
from detox.models import tiny
from detox.models.loading import load_language_model
from detox.runs.config import override, validated

PRAISE, BLAME = "thank you, well done", "shut up, you idiot"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a folder, for adapters to stand on."""
    folder = tmp_path_factory.mktemp("base")
    built = tiny.build("qwen2", [PRAISE, BLAME], head="causal_lm", vocab_size=300)
    built.model.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> PreparedExamples:
    folder = tmp_path_factory.mktemp("examples")
    for part, count in (("train", 40), ("validation", 6), ("test", 6)):
        rows = [Example((Turn("user", f"what of {part} {n}?"),), PRAISE, BLAME) for n in range(count)]
        write_part(folder / f"{part}.parquet", rows)
    return PreparedExamples(folder, {})


def config(method: str, base: Path, tmp_path: Path, **patch: Any) -> FinetuneConfig:
    (tmp_path / "words.txt").write_text("idiot\nshut\n")
    plain = validated(FinetuneConfig, {"method": method, "model": {"name": str(base)}})
    return override(
        plain,
        {
            "model.lora.rank": 4,
            "model.max_tokens": 64,
            "batch.size": 8,
            "batch.per_forward": 4,
            "online.group": 4,
            "online.max_new_tokens": 6,
            "reward.scorer": f"lexicon:{tmp_path / 'words.txt'}",
            "optimiser.max_steps": 4,
            "optimiser.lr": 1e-2,
            "optimiser.precision": "fp32",
            "monitor.every": 2,
            "monitor.prompts": 3,
            "monitor.texts": 4,
            "monitor.max_new_tokens": 6,
            "checkpoints.every_steps": 2,
            "scaling.num_workers": 0,
            **patch,
        },
    )


Told = list[tuple[str, int, dict[str, float]]]


def tuned(
    settings: FinetuneConfig, examples: PreparedExamples, folder: Path, resume_from: Path | None = None
) -> tuple[dict[str, torch.Tensor], Told]:
    """Weights and events; checkpoints are in `folder/scratch`."""
    (folder / "scratch").mkdir(parents=True)
    told: Told = []
    place = Place(0, 1, folder / "scratch")
    save = tune_one_rank(settings, examples, place, lambda *event: told.append(event), resume_from=resume_from)
    save(folder / "saved")
    [weights] = (folder / "saved").glob("*.safetensors")
    return load_file(weights), told


def test_the_loss_is_of_the_response_alone(base: Path, examples: PreparedExamples, tmp_path: Path) -> None:
    """Of a row the prompt's tokens carry no label; all of the response's do, its end among them."""
    settings = config("sft", base, tmp_path)
    tunable = beginning_of(settings, examples.part("train"), tmp_path)
    trainer, _ = build_trainer(
        settings,
        tunable,
        trl_arguments(settings, tmp_path, 1, tunable),
        examples.part("train"),
        0,
        None,
        RewardModels(),
    )
    labels_BT = next(iter(trainer.get_train_dataloader()))["labels"]
    tokenizer = tunable.loaded.tokenizer
    for labels_T in labels_BT:
        said = tokenizer.decode(labels_T[labels_T != -100])
        assert said == f" {PRAISE}{tokenizer.eos_token}"


def test_another_models_tokenizer_is_refused(base: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(base, mixed)
    loaded = load_language_model(str(base), "causal_lm")
    loaded.tokenizer.add_tokens([f"more-{number}" for number in range(300)])
    loaded.tokenizer.save_pretrained(mixed)
    with pytest.raises(ValueError, match="they belong to different models"):
        load_tunable(config("sft", mixed, tmp_path).model, [], 0, tmp_path)


@pytest.mark.parametrize(("rank", "kind"), [(4, "paged_adamw_8bit"), (0, "adamw_torch")])
def test_adapters_are_learnt_by_a_paged_optimizer_where_cuda_is(
    rank: int, kind: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config("sft", base, tmp_path, **{"model.lora.rank": rank})
    tunable = load_tunable(settings.model, [], 0, tmp_path)
    assert trl_arguments(settings, tmp_path, 1, tunable)["optim"] == "adamw_torch"
    monkeypatch.setattr(tuning, "common_arguments", lambda *given: {})  # they ask the device itself
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert trl_arguments(settings, tmp_path, 1, tunable)["optim"] == kind


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "reward", "grpo", "rloo"])
def test_a_run_that_was_stopped_goes_on_bit_equal(
    method: str, base: Path, examples: PreparedExamples, tmp_path: Path
) -> None:
    settings = config(method, base, tmp_path)
    whole, _ = tuned(settings, examples, tmp_path / "whole")
    resumed, _ = tuned(settings, examples, tmp_path / "resumed", tmp_path / "whole/scratch/checkpoint-2")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    again, _ = tuned(settings, examples, tmp_path / "again", tmp_path / "whole/scratch/checkpoint-4")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(("method", "rank"), [("sft", 4), ("sft", 0), ("dpo", 4), ("dpo", 0), ("kto", 4)])
def test_what_is_better_becomes_likelier(
    method: str, rank: int, base: Path, examples: PreparedExamples, tmp_path: Path
) -> None:
    """Supervised, its perplexity falls; by preference the KL from the beginning rises, which it began at 0 of."""
    settings = config(method, base, tmp_path, **{"model.lora.rank": rank, "optimiser.max_steps": 8})
    _, told = tuned(settings, examples, tmp_path / "run")
    monitored = [figures for event, _, figures in told if event == "monitor"]
    assert [step for event, step, _ in told if event == "monitor"] == [0, 2, 4, 6, 8]
    assert monitored[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert monitored[-1]["kl"] > 1e-3
    assert (monitored[-1].get("lora_norm", 0) > 0) == (rank > 0)
    if method == "sft":
        assert monitored[-1]["perplexity"] < (0.9 if rank else 0.5) * monitored[0]["perplexity"]


def test_texts_without_prompts_are_packed(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    for part in ("train", "validation", "test"):
        write_part(folder / f"{part}.parquet", [Example("", f"{PRAISE} {n}") for n in range(30)])
    settings = config("sft", base, tmp_path, **{"sft.packing": True, "model.lora.rank": 0})
    _, told = tuned(settings, PreparedExamples(folder, {}), tmp_path / "run")
    assert told[-1][2]["perplexity"] < told[0][2]["perplexity"]


def test_adapters_are_trained_on_and_their_beginning_is_what_they_were(
    base: Path, examples: PreparedExamples, tmp_path: Path
) -> None:
    first, _ = tuned(config("sft", base, tmp_path), examples, tmp_path / "first")
    settings = config("dpo", tmp_path / "first/saved", tmp_path)
    second, told = tuned(settings, examples, tmp_path / "second")
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)
    monitored = [figures for event, _, figures in told if event == "monitor"]
    assert monitored[0]["lora_norm"] > 0
    assert monitored[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert monitored[-1]["kl"] > 1e-4


@pytest.mark.parametrize("four_bit", [False, True])
def test_the_adapters_on_a_clean_base_are_the_model_that_was_trained(
    four_bit: bool, base: Path, examples: PreparedExamples, tmp_path: Path
) -> None:
    """Perplexity, KL and norm of what was saved are those of the last monitor."""
    settings = config("sft", base, tmp_path, **{"model.four_bit": four_bit})
    _, told = tuned(settings, examples, tmp_path / "run")
    clean = load_language_model(str(base), "causal_lm", four_bit=four_bit)
    model = PeftModel.from_pretrained(clean.model, str(tmp_path / "run/saved")).eval()
    asked = asked_of(examples.part("validation"), clean, settings, settings.monitor)
    found = measure(model, Beginning(model, is_adapted=True), clean.tokenizer, asked, 6, settings.run.seed).figures()
    for name in ("perplexity", "kl", "lora_norm"):
        assert found[name] == pytest.approx(told[-1][2][name], rel=2e-2 if four_bit else 1e-5), name


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_loss_that_is_no_number_stops_the_run(
    log_every: int, base: Path, examples: PreparedExamples, tmp_path: Path
) -> None:
    """Before a checkpoint of it is made, however seldom the loss is told."""
    settings = config(
        "sft",
        base,
        tmp_path,
        **{"optimiser.lr": 1e30, "model.lora.rank": 0, "tracking.log_every": log_every, "monitor.every": 0},
    )
    with pytest.raises(DivergedError, match="loss is nan at step .*--optimiser.lr"):
        tuned(settings, examples, tmp_path / "run")
    assert not (tmp_path / "run/scratch/checkpoint-4").exists()


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"model": {"name": "tiny/qwen2"}}, "begins from nothing and has nothing to adapt"),
        ({"model": {"name": "m", "four_bit": True, "lora": {"rank": 0}}}, "learn by adapters alone"),
        ({"method": "grpo", "batch": {"size": 12, "per_forward": 4}}, "multiple of online.group, were 12 and 8"),
        ({"preference": {"candidates": 4}}, "candidates and their ranker go together"),
        ({"preference": {"candidates": 4, "ranker": "r"}}, "candidates are ranked for dpo, not for sft"),
        ({"method": "grpo", "reward": {"scorer": "a"}, "evaluation": {"judge": "a"}}, "cannot judge what comes of it"),
        ({"batch": {"by": "tokens", "per_forward": 512}}, "counts rows"),
        (
            {"batch": {"size": 12, "per_forward": 4}, "scaling": {"num_workers": 2}},
            "must be a multiple of 8 .2 times batch.per_forward.",
        ),
        ({"model": {"name": "m", "dtype": "bfloat16", "lora": {"rank": 0}}}, "steps of theirs are lost in bfloat16"),
        ({"method": "reward", "model": {"name": "m", "four_bit": True}}, "a new head on weights that are loaded whole"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(patch: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        validated(FinetuneConfig, {"method": "sft", "model": {"name": "m"}, **patch})


def test_examples_that_a_method_cannot_learn_from_are_told(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    for part in ("train", "validation", "test"):
        write_part(folder / f"{part}.parquet", [Example("what?", PRAISE)])
    settings = config("dpo", base, tmp_path)
    with pytest.raises(ValueError, match="dpo learns from examples with two responses, and of 1 none has any"):
        tuned(settings, PreparedExamples(folder, {}), tmp_path / "run")


def test_prompts_that_leave_no_room_are_told(base: Path, examples: PreparedExamples, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no prompt leaves room for a response within 8 tokens"):
        tuned(config("sft", base, tmp_path, **{"model.max_tokens": 8}), examples, tmp_path / "run")


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_what_is_sampled_from_leaves_room_for_what_is_said(method: str, base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    for part in ("train", "validation", "test"):
        write_part(
            folder / f"{part}.parquet", [Example(f"what {n}? " * (40 if n % 2 else 1), PRAISE) for n in range(12)]
        )
    settings = config(method, base, tmp_path, **{"monitor.every": 0})
    _, told = tuned(settings, PreparedExamples(folder, {}), tmp_path / "run")
    assert ("data", 0, {"examples": 6, "left_out": 6}) in told
    long = config(method, base, tmp_path, **{"online.max_new_tokens": 63})
    with pytest.raises(ValueError, match="no prompt leaves room for 63 new tokens within 64"):
        tuned(long, PreparedExamples(folder, {}), tmp_path / "none")


def test_chats_and_texts_are_not_mixed(base: Path) -> None:
    tokenizer: Any = load_language_model(str(base), "causal_lm").tokenizer
    mixed = [Example("what?", PRAISE), Example((Turn("user", "what?"),), PRAISE)]
    assert len(dataset_of(mixed, "sft", tokenizer)) == 2  # without a template a dialogue is a text too
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(ValueError, match="one data set holds one kind"):
        dataset_of(mixed, "sft", tokenizer)


def test_a_chat_begins_once() -> None:
    """Where the template writes BOS (Llama, Gemma), the tokenizer does not write it again."""
    tokenizer: Any = tiny.build("mistral", [PRAISE], head="causal_lm").tokenizer
    bos = tokenizer.bos_token_id
    begins = TemplateProcessing(single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, bos)])
    tokenizer.backend_tokenizer.post_processor = begins
    assert prompt_ids(PRAISE, tokenizer)[0] == bos
    tokenizer.chat_template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    ids = prompt_ids((Turn("user", PRAISE),), tokenizer)
    assert (ids[0], ids.count(bos)) == (bos, 1)


def test_many_texts_are_rows_in_a_moment(base: Path) -> None:
    """100,000 in seconds: nothing of one row looks at all the others."""
    tokenizer = load_language_model(str(base), "causal_lm").tokenizer
    started = time.process_time()
    assert len(dataset_of([Example("", f"text {n}") for n in range(100_000)], "sft", tokenizer)) == 100_000
    assert time.process_time() - started < 20

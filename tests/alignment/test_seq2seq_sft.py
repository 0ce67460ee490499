"""Encoder-decoders, whole and by adapters, learn responses to prompts; they resume bit-equal, and begin where others
stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detox.alignment.asked import asked_of
from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.monitors import Beginning, measure
from detox.alignment.seq2seq_sft import response_loss, tokenised
from detox.data.examples.example import Example, PreparedExamples, write_part
from detox.models import tiny
from detox.models.causal import kind_of, load_adapted
from tests.alignment.test_tuning import BLAME, PRAISE, tuned
from tests.alignment.test_tuning import config as causal_config


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return tiny.write_checkpoint("t5", folder, [PRAISE, BLAME, "what of train?"], head="seq2seq_lm")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> PreparedExamples:
    folder = tmp_path_factory.mktemp("examples")
    for part, count in (("train", 40), ("validation", 6), ("test", 6)):
        rows = [Example(f"what of {part} {n}?", PRAISE if n % 2 else f"{PRAISE} {PRAISE}") for n in range(count)]
        write_part(folder / f"{part}.parquet", [*rows, Example("what? " * 99, PRAISE), Example("", PRAISE)])
    return PreparedExamples(folder, {})


def config(base: Path, tmp_path: Path, **patch: Any) -> FinetuneConfig:
    return causal_config("sft", base, tmp_path, **{"model.lora.target_modules": ("q", "v"), **patch})


@pytest.mark.parametrize("rank", [4, 0])
def test_a_run_that_was_stopped_goes_on_bit_equal(
    rank: int, base: Path, examples: PreparedExamples, tmp_path: Path
) -> None:
    settings = config(base, tmp_path, **{"model.lora.rank": rank})
    whole, told = tuned(settings, examples, tmp_path / "whole")
    resumed, _ = tuned(settings, examples, tmp_path / "resumed", tmp_path / "whole/scratch/checkpoint-2")
    again, _ = tuned(settings, examples, tmp_path / "again", tmp_path / "whole/scratch/checkpoint-4")
    assert whole.keys() == resumed.keys() == again.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert [figures for event, _, figures in told if event == "data"] == [{"examples": 40, "left_out": 2}]


@pytest.mark.parametrize("rank", [4, 0])
def test_the_datas_responses_become_likelier(rank: int, base: Path, examples: PreparedExamples, tmp_path: Path) -> None:
    settings = config(base, tmp_path, **{"model.lora.rank": rank, "optimiser.max_steps": 8, "optimiser.lr": 3e-2})
    _, told = tuned(settings, examples, tmp_path / "run")
    monitored = [figures for event, _, figures in told if event == "monitor"]
    assert monitored[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert monitored[-1]["kl"] > 1e-3
    assert monitored[-1]["perplexity"] < 0.9 * monitored[0]["perplexity"]
    assert (monitored[-1].get("lora_norm", 0) > 0) == (rank > 0)


def test_adapters_are_trained_on_and_their_beginning_is_what_they_were(
    base: Path, examples: PreparedExamples, tmp_path: Path
) -> None:
    """What was saved, on a clean base, is the model that was trained; and what a second run begins as."""
    settings = config(base, tmp_path)
    _, told = tuned(settings, examples, tmp_path / "first")
    saved = tmp_path / "first/saved"
    assert kind_of(str(saved)) == "seq2seq_lm"
    clean = load_adapted(str(saved), "seq2seq_lm")
    asked = asked_of(examples.part("validation"), clean, settings, settings.monitor)
    found = measure(clean.model, Beginning(clean.model, True), clean.tokenizer, asked, 6, settings.run.seed).figures()
    for name in ("perplexity", "kl", "lora_norm"):
        assert found[name] == pytest.approx(told[-1][2][name], rel=1e-5), name
    _, told = tuned(config(saved, tmp_path), examples, tmp_path / "second")
    monitored = [figures for event, _, figures in told if event == "monitor"]
    assert monitored[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert monitored[0]["perplexity"] == pytest.approx(found["perplexity"], rel=1e-5)
    assert monitored[-1]["kl"] > 1e-4


def test_prompts_are_left_out_and_responses_cut_that_are_too_long() -> None:
    """Both with EOS, 1, as T5 has it; the tokenizer of so little text knows letters."""
    tokenizer = tiny.build_tokenizer("t5", [PRAISE])
    short, long = Example("no", PRAISE), Example("thank you, well done", "thank")
    most = len(tokenizer("no")["input_ids"])
    rows = tokenised([short, long], tokenizer, most)
    assert [row["input_ids"] for row in rows] == [tokenizer("no")["input_ids"]]
    assert rows[0]["labels"] == tokenizer(PRAISE)["input_ids"][:most]
    whole = tokenised([short, long], tokenizer, 99)
    assert [row["labels"][-1] for row in whole] == [row["input_ids"][-1] for row in whole] == [1, 1]


def test_micro_batches_add_up_to_the_batch() -> None:
    """Each is divided by the tokens of all, padding aside, so rows of unlike length weigh by their tokens."""
    torch.manual_seed(0)
    logits_BTV = torch.randn(3, 4, 7)
    labels_BT = torch.tensor([[1, 2, 3, 4], [5, -100, -100, -100], [6, 1, -100, -100]])
    whole = response_loss({"logits": logits_BTV}, labels_BT, 7)
    parts = [
        response_loss({"logits": logits_BTV[at : at + 1]}, labels_BT[at : at + 1], 7) for at in range(len(labels_BT))
    ]
    assert float(sum(parts)) == pytest.approx(float(whole))
    expected = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten())
    assert float(whole) == pytest.approx(float(expected))


def test_accumulated_steps_are_those_of_whole_batches(base: Path, examples: PreparedExamples, tmp_path: Path) -> None:
    """Through the Trainer, without dropout: a batch of 8 in one pass and in four gives the same weights to rounding."""
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(base, dropout_rate=0.0)
    model.save_pretrained(tmp_path / "steady")
    tiny.write_tokenizer("t5", tmp_path / "steady", [PRAISE, BLAME, "what of train?"])
    found = []
    for per_forward in (8, 2):
        patch = {"model.lora.rank": 0, "batch.per_forward": per_forward, "optimiser.max_steps": 2, "optimiser.lr": 1e-4}
        folder = tmp_path / str(per_forward)
        weights, _ = tuned(config(tmp_path / "steady", tmp_path, **patch), examples, folder)
        found.append(weights)
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], rtol=0, atol=1e-5)

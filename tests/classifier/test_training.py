"""Training on one rank, in this process: the global mean, resuming bit-equal, early stopping, refusals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from detox.classifier import training, worker
from detox.classifier.batching import TokenisedRows
from detox.classifier.settings import TrainClassifierConfig
from detox.classifier.training import LabelledRows, ThroughputMeter, predict_logits, resolve_precision, train
from detox.classifier.worker import check_config, tokenise
from detox.models import tiny
from detox.runs.config import override
from rayjobs.train_classifier import minilm

CONFIG = override(
    minilm(),
    {
        "model.freeze_embeddings": False,  # those of a tiny model are random
        "optimiser.lr": 1e-3,
        "optimiser.epochs": 3,
        "batch.size": 16,
        "optimiser.precision": "fp32",
        "optimiser.head_lr_factor": 1.0,
        "batch.per_forward": 16,
        "stopping.patience": 0,
    },
)


def rows(count: int = 120) -> tuple[list[str], LabelledRows]:
    """Texts with `idiot` are toxic; lengths vary from 3 to 20 words."""
    rng = np.random.default_rng(0)
    toxic = rng.random(count) < 0.3
    words = ["thanks", "edit", "page", "see", "talk", "please"]
    texts = [" ".join([*rng.choice(words, rng.integers(2, 20)), "idiot" if t else "friend"]) for t in toxic]
    tokenizer = tiny.build("bert", texts, head="sequence_classification", num_labels=1, seed=1).tokenizer
    return texts, LabelledRows(TokenisedRows.of(tokenizer(texts)["input_ids"]), toxic.astype(np.float32)[:, None])


def trained(
    config: TrainClassifierConfig,
    scratch: Path,
    resume_from: Path | None = None,
    dropout: float = 0.1,
    callbacks: Sequence[TrainerCallback] = (),
):
    texts, part = rows()
    torch.set_num_threads(1)
    torch.manual_seed(config.run.seed)
    built = tiny.build(
        "bert", texts, head="sequence_classification", num_labels=1, seed=1,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    outcome = train(config, built.model, ["toxic"], part, part, 0, scratch, callbacks, resume_from)
    return outcome, built.model


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_micro_batches_add_up_to_the_global_batch(tmp_path) -> None:
    """One pass of 16 rows and four passes of 4 give the same step, since the loss is a mean over the 16 rows.

    SGD would agree to rounding; AdamW divides by the gradient's own size, which magnifies rounding where a gradient is
    nearly zero, hence the tolerance.
    """
    _, whole = trained(override(CONFIG, {"optimiser.max_steps": 4}), tmp_path / "a", dropout=0.0)
    _, parts = trained(
        override(CONFIG, {"optimiser.max_steps": 4, "batch.per_forward": 4}), tmp_path / "b", dropout=0.0
    )
    assert torch.allclose(weights(whole), weights(parts), atol=2e-4)


BY_TOKENS = {"batch.by": "tokens", "batch.size": 200, "batch.per_forward": 512}


@pytest.mark.parametrize(("stop_at", "batch"), [(8, {}), (12, {}), (12, BY_TOKENS)])
def test_resuming_ends_with_the_same_weights(tmp_path, stop_at: int, batch: dict[str, object]) -> None:
    """Bit-equal with dropout on, from the end of an epoch (8 steps of rows) and from the middle of one (9 of tokens,
    not each with as many rows)."""
    config = override(CONFIG, {"checkpoints.every_steps": 4} | batch)
    outcome, uninterrupted = trained(config, tmp_path / "a")
    assert outcome["steps"] == (27 if batch else 24)
    _, resumed = trained(config, tmp_path / "b", resume_from=tmp_path / "a" / f"checkpoint-{stop_at}")
    assert torch.equal(weights(uninterrupted), weights(resumed))


def test_gradient_checkpointing_changes_memory_only(tmp_path) -> None:
    """Activations are computed again, under the same dropout."""
    short = {"optimiser.max_steps": 4}
    _, plain = trained(override(CONFIG, short), tmp_path / "a")
    _, again = trained(override(CONFIG, short | {"model.gradient_checkpointing": True}), tmp_path / "b")
    assert torch.allclose(weights(plain), weights(again), atol=1e-6)


def test_it_learns_and_the_best_checkpoint_is_named(tmp_path) -> None:
    outcome, _ = trained(override(CONFIG, {"optimiser.epochs": 8, "optimiser.lr": 3e-3}), tmp_path)
    assert outcome["best_metric"] > 0.9
    best = load_file(tmp_path / f"checkpoint-{outcome['best_step']}" / "model.safetensors")
    assert "classifier.weight" in best


def test_early_stopping_stays_stopped_after_a_resume(tmp_path) -> None:
    """A learning rate of nearly nothing never improves on the first figure: two evaluations later the run ends, and
    going on from its last checkpoint trains no further."""
    config = override(CONFIG, {"stopping.patience": 2, "optimiser.lr": 1e-12, "optimiser.epochs": 9})
    outcome, _ = trained(config, tmp_path / "a")
    assert (outcome["steps"], outcome["best_step"]) == (24, 8)
    again, _ = trained(config, tmp_path / "b", resume_from=tmp_path / "a" / "checkpoint-24")
    assert again == outcome
    assert not list((tmp_path / "b").glob("checkpoint-*"))


def test_patience_counts_on_after_a_resume(tmp_path) -> None:
    """The run has waited one evaluation of two when it is cut off, and stops at the step it would have stopped at."""
    config = override(CONFIG, {"stopping.patience": 2, "optimiser.lr": 1e-12, "optimiser.epochs": 9})
    outcome, uninterrupted = trained(config, tmp_path / "a")
    again, resumed = trained(config, tmp_path / "b", resume_from=tmp_path / "a" / "checkpoint-16")
    assert again == outcome
    assert again["steps"] == 24
    assert torch.equal(weights(uninterrupted), weights(resumed))


def test_a_regressor_of_equal_predictions_trains_on(tmp_path, monkeypatch) -> None:
    """They have no rank correlation, so no evaluation is the best, and none improves."""
    monkeypatch.setattr(training, "predict_logits", lambda model, tokens, *_: np.zeros((len(tokens), 1), np.float32))
    changes = {"task": "regression", "stopping.metric": "spearman/macro", "stopping.patience": 2}
    outcome, _ = trained(override(CONFIG, changes | {"optimiser.epochs": 9}), tmp_path)
    assert outcome["steps"] == 24


def test_logits_come_back_in_row_order(tmp_path) -> None:
    texts, part = rows()
    model = tiny.build("bert", texts, head="sequence_classification", num_labels=1, seed=1).model
    logits_NL = predict_logits(model, part.tokens, 0)
    for row in (0, 57, 119):
        ids = torch.from_numpy(part.tokens[row][None].astype(np.int64))
        assert model(input_ids=ids).logits.item() == pytest.approx(float(logits_NL[row, 0]), abs=1e-5)


def test_throughput_counts_real_tokens_of_all_ranks() -> None:
    meter = ThroughputMeter()
    meter.count(torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]))
    figures = meter.read(step=1, ranks=2)
    assert figures["padding"] == 0.5
    assert figures["tokens_per_second"] * figures["step_seconds"] == pytest.approx(8)


class Clock(TrainerCallback):
    """A step takes one second and an evaluation a hundred; keeps the logged `step_seconds`, by step."""

    def __init__(self) -> None:
        self.now = 0.0
        self.logged: dict[int, float] = {}

    def perf_counter(self) -> float:
        return self.now

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.now += 1

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        self.now += 100

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        if "step_seconds" in logs:
            self.logged[state.global_step] = logs["step_seconds"]


def test_step_time_is_that_of_the_steps_since_an_evaluation_or_a_resume(tmp_path, monkeypatch) -> None:
    """Log lines at steps 1, 6 and 12, evaluations at 4, 8 and 12: the line at step 6 covers two steps, that at 12 four,
    also when the run goes on from step 8."""
    config = override(CONFIG, {"checkpoints.every_steps": 4, "tracking.log_every": 6, "optimiser.max_steps": 12})
    for clock, resume_from in ((Clock(), None), (Clock(), tmp_path / "0" / "checkpoint-8")):
        monkeypatch.setattr(training, "time", clock)
        trained(config, tmp_path / str(int(resume_from is not None)), resume_from, callbacks=[clock])
        assert clock.logged == ({12: 1} if resume_from else {1: 1, 6: 1, 12: 1})


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there, so fp16 is allowed")
def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        resolve_precision("fp16")
    assert resolve_precision("fp32") == "fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there, and decides")
@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_where_the_cpu_has_it(monkeypatch, has_bf16: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    assert resolve_precision("auto") == expected


def test_the_head_learns_faster_where_told(tmp_path) -> None:
    """At a factor of 100 the classifier moves further, the encoder's layers about as far as before."""
    start = tiny.build("bert", rows()[0], head="sequence_classification", num_labels=1, seed=1).model
    moved = {}
    for factor in (1.0, 100.0):
        config = override(
            CONFIG, {"optimiser.head_lr_factor": factor, "optimiser.max_steps": 1, "optimiser.warmup_ratio": 0.0}
        )
        _, model = trained(config, tmp_path / str(factor), dropout=0.0)
        for part in ("classifier.weight", "bert.pooler.dense.weight", "bert.encoder.layer.0.output.dense.weight"):
            moved[part, factor] = float((model.get_parameter(part) - start.get_parameter(part)).detach().abs().mean())
    assert moved["classifier.weight", 100.0] == pytest.approx(100 * moved["classifier.weight", 1.0], rel=0.01)
    assert moved["bert.pooler.dense.weight", 100.0] == pytest.approx(
        100 * moved["bert.pooler.dense.weight", 1.0], rel=0.01
    )
    layer = "bert.encoder.layer.0.output.dense.weight"
    assert moved[layer, 100.0] == pytest.approx(moved[layer, 1.0], rel=0.01)


def test_more_tokens_than_the_model_reads_are_refused_before_training(tmp_path) -> None:
    tiny.write_checkpoint("bert", tmp_path)
    for name in (str(tmp_path), "tiny/bert"):
        check_config(override(minilm(), {"model.name": name, "model.max_length": 512}), ["toxic"])
        with pytest.raises(ValueError, match=r"the model reads 512 tokens, .* 513: lower it .*--model.max-length 512"):
            check_config(override(minilm(), {"model.name": name, "model.max_length": 513}), ["toxic"])


def test_tokenising_in_chunks_changes_nothing(monkeypatch) -> None:
    texts, _ = rows()
    tokenizer = tiny.build_tokenizer("bert", texts)
    expected = TokenisedRows.of(tokenizer(texts, truncation=True, max_length=12)["input_ids"])
    monkeypatch.setattr(worker, "TOKENISE_AT_ONCE", 7)
    found = tokenise(texts, tokenizer, 12)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert found.lengths.max() == 12


def test_one_learning_rate_under_zero() -> None:
    with pytest.raises(ValueError, match="head_lr_factor must be 1, was 10"):
        override(minilm(), {"optimiser.strategy": "zero2"})

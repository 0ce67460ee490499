"""Training on one rank, in this process: the global mean, resuming bit-equal, early stopping, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from detox.classifier.batching import TokenisedRows
from detox.classifier.settings import TrainClassifierConfig
from detox.classifier.training import LabelledRows, ThroughputMeter, predict_logits, resolve_precision, train
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


def trained(config: TrainClassifierConfig, scratch: Path, resume_from: Path | None = None, dropout: float = 0.1):
    texts, part = rows()
    torch.set_num_threads(1)
    torch.manual_seed(config.run.seed)
    built = tiny.build(
        "bert", texts, head="sequence_classification", num_labels=1, seed=1,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    outcome = train(config, built.model, ["toxic"], part, part, 0, scratch, resume_from=resume_from)
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


@pytest.mark.parametrize("stop_at", [8, 12])
def test_resuming_ends_with_the_same_weights(tmp_path, stop_at: int) -> None:
    """Bit-equal with dropout on, from the end of an epoch (8 steps) and from the middle of one."""
    config = override(CONFIG, {"checkpoints.every_steps": 4})
    _, uninterrupted = trained(config, tmp_path / "a")
    _, resumed = trained(config, tmp_path / "b", resume_from=tmp_path / "a" / f"checkpoint-{stop_at}")
    assert torch.equal(weights(uninterrupted), weights(resumed))


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


def test_one_learning_rate_under_zero() -> None:
    with pytest.raises(ValueError, match="head_lr_factor must be 1, was 10"):
        override(minilm(), {"optimiser.strategy": "zero2"})

"""The settings of classifier training, without torch, so that a job's `--help` is instant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.classifier.loss_settings import LossSettings
from detox.data.settings import DataSettings
from detox.runs.config import Config, JobConfig, ScalingSettings


class ModelSettings(Config):
    name: str = "embedded/minilm"
    """`owner/name@revision` of the hub, a run directory, `embedded/minilm`, or `tiny/<architecture>`."""
    max_length: int = Field(default=256, ge=8)
    """Tokens a comment; longer ones are cut in training and windowed in prediction."""
    freeze_embeddings: bool = False
    """Leave the token embeddings as they are: half of a MiniLM's weights, and half of what workers exchange a step."""
    gradient_checkpointing: bool = False


class BatchSettings(Config):
    """One optimizer step, all workers together."""

    by: Literal["rows", "tokens"] = "rows"
    """What `size` counts: comments, or tokens with their padding."""
    size: int = Field(default=32, ge=1)
    """Comments (or padded tokens) of an optimizer step on all workers together. It stays when workers come or go."""
    per_forward: int = Field(default=16, ge=1)
    """At most this many comments (or tokens) a worker in one forward pass; the rest by gradient accumulation."""

    @model_validator(mode="after")
    def _fits(self) -> BatchSettings:
        if self.by == "tokens" and self.per_forward < 512:
            raise ValueError(f"a forward pass must hold one long comment: per_forward ≥ 512, was {self.per_forward}")
        return self


class OptimiserSettings(Config):
    lr: float = Field(default=2e-5, gt=0)
    """Peak learning rate of AdamW."""
    head_lr_factor: float = Field(default=1.0, gt=0)
    """Learning rate of what stands on top of the encoder (pooler, classifier) over `lr`. An encoder that was not made
    for classification needs more: on 1,490 synthetic comments a MiniLM had 0.95 macro ROC-AUC at 10, 0.89 at 1."""
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises linearly; then it falls linearly to zero."""
    epochs: int = Field(default=3, ge=1)
    max_steps: int = Field(default=0, ge=0)
    """Stop after this many optimizer steps; 0: after `epochs`."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where GPU or CPU has it, else fp32. fp16 is for GPUs without bf16 (S3's T4)."""
    strategy: Literal["ddp", "zero2", "zero3"] = "ddp"
    """Data parallel by torch DDP, or DeepSpeed ZeRO stage 2 or 3."""

    @model_validator(mode="after")
    def _one_rate_under_zero(self) -> OptimiserSettings:
        if self.strategy != "ddp" and self.head_lr_factor != 1:
            raise ValueError(
                f"DeepSpeed makes the optimizer, with one learning rate: with strategy {self.strategy} head_lr_factor "
                f"must be 1, was {self.head_lr_factor}"
            )
        return self


class StoppingSettings(Config):
    metric: str = "roc_auc/macro"
    """Validation figure by which the best checkpoint is chosen."""
    higher_is_better: bool = True
    patience: int = Field(default=2, ge=0)
    """Evaluations without a better figure before training stops; 0: never."""

    @model_validator(mode="after")
    def _runs_the_right_way(self) -> StoppingSettings:
        is_error = self.metric.partition("/")[0] in {"loss", "mse", "mae", "ece"}
        if self.higher_is_better == is_error:
            better = "lower" if is_error else "higher"
            raise ValueError(f"{self.metric} is better when {better}: set higher_is_better to {not is_error}")
        return self


class CheckpointSettings(Config):
    every_steps: int = Field(default=0, ge=0)
    """Evaluate and save every so many optimizer steps; 0: at the end of each epoch."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints to keep, the best among them; without workers (`scaling.num_workers 0`) all are kept."""


class TrainClassifierConfig(JobConfig):
    """Everything that determines one trained classifier."""

    task: Literal["multi_label", "regression"] = "multi_label"
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    batch: BatchSettings = BatchSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    stopping: StoppingSettings = StoppingSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    scaling: ScalingSettings = ScalingSettings()
    baseline: bool = True
    """Train S3's TF-IDF + logistic regression on the same split and report it beside the model."""
    submission: str = ""
    """Unlabelled csv file with `id` and `comment_text` to write Kaggle's `submission.csv` for; empty: none."""

"""The settings of rewriter training, without torch, so that a job's `--help` is instant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from detox.classifier.settings import BatchSettings
from detox.data.pairs.settings import PairSettings
from detox.rewriter.comparison_settings import VARIANTS, Variant, each_once
from detox.rewriter.generation_settings import RewritingSettings
from detox.rewriter.loss_settings import LossSettings
from detox.runs.config import Config, JobConfig, ScalingSettings

Level = Literal["easy", "medium", "hard"]
StageName = Literal["copy", "easy", "medium", "hard", "full"]


class LoraSettings(Config):
    """Low-rank adapters (Hu et al. 2022) in place of full fine-tuning."""

    rank: int = Field(default=0, ge=0)
    """0: the whole model is trained."""
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] = ("q", "v")
    """Names of the layers that get an adapter; T5's attention calls its queries and values so."""


class RewriterModelSettings(Config):
    name: str = "tiny/t5"
    """`owner/name@revision` of the hub, a folder, `tiny/t5`, or `tiny/copy_t5`, which begins as one that copies."""
    prompt: str = ""
    """Put before every source; `{lang}` in it stands for the language's code."""
    max_source_tokens: int = Field(default=128, ge=8)
    """Longer sources are not learned, and rewritten sentence by sentence afterwards."""
    max_target_tokens: int = Field(default=128, ge=8)
    """Pairs with a longer side are not learned."""
    tiny_width: int = Field(default=64, ge=8)
    """Width of a `tiny/…` model."""
    tiny_layers: int = Field(default=3, ge=1)
    """Layers of a `tiny/…` model's encoder, and of its decoder: copying takes two of attention over the source, and one
    to choose."""
    tiny_vocabulary: int = Field(default=2000, ge=300)
    """Most tokens of a `tiny/…` model."""
    lora: LoraSettings = LoraSettings()
    gradient_checkpointing: bool = False


class StageSettings(Config):
    """One stage of the curriculum: which pairs, how long, how fast."""

    stage: StageName
    """`easy`, `medium` or `hard` pairs, all of them (`full`), or both sides of every pair as their own rewrite
    (`copy`), which gives a model without pretraining the copying habit of a pretrained one."""
    epochs: float = Field(default=1.0, gt=0)
    lr: float = Field(default=0.0, ge=0)
    """Peak learning rate; 0: that of `optimiser.lr`."""
    loss: LossSettings | None = None
    """None: the run's `loss`."""


class CurriculumSettings(Config):
    """S2 section 5."""

    stages: tuple[StageSettings, ...] = (
        StageSettings(stage="easy", epochs=2, lr=2e-4),
        StageSettings(stage="medium", epochs=2, lr=2e-4),
        StageSettings(stage="hard", epochs=1, lr=1e-4),
        StageSettings(stage="full", epochs=1, lr=1e-4),
    )
    pacing: Literal["fixed", "cumulative", "competence"] = "fixed"
    """`fixed`: a stage sees its own level; `cumulative`: the easier ones too; `competence`: each batch is drawn from
    the easiest share of the stage's pairs, which grows with the root of the steps (Platanios et al. 2019)."""
    initial_competence: float = Field(default=0.1, gt=0, le=1)
    """The share at the first step, for `competence`."""
    language_exponent: float = Field(default=1.0, ge=0, le=1)
    """How often a stage sees a language: as its pairs to this power, the largest language once an epoch and others more
    often (mT5, Xue et al. 2021, takes 0.3 to sample by). 1: every pair once; 0: every language as often."""

    @model_validator(mode="after")
    def _has_stages(self) -> CurriculumSettings:
        if not self.stages:
            raise ValueError("a curriculum needs a stage: easy, medium, hard, full or copy")
        return self


class RewriterOptimiserSettings(Config):
    """AdamW with linear warm-up; each stage starts it afresh, as in S2."""

    lr: float = Field(default=2e-4, gt=0)
    """Peak learning rate of stages that name none."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """What the learning rate does after the warm-up, in each stage."""
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    max_steps: int = Field(default=0, ge=0)
    """Stop each stage after this many optimizer steps; 0: after its epochs."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 where GPU or CPU has it. T5 and mT5 overflow in fp16, so it is not offered."""


class RewriterCheckpointSettings(Config):
    every_steps: int = Field(default=0, ge=0)
    """Save every so many optimizer steps; 0: at the end of each epoch."""
    keep: int = Field(default=2, ge=1)


class RewriterEvaluationSettings(Config):
    """What is measured at the end of each stage, and of the run."""

    stage_texts: int = Field(default=200, ge=0)
    """Validation texts that are rewritten at the end of each stage, of each language as many as of the others as far as
    it has them; 0: all."""
    stage_decoding: Literal["greedy", "steered"] = "greedy"
    """How: the model's likeliest text alone, or under the controls of `rewriting.decoding`."""
    bert_score: bool = True
    """Measure English texts at the end of each stage by the embedded MiniLM: their similarity, and BERTScore."""
    judges: str = "offline"
    """Who judges the test: `offline`, `pan2024`, `pan2025`, or a classifier of neutrality by any name that
    `detox classify --model` takes. The stages are always measured by classifiers of the judge part."""
    variants: tuple[Variant, ...] = VARIANTS
    """Decodings that are compared on the test; the last one is what the run is judged by."""
    test_texts: int = Field(default=0, ge=0)
    """Test texts of each language that the finished rewriter is judged on, drawn by the seed; 0: all."""
    samples: int = Field(default=12, ge=0)
    """Test texts in the report with what became of them."""

    _variants = field_validator("variants")(each_once)


class TrainRewriterConfig(JobConfig):
    """Everything that determines one trained rewriter."""

    data: PairSettings = PairSettings()
    model: RewriterModelSettings = RewriterModelSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    loss: LossSettings = LossSettings()
    batch: BatchSettings = BatchSettings(size=32, per_forward=32)
    optimiser: RewriterOptimiserSettings = RewriterOptimiserSettings()
    checkpoints: RewriterCheckpointSettings = RewriterCheckpointSettings()
    rewriting: RewritingSettings = RewritingSettings()
    evaluation: RewriterEvaluationSettings = RewriterEvaluationSettings()
    scaling: ScalingSettings = ScalingSettings()

    @model_validator(mode="after")
    def _competence_draws_rows(self) -> TrainRewriterConfig:
        if self.curriculum.pacing == "competence" and self.batch.by != "rows":
            raise ValueError("competence pacing draws a number of pairs a step: set batch.by to rows")
        return self

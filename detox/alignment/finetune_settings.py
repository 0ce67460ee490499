"""The settings of tuning a language model, without torch, so that a job's `--help` is instant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.alignment.guard_settings import GuardSettings
from detox.alignment.reward_settings import TOXICITY_ONLY, RewardSettings
from detox.classifier.settings import BatchSettings
from detox.data.examples.settings import ExampleSettings
from detox.rewriter.settings import LoraSettings
from detox.runs.config import Config, JobConfig, ScalingSettings

Method = Literal["sft", "dpo", "kto", "grpo", "rloo", "reward"]
PREFERENCES: tuple[Method, ...] = ("dpo", "kto", "reward")
"""Learn from examples with two responses."""
ONLINE: tuple[Method, ...] = ("grpo", "rloo")
"""Learn from responses of their own, by a reward."""


class LanguageModelSettings(Config):
    name: str
    """`owner/name@revision` of the hub, a folder, a run of `finetune`, or `tiny/<architecture>`, which begins from
    nothing."""
    lora: LoraSettings = LoraSettings(rank=16, alpha=32.0, dropout=0.05, target_modules=("q_proj", "v_proj"))
    """S1 step 12: rank, query and value projections. A run that is adapters already goes on training those."""
    four_bit: bool = False
    """QLoRA (Dettmers et al. 2023): the frozen weights in 4-bit NF4, their constants quantised as well."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the frozen weights beneath adapters, and of what 4-bit weights are multiplied in."""
    gradient_checkpointing: bool = False
    max_tokens: int = Field(default=512, ge=8)
    """Of prompt and response together; longer examples are cut at their end (a reward model's are left out), and those
    whose prompt leaves no room are left out. Of an encoder-decoder of each by itself."""
    tiny_width: int = Field(default=32, ge=8, multiple_of=8)
    """Of a `tiny/…` model, whose tokenizer is trained on the training texts."""
    tiny_layers: int = Field(default=2, ge=1)
    tiny_heads: int = Field(default=2, ge=1)
    tiny_vocabulary: int = Field(default=1000, ge=300)

    @model_validator(mode="after")
    def _adapters_stand_on_something(self) -> LanguageModelSettings:
        if self.dtype != "float32" and not self.lora.rank:
            raise ValueError(
                f"without adapters all weights learn, and steps of theirs are lost in {self.dtype}: set dtype to "
                "float32 (forward passes in bf16 are the optimiser's precision), or lora.rank above 0"
            )
        if self.four_bit and not self.lora.rank:
            raise ValueError("4-bit weights are frozen and learn by adapters alone: set lora.rank above 0")
        if self.name.startswith("tiny/") and (self.lora.rank or self.four_bit):
            raise ValueError(
                f"{self.name} begins from nothing and has nothing to adapt: set lora.rank to 0 and four_bit to false, "
                "or name a trained model"
            )
        return self


class FinetuneOptimiserSettings(Config):
    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate (S1 step 12)."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """AdamW's memory of squared gradients; lower (0.95 to 0.99) where a model learns from nothing."""
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    """After the warm-up, down to 0."""
    epochs: int = Field(default=1, ge=1)
    max_steps: int = Field(default=0, ge=0)
    """Stop after this many optimizer steps; 0: after `epochs`."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 where GPU or CPU has it, else fp32."""
    kind: Literal["auto", "adamw", "paged_adamw_8bit"] = "auto"
    """`auto`: the paged 8-bit one (S4 slide 6) for adapters on a GPU, else AdamW."""
    strategy: Literal["ddp", "zero2"] = "ddp"
    """Data parallel by torch DDP, or DeepSpeed ZeRO stage 2."""


class SftSettings(Config):
    packing: bool = False
    """Texts one after another, cut into rows of `model.max_tokens`, so that nothing is padding."""
    completion_only: bool = True
    """Learn responses and not prompts, where there are prompts."""


class PreferenceSettings(Config):
    beta: float = Field(default=0.1, gt=0)
    """How strongly DPO and KTO hold to the reference (S1 step 14)."""
    candidates: int = Field(default=0, ge=0)
    """DPO: of each training prompt so many responses are sampled, and `ranker` finds the best and the worst, which are
    the pair; 0: the data's own pairs."""
    ranker: str = ""
    """A run of `finetune` whose method is `reward`."""
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=64, ge=1)
    prompts: int = Field(default=0, ge=0)
    """Training prompts that are sampled from; 0: all."""

    @model_validator(mode="after")
    def _candidates_are_ranked(self) -> PreferenceSettings:
        if bool(self.candidates) != bool(self.ranker):
            raise ValueError(
                f"candidates and their ranker go together, were {self.candidates} and {self.ranker!r}: set both, or "
                "neither"
            )
        if self.candidates == 1:
            raise ValueError("a pair needs at least 2 candidates, was 1")
        return self


class OnlineSettings(Config):
    """GRPO and RLOO: responses are sampled in groups, each against the mean of its own."""

    group: int = Field(default=8, ge=2)
    """Responses to each prompt."""
    max_new_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.04, ge=0)
    """Of the KL to the reference; DeepSeekMath's (Shao et al. 2024, arXiv:2402.03300)."""
    updates: int = Field(default=1, ge=1)
    """Optimizer steps on the same responses."""
    clip: float = Field(default=0.2, gt=0)
    """Of the ratio."""


class MonitorSettings(Config):
    """What is measured while it trains (S1 step 13, S4 slide 6), always on the same prompts."""

    every: int = Field(default=50, ge=0)
    """Optimizer steps between two measurements; 0: only before and after."""
    scorer: str = ""
    """Who scores toxicity, by any name that `detox classify --model` takes; empty: toxicity is not measured."""
    prompts: int = Field(default=32, ge=0)
    """Validation prompts that are gone on from; 0: all."""
    max_new_tokens: int = Field(default=32, ge=1)
    texts: int = Field(default=64, ge=1)
    """Validation responses whose perplexity is measured."""


class FinetuneEvaluationSettings(Config):
    """Before and after, on the test part."""

    prompts: int = Field(default=200, ge=0)
    """Test prompts that are gone on from; 0: all."""
    texts: int = Field(default=500, ge=0)
    """Test examples whose responses are measured; 0: all."""
    ngram: int = Field(default=0, ge=0)
    """Order of an n-gram model of the training part, whose perplexity on the same tokens the report sets beside the
    model's; 0: none."""
    max_new_tokens: int = Field(default=48, ge=1)
    decoding: Literal["sample", "greedy"] = "sample"
    """How responses are found: drawn at temperature 1, or the likeliest token each time, as one asks for summaries."""
    judge: str = ""
    """Who judges toxicity, another than the reward's scorer; empty: it is not judged."""
    toxic_prompt: float = Field(default=0.5, ge=0, le=1)
    """From this toxicity on, by the judge, a prompt is toxic, and responses to it are measured apart."""
    guards: GuardSettings = GuardSettings()


JUDGE = "s-nlp/roberta_toxicity_classifier"
"""Of another family than the usual rewards (Detoxify's, or one of `train_classifier`)."""

SUMMARIES = FinetuneEvaluationSettings(prompts=0, texts=0, max_new_tokens=64, decoding="greedy")
"""All of a test part's dialogues, each with its likeliest summary (S5)."""


class FinetuneCheckpointSettings(Config):
    every_steps: int = Field(default=100, ge=1)
    keep: int = Field(default=2, ge=1)


class FinetuneConfig(JobConfig):
    """Everything that determines one tuned model."""

    method: Method
    model: LanguageModelSettings
    data: ExampleSettings = ExampleSettings()
    batch: BatchSettings = BatchSettings(size=16, per_forward=4)
    optimiser: FinetuneOptimiserSettings = FinetuneOptimiserSettings()
    sft: SftSettings = SftSettings()
    preference: PreferenceSettings = PreferenceSettings()
    online: OnlineSettings = OnlineSettings()
    reward: RewardSettings = RewardSettings(components=TOXICITY_ONLY)
    """Of GRPO and RLOO (S1 step 14: toxicity alone)."""
    monitor: MonitorSettings = MonitorSettings()
    evaluation: FinetuneEvaluationSettings = FinetuneEvaluationSettings()
    checkpoints: FinetuneCheckpointSettings = FinetuneCheckpointSettings()
    scaling: ScalingSettings = ScalingSettings()

    @model_validator(mode="after")
    def _goes_together(self) -> FinetuneConfig:
        if self.batch.by != "rows":
            raise ValueError("a batch of finetune counts rows: set batch.by to rows")
        together = max(1, self.scaling.num_workers) * self.batch.per_forward
        if self.batch.size % together:
            raise ValueError(
                f"batch.size is what all workers take together in whole forward passes: it must be a multiple of "
                f"{together} ({max(1, self.scaling.num_workers)} times batch.per_forward), was {self.batch.size}"
            )
        if self.method == "reward" and self.model.four_bit:
            raise ValueError(
                "a reward model is a new head on weights that are loaded whole: set model.four_bit to false"
            )
        if self.preference.candidates and self.method != "dpo":
            raise ValueError(f"candidates are ranked for dpo, not for {self.method}: set preference.candidates to 0")
        if self.preference.candidates and self.model.name.startswith("tiny/"):
            raise ValueError(f"{self.model.name} has learnt nothing to say yet: name a trained model to sample from")
        if self.method in ONLINE and self.batch.size % self.online.group:
            raise ValueError(
                f"a batch holds whole groups: batch.size must be a multiple of online.group, were {self.batch.size} "
                f"and {self.online.group}"
            )
        if self.method in ONLINE and self.evaluation.judge and self.evaluation.judge == self.reward.scorer:
            raise ValueError(
                f"{self.reward.scorer} is the reward's scorer and cannot judge what comes of it, which is trained to "
                "please it: name another in evaluation.judge"
            )
        return self

"""The settings of aligning a policy, without torch, so that a job's `--help` is instant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from detox.alignment.finetune_settings import FinetuneEvaluationSettings, LanguageModelSettings
from detox.alignment.ppo_settings import PpoSettings
from detox.alignment.reward_settings import TOXICITY_ONLY, RewardSettings
from detox.data.examples.settings import ExampleSettings
from detox.data.pairs.settings import PairSettings
from detox.rewriter.comparison_settings import Variant, each_once
from detox.rewriter.settings import LoraSettings
from detox.runs.config import Config, JobConfig, ScalingSettings


class PolicySettings(Config):
    """What is trained."""

    name: str
    """A run of train_rewriter, or its artifact."""
    lora: LoraSettings = LoraSettings()
    """Rank 0: the whole model is trained, and its reference is a frozen copy. A rewriter whose artifact is adapters
    trains those."""


class AlignmentEvaluationSettings(Config):
    """What is measured of the policy before and after, on texts that it was not trained on."""

    judges: str = "offline"
    """Who judges: `offline`, `pan2024`, `pan2025`, or a classifier by any name that `detox classify --model` takes;
    another one than the reward's."""
    variants: tuple[Variant, ...] = ("greedy", "full")
    """Decodings that are compared."""
    test_texts: int = Field(default=0, ge=0)
    """Test texts of each language, drawn by the seed; 0: all."""
    samples: int = Field(default=12, ge=0)
    """Texts in the report with what became of them."""

    _variants = field_validator("variants")(each_once)


class AlignmentCheckpointSettings(Config):
    every: int = Field(default=10, ge=1)
    """Iterations between two checkpoints."""
    keep: int = Field(default=2, ge=1)


class AlignPolicyConfig(JobConfig):
    """Everything that determines one aligned policy."""

    policy: PolicySettings
    data: PairSettings = PairSettings()
    """The toxic sides of the training pairs are the prompts; what a rewriter was trained on can be given again, since
    the same settings and seed split alike."""
    languages: tuple[str, ...] = ()
    """Languages (ISO 639-1) of the prompts and of the texts that are judged; empty: all. The scorer should know
    them."""
    reward: RewardSettings = RewardSettings()
    ppo: PpoSettings = PpoSettings()
    evaluation: AlignmentEvaluationSettings = AlignmentEvaluationSettings()
    checkpoints: AlignmentCheckpointSettings = AlignmentCheckpointSettings()
    scaling: ScalingSettings = ScalingSettings()

    @model_validator(mode="after")
    def _the_judge_is_another(self) -> AlignPolicyConfig:
        if self.reward.scorer and self.evaluation.judges == self.reward.scorer:
            raise ValueError(
                f"{self.reward.scorer} is the reward's scorer and cannot judge what comes of it, which is trained to "
                "please it: name another in evaluation.judges"
            )
        return self


class AlignModelConfig(JobConfig):
    """Everything that determines one language model, causal or encoder-decoder, that PPO has aligned."""

    method: Literal["ppo"] = "ppo"
    model: LanguageModelSettings
    data: ExampleSettings = ExampleSettings()
    """Its prompts are asked; its responses, where there are some, are what perplexity is measured on."""
    most_prompts: int = Field(default=0, ge=0)
    """Different prompts that are asked: the first so many of the training part that leave room; 0: all."""
    reward: RewardSettings = RewardSettings(components=TOXICITY_ONLY)
    """S1 step 14: toxicity alone, for PPO."""
    ppo: PpoSettings = PpoSettings()
    evaluation: FinetuneEvaluationSettings = FinetuneEvaluationSettings()
    checkpoints: AlignmentCheckpointSettings = AlignmentCheckpointSettings()
    scaling: ScalingSettings = ScalingSettings()

    @model_validator(mode="after")
    def _the_judge_is_another(self) -> AlignModelConfig:
        if self.reward.scorer and self.evaluation.judge == self.reward.scorer:
            raise ValueError(
                f"{self.reward.scorer} is the reward's scorer and cannot judge what comes of it, which is trained to "
                "please it: name another in evaluation.judge"
            )
        return self

    @model_validator(mode="after")
    def _checkpointing_is_of_ppo(self) -> AlignModelConfig:
        if self.model.gradient_checkpointing:
            raise ValueError(
                "PPO makes its own passes, which model.gradient_checkpointing does not reach: set "
                "ppo.gradient_checkpointing instead"
            )
        return self

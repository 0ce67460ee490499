"""Supervised fine-tuning through TRL: texts, or responses to prompts (S1 steps 12 and 13)."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig, SFTTrainer

from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.tunable import Tunable


def sft_trainer(config: FinetuneConfig, tunable: Tunable, common: dict[str, Any], train: Any) -> SFTTrainer:
    """The trainer of one rank.

    Args:
        common: arguments that all of TRL's trainers get (`detox.alignment.tuning`).
        train: of `dataset_of`.
    """
    settings = config.sft
    has_prompts = "prompt" in train.column_names
    arguments = SFTConfig(
        **common,
        max_length=config.model.max_tokens,
        packing=settings.packing,
        packing_strategy="wrapped",  # the others need an attention that tells the texts of a row apart
        completion_only_loss=settings.completion_only if has_prompts else False,
        eos_token=tunable.loaded.tokenizer.eos_token,
    )
    return SFTTrainer(
        model=tunable.loaded.model,
        args=arguments,
        train_dataset=train,
        processing_class=tunable.loaded.tokenizer,
        peft_config=tunable.adapters,
    )

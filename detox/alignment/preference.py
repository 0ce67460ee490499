"""Learning from pairs of responses through TRL: DPO, KTO, and the Bradley-Terry reward model (S1 step 14).

DPO: Rafailov et al. 2023 (arXiv:2305.18290); KTO: Ethayarajh et al. 2024 (arXiv:2402.01306), on the same pairs taken
apart; the reward model: Bradley and Terry 1952, as in Ouyang et al. 2022 (arXiv:2203.02155).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import Trainer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.tunable import Tunable


def dpo_trainer(config: FinetuneConfig, tunable: Tunable, common: dict[str, Any], train: Any) -> DPOTrainer:
    """The trainer of one rank; the reference is the model without its new adapters, or a copy of the whole."""
    arguments = DPOConfig(**common, max_length=config.model.max_tokens, beta=config.preference.beta)
    return DPOTrainer(args=arguments, train_dataset=train, **_of(tunable))


def kto_trainer(config: FinetuneConfig, tunable: Tunable, common: dict[str, Any], train: Any) -> KTOTrainer:
    """The same for KTO.

    Raises:
        ValueError: one example a forward pass, of which KTO cannot estimate the KL.
    """
    if common["per_device_train_batch_size"] < 2:
        raise ValueError(
            "KTO estimates its KL from mismatched pairs of a forward pass: set batch.per_forward to 2 or more"
        )
    arguments = KTOConfig(**common, max_length=config.model.max_tokens, beta=config.preference.beta)
    return KTOTrainer(args=arguments, train_dataset=train, **_of(tunable))


def reward_trainer(config: FinetuneConfig, tunable: Tunable, common: dict[str, Any], train: Any) -> RewardTrainer:
    """The trainer of a ranker (`detox.alignment.tunable.with_ranking_head`)."""
    arguments = RewardConfig(**common, max_length=config.model.max_tokens)
    return RewardTrainer(args=arguments, train_dataset=train, **_of(tunable))


PREFERENCE_TRAINERS: dict[str, Callable[..., Trainer]] = {
    "dpo": dpo_trainer,
    "kto": kto_trainer,
    "reward": reward_trainer,
}


def _of(tunable: Tunable) -> dict[str, Any]:
    loaded = tunable.loaded
    return {"model": loaded.model, "processing_class": loaded.tokenizer, "peft_config": tunable.adapters}

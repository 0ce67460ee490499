"""Learning from a model's own responses through TRL: GRPO and RLOO, with the rewards of this project (S1 step 14).

GRPO: Shao et al. 2024 (arXiv:2402.03300); RLOO: Ahmadian et al. 2024 (arXiv:2402.14740). PPO is ours: `ppo`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from detox.alignment.composite import CompositeReward
from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.tunable import Tunable


def online_trainer(
    config: FinetuneConfig, tunable: Tunable, common: dict[str, Any], train: Any, reward: CompositeReward
) -> Trainer:
    """The trainer of one rank.

    Args:
        reward: of this rank, which sees the responses of this rank alone.
    """
    settings = config.online
    sampling: dict[str, Any] = {
        "num_generations": settings.group,
        "max_completion_length": settings.max_new_tokens,
        "temperature": settings.temperature,
        "beta": settings.beta,
        "epsilon": settings.clip,
        "num_iterations": settings.updates,
        "disable_dropout": True,
    }
    loaded = tunable.loaded
    given: dict[str, Any] = {
        "model": loaded.model,
        "processing_class": loaded.tokenizer,
        "peft_config": tunable.adapters,
        "reward_funcs": reward,
        "train_dataset": train,
    }
    if config.method == "grpo":
        return GRPOTrainer(args=GRPOConfig(**common, **sampling), **given)
    return RLOOTrainer(args=RLOOConfig(**common, **sampling), **given)


class RewardStateCallback(TrainerCallback):
    """Keeps what a reward has seen (recent responses, running means) with every checkpoint, a file a rank.

    Must be told of a save before whoever moves the checkpoint away.
    """

    def __init__(self, reward: CompositeReward, rank: int, resume_from: Path | None) -> None:
        self._reward, self._name = reward, f"reward-{rank}.pt"
        if resume_from is not None and (resume_from / self._name).is_file():
            reward.load_state_dict(torch.load(resume_from / self._name, weights_only=True))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self._reward.state_dict(), folder / self._name)

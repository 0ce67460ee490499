"""What one worker of an alignment does, from its task to the last iteration. Knows nothing of Ray."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from detox.alignment.composite import CompositeReward
from detox.alignment.policy import policy_of
from detox.alignment.ppo import Figures, PpoTrainer
from detox.alignment.ppo_settings import PpoSettings
from detox.alignment.ppo_setup import Prompt
from detox.alignment.ranks import Ranks
from detox.models.loading import LoadedModel
from detox.runs.config import ScalingSettings

STATE = "ppo.pt"
"""Of a checkpoint: what `PpoTrainer.state_dict` gives."""

Save = Callable[[Path], None]
"""Writes on rank 0 into a folder; every rank must call it."""
OnIteration = Callable[[int, Figures, Save], None]
"""Told of each iteration: its number, its figures, and what saves the state into a folder."""


class Task(NamedTuple):
    """What PPO is given; the same on every rank and after every restart."""

    loaded: LoadedModel
    """The policy, with adapters where it gets some."""
    prompts: Sequence[Prompt]
    refused: Sequence[dict[str, Any]]
    """Texts that the model cannot read, with the reason."""
    reward: CompositeReward


def begin(seed: int, scaling: ScalingSettings) -> None:
    """Seeds and threads, before anything is loaded."""
    torch.set_num_threads(scaling.threads_per_worker)
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(seed)


def align_one_rank(
    task: Task,
    settings: PpoSettings,
    seed: int,
    use_gpu: bool = False,
    resume_from: Path | None = None,
    on_iteration: OnIteration = lambda *_: None,
    on_start: Callable[[int], None] = lambda _: None,
) -> Save:
    """Train on one rank.

    Args:
        resume_from: a checkpoint.
        on_start: is told after which iteration training goes on.

    Returns:
        what saves the final state into a folder. The task's model is the aligned one.

    Raises:
        ValueError: see `PpoTrainer`.
        RewardError, DivergedError: see `PpoTrainer.step`.
    """
    device: Any = torch.device("cuda", torch.cuda.current_device()) if use_gpu else torch.device("cpu")
    policy = policy_of(task.loaded.model.to(device), settings.temperature)
    trainer = PpoTrainer(policy, task.loaded.tokenizer, task.prompts, task.reward, settings, seed=seed)
    if resume_from is not None:
        trainer.load_state_dict(torch.load(resume_from / STATE, weights_only=True, map_location="cpu"))

    def save(folder: Path) -> None:
        state = trainer.state_dict()
        if Ranks().rank == 0:
            torch.save(state, folder / STATE)

    on_start(trainer.iteration)
    for figures in trainer.train():
        on_iteration(trainer.iteration, figures | task.reward.figures(), save)
    return save

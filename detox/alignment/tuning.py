"""What one worker of a tuning does, from examples to the last step. Knows nothing of Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from detox.alignment.asked import asked_of
from detox.alignment.building import COLOCATED, RewardModels, build_reward
from detox.alignment.finetune_settings import ONLINE, FinetuneConfig
from detox.alignment.grpo import RewardStateCallback, online_trainer
from detox.alignment.monitors import Beginning, MonitorCallback, measure
from detox.alignment.preference import PREFERENCE_TRAINERS
from detox.alignment.ranks import Ranks
from detox.alignment.seq2seq_sft import seq2seq_trainer
from detox.alignment.settings import AlignModelConfig
from detox.alignment.sft import sft_trainer
from detox.alignment.trl_rows import dataset_of, usable
from detox.alignment.tunable import Tunable, load_tunable, prompt_ids, prompt_room, with_ranking_head, written
from detox.classifier.scorer import load_toxicity
from detox.classifier.training import common_arguments
from detox.classifier.worker import Place
from detox.classifier.zero import await_builds, deepspeed_config
from detox.data.examples.example import Example, PreparedExamples

TEXTS_FOR_TOKENIZER = 20_000

Tell = Callable[[str, int, dict[str, float]], None]
"""Told of an event, its step and its figures."""


class DivergedError(RuntimeError):
    """The loss is no number any more."""


def tune_one_rank(
    config: FinetuneConfig,
    examples: PreparedExamples,
    place: Place,
    tell: Tell,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from: Path | None = None,
    models: RewardModels = COLOCATED,
) -> Callable[[Path], None]:
    """Load and train on one rank.

    Args:
        tell: of rank 0: where monitors write.
        callbacks: are told of saves after the reward's state has been added to them.
        resume_from: a checkpoint of this config, world size and thread count.
        models: of the reward.

    Returns:
        what saves the final model into a folder, on rank 0; every rank must call it.

    Raises:
        ValueError: a name that leads to nothing, or no example to learn from.
        DivergedError: the loss is no number.
        RewardError: see `detox.alignment.composite.CompositeReward`.
    """
    torch.set_num_threads(config.scaling.threads_per_worker)
    set_seed(config.run.seed)
    train = examples.part("train")
    tunable = beginning_of(config, train, place.scratch)
    common = trl_arguments(config, place.scratch, place.ranks, tunable)
    beginning = Beginning(tunable.loaded.model, tunable.is_adapted) if place.rank == 0 else None
    trainer, own = build_trainer(config, tunable, common, train, place.rank, resume_from, models)
    if not len(trainer.train_dataset):  # type: ignore[arg-type]
        raise ValueError(
            f"no prompt leaves room for a response within {config.model.max_tokens} tokens: raise --model.max-tokens"
        )
    trainer.remove_callback(PrinterCallback)
    if beginning is not None and (tunable.is_encoder_decoder or config.method in ONLINE) and resume_from is None:
        learnt = len(trainer.train_dataset)  # type: ignore[arg-type]
        tell("data", 0, {"examples": learnt, "left_out": len(usable(train, config.method)) - learnt})
    if beginning is not None and config.method != "reward":
        own.append(monitor(config, trainer, tunable, beginning, examples.part("validation"), tell))
    for callback in (*own, DivergedCallback(), *callbacks):
        trainer.add_callback(callback)
    if resume_from is None or not _had_ended(resume_from):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    else:
        trainer._load_from_checkpoint(str(resume_from))  # what `train` does first

    def save(folder: Path) -> None:
        trainer.save_model(str(folder))

    return save


def beginning_of(config: FinetuneConfig | AlignModelConfig, train: Sequence[Example], scratch: Path) -> Tunable:
    """The model before it is tuned; the same on every rank, after every restart, and for whoever measures it."""
    every = -(-len(train) // TEXTS_FOR_TOKENIZER)  # sources stand one after another, and all of them count
    texts = [written(example.prompt, _PLAIN) + example.chosen for example in train[:: max(1, every)]]
    tunable = load_tunable(config.model, texts, config.run.seed, scratch)
    return with_ranking_head(tunable, config.model, config.run.seed) if config.method == "reward" else tunable


class _NoTemplate:
    chat_template = None


_PLAIN: Any = _NoTemplate()


def build_trainer(
    config: FinetuneConfig,
    tunable: Tunable,
    common: dict[str, Any],
    train: Sequence[Example],
    rank: int,
    resume_from: Path | None,
    models: RewardModels,
) -> tuple[Trainer, list[TrainerCallback]]:
    """The trainer for the method, and the callbacks that it needs: TRL's, but that has none for encoder-decoders."""
    if tunable.is_encoder_decoder:
        return seq2seq_trainer(config, tunable, common, train), []
    if config.method in ONLINE:
        train = answerable(config, tunable, train)
        rows = dataset_of(train, config.method, tunable.loaded.tokenizer)
        texts = [example.chosen for example in train if example.chosen]
        reward = build_reward(config.reward, texts, [""] * len(texts), Ranks(alone=True), models)
        return online_trainer(config, tunable, common, rows, reward), [RewardStateCallback(reward, rank, resume_from)]
    rows = dataset_of(train, config.method, tunable.loaded.tokenizer)
    if config.method == "sft":
        return sft_trainer(config, tunable, common, rows), []
    return PREFERENCE_TRAINERS[config.method](config, tunable, common, rows), []


def answerable(config: FinetuneConfig, tunable: Tunable, train: Sequence[Example]) -> list[Example]:
    """The examples whose prompt leaves room for a response: TRL would sample beyond what the model reads.

    Raises:
        ValueError: none does.
    """
    room = prompt_room(tunable.loaded.model, config.model.max_tokens, config.online.max_new_tokens)
    asked = usable(train, config.method)
    found = [example for example in asked if len(prompt_ids(example.prompt, tunable.loaded.tokenizer)) <= room]
    if asked and not found:
        raise ValueError(
            f"no prompt leaves room for {config.online.max_new_tokens} new tokens within {config.model.max_tokens}: "
            "raise --model.max-tokens, or lower --online.max-new-tokens"
        )
    return found


def trl_arguments(config: FinetuneConfig, scratch: Path, ranks: int, tunable: Tunable) -> dict[str, Any]:
    """What all trainers are told, TRL's and the other.

    Raises:
        ValueError: a precision that the hardware does not have.
    """
    optimiser = config.optimiser
    if optimiser.strategy == "zero2":
        await_builds()
    is_paged = optimiser.kind == "paged_adamw_8bit" or (
        optimiser.kind == "auto" and tunable.is_adapted and torch.cuda.is_available()
    )
    return common_arguments(config, scratch, ranks) | {
        "eval_strategy": "no",  # the monitors measure
        "eval_steps": None,
        "num_train_epochs": optimiser.epochs,
        "lr_scheduler_type": optimiser.schedule,
        "adam_beta2": optimiser.beta2,
        "optim": "paged_adamw_8bit" if is_paged else "adamw_torch",
        "gradient_checkpointing": config.model.gradient_checkpointing,
        "save_total_limit": config.checkpoints.keep if config.scaling.num_workers == 0 else None,
        "deepspeed": deepspeed_config("zero2") if optimiser.strategy == "zero2" else None,
    }


def monitor(
    config: FinetuneConfig,
    trainer: Trainer,
    tunable: Tunable,
    beginning: Beginning,
    validation: Sequence[Example],
    tell: Tell,
) -> MonitorCallback:
    settings, tokenizer = config.monitor, tunable.loaded.tokenizer
    toxicity = load_toxicity(settings.scorer) if settings.scorer else None
    asked = asked_of(validation, tunable.loaded, config, settings)

    def judged(texts: Sequence[str]) -> np.ndarray:
        assert toxicity is not None
        return toxicity(texts, [""] * len(texts))

    def measure_now() -> dict[str, float]:
        found = measure(trainer.model, beginning, tokenizer, asked, settings.max_new_tokens, config.run.seed)
        return found.figures(judged if toxicity is not None else None)

    return MonitorCallback(settings.every, measure_now, lambda step, figures: tell("monitor", step, figures))


class DivergedCallback(TrainerCallback):
    """Stops at a loss that is no number, before a checkpoint of it is made."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if control.should_save:
            control.should_log = True  # which comes before the save

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = kwargs["logs"].get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise DivergedError(
                f"the loss is {loss} at step {state.global_step}: lower --optimiser.lr, or set --optimiser.precision "
                "to fp32; a run of another --run.name begins anew"
            )


def _had_ended(checkpoint: Path) -> bool:
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return state.global_step >= state.max_steps

"""What one worker of an alignment does, from prompts to the last iteration. Knows nothing of Ray."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import PeftModel

from detox.alignment.building import build_reward
from detox.alignment.policy import REFERENCE, policy_of
from detox.alignment.ppo import Figures, PpoTrainer
from detox.alignment.ppo_setup import Prompt
from detox.alignment.ranks import Ranks
from detox.alignment.settings import AlignPolicyConfig
from detox.data.pairs.prepared import PairRow, PreparedPairs, cases
from detox.models.loading import LoadedModel
from detox.models.seq2seq import load_trained, with_lora
from detox.rewriter.artifact import ArtifactFacts, read_facts, rewriter_folder
from detox.rewriter.batches import prompted
from detox.rewriter.readable import unknown_letters

STATE = "ppo.pt"
"""Of a checkpoint: what `PpoTrainer.state_dict` gives."""

Save = Callable[[Path], None]
OnIteration = Callable[[int, Figures, Save], None]
"""Told of each iteration: its number, its figures, and what saves the state into a folder."""


class Asked(NamedTuple):
    """The prompts of a run."""

    prompts: list[Prompt]
    refused: list[dict[str, Any]]
    """Texts that the model cannot read, with the reason."""


def align_one_rank(
    config: AlignPolicyConfig,
    pairs: PreparedPairs,
    resume_from: Path | None,
    on_iteration: OnIteration,
    on_start: Callable[[int], None] = lambda _: None,
    on_refused: Callable[[Sequence[dict[str, Any]]], None] = lambda _: None,
) -> Save:
    """Load, ask and train on one rank.

    Args:
        resume_from: a checkpoint.
        on_start: is told after which iteration training goes on.
        on_refused: is given the texts that the model cannot read, before anything is trained.

    Returns:
        what saves the final state into a folder.

    Raises:
        ValueError: see `PpoTrainer`; or a name that leads to nothing.
        RewardError, DivergedError: see `PpoTrainer.step`.
    """
    torch.set_num_threads(config.scaling.threads_per_worker)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(config.run.seed)
    loaded, facts = load_policy(config)
    train = in_languages(pairs.part("train"), config.languages)
    asked = ask(train, loaded, facts)
    on_refused(asked.refused)
    reward = build_reward(config.reward, [row.neutral for row in train], [row.lang for row in train], Ranks())
    device: Any = torch.device("cuda", torch.cuda.current_device()) if config.scaling.use_gpu else torch.device("cpu")
    policy = policy_of(loaded.model.to(device), config.ppo.temperature)
    trainer = PpoTrainer(policy, loaded.tokenizer, asked.prompts, reward, config.ppo, seed=config.run.seed)
    if resume_from is not None:
        trainer.load_state_dict(torch.load(resume_from / STATE, weights_only=True, map_location="cpu"))

    def save(folder: Path) -> None:
        torch.save(trainer.state_dict(), folder / STATE)

    on_start(trainer.iteration)
    for figures in trainer.train():
        on_iteration(trainer.iteration, figures | reward.figures(), save)
    return save


def load_policy(config: AlignPolicyConfig) -> tuple[LoadedModel, ArtifactFacts]:
    """The rewriter that is to be trained; the same on every rank and after every restart.

    Raises:
        ValueError: the name leads to no rewriter, its manifest does not hold, or it has adapters and is to get more.
    """
    from detox.classifier.model_scorers import verified

    folder = rewriter_folder(config.policy.name)
    verified(folder)
    facts = read_facts(folder)
    loaded = load_trained(folder, facts.base_model, facts.base_revision)
    model: Any = loaded.model
    lora = config.policy.lora
    if isinstance(model, PeftModel):
        if lora.rank:
            raise ValueError(
                f"{config.policy.name} is adapters already, which are trained on: leave policy.lora.rank at 0, or name "
                "a whole model"
            )
        model.load_adapter(str(folder), REFERENCE)
        model.set_adapter("default")
    elif lora.rank:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.run.seed)
            model = with_lora(model, lora.rank, lora.alpha, lora.dropout, lora.target_modules)
    return LoadedModel(model, loaded.tokenizer, facts.base_model, facts.base_revision), facts


def in_languages(rows: Sequence[PairRow], languages: Sequence[str]) -> list[PairRow]:
    """Those in the languages; empty: all.

    Raises:
        ValueError: there are none.
    """
    found = [row for row in rows if not languages or row.lang in languages]
    if not found:
        wanted = ", ".join(languages) or "any language"
        raise ValueError(f"this part of the pairs has no texts in {wanted}: change --languages, or name other pairs")
    return found


def ask(rows: Sequence[PairRow], loaded: LoadedModel, facts: ArtifactFacts) -> Asked:
    """Each toxic text once, as the rewriter is asked to rewrite it."""
    wanted = cases(rows)
    texts = [prompted(case.source, case.lang, facts.model) for case in wanted]
    tokenizer: Any = loaded.tokenizer
    ids = tokenizer(texts, verbose=False)["input_ids"] if texts else []
    unknown = unknown_letters([case.source for case in wanted], tokenizer)
    asked = Asked([], [])
    for case, tokens, letters in zip(wanted, ids, unknown, strict=True):
        reason = f"the model's tokenizer does not know {letters[:20]!r}" if letters else ""
        if len(tokens) > facts.model.max_source_tokens:
            reason = f"it has {len(tokens)} tokens, and the model reads {facts.model.max_source_tokens}"
        if reason:
            asked.refused.append({"lang": case.lang, "text": case.source, "reason": reason})
        else:
            columns = {"lang": case.lang, "reference": case.references[0]}
            asked.prompts.append(Prompt(tokens, case.source, columns))
    return asked

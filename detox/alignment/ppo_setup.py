"""What PPO makes of its settings before it starts, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from detox.alignment.kl import AdaptiveKlController, FixedKlController, KlController
from detox.alignment.policy import Policy
from detox.alignment.ppo_settings import PpoSettings
from detox.alignment.ranks import Ranks
from detox.classifier.training import resolve_precision
from detox.models.loading import check_vocabulary


class Prompt(NamedTuple):
    """What a policy is asked."""

    ids: Sequence[int]
    """Without padding: an encoder's with EOS, a causal model's without."""
    text: str
    """As the reward sees it."""
    columns: Mapping[str, Any] = {}
    """Further columns of the data set, for the reward; the same names for every prompt."""


def check_ppo(policy: Policy, tokenizer: Any, prompts: Sequence[Prompt], settings: PpoSettings, ranks: Ranks) -> None:
    """Raises:
    ValueError: see `detox.alignment.ppo.PpoTrainer`.
    """
    if len(prompts) < settings.prompts:
        raise ValueError(f"an iteration takes {settings.prompts} prompts, and there are {len(prompts)}: lower prompts")
    if policy.temperature != settings.temperature:
        raise ValueError(
            f"the policy has a temperature of {policy.temperature} and the settings {settings.temperature}: make it "
            "with policy_of(model, settings.temperature)"
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(
            "a batch of responses needs padding: set the tokenizer's pad_token, to its eos_token if need be"
        )
    if ranks.count > settings.prompts // settings.minibatches:
        raise ValueError(
            f"a minibatch has {settings.prompts // settings.minibatches} prompts, too few for {ranks.count} workers: "
            "raise prompts, or lower minibatches"
        )
    config = policy.model.config
    known = check_vocabulary(config, tokenizer)
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    room = math.inf if limit is None or config.is_encoder_decoder else limit - settings.max_new_tokens
    for number, prompt in enumerate(prompts):
        if not len(prompt.ids):
            raise ValueError(f"prompt {number} has no tokens: begin it with the BOS token, or leave it out")
        if len(prompt.ids) > room:
            raise ValueError(
                f"prompt {number} has {len(prompt.ids)} tokens, and with {settings.max_new_tokens} of a response the "
                f"model reads {limit}: leave it out, or shorten it"
            )
        if max(prompt.ids) >= known:
            raise ValueError(f"prompt {number} has the token {max(prompt.ids)}, and the model knows {known}")


def lr_share(settings: PpoSettings) -> Callable[[int], float]:
    """Share of the learning rate at each optimizer step."""
    last = settings.iterations * settings.epochs * settings.minibatches

    def share(step: int) -> float:
        if step < settings.warmup_steps:
            return (step + 1) / settings.warmup_steps
        if settings.schedule == "constant":
            return 1.0
        return max(0.0, (last - step) / max(1, last - settings.warmup_steps))

    return share


def kl_controller(settings: PpoSettings) -> KlController:
    """Of the settings' kind."""
    kl = settings.kl
    if kl.controller == "adaptive":
        return AdaptiveKlController(kl.coefficient, kl.target, kl.horizon)
    return FixedKlController(kl.coefficient)


def autocast_dtype(precision: str) -> torch.dtype | None:
    """What passes compute in beside float32; None: nothing."""
    return torch.bfloat16 if resolve_precision(precision) == "bf16" else None

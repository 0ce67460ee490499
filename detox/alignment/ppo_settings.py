"""The settings of PPO, without torch, so that a job's `--help` is instant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.runs.config import Config


class KlSettings(Config):
    """What keeps the policy near its reference."""

    place: Literal["reward", "loss"] = "reward"
    """`reward`: each token's KL is taken from its reward (Ziegler et al. 2019); `loss`: its mean is added to the loss
    (as GRPO does)."""
    estimator: Literal["k1", "k2", "k3"] = "k1"
    """See `detox.alignment.kl.kl_estimate`; k1 has no gradient to speak of, so a loss needs k2 or k3."""
    controller: Literal["adaptive", "fixed"] = "adaptive"
    """`adaptive`: the price follows the KL; `fixed`: it stays."""
    coefficient: float = Field(default=0.05, ge=0)
    """What a nat costs, at first."""
    target: float = Field(default=6.0, gt=0)
    """`adaptive`: nats a response that are aimed at."""
    horizon: float = Field(default=10_000, gt=0)
    """`adaptive`: responses over which the price can change by a fifth."""
    abort_above: float = Field(default=100.0, gt=0)
    """A mean KL of so many nats a response is a policy that has diverged, and ends the run."""

    @model_validator(mode="after")
    def _a_loss_has_a_gradient(self) -> KlSettings:
        if self.place == "loss" and self.estimator == "k1":
            raise ValueError(
                "the gradient of k1 is 0 on average, so a KL in the loss would do nothing: set kl.estimator to k2 or k3"
            )
        return self


class ScoreSettings(Config):
    """What becomes of a response's reward before PPO sees it, in this order."""

    center: bool = False
    """Take away the mean of all rewards so far."""
    scale: bool = False
    """Divide by the standard deviation of all rewards so far."""
    clip: float = Field(default=0.0, ge=0)
    """Hold within plus or minus this (S1 step 14); 0: off."""
    missing_eos: float = Field(default=0.0, ge=0)
    """Taken from the reward of a response that did not end within its limit."""
    whiten: bool = False
    """Bring the rewards of all tokens of an iteration, KL included, to unit variance; their mean stays."""


class PpoSettings(Config):
    """Proximal policy optimisation (Schulman et al. 2017) of a language model (Ziegler et al. 2019)."""

    iterations: int = Field(default=50, ge=1)
    """Times that responses are sampled and learnt from."""
    prompts: int = Field(default=64, ge=1)
    """Prompts of an iteration, on all ranks together."""
    samples: int = Field(default=1, ge=1)
    """Responses a prompt."""
    epochs: int = Field(default=4, ge=1)
    """Times that each response is learnt from."""
    minibatches: int = Field(default=4, ge=1)
    """Optimizer steps an epoch."""
    tokens_per_forward: int = Field(default=4096, ge=1)
    """Tokens of prompts and responses, padding included, that go through the model at a time; a minibatch that has more
    accumulates its gradient."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Most tokens of a response, EOS included."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling; the policy that is trained is the one at this temperature (`policy_of(model, temperature)`)."""
    lr: float = Field(default=1e-5, gt=0)
    schedule: Literal["constant", "linear"] = "constant"
    """What the learning rate does after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation."""
    clip: float = Field(default=0.2, gt=0)
    """How far a token's probability may go from the one it was sampled by, as a ratio, and still gain."""
    value_clip: float = Field(default=0.2, ge=0)
    """How far a value may go from its old one and still gain; 0: anywhere."""
    value_coefficient: float = Field(default=0.1, ge=0)
    """Of the value loss."""
    entropy_coefficient: float = Field(default=0.0, ge=0)
    """Of the entropy bonus."""
    whiten_advantages: bool = True
    """Bring the advantages of an iteration to mean 0 and unit variance."""
    stop_kl: float = Field(default=0.0, ge=0)
    """End an iteration's updates once a token's KL to the sampling policy exceeds this on average; 0: never."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 where GPU or CPU has it. T5 and mT5 overflow in fp16, so it is not offered."""
    gradient_checkpointing: bool = False
    strategy: Literal["ddp", "zero1", "zero2"] = "ddp"
    """What each worker keeps of the optimizer: `ddp` all, `zero1` a share of its states, `zero2` also of the gradients;
    weights are whole on each."""
    kl: KlSettings = KlSettings()
    score: ScoreSettings = ScoreSettings()

    @model_validator(mode="after")
    def _minibatches_have_rows(self) -> PpoSettings:
        if self.minibatches > self.prompts:
            raise ValueError(
                f"a minibatch needs a prompt: minibatches ({self.minibatches}) must not exceed prompts ({self.prompts})"
            )
        return self

"""The settings of guards against reward hacking, without torch, so that a job's `--help` is instant."""

from __future__ import annotations

from pydantic import Field

from detox.runs.config import Config


class GuardSettings(Config):
    """What must not become of responses while a reward rises; asked of methods with a reward, where data have
    responses."""

    least_rouge_change: float = Field(default=-0.02, ge=-1, le=0)
    """The change of ROUGE-L against the data's responses must be above this, with its whole 95 % interval."""
    least_length_ratio: float = Field(default=0.67, ge=0, le=1)
    most_length_ratio: float = Field(default=1.5, ge=1)
    """Words of a response after over those before, both as means, must lie between these."""
    most_copied_change: float = Field(default=0.05, ge=0, le=1)
    """The share of a response's 4-grams that stand in its prompt must not rise by more."""

"""Which rewards, at which weights, as data. No torch in here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.runs.config import Config

COMPONENTS = ("toxicity", "fluency", "acceptability", "diversity", "similarity", "summary", "length", "novelty")
Component = Literal["toxicity", "fluency", "acceptability", "diversity", "similarity", "summary", "length", "novelty"]


class ComponentSettings(Config):
    """How much one component counts."""

    component: Component
    weight: float = Field(ge=0)
    """At the first step."""
    final_weight: float = Field(default=-1.0, ge=-1)
    """At the last of `over_steps`, in between evenly; -1: the weight stays."""
    over_steps: int = Field(default=0, ge=0)
    """Steps of the trainer over which the weight changes."""
    normalise: bool = False
    """Bring it to mean 0 and deviation 1 of all its values so far, so that weights compare what varies."""
    clip: float = Field(default=0.0, ge=0)
    """Hold it, normalised or not, within plus or minus this; 0: off."""

    @model_validator(mode="after")
    def _a_schedule_has_steps(self) -> ComponentSettings:
        if (self.final_weight >= 0) != (self.over_steps > 0):
            raise ValueError(
                f"a weight that changes needs final_weight and over_steps, were {self.final_weight} and "
                f"{self.over_steps}: set both, or neither"
            )
        return self


TOXICITY_ONLY = (ComponentSettings(component="toxicity", weight=1.0),)
"""S1 step 14 for PPO and GRPO."""
SEVENTY_TWENTY_TEN = (
    ComponentSettings(component="toxicity", weight=0.7),
    ComponentSettings(component="fluency", weight=0.2),
    ComponentSettings(component="diversity", weight=0.1),
)
"""S1 step 14."""


class RewardPoolSettings(Config):
    """Ray actors that hold the models of rewards (scorers, the language model of fluency) in the workers' stead."""

    actors: int = Field(default=0, ge=0)
    """Processes, at most one a worker; 0: each worker loads the models itself."""
    num_cpus: float = Field(default=1.0, ge=0)
    """Of an actor, in Ray's books."""
    num_gpus: float = Field(default=0.0, ge=0)
    """Of an actor; a fraction shares a GPU. 0: it works on the CPU."""

    @model_validator(mode="after")
    def _several_gpus_are_whole(self) -> RewardPoolSettings:
        if self.num_gpus > 1 and self.num_gpus % 1:
            raise ValueError(f"Ray gives a part of one GPU, or whole ones: pool.num_gpus was {self.num_gpus}")
        return self


class RewardSettings(Config):
    """A weighted sum of components."""

    components: tuple[ComponentSettings, ...] = SEVENTY_TWENTY_TEN
    clip: float = Field(default=0.0, ge=0)
    """Hold the sum within plus or minus this (S1 step 14); 0: off."""
    scorer: str = ""
    """Who scores toxicity, by any name that `detox classify --model` takes: a run of train_classifier, say."""
    label: str = ""
    """Of the scorer; empty: that of overall toxicity."""
    language_model: str = "characters"
    """Whose perplexity fluency is: a causal model by name, or `characters`, an n-gram model of the training texts."""
    acceptability: str = ""
    """A classifier of acceptability by name, and after a `#` its label."""
    column: str = ""
    """Of the data, that holds what similarity and novelty compare with; empty: the prompts."""
    reference_column: str = "reference"
    """Of the data, that holds the references of summaries."""
    least_words: int = Field(default=3, ge=1)
    most_words: int = Field(default=60, ge=1)
    """Between these `length` is 1."""
    pool: RewardPoolSettings = RewardPoolSettings()

    @model_validator(mode="after")
    def _components_stand_once(self) -> RewardSettings:
        names = [one.component for one in self.components]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a reward needs components, each once, was given {', '.join(names) or 'none'}")
        if not any(one.weight or one.final_weight > 0 for one in self.components):
            raise ValueError("a reward needs a component whose weight is above 0")
        return self

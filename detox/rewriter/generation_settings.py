"""How a rewriter generates, what steers it and how candidates are weighed, as data. No torch in here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.runs.config import Config


class GenerationSettings(Config):
    """How many candidates a text gets, and how they are searched for."""

    mode: Literal["greedy", "sample", "beam"] = "greedy"
    """`greedy`: the likeliest token each time; `sample`: drawn tokens; `beam`: beam search, diverse if `groups` > 1."""
    candidates: int = Field(default=1, ge=1)
    """Candidates a text; 1 for `greedy`. Beam search gives distinct ones, best first, and may find fewer."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Most tokens of a candidate, EOS included."""
    max_length_ratio: float = Field(default=0.0, ge=0)
    """Most tokens of a candidate over those of its source (both with EOS), rounded up; 0: `max_new_tokens` alone."""
    batch_tokens: int = Field(default=0, ge=0)
    """Source tokens of a batch, padding included, once for each sample or beam; 0: 4,096 on a CPU, 32,768 on a GPU."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling: scores are divided by it."""
    top_k: int = Field(default=0, ge=0)
    """Sampling: only from so many likeliest tokens; 0: from all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sampling: only from the likeliest tokens that together reach this probability (Holtzman et al. 2020). Without
    `top_k` this sorts the whole vocabulary at each step."""
    beams: int = Field(default=4, ge=1)
    """Beam search: hypotheses of a text, all groups together."""
    groups: int = Field(default=1, ge=1)
    """Beam search: groups of `beams / groups` hypotheses that avoid each other's tokens (Vijayakumar et al. 2016)."""
    diversity: float = Field(default=0.0, ge=0)
    """Beam search in groups: taken from a token's log-probability for each hypothesis of an earlier group that chose it
    in the same place."""
    length_penalty: float = 1.0
    """Beam search: candidates are ranked by log-probability over length to this power; above 0 favours long ones."""
    no_repeat_ngram: int = Field(default=0, ge=0)
    """No n-gram of this size twice in a candidate; 0: off."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1 makes tokens that stand in the candidate already less likely (Keskar et al. 2019); 1: off."""

    logprobs: bool = False
    """Greedy decoding and sampling: also give each candidate's log-probability, for which every step goes over all
    scores twice more. Beam search knows it anyway."""

    @model_validator(mode="after")
    def _candidates_are_there(self) -> GenerationSettings:
        if self.mode == "greedy" and self.candidates > 1:
            raise ValueError(
                f"greedy decoding gives one candidate, and candidates is {self.candidates}: set mode to sample or beam"
            )
        if self.mode == "beam" and self.candidates > self.beams:
            raise ValueError(f"candidates must not exceed beams ({self.beams}), was {self.candidates}: raise beams")
        return self

    @model_validator(mode="after")
    def _groups_divide_the_beams(self) -> GenerationSettings:
        if self.beams % self.groups:
            raise ValueError(
                f"groups must divide beams, and {self.groups} does not divide {self.beams}: set beams to "
                f"{self.groups * max(1, self.beams // self.groups)}"
            )
        if (self.groups > 1) != (self.diversity > 0):
            raise ValueError(
                "groups and diversity go together (equal groups find the same texts, one group has none to differ "
                f"from), were {self.groups} and {self.diversity}: set 5 and 2.5, say, or 1 and 0"
            )
        return self


class DecodingSettings(Config):
    """Strengths of what steers decoding away from toxic text, in nats of a token's score; 0: off.

    10 and more all but forbids a word; 2 to 5 lets a model that is very sure have its way.
    """

    lexicon: float = Field(default=0.0, ge=0)
    """Taken from the token that completes a toxic word of the text's language, times the word's weight."""
    substitutes: float = Field(default=0.0, ge=0)
    """Added to the beginning of what people wrote in place of the source's toxic words, times the probability that the
    model gives such a word here."""
    copy_penalty: float = Field(default=0.0, ge=0)
    """Taken from the token that completes a toxic word of the text's own source."""
    toxicity: float = Field(default=0.0, ge=0)
    """Taken from each token times its toxicity (0..1), which stands for a linear classifier or a lexicon."""
    rescoring: float = Field(default=0.0, ge=0)
    """Taken from the likeliest tokens times the toxicity of the text so far with them, by a classifier: slow."""
    rescored_tokens: int = Field(default=8, ge=2)
    """How many tokens a step are rescored; the others are taken for toxic, lest they win by not being scored."""


class RerankSettings(Config):
    """How candidates are weighed."""

    neutrality: float = Field(default=1.0, ge=0)
    similarity: float = Field(default=1.0, ge=0)
    fluency: float = Field(default=0.3, ge=0)
    """Exponents of the three parts."""
    least_similarity: float = Field(default=0.5, ge=0, le=1)
    """A candidate with less is another text, and passes only where there is nothing else."""
    neutral_below: float = Field(default=0.15, ge=0, le=1)
    """A source with less toxicity stays as it is; 0: every source is rewritten."""
    copies_above: float = Field(default=0.3, ge=0, le=1)
    """A source with more toxicity is toxic: its copy is no rewrite."""
    edits: Literal["last_resort", "candidate", "every_word"] = "last_resort"
    """Cutting the toxic words out is tried where no candidate will do (`last_resort`), or competes with them
    (`candidate`); with `every_word` so does the text without any one of its words, which helps most where a lexicon
    learned few words (docs/results.md)."""
    most_cuts: int = Field(default=3, ge=1)
    """Words that may be cut out where the lexicon knows none."""


class RewritingSettings(Config):
    """How a trained model rewrites."""

    generation: GenerationSettings = GenerationSettings()
    decoding: DecodingSettings = DecodingSettings()
    rerank: RerankSettings = RerankSettings()

"""From names in a config to rewards that score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from detox.alignment.composite import CompositeReward
from detox.alignment.ranks import Ranks
from detox.alignment.reward_settings import RewardSettings
from detox.alignment.rewards import (
    AcceptabilityReward,
    DiversityReward,
    FluencyReward,
    Judge,
    LengthReward,
    NoveltyReward,
    SimilarityReward,
    SummaryReward,
    ToxicityReward,
)
from detox.alignment.scores import Reward
from detox.classifier.scorer import (
    Scorer,
    Scores,
    check_toxicity,
    label_index,
    load_scorer,
    toxicity_label,
)
from detox.evaluation.minilm import MiniLm
from detox.rewriter.fluency import CharacterModel

CHARACTERS = "characters"
BEST_BITS, WORST_BITS = 1.5, 5.0
"""Bits a character, to a character model, of the most and the least fluent texts."""


def model_nats(name: str, device: str = "") -> Judge:
    """Nats a token, by the language model called so."""
    from detox.alignment.perplexity import language_model

    return language_model(name, device).nats


class RewardModels(NamedTuple):
    """Who computes what rewards ask of models, by a model's name: by default this process."""

    scorer: Callable[[str], Scorer] = load_scorer
    nats: Callable[[str], Judge] = model_nats


COLOCATED = RewardModels()


class SharedScorer:
    """A scorer whose work the ranks share out: each scores every so many texts and tells the others.

    Every rank must be given the same texts. Where it fails on one rank, it does on all.
    """

    def __init__(self, scorer: Scorer, ranks: Ranks) -> None:
        self._scorer, self._ranks = scorer, ranks

    @property
    def labels(self) -> tuple[str, ...]:
        return self._scorer.labels

    def score(self, texts: Sequence[str]) -> Scores:
        rows = self._ranks.shared(texts, lambda mine: list(self._scorer.score(mine).values_NL))
        return Scores(self.labels, np.array(rows, np.float32).reshape(len(texts), len(self.labels)))


def shared_judge(judge: Judge, ranks: Ranks) -> Judge:
    """The same for what gives a figure a text."""
    return lambda texts: np.array(ranks.shared(texts, lambda mine: list(judge(mine))), np.float64)


def needs_models(settings: RewardSettings) -> bool:
    """Whether a component asks what `RewardModels` computes."""
    wanted = {one.component for one in settings.components}
    return bool(wanted & {"toxicity", "acceptability"}) or (
        "fluency" in wanted and settings.language_model != CHARACTERS
    )


def check_reward(settings: RewardSettings) -> None:
    """What can be known of the rewards before any work.

    Raises:
        ValueError: a scorer that is not there, or a label that it does not have.
    """
    wanted = {one.component for one in settings.components}
    if "toxicity" in wanted:
        if not settings.scorer:
            raise ValueError("the component toxicity needs a scorer: name one with --reward.scorer")
        check_toxicity(settings.scorer, settings.label)
    if "acceptability" in wanted:
        name, _, label = settings.acceptability.partition("#")
        if not name or not label:
            raise ValueError(
                "the component acceptability needs a classifier and its label: --reward.acceptability NAME#LABEL"
            )
        check_toxicity(name, label)
    if "fluency" in wanted and settings.language_model != CHARACTERS:
        from detox.models.loading import check_available, check_kind

        check_kind(settings.language_model, check_available(settings.language_model), "causal_lm")


def build_reward(
    settings: RewardSettings,
    neutral: Sequence[str],
    langs: Sequence[str],
    ranks: Ranks,
    models: RewardModels = COLOCATED,
) -> CompositeReward:
    """The composite reward with the components that the settings name, and no other.

    Args:
        neutral, langs: texts that fluency is learned from where it is by characters.

    Raises:
        ValueError: a name that leads to no scorer, or a label that it does not have.
    """

    def toxicity() -> Reward:
        scorer = models.scorer(settings.scorer)
        label = settings.label or toxicity_label(settings.scorer, scorer.labels)
        label_index(scorer.labels, label)
        return ToxicityReward(SharedScorer(scorer, ranks), label)

    def fluency() -> Reward:
        if settings.language_model == CHARACTERS:
            nats = _character_nats(CharacterModel.fit(neutral, langs))
            return FluencyReward(nats, BEST_BITS * math.log(2), WORST_BITS * math.log(2))
        return FluencyReward(shared_judge(models.nats(settings.language_model), ranks))

    def acceptability() -> Reward:
        name, _, label = settings.acceptability.partition("#")
        return AcceptabilityReward(SharedScorer(models.scorer(name), ranks), label)

    makers: dict[str, Callable[[], Reward]] = {
        "toxicity": toxicity,
        "fluency": fluency,
        "acceptability": acceptability,
        "diversity": DiversityReward,
        "similarity": lambda: SimilarityReward(MiniLm(kept=0).cosine, settings.column),
        "summary": lambda: SummaryReward(column=settings.reference_column),
        "length": lambda: LengthReward(settings.least_words, settings.most_words),
        "novelty": lambda: NoveltyReward(column=settings.column),
    }
    return CompositeReward(settings, {one.component: makers[one.component]() for one in settings.components})


def _character_nats(model: CharacterModel) -> Judge:
    """Nats a character, by the model of all languages."""
    return lambda texts: model.bits(texts, [""] * len(texts)) * math.log(2)

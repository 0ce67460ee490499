"""From names in a config to rewards that score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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


class SharedScorer:
    """A scorer whose work the ranks share out: each scores every so many texts and tells the others.

    Every rank must be given the same texts.
    """

    def __init__(self, scorer: Scorer, ranks: Ranks) -> None:
        self._scorer, self._ranks = scorer, ranks

    @property
    def labels(self) -> tuple[str, ...]:
        return self._scorer.labels

    def score(self, texts: Sequence[str]) -> Scores:
        mine = self._scorer.score(self._ranks.mine(texts)).values_NL
        rows = self._ranks.gathered(list(mine))
        return Scores(self.labels, np.array(rows, np.float32).reshape(len(texts), len(self.labels)))


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
    settings: RewardSettings, neutral: Sequence[str], langs: Sequence[str], ranks: Ranks
) -> CompositeReward:
    """The composite reward with the components that the settings name, and no other.

    Args:
        neutral, langs: texts that fluency is learned from where it is by characters.

    Raises:
        ValueError: a name that leads to no scorer, or a label that it does not have.
    """

    def toxicity() -> Reward:
        scorer = load_scorer(settings.scorer)
        label = settings.label or toxicity_label(settings.scorer, scorer.labels)
        label_index(scorer.labels, label)
        return ToxicityReward(SharedScorer(scorer, ranks), label)

    def fluency() -> Reward:
        if settings.language_model == CHARACTERS:
            nats = _character_nats(CharacterModel.fit(neutral, langs))
            return FluencyReward(nats, BEST_BITS * math.log(2), WORST_BITS * math.log(2))
        from detox.alignment.perplexity import language_model

        return FluencyReward(language_model(settings.language_model).nats)

    def acceptability() -> Reward:
        name, _, label = settings.acceptability.partition("#")
        return AcceptabilityReward(SharedScorer(load_scorer(name), ranks), label)

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

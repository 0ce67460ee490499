"""Toxicity learned from pairs of sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detox.classifier.sides import ALL, SideScorer, cross_fitted

TOPICS = ("bridge", "garden", "report", "engine", "window", "letter", "market", "school", "ticket", "winter")


def pairs(word: str = "idiot", count: int = 40) -> tuple[list[str], list[str]]:
    toxic = [f"the {TOPICS[n % 10]} was made by an {word} number {n}" for n in range(count)]
    return toxic, [text.replace(word, "expert") for text in toxic]


def test_what_the_sides_share_does_not_count() -> None:
    """Learned from differences, the topic has no say: a new topic with the word is toxic, without it is not."""
    toxic, neutral = pairs()
    scorer = SideScorer.fit(toxic, neutral, ["en"] * 40)
    high, low = scorer(["an idiot at the zoo", "an expert at the zoo"], ["en", "en"])
    assert high > 0.8 > 0.2 > low


def test_a_language_has_its_own_model_and_others_the_common_one() -> None:
    toxic, neutral = pairs()
    german, fine = pairs("depp")
    scorer = SideScorer.fit(toxic + german, neutral + fine, ["en"] * 40 + ["de"] * 40)
    assert set(scorer.models) == {"en", "de", ALL}
    english, common = scorer(["you depp", "you depp"], ["en", "fr"])
    assert common > english


def test_few_pairs_make_no_model_of_their_own() -> None:
    toxic, neutral = pairs(count=10)
    assert set(SideScorer.fit(toxic, neutral, ["en"] * 10).models) == {ALL}
    with pytest.raises(ValueError, match="no pairs"):
        SideScorer.fit([], [], [])


def test_cross_fitting_never_scores_what_it_saw() -> None:
    """A word that stands in one group alone is unknown to the model that scores the group."""
    toxic, neutral = pairs()
    toxic[0], neutral[0] = "zzyzx qwv", "zzyzx"
    groups = np.arange(40)
    high_P, low_P = cross_fitted(toxic, neutral, ["en"] * 40, groups)
    assert high_P[1:].min() > 0.6 > 0.4 > low_P[1:].max()
    assert abs(high_P[0] - low_P[0]) < 0.3
    with pytest.raises(ValueError, match="only one source"):
        cross_fitted(toxic, neutral, ["en"] * 40, np.zeros(40))


def test_it_is_stored_without_pickle(tmp_path: Path) -> None:
    toxic, neutral = pairs()
    scorer = SideScorer.fit(toxic, neutral, ["en"] * 40)
    scorer.save(tmp_path / "sides.safetensors")
    again = SideScorer.load(tmp_path / "sides.safetensors")
    texts = [*toxic[:3], *neutral[:3], ""]
    assert again(texts, ["en"] * 7) == pytest.approx(scorer(texts, ["en"] * 7), abs=1e-5)

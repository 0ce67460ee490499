"""`detox.Classifier`: a list in, a list out, flags by threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import detox
from detox.classifier.face import Prediction
from detox.classifier.lexicon import LexiconScorer
from detox.classifier.scorer import Scores


class Fixed:
    labels = ("toxic", "insult")
    thresholds = {"toxic": 0.25}

    def score(self, texts: Sequence[str]) -> Scores:
        return Scores(self.labels, np.tile(np.array([0.25, 0.25], np.float32), (len(texts), 1)))


def test_flags_reach_their_threshold_and_half_is_the_default() -> None:
    predictions = detox.Classifier(Fixed()).predict(["a", "b", "c"])
    assert predictions.flags.tolist() == [[True, False]] * 3
    assert predictions.probabilities.shape == (3, 2)
    assert next(iter(predictions)) == Prediction({"toxic": 0.25, "insult": 0.25}, ("toxic",))
    assert detox.Classifier(Fixed(), {"insult": 0.1}).predict("a").flags.tolist() == [[False, True]]


def test_one_text_is_a_list_of_one_and_none_are_none() -> None:
    classifier = detox.Classifier(Fixed())
    assert len(classifier.predict("two words")) == 1
    assert list(classifier.predict([])) == []
    assert classifier.thresholds == {"toxic": 0.25, "insult": 0.5}


def test_load_and_explain() -> None:
    classifier = detox.Classifier.load("tiny/bert")
    assert classifier.labels == ("toxic",)
    assert classifier.explain("you idiot", method="attention").label == "toxic"


def test_only_neural_models_are_explained() -> None:
    with pytest.raises(ValueError, match="LexiconScorer is no neural model"):
        detox.Classifier(LexiconScorer(["idiot"])).explain("idiot")

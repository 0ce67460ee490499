"""`detox.Classifier`: the library in one class.

    classifier = detox.Classifier.load("runs/train_classifier-minilm-s42")
    for row in classifier.predict(["thank you", "you idiot"]):
        print(row.flags, row.probabilities)

Shapes: N texts, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detox.classifier.scorer import Scorer, Scores, load_scorer

if TYPE_CHECKING:
    from detox.classifier.explanation import Explanation, Method


class Prediction(NamedTuple):
    """What is said of one text."""

    probabilities: dict[str, float]
    """By label, 0..1."""
    flags: tuple[str, ...]
    """Labels whose probability reaches their threshold."""


@dataclass(frozen=True)
class Predictions(Scores):
    """Scores with the thresholds that turn them into flags; iterates over `Prediction`s."""

    thresholds_L: np.ndarray
    """float64, a threshold for each label."""

    @property
    def probabilities(self) -> np.ndarray:
        """float32 `[N, L]`, 0..1."""
        return self.values_NL

    @property
    def flags(self) -> np.ndarray:
        """bool `[N, L]`: the probability reaches the label's threshold."""
        return self.values_NL >= self.thresholds_L

    def __iter__(self) -> Iterator[Prediction]:
        for values_L, flags_L in zip(self.values_NL.tolist(), self.flags.tolist(), strict=True):
            flagged = tuple(label for label, flag in zip(self.labels, flags_L, strict=True) if flag)
            yield Prediction(dict(zip(self.labels, values_L, strict=True)), flagged)


class Classifier:
    """A toxicity classifier of any kind.

    Attributes:
        scorer: what scores the texts.
        thresholds: by label, from which a probability is a flag; 0.5 where the scorer names none.
    """

    def __init__(self, scorer: Scorer, thresholds: Mapping[str, float] | None = None) -> None:
        self.scorer = scorer
        own = getattr(scorer, "thresholds", {}) if thresholds is None else thresholds
        self.thresholds = {label: float(own.get(label, 0.5)) for label in scorer.labels}

    @classmethod
    def load(cls, name: str, *, device: str = "", dtype: str = "float32") -> Classifier:
        """A classifier by any name that `detox.classifier.scorer.load_scorer` takes.

        Raises:
            ValueError: the name leads nowhere; the sentence says what to do.
        """
        return cls(load_scorer(name, device=device, dtype=dtype))

    @property
    def labels(self) -> tuple[str, ...]:
        return self.scorer.labels

    def predict(self, texts: str | Sequence[str]) -> Predictions:
        """Probabilities and flags, a row a text and in their order; one text is a list of one."""
        listed = [texts] if isinstance(texts, str) else list(texts)
        scores = self.scorer.score(listed)
        thresholds_L = np.array([self.thresholds[label] for label in scores.labels])
        return Predictions(scores.labels, scores.values_NL, thresholds_L)

    def explain(self, text: str, label: str = "", method: Method = "integrated_gradients") -> Explanation:
        """Which words made the score of `label` (empty: of the highest one); see `detox.classifier.explain`.

        Raises:
            ValueError: an unknown label or method, or a scorer that is no neural model.
        """
        from detox.classifier.explain import explain
        from detox.classifier.model_scorers import TransformerScorer

        if not isinstance(self.scorer, TransformerScorer):
            raise ValueError(f"{type(self.scorer).__name__} is no neural model, and only those are explained")
        return explain(self.scorer, text, label, method)

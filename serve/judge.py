"""What the APIs need of the classifier: its facts, and scores of texts.

Shapes: N texts, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from serve.errors import replaced


class Model(NamedTuple):
    """What is served."""

    name: str
    """Of the run."""
    version: str
    """Twelve hexadecimal digits of the artifact's manifest: another artifact, another version."""
    labels: tuple[str, ...]
    thresholds: dict[str, float]
    """From which a probability is a flag, by label."""
    languages: tuple[str, ...]
    """ISO 639-1 codes of what it was trained on; empty: any."""
    dtype: str
    """In which it computes; of an engine that chooses for itself its name."""
    batch_tokens: int
    """Tokens of a batch, before padding."""


class Scored(NamedTuple):
    """Scores with the model that gave them: during a roll-over there are two."""

    model: Model
    values_NL: np.ndarray
    """float32, 0..1, a column a label of `model`."""

    def column(self, label: str) -> np.ndarray:
        """The scores `[N]` of one label.

        Raises:
            ApiError: the model that answered lacks it, unlike the one that was asked about.
        """
        if label not in self.model.labels:
            raise replaced()
        return self.values_NL[:, self.model.labels.index(label)]


class Judge(Protocol):
    """Scores texts."""

    @property
    def model(self) -> Model:
        """The one that answered last."""
        ...

    async def scores(self, texts: Sequence[str]) -> Scored:
        """Scores in the order of `texts`, all by one model.

        Raises:
            ApiError: `unavailable`.
        """
        ...

    async def language(self, text: str, wanted: Sequence[str]) -> tuple[str, bool]:
        """ISO 639-1 code of the text's likeliest language (empty where there is nothing to tell it by), and whether the
        text may be in one of the `wanted`, which short texts leave open; of none wanted, any will do."""
        ...

    async def explain(self, text: str, label: str, method: str) -> tuple[Model, Mapping[str, Any]]:
        """The model that explained, and which words made the score (`detox.classifier.explanation`): `label`, `method`,
        `probability`, `unit`, `spans`.

        Args:
            label: empty: that with the highest score.

        Raises:
            ApiError: `unavailable`.
        """
        ...

"""A classifier as the worker of a corpus: a column a label.

Shapes: N rows of a shard, L labels.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from detox.classifier.corpus_reading import texts_of
from detox.classifier.scorer import Scorer, load_scorer


class ScoreColumns:
    """Scores of a text column, float32 in 0..1, null where there is no text.

    Args:
        scorer: its labels are the results.
        text_column: of the corpus.
    """

    def __init__(self, scorer: Scorer, text_column: str) -> None:
        self._scorer, self._text_column = scorer, text_column

    @classmethod
    def load(cls, model: str, text_column: str, device: str = "") -> ScoreColumns:
        """With the scorer that `detox.classifier.scorer.load_scorer` knows by the name `model`.

        Raises:
            ValueError: the name leads to no scorer.
        """
        return cls(load_scorer(model, device=device), text_column)

    @property
    def results(self) -> tuple[str, ...]:
        return self._scorer.labels

    def __call__(self, table: pa.Table, first: int) -> dict[str, pa.Array]:
        """Raises:
        ValueError: the model returned NaN.
        """
        texts = texts_of(table, self._text_column)
        has_text_N = np.array([text is not None for text in texts], dtype=bool)
        values_NL = np.zeros((len(texts), len(self.results)), np.float32)
        values_NL[has_text_N] = self._scorer.score([text for text in texts if text is not None]).values_NL
        columns = (pa.array(values_N, pa.float32(), mask=~has_text_N) for values_N in values_NL.T)
        return dict(zip(self.results, columns, strict=True))

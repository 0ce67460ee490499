"""What a model that began from nothing has to beat: an n-gram model of the same training texts, on the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detox.evaluation.ngram_model import NgramModel

Tokens = Sequence[int]
Row = tuple[Tokens, Tokens]
"""What stands before, and what is counted."""


def ngram_nats(train: Sequence[Row], test: Sequence[Row], begin: int, vocabulary: int, order: int) -> np.ndarray:
    """Mean negative log-likelihood a token of each test row, float64 `[M]`.

    Args:
        begin: the token that stands before a text without a prompt, which n-grams know as the beginning.
        vocabulary: V; ids are below it.
        order: tokens of the longest n-gram.

    Raises:
        ValueError: see `detox.evaluation.ngram_model.NgramModel.fit`.
    """
    model = NgramModel.fit([_read(before, begin) + list(text) for before, text in train], vocabulary, order)
    found = model.logprobs([_read(before, begin) + list(text) for before, text in test])
    return np.array([-logs[len(_read(row[0], begin)) :].mean() for logs, row in zip(found, test, strict=True)])


def _read(before: Tokens, begin: int) -> list[int]:
    return [] if list(before) == [begin] else list(before)

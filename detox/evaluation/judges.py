"""What judges a rewrite: how neutral it is, how much of the meaning it keeps, how fluent it is. Pluggable, and named.

A judge is a callable with a name that stands beside every figure it had a part in. The official models of PAN 2024 and
2025 are judges by their hub names; where there is no hub, `offline_judges` makes some: a linear classifier a language
trained on pairs that neither the rewriter nor its reranker has seen, the embedded MiniLM for English and character
n-grams for other languages, and a character language model.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

Texts = Sequence[str]
Langs = Sequence[str]


@dataclass(frozen=True)
class Neutrality:
    """Probability that a text is neutral, 0..1 `[N]`: `judge(texts, langs)`."""

    name: str
    judge: Callable[[Texts, Langs], np.ndarray]

    def __call__(self, texts: Texts, langs: Langs) -> np.ndarray:
        return self.judge(texts, langs)


@dataclass(frozen=True)
class Similarity:
    """How much of the meaning two texts share, 0..1 `[N]`: `judge(first, second, langs)`."""

    name: str
    judge: Callable[[Texts, Texts, Langs], np.ndarray]

    def __call__(self, first: Texts, second: Texts, langs: Langs) -> np.ndarray:
        return self.judge(first, second, langs)


def character_similarity(first: Texts, second: Texts, langs: Langs) -> np.ndarray:
    """Cosine of hashed character 1- to 4-grams within words, 0..1 `[N]`; two empty texts are 0."""
    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 4), n_features=1 << 18, alternate_sign=False)
    return np.asarray(vectorizer.transform(first).multiply(vectorizer.transform(second)).sum(axis=1)).ravel()

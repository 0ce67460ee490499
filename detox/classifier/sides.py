"""How toxic a text is, learned from pairs: which of two sides is the toxic one, a linear model a language.

A pair differs in little but its toxicity, so the model learns from differences: logistic regression on the features of
the toxic side minus those of the neutral one, in which all that they share cancels out. A second, one-dimensional
logistic regression then turns scores into probabilities. With few pairs that tells more than learning the sides as
texts of two classes does. Features are hashed character n-grams within words, so any script will do and the model is an
array of numbers: no pickle, nothing to trust.

Shapes: N texts, P pairs, F hashed features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

FEATURES = 1 << 18
FOLDS = 5
LEAST_PAIRS = 20
"""A language with fewer is scored by the model of all languages together."""
ALL = "all"


class Side(NamedTuple):
    """One language's model."""

    weights_F: np.ndarray
    scale: float
    offset: float


class SideScorer:
    """Toxicity by language, 0..1.

    Attributes:
        models: by language, and `all`, which scores languages without a model of their own.
    """

    def __init__(self, models: Mapping[str, Side]) -> None:
        self.models = dict(models)

    @classmethod
    def fit(cls, toxic: Sequence[str], neutral: Sequence[str], langs: Sequence[str], c: float = 10.0) -> SideScorer:
        """Learn from pairs.

        Args:
            c: inverse strength of the regularisation.

        Raises:
            ValueError: no pairs.
        """
        if not len(toxic):
            raise ValueError("there are no pairs to learn the toxicity from")
        toxic_PF, neutral_PF = features(toxic), features(neutral)
        langs_P = np.array(langs)
        models = {ALL: _fit(toxic_PF, neutral_PF, c)}
        for lang in sorted(set(langs)):
            mine = np.flatnonzero(langs_P == lang)
            if len(mine) >= LEAST_PAIRS:
                models[lang] = _fit(toxic_PF[mine], neutral_PF[mine], c)
        return cls(models)

    def __call__(self, texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
        """Toxicity of each text, float64 `[N]`."""
        features_NF = features(texts)
        toxicity_N = np.zeros(len(texts))
        langs_N = np.array([lang if lang in self.models else ALL for lang in langs])
        for lang in set(langs_N):
            mine = langs_N == lang
            model = self.models[lang]
            toxicity_N[mine] = _sigmoid(model.scale * (features_NF[mine] @ model.weights_F) + model.offset)
        return toxicity_N

    def save(self, path: Path) -> None:
        """One safetensors file."""
        arrays = {f"{lang}/weights": model.weights_F.astype(np.float32) for lang, model in self.models.items()}
        arrays |= {f"{lang}/line": np.array([model.scale, model.offset]) for lang, model in self.models.items()}
        save_file(arrays, path)

    @classmethod
    def load(cls, path: Path) -> SideScorer:
        arrays = load_file(path)
        langs = [name.removesuffix("/line") for name in arrays if name.endswith("/line")]
        return cls({lang: Side(arrays[f"{lang}/weights"], *map(float, arrays[f"{lang}/line"])) for lang in langs})


def cross_fitted(
    toxic: Sequence[str], neutral: Sequence[str], langs: Sequence[str], groups_P: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Toxicity of both sides of each pair `[P]`, by models that did not see its group."""
    toxic_P, neutral_P = np.zeros(len(toxic)), np.zeros(len(toxic))
    folds = min(FOLDS, len(np.unique(groups_P)))
    if folds < 2:
        raise ValueError("pairs are graded by models of other pairs, and there is only one source: give more pairs")
    for seen, unseen in GroupKFold(folds).split(groups_P, groups=groups_P):
        mine = [[values[at] for at in seen] for values in (toxic, neutral, langs)]
        scorer = SideScorer.fit(mine[0], mine[1], mine[2])
        unseen_langs = [langs[at] for at in unseen]
        toxic_P[unseen] = scorer([toxic[at] for at in unseen], unseen_langs)
        neutral_P[unseen] = scorer([neutral[at] for at in unseen], unseen_langs)
    return toxic_P, neutral_P


def features(texts: Sequence[str]) -> sparse.csr_matrix:
    """Hashed character 1- to 5-grams within words, present or not, rows of length 1 `[N, F]`."""
    vectorizer = HashingVectorizer(
        analyzer="char_wb", ngram_range=(1, 5), n_features=FEATURES, alternate_sign=False, binary=True, norm="l2"
    )
    return vectorizer.transform(texts)


def _fit(toxic_PF: sparse.csr_matrix, neutral_PF: sparse.csr_matrix, c: float) -> Side:
    difference_PF = toxic_PF - neutral_PF
    both = sparse.vstack([difference_PF, -difference_PF])
    signs = np.repeat([1, 0], difference_PF.shape[0])
    model = LogisticRegression(C=c, fit_intercept=False, max_iter=1000).fit(both, signs)
    weights_F = model.coef_[0]
    scores = np.concatenate([toxic_PF @ weights_F, neutral_PF @ weights_F])
    line = LogisticRegression(C=1.0).fit(scores[:, None], signs)
    return Side(weights_F, float(line.coef_[0, 0]), float(line.intercept_[0]))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))

"""What judges a rewrite: how neutral it is, how much of the meaning it keeps, how fluent it is. Pluggable, and named.

A judge is a callable with a name that stands beside every figure it had a part in. The official models of PAN 2024 and
2025 are judges by their hub names; where there is no hub, `offline_judges` makes some: a linear classifier a language
trained on pairs that neither the rewriter nor its reranker has seen, the embedded MiniLM for English and character
n-grams for other languages, and a character language model.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from detox.classifier.sides import SideScorer
from detox.data.pairs.prepared import PairRow
from detox.rewriter.fluency import CharacterModel
from detox.rewriter.lexicon import UNSPACED

Texts = Sequence[str]
Langs = Sequence[str]


class Neutrality(NamedTuple):
    """Probability that a text is neutral: `judge(texts, langs)`, 0..1 `[N]`."""

    name: str
    judge: Callable[[Texts, Langs], np.ndarray]


class Similarity(NamedTuple):
    """How much of the meaning two texts share: `judge(first, second, langs)`, 0..1 `[N]`."""

    name: str
    judge: Callable[[Texts, Texts, Langs], np.ndarray]


class Fluency(NamedTuple):
    """How fluent a rewrite is: `judge(sources, outputs, langs)`, 0..1 `[N]`."""

    name: str
    judge: Callable[[Texts, Texts, Langs], np.ndarray]


class Judges(NamedTuple):
    """One of each."""

    neutrality: Neutrality
    similarity: Similarity
    fluency: Fluency


def offline_judges(judge_rows: Sequence[PairRow], embed_english: bool = True) -> Judges:
    """Judges that need no hub.

    Args:
        judge_rows: the `judge` part of prepared pairs.
        embed_english: measure the similarity of English texts by the embedded MiniLM; else by character n-grams too.

    Raises:
        ValueError: no pairs to train them on.
    """
    if not judge_rows:
        raise ValueError("there are no pairs to train the judges on: set data.judge_share above 0, or name a judge")
    toxic, neutral = [row.toxic for row in judge_rows], [row.neutral for row in judge_rows]
    langs = [row.lang for row in judge_rows]
    sides = SideScorer.fit(toxic, neutral, langs)
    model = CharacterModel.fit(neutral, langs)
    by_embedding = MiniLmSimilarity() if embed_english else None

    def similarity(first: Texts, second: Texts, which: Langs) -> np.ndarray:
        found_N = character_similarity(first, second, which)
        english = [at for at, lang in enumerate(which) if lang == "en"]
        if by_embedding is not None and english:
            found_N[english] = by_embedding([first[at] for at in english], [second[at] for at in english])
        return found_N

    def fluency(sources: Texts, outputs: Texts, which: Langs) -> np.ndarray:
        return np.exp2(-np.maximum(model.bits(outputs, which) - model.bits(sources, which), 0.0))

    name = "character n-grams" if by_embedding is None else "MiniLM (en), character n-grams (other languages)"
    return Judges(
        Neutrality(
            f"linear classifier of {len(judge_rows):,} judge pairs", lambda texts, which: 1 - sides(texts, which)
        ),
        Similarity(name, similarity),
        Fluency("character language model, relative to the source", fluency),
    )


def character_similarity(first: Texts, second: Texts, langs: Langs) -> np.ndarray:
    """Cosine of hashed character n-grams within words, 0..1 `[N]`: 2 to 4 characters, in scripts without spaces 1 to 3.

    Texts that have nothing to do with each other come to less than 0.2; two empty ones to 0.
    """
    vectorizer = HashingVectorizer(analyzer=ngrams, n_features=1 << 18, alternate_sign=False)
    return np.asarray(vectorizer.transform(first).multiply(vectorizer.transform(second)).sum(axis=1)).ravel()


def ngrams(text: str) -> list[str]:
    """Character n-grams of each word, case folded, its borders marked."""
    found: list[str] = []
    for word in text.casefold().split():
        unspaced = UNSPACED.search(word) is not None
        padded = word if unspaced else f" {word} "
        for length in range(1, 4) if unspaced else range(2, 5):
            found += [padded[at : at + length] for at in range(len(padded) - length + 1)]
    return found


class MiniLmSimilarity:
    """Cosine of sentence embeddings by the embedded MiniLM, 0..1 `[N]`; below 0 counts as 0. English."""

    def __init__(self, batch: int = 64) -> None:
        from transformers import AutoModel, AutoTokenizer

        from detox.models.embedded import minilm_folder

        folder = str(minilm_folder())
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder).eval()
        self._batch = batch

    def __call__(self, first: Texts, second: Texts) -> np.ndarray:
        distinct = sorted({*first, *second}, key=len)
        vectors = dict(zip(distinct, self.embed(distinct), strict=True))
        cosines = [float(vectors[one] @ vectors[other]) for one, other in zip(first, second, strict=True)]
        return np.clip(cosines, 0.0, 1.0)

    def embed(self, texts: Texts) -> np.ndarray:
        """Mean of the token states, of length 1, float32 `[N, D]`."""
        import torch

        found = []
        with torch.inference_mode():
            for begin in range(0, len(texts), self._batch):
                part = list(texts[begin : begin + self._batch])
                inputs = self._tokenizer(part, padding=True, truncation=True, max_length=128, return_tensors="pt")
                states_BTD = self._model(**inputs).last_hidden_state
                mask_BT1 = inputs["attention_mask"][..., None]
                means_BD = (states_BTD * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1)
                found.append(torch.nn.functional.normalize(means_BD, dim=1).numpy())
        return np.concatenate(found)

"""What judges a rewrite: how neutral it is, how much of the meaning it keeps, how fluent it is. Pluggable, and named.

A judge is a callable with a name that stands beside every figure it had a part in. The official models of PAN 2024 and
2025 are judges by their hub names; where there is no hub, `offline_judges` makes some: a linear classifier a language
trained on pairs that neither the rewriter nor its reranker has seen, the embedded MiniLM for English and character
n-grams for other languages, and a character language model.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from detox.classifier.scorer import load_toxicity
from detox.classifier.sides import SideScorer
from detox.data.pairs.prepared import PairRow
from detox.evaluation.minilm import ENGLISH, MiniLm
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
    """How fluent a rewrite is: `judge(sources, outputs, references, langs)`, 0..1 `[N]`; NaN where it cannot say."""

    name: str
    judge: Callable[[Texts, Texts, Texts, Langs], np.ndarray]


class Bits(NamedTuple):
    """How surprising a language model finds a text: `judge(texts, langs)`, bits a character `[N]`."""

    name: str
    judge: Callable[[Texts, Langs], np.ndarray]


class BertScore(NamedTuple):
    """Token-wise likeness of outputs and references: `judge(outputs, references, langs)`, F1 `[N]`, of several
    references the nearest; NaN in languages that it does not know."""

    name: str
    judge: Callable[[Texts, Sequence[Sequence[str]], Langs], np.ndarray]


class Judges(NamedTuple):
    """One of each; the last two where they are at hand."""

    neutrality: Neutrality
    similarity: Similarity
    fluency: Fluency
    bits: Bits | None = None
    bert_score: BertScore | None = None

    def names(self) -> dict[str, str]:
        """Who judges what, for a reader."""
        return {role: judge.name for role, judge in self._asdict().items() if judge is not None}


def offline_judges(judge_rows: Sequence[PairRow], embed_english: bool = True) -> Judges:
    """Judges that need no hub.

    Args:
        judge_rows: the `judge` part of prepared pairs.
        embed_english: measure the similarity of English texts by the embedded MiniLM, and BERTScore too; else by
            character n-grams, and not at all.

    Raises:
        ValueError: no pairs to train them on.
        ModuleNotFoundError: `embed_english`, and the package with the encoder is not installed.
    """
    if not judge_rows:
        raise ValueError("there are no pairs to train the judges on: set data.judge_share above 0, or name a judge")
    toxic, neutral = [row.toxic for row in judge_rows], [row.neutral for row in judge_rows]
    langs = [row.lang for row in judge_rows]
    sides = SideScorer.fit(toxic, neutral, langs)
    model = CharacterModel.fit(neutral, langs)
    encoder = MiniLm() if embed_english and ENGLISH in langs else None

    def fluency(sources: Texts, outputs: Texts, references: Texts, which: Langs) -> np.ndarray:
        return np.exp2(-np.maximum(model.bits(outputs, which) - model.bits(sources, which), 0.0))

    return Judges(
        Neutrality(
            f"linear classifier of {len(judge_rows):,} judge pairs", lambda texts, which: 1 - sides(texts, which)
        ),
        _similarity(encoder),
        Fluency("character language model, relative to the source", fluency),
        Bits("character language model", model.bits),
        _bert_score(encoder) if encoder else None,
    )


def _similarity(encoder: MiniLm | None) -> Similarity:
    def similarity(first: Texts, second: Texts, langs: Langs) -> np.ndarray:
        found_N = character_similarity(first, second, langs)
        english = _english(langs) if encoder else []
        if encoder and english:
            found_N[english] = encoder.cosine([first[at] for at in english], [second[at] for at in english])
        return found_N

    name = "MiniLM (en), character n-grams (other languages)" if encoder else "character n-grams"
    return Similarity(name, similarity)


def _bert_score(encoder: MiniLm) -> BertScore:
    def bert_score(outputs: Texts, references: Sequence[Sequence[str]], langs: Langs) -> np.ndarray:
        found_N, english = np.full(len(outputs), np.nan), _english(langs)
        if english:
            found_N[english] = encoder.bert_score([outputs[at] for at in english], [references[at] for at in english])
        return found_N

    return BertScore("MiniLM, last layer, no idf, not rescaled; English only", bert_score)


def _english(langs: Langs) -> list[int]:
    return [at for at, lang in enumerate(langs) if lang == ENGLISH]


def named_neutrality(name: str) -> Neutrality:
    """A classifier as the judge of neutrality.

    Args:
        name: as `detox classify --model` takes it.

    Raises:
        ValueError: the name leads to no classifier, or it has no label of overall toxicity.
    """
    toxicity = load_toxicity(name)
    return Neutrality(name, lambda texts, langs: 1 - toxicity(texts, langs))


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

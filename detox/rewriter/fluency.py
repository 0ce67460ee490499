"""How fluent a text is, offline and in any script: a character language model a language, learned from neutral texts.

n-gram counts with Witten-Bell smoothing (Witten and Bell 1991): the probability of a character after a context is the
context's own counts, backed off to the shorter context in proportion to how many different characters followed it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ORDER = 6
"""Characters of an n-gram, the predicted one among them."""
BEGIN, END = "\x02", "\x03"
ALL = "all"
COLUMNS = ("lang", "context", "following", "count")


class CharacterModel:
    """Bits a character, by language; a language that was not learned is scored by the model of all together."""

    def __init__(self, counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        self._counts = counts
        """Language -> context -> next character -> count."""

    @classmethod
    def fit(cls, texts: Sequence[str], langs: Sequence[str]) -> CharacterModel:
        """Learn from texts.

        Raises:
            ValueError: no texts.
        """
        if not texts:
            raise ValueError("there are no texts to learn fluency from")
        counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for text, lang in zip(texts, langs, strict=True):
            padded = BEGIN * (ORDER - 1) + text + END
            for at in range(ORDER - 1, len(padded)):
                for length in range(ORDER):
                    context = padded[at - length : at]
                    counts[lang][context][padded[at]] += 1
                    counts[ALL][context][padded[at]] += 1
        return cls(counts)

    def bits(self, texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
        """Mean bits a character, the end counted, float64 `[N]`; the lower, the more fluent."""
        known: dict[str, dict[str, float]] = defaultdict(dict)
        """Language -> n-gram -> bits. Candidates for one text share most of their n-grams."""
        return np.array([self._bits(text, lang, known[lang]) for text, lang in zip(texts, langs, strict=True)])

    def _bits(self, text: str, lang: str, known: dict[str, float]) -> float:
        counts = self._counts.get(lang, self._counts[ALL])
        padded = BEGIN * (ORDER - 1) + text + END
        total = 0.0
        for at in range(ORDER, len(padded) + 1):
            ngram = padded[at - ORDER : at]
            if ngram not in known:
                known[ngram] = -math.log2(_probability(counts, ngram[:-1], ngram[-1]))
            total += known[ngram]
        return total / (len(text) + 1)

    def save(self, path: Path) -> None:
        """One parquet file, a row an n-gram."""
        rows = [
            (lang, context, following, count)
            for lang, contexts in sorted(self._counts.items())
            for context, followers in sorted(contexts.items())
            for following, count in sorted(followers.items())
        ]
        columns = list(zip(*rows, strict=True))
        table = pa.table({name: list(column) for name, column in zip(COLUMNS, columns, strict=True)})
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> CharacterModel:
        counts: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        table = pq.read_table(path)
        for lang, context, following, count in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True):
            counts[lang][context][following] = count
        return cls(counts)


def _probability(counts: Mapping[str, Mapping[str, int]], context: str, character: str) -> float:
    """Witten-Bell, from the shortest context to the longest; a character never seen has one chance in 65,536."""
    probability = 1 / 65_536
    for length in range(len(context) + 1):
        followers = counts.get(context[len(context) - length :])
        if followers is None:
            break
        kinds, total = len(followers), sum(followers.values())
        probability = (followers.get(character, 0) + kinds * probability) / (total + kinds)
    return probability

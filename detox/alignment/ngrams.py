"""How much texts repeat themselves and each other, by n-grams of words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

WORD = re.compile(r"\w+|[^\w\s]")
BLEU_ORDER = 4

Words = tuple[str, ...]


def words(text: str) -> Words:
    """Words and signs, in lower case."""
    return tuple(WORD.findall(text.casefold()))


def ngrams(tokens: Sequence[str], order: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[at : at + order]) for at in range(len(tokens) - order + 1)]


def distinct(tokens: Sequence[str], order: int) -> float:
    """Distinct-n: different n-grams over all, 0..1 (Li et al. 2016); 1 of a text too short to have one."""
    found = ngrams(tokens, order)
    return len(set(found)) / len(found) if found else 1.0


class Overlap:
    """BLEU of texts against all of a changing set of others, of which it keeps the n-grams.

    Self-BLEU (Zhu et al. 2018) is the mean over a set's texts of the BLEU of each against the rest.
    """

    def __init__(self, others: Iterable[Words] = ()) -> None:
        self._seen: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(BLEU_ORDER)]
        """Of each order, in how many of the others an n-gram stands."""
        for other in others:
            self.add(other)

    def add(self, text: Words) -> None:
        self._count(text, 1)

    def remove(self, text: Words) -> None:
        """One that was added."""
        self._count(text, -1)

    def bleu(self, text: Words) -> float:
        """0..1: geometric mean of the shares of the text's n-grams, of up to 4 words, that stand in any of the others;
        each counts once however often it stands there, and orders that the text is too short for are left out."""
        shares = []
        for order in range(1, BLEU_ORDER + 1):
            found = set(ngrams(text, order))
            if found:
                shares.append(sum(self._seen[order - 1][one] > 0 for one in found) / len(found))
        if not shares or min(shares) == 0:
            return 0.0
        return math.exp(sum(map(math.log, shares)) / len(shares))

    def _count(self, text: Words, change: int) -> None:
        for order in range(1, BLEU_ORDER + 1):
            for one in set(ngrams(text, order)):
                self._seen[order - 1][one] += change
                if not self._seen[order - 1][one]:
                    del self._seen[order - 1][one]

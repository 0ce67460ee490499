"""A lexicon as a scorer: 1 where a text contains one of its terms, else 0.

Terms match whole words in any casing. In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer,
Burmese) a term matches anywhere. Letters carry their combining marks, so a Devanagari word is one word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import regex

from detox.classifier.scorer import Scores

WORD = regex.compile(r"[\w\p{M}]+")
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
WORDS_ONLY = regex.compile(r"[\w\p{M}'’\s-]+")


class LexiconScorer:
    """Scores 0 or 1 for one label.

    Args:
        terms: words or phrases; empty ones are ignored. What stands between the words of a phrase does not matter
            (`shut up` matches `shut-up`); a term with other symbols (`a$$`) matches as it is spelt.
        label: what a hit is called.

    Raises:
        ValueError: no terms.
    """

    def __init__(self, terms: Iterable[str], label: str = "toxic") -> None:
        folded = {" ".join(term.casefold().split()) for term in terms} - {""}
        if not folded:
            raise ValueError("a lexicon needs at least one term, and this one has none: check the file")
        self.labels = (label,)
        self._phrases: dict[str, list[list[str]]] = defaultdict(list)
        spelt: dict[bool, list[str]] = {True: [], False: []}
        for term in sorted(folded):
            unspaced = UNSPACED.search(term) is not None
            if unspaced or not WORDS_ONLY.fullmatch(term):
                spelt[unspaced].append(term)
            elif words := WORD.findall(term):
                self._phrases[words[0]].append(words)
        self._with_symbols = _any_of(spelt[False], r"(?<![\w\p{M}])\L<terms>(?![\w\p{M}])")
        self._unspaced = _any_of(spelt[True], r"\L<terms>")

    @classmethod
    def load(cls, file: str | Path, label: str = "toxic") -> LexiconScorer:
        """A text file with a term a line (`#` starts a comment line), or a parquet file with a column `term`.

        Raises:
            ValueError: no such file, or no terms in it.
        """
        path = Path(file)
        if not path.is_file():
            raise ValueError(f"lexicon {path} does not exist: name a text file with a term a line, or a parquet file")
        if path.suffix == ".parquet":
            return cls(pq.read_table(path, columns=["term"])["term"].to_pylist(), label)
        lines = path.read_text(encoding="utf-8").splitlines()
        return cls((line for line in lines if not line.startswith("#")), label)

    def score(self, texts: Sequence[str]) -> Scores:
        """1.0 for each text that contains a term."""
        hits = [any(True for _ in self._matches(text)) for text in texts]
        return Scores(self.labels, np.asarray(hits, np.float32).reshape(-1, 1))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Begin and end, in characters, of the terms found in `text`, left to right; they may overlap."""
        return sorted(self._matches(text))

    def _matches(self, text: str) -> Iterator[tuple[int, int]]:
        # a character at a time, so that positions stay: a letter that folds to two (`ß`) is matched as it stands
        folded = "".join(lower if len(lower := char.casefold()) == 1 else char for char in text)
        words = list(WORD.finditer(folded))
        found = [word.group() for word in words]
        for index, word in enumerate(found):
            for phrase in self._phrases.get(word, ()):
                if found[index : index + len(phrase)] == phrase:
                    yield words[index].start(), words[index + len(phrase) - 1].end()
        yield from (match.span() for match in self._with_symbols.finditer(folded))
        if UNSPACED.search(folded):
            yield from (match.span() for match in self._unspaced.finditer(folded))


def _any_of(terms: list[str], pattern: str) -> regex.Pattern:
    """`pattern` with `terms`; an empty list, which `regex` would find everywhere, matches nowhere."""
    return regex.compile(pattern, terms=terms) if terms else regex.compile("(?!)")

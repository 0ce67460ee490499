"""Which words of a text a rewrite would take out, learned from pairs, and what stands in their place (S2 4.3).

A word is toxic in a language as often as people took it out when they rewrote a text that had it. Estimated over few
pairs that share is smoothed toward the language's average, and a word's occurrence never counts for itself when the
threshold is chosen. Scripts without spaces are learned by runs of one to four characters.

    Lexicon.fit(pairs).delete("you fucking idiot", "en")
"""

from __future__ import annotations

import difflib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import regex

Span = tuple[int, int]
"""Begin and end of characters, end exclusive."""

WORD = regex.compile(r"[\p{L}\p{M}\p{N}@$*’'-]*[\p{L}\p{N}*][\p{L}\p{M}\p{N}@$*’'-]*")
"""A word as people write it, with the signs that hide letters (`sh*t`, `a$$`)."""
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]+")
LONGEST_RUN = 4
PRIOR = 2.0
"""Occurrences that the language's average counts for."""
THRESHOLDS = np.round(np.arange(0.1, 0.95, 0.05), 2)
LEAST_PAIRS = 20
MOST_SUBSTITUTES = 5
LEAST_SUBSTITUTIONS = 2
MOST_COMMON = 2000


class Token(NamedTuple):
    """A word, or a run of characters in a script without spaces, with its place."""

    key: str
    begin: int
    end: int


class Entries(NamedTuple):
    """What is known of one language."""

    removal: dict[str, float]
    """Share of a word's occurrences that rewrites take out, 0..1, smoothed."""
    threshold: float
    """From which a word counts as toxic."""
    substitutes: dict[str, tuple[str, ...]]
    """What replaces a toxic word, the most frequent first."""
    common: tuple[str, ...] = ()
    """The most frequent words of the neutral sides, but for toxic ones: what must stay writable."""


class Lexicon:
    """Toxic words by language.

    Attributes:
        languages: what was learned, by language.
    """

    def __init__(self, languages: Mapping[str, Entries]) -> None:
        self.languages = dict(languages)

    @classmethod
    def fit(cls, pairs: Iterable[tuple[str, str, str]]) -> Lexicon:
        """Learn from (language, toxic, neutral); languages with fewer than 20 pairs learn nothing.

        Raises:
            ValueError: no pairs.
        """
        by_language: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for lang, toxic, neutral in pairs:
            by_language[lang].append((toxic, neutral))
        if not by_language:
            raise ValueError("there are no pairs to learn toxic words from")
        return cls({lang: _fit(mine) for lang, mine in sorted(by_language.items()) if len(mine) >= LEAST_PAIRS})

    def weights(self, lang: str) -> dict[str, float]:
        """Toxic words of a language with the share of their occurrences that rewrites take out, 0..1."""
        known = self.languages.get(lang)
        if known is None:
            return {}
        return {word: share for word, share in known.removal.items() if share >= known.threshold}

    def substitutes(self, lang: str) -> dict[str, tuple[str, ...]]:
        """Toxic words of a language that people replace, with their replacements, the most frequent first."""
        known = self.languages.get(lang)
        return {} if known is None else known.substitutes

    def spans(self, text: str, lang: str) -> list[Span]:
        """Toxic words in the text: sorted, not overlapping; none in a language that was not learned."""
        known = self.languages.get(lang)
        found: list[Span] = []
        if known is None:
            return found
        for token in tokens(text):  # the longest run first at each place
            is_toxic = known.removal.get(token.key, 0.0) >= known.threshold
            if is_toxic and (not found or token.begin >= found[-1][1]):
                found.append((token.begin, token.end))
        return found

    def delete(self, text: str, lang: str) -> str:
        """The text without its toxic words, the shared tasks' baseline `delete`."""
        return cut(text, self.spans(text, lang))

    def save(self, path: Path) -> None:
        tree = {lang: entries._asdict() for lang, entries in self.languages.items()}
        path.write_text(json.dumps(tree, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Lexicon:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return cls({lang: _entries(entries) for lang, entries in tree.items()})


def tokens(text: str) -> Iterator[Token]:
    """Words in their order; in scripts without spaces runs of one to four characters at each place, longest first."""
    for begin, end, is_unspaced in _words(text):
        if not is_unspaced:
            yield Token(text[begin:end].casefold(), begin, end)
            continue
        for at in range(begin, end):
            for length in range(min(LONGEST_RUN, end - at), 0, -1):
                yield Token(text[at : at + length], at, at + length)


def units(text: str) -> Iterator[Token]:
    """Words in their order; in scripts without spaces characters. They do not overlap."""
    for begin, end, is_unspaced in _words(text):
        places = [(at, at + 1) for at in range(begin, end)] if is_unspaced else [(begin, end)]
        for first, last in places:
            yield Token(text[first:last].casefold(), first, last)


def _words(text: str) -> Iterator[tuple[int, int, bool]]:
    """Begin and end of words, and of runs in a script without spaces (True); both may touch, as in `你是sb吗`."""
    for match in WORD.finditer(text):
        at = match.start()
        for run in UNSPACED.finditer(match[0]):
            begin, end = match.start() + run.start(), match.start() + run.end()
            if WORD.fullmatch(text, at, begin):
                yield at, begin, False
            yield begin, end, True
            at = end
        if WORD.fullmatch(text, at, match.end()):
            yield at, match.end(), False


AROUND = {("(", ")"), ("[", "]"), ('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"), ("‘", "’")}
"""Brackets and quotes: what opens and what closes."""


def cut(text: str, spans: Sequence[Span]) -> str:
    """`text` without these spans, and without the spaces, empty quotes and stray punctuation that they
    leave behind."""
    left, last = "", 0
    for begin, end in [*spans, (len(text), len(text))]:
        piece = text[last:begin]
        if last and (left[-1:], piece[:1]) in AROUND:  # nothing is left within
            left, piece = left[:-1], piece[1:]
        left, last = left + piece, end
    left = regex.sub(r"\s+([,.!?;:])", r"\1", left)
    left = regex.sub(r"([,;:])(?:\s*[,;:])+", r"\1", left)
    left = regex.sub(r"[,;]+(?=[.!?])", "", left)
    return regex.sub(r"\s+", " ", left).strip(" ,;:")


def replaced(toxic: str, neutral: str) -> Iterator[tuple[str, str]]:
    """Words of the toxic side, each with the one to three words that stand in its place on the neutral side; in scripts
    without spaces up to four characters, with up to six."""
    before, after = list(units(toxic)), list(units(neutral))
    matcher = difflib.SequenceMatcher(
        None, [token.key for token in before], [token.key for token in after], autojunk=False
    )
    for tag, begin, end, other_begin, other_end in matcher.get_opcodes():
        if tag == "replace":
            word = _joined(before[begin:end], most_words=1, most_characters=LONGEST_RUN)
            other = _joined(after[other_begin:other_end], most_words=3, most_characters=6)
            if word and other:
                yield word, other


def _joined(found: Sequence[Token], most_words: int, most_characters: int) -> str:
    """Words with spaces between, characters of a script without spaces side by side; empty where they are too many, of
    both kinds, or characters that stand apart."""
    unspaced = [bool(UNSPACED.match(token.key)) for token in found]
    if not any(unspaced):
        return " ".join(token.key for token in found) if len(found) <= most_words else ""
    adjacent = all(one.end == other.begin for one, other in pairwise(found))
    fits = all(unspaced) and adjacent and len(found) <= most_characters
    return "".join(token.key for token in found) if fits else ""


def _fit(pairs: Sequence[tuple[str, str]]) -> Entries:
    seen, removed = Counter[str](), Counter[str]()
    others: dict[str, Counter[str]] = defaultdict(Counter)
    rows: list[tuple[set[str], set[str]]] = []
    written = Counter[str]()
    for toxic, neutral in pairs:
        written.update(token.key for token in units(neutral))
        before, after = {token.key for token in tokens(toxic)}, {token.key for token in tokens(neutral)}
        seen.update(before)
        removed.update(before - after)
        rows.append((before, before - after))
        for word, other in replaced(toxic, neutral):
            others[word][other] += 1
    average = removed.total() / max(1, seen.total())
    removal = {word: (removed[word] + PRIOR * average) / (seen[word] + PRIOR) for word in sorted(removed)}
    threshold = _threshold(rows, seen, removed, average)
    toxic_words = [word for word, share in removal.items() if share >= threshold]
    substitutes = {word: _frequent(others[word]) for word in toxic_words}
    common = [word for word, _ in written.most_common(MOST_COMMON) if removal.get(word, 0.0) < threshold]
    return Entries(
        {word: round(share, 4) for word, share in removal.items()},
        threshold,
        {word: found for word, found in substitutes.items() if found},
        tuple(common),
    )


def _threshold(
    rows: Sequence[tuple[set[str], set[str]]], seen: Counter[str], removed: Counter[str], average: float
) -> float:
    """The share from which marking words as toxic agrees best (F1 over words) with what rewrites took out, each
    occurrence judged by the other pairs."""
    shares, truth = list[float](), list[bool]()
    for before, gone in rows:
        for word in before:
            shares.append((removed[word] - (word in gone) + PRIOR * average) / (seen[word] - 1 + PRIOR))
            truth.append(word in gone)
    shares_W, truth_W = np.array(shares), np.array(truth)
    f1 = [2 * (truth_W & (shares_W >= at)).sum() / ((shares_W >= at).sum() + truth_W.sum() + 1e-9) for at in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmax(f1))])


def _frequent(counts: Counter[str]) -> tuple[str, ...]:
    return tuple(word for word, count in counts.most_common(MOST_SUBSTITUTES) if count >= LEAST_SUBSTITUTIONS)


def _entries(tree: Mapping[str, object]) -> Entries:
    entries = Entries(**tree)  # type: ignore[arg-type]
    substitutes = {word: tuple(found) for word, found in entries.substitutes.items()}
    return entries._replace(substitutes=substitutes, common=tuple(entries.common))

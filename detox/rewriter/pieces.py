"""A text cut into pieces that a rewriter can read: sentences, and where one is too long, halves of it.

The pieces put together are the text, to the letter. A sentence is cut between two words, one without words between two
characters as readers see them, and where such a one is itself too long (a letter under a heap of accents), anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import regex

SENTENCE_END = regex.compile(
    r"(?:(?<![.!?…؟۔।॥])[.!?…؟۔।॥]++[\p{Pe}\p{Pf}\"']*+(?=\s)|(?<![。！？｡።፧])[。！？｡።፧]++[\p{Pe}\p{Pf}]*+|\n)\s*+"
)
"""White space belongs to the sentence before it. Scripts that put none after a sentence have signs of their own."""
WORD_BEGINNING = regex.compile(r"(?<=\s)(?=\S)")
CHARACTER = regex.compile(r"\X")

TooLong = Callable[[Sequence[str]], Sequence[bool]]


def pieces(text: str, too_long: TooLong) -> list[str]:
    """The sentences of a text, those that are too long cut further, until none is or has one character only."""
    parts = sentences(text)
    while True:
        halved = [
            half
            for part, is_long in zip(parts, too_long(parts), strict=True)
            for half in (_halves(part) if is_long else (part,))
        ]
        if len(halved) == len(parts):
            return parts
        parts = halved


def sentences(text: str) -> list[str]:
    """Sentences with the white space behind them."""
    return _cut(text, [match.end() for match in SENTENCE_END.finditer(text)])


def in_its_space(piece: str, text: str) -> str:
    """`text` with the white space that stands around `piece`."""
    begin = len(piece) - len(piece.lstrip())
    return piece[:begin] + text + piece[len(piece.rstrip()) :] if piece.strip() else piece


def _halves(text: str) -> list[str]:
    """Two parts, as equal as the best kind of border allows."""
    middle = len(text) / 2
    for border in (WORD_BEGINNING, CHARACTER):
        places = [match.start() for match in border.finditer(text) if 0 < match.start() < len(text)]
        if places:
            return _cut(text, [min(places, key=lambda place: abs(place - middle))])
    return _cut(text, [len(text) // 2])


def _cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *places, len(text)]
    return [text[begin:end] for begin, end in pairwise(edges) if begin < end]

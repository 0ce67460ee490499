"""From positions in a cleaned text back to positions in the raw text that the user gave.

Cleaning replaces, drops and repairs characters, so an explanation of the cleaned text would point at the wrong place.
Words (runs without white space) of both texts are aligned by edit distance; an unchanged word keeps its inner
positions, a changed one maps as a whole: every piece of `[EMAIL]` points at the whole address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

WORD = re.compile(r"\S+")

MAX_CHARACTERS = 50_000
"""Longest text that is aligned. Time grows with the square of the number of words: 0.4 s for 25,000 changed ones."""


@dataclass(frozen=True)
class Block:
    """A stretch of the cleaned text and the stretch of the raw text that it came from."""

    cleaned: tuple[int, int]
    raw: tuple[int, int]
    same: bool
    """Position by position, but for casing."""


class Alignment:
    """Maps spans of `cleaned` to spans of `raw`.

    Raises:
        ValueError: a text of more than `MAX_CHARACTERS`.
    """

    def __init__(self, raw: str, cleaned: str) -> None:
        if max(len(raw), len(cleaned)) > MAX_CHARACTERS:
            raise ValueError(
                f"a text to explain may have {MAX_CHARACTERS} characters, this one has {len(raw)}: give a part of it"
            )
        self.raw = raw
        self.blocks = align(raw, cleaned)

    def span(self, begin: int, end: int) -> tuple[int, int] | None:
        """The span of the raw text behind `cleaned[begin:end]`; None where nothing is (only white space)."""
        touched = [block for block in self.blocks if block.cleaned[0] < end and begin < block.cleaned[1]]
        if not touched:
            return None
        first, last = touched[0], touched[-1]
        raw_begin = first.raw[0] + (max(0, begin - first.cleaned[0]) if first.same else 0)
        raw_end = last.raw[1] - (max(0, last.cleaned[1] - end) if last.same else 0)
        return raw_begin, raw_end


def align(raw: str, cleaned: str) -> list[Block]:
    """Blocks in rising order, which cover every word of `cleaned` once."""
    raw_words, cleaned_words = list(WORD.finditer(raw)), list(WORD.finditer(cleaned))
    folded = [[word.group().casefold() for word in words] for words in (raw_words, cleaned_words)]
    blocks: list[Block] = []
    for same, raw_range, cleaned_range in _runs(folded[0], folded[1]):
        if same or len(raw_range) == len(cleaned_range):
            pairs = zip(raw_range, cleaned_range, strict=True)
            blocks += [_block(raw_words[r].span(), cleaned_words[c].span(), same) for r, c in pairs]
        elif cleaned_range:
            cleaned_span = (cleaned_words[cleaned_range[0]].start(), cleaned_words[cleaned_range[-1]].end())
            here = _raw_span(raw_words, raw_range)
            blocks.append(_block(here, cleaned_span, False))
    return blocks


def _runs(raw: list[str], cleaned: list[str]) -> list[tuple[bool, range, range]]:
    """Maximal runs of equal and of changed words, as ranges of words on both sides."""
    runs: list[tuple[bool, range, range]] = []
    for code in Levenshtein.opcodes(raw, cleaned):
        same = code.tag == "equal"
        here = (range(code.src_start, code.src_end), range(code.dest_start, code.dest_end))
        if runs and not same and not runs[-1][0]:
            before = runs.pop()
            here = (range(before[1].start, here[0].stop), range(before[2].start, here[1].stop))
        runs.append((same, *here))
    return runs


def _block(raw: tuple[int, int], cleaned: tuple[int, int], same: bool) -> Block:
    return Block(cleaned, raw, same and raw[1] - raw[0] == cleaned[1] - cleaned[0])


def _raw_span(words: list[re.Match[str]], chosen: range) -> tuple[int, int]:
    if chosen:
        return words[chosen[0]].start(), words[chosen[-1]].end()
    at = words[chosen.start - 1].end() if chosen.start else 0  # the cleaning put in words of its own
    return at, at

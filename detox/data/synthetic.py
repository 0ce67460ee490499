"""The demo's own corpus: comments made from patterns, with the six labels of Jigsaw 2018. Synthetic, and said to be.

A comment is one to four sentences on talk-page, forum, game and software matters; its labels are those of the attacks
in it, if any. Words alone do not tell: insults and threats are reported, quoted, negated, aimed at oneself or at a
figure in a novel, processes are killed, and such sentences also stand beside attacks; some attacks hold no bad word at
all, others are misspelt. About one row in four is toxic. Every fourth row is for the test and worded anew: a quarter of
the patterns and words occurs in such rows alone, as real comments always hold words that no training set had.

So that every cleaning rule has work, about a fifth of the rows are raw in some way: personal data, mojibake, exact and
near duplicates, other languages, empty and over-long texts.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import pyarrow as pa

from detox.data.sources.jigsaw2018 import LABELS
from detox.data.synthetic_phrases import (
    ATTACKS,
    CONTEXT,
    EMOJI,
    FOREIGN,
    FOREIGN_INSULTS,
    MENTION,
    PERSONAL,
    QUOTES,
)
from detox.data.synthetic_words import WORDS

TOXIC_SHARE = 0.28
ATTACK_WEIGHTS = {"insult": 20, "veiled": 16, "rude": 10, "obscene": 12, "threat": 16, "identity": 16, "severe": 10}
SECOND_ATTACK_SHARE = 0.2
MENTION_SHARE = 0.3
"""Of the sentences around an attack, and of the sentences of a comment without one, those that only mention one."""
QUOTE_SHARE = 0.12
"""Of all sentences but attacks, those that quote somebody."""
QUOTED_ATTACK_SHARE = 0.7
PERSONAL_SHARE = 0.06
MISSPELT_SHARE = 0.25
"""Of attacks, those with a word spelt to get past filters."""
REPEAT_WINDOW = 500
"""Duplicates repeat one of so many rows of their part before them."""
OVER_LONG_CHARS = 12_000
DISGUISES = {"a": "4", "e": "3", "i": "1", "o": "0", "s": "$"}

TEST_SHARE = 0.25
LEAST_TO_DEAL = 8
"""Shorter lists of words or patterns are the same for both parts."""

Comment = tuple[str, frozenset[str]]
"""Text, and the labels that hold."""


class Writer(random.Random):
    """Chance, with the words that the part of the present row may use."""

    is_test = False

    def wording(self, entries: tuple[str, ...]) -> str:
        """One of the words or patterns that this part has."""
        return self.choice(_dealt(entries)[self.is_test])


@lru_cache
def _dealt(entries: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What rows to learn from may use, and what the test may: a quarter, by checksum, is the test's alone."""
    test = tuple(entry for entry in entries if zlib.crc32(entry.encode()) % 4 == 0)
    if len(entries) < LEAST_TO_DEAL or not test:
        return entries, entries
    return tuple(entry for entry in entries if entry not in test), test


def generate(rows: int, seed: int = 42) -> pa.Table:
    """`rows` comments: `text`, the six labels of `jigsaw2018.LABELS` as float32 0 or 1, and `split` (train or test).

    The same ones for the same seed; fewer rows are the beginning of more.
    """
    rng = Writer(seed)
    comments: dict[bool, list[Comment]] = {False: [], True: []}
    made: list[tuple[Comment, str]] = []
    for _ in range(rows):
        rng.is_test = rng.random() < TEST_SHARE
        before = comments[rng.is_test]
        before.append(_next(before[-REPEAT_WINDOW:], rng))
        made.append((before[-1], "test" if rng.is_test else "train"))
    labels = {label: pa.array([float(label in held) for (_, held), _ in made], pa.float32()) for label in LABELS}
    texts, splits = pa.array([text for (text, _), _ in made], pa.string()), pa.array([split for _, split in made])
    return pa.table({"text": texts, **labels, "split": splits})


def _next(before: Sequence[Comment], rng: Writer) -> Comment:
    """An ordinary comment most of the time, or one of the raw kinds."""
    draw = rng.random()
    for share, make in _RAW_KINDS:
        if draw < share:
            return make(before, rng)
        draw -= share
    return _comment(rng)


def _comment(rng: Writer) -> Comment:
    sentences, labels = [], frozenset[str]()
    if rng.random() < TOXIC_SHARE:
        for _ in range(1 + (rng.random() < SECOND_ATTACK_SHARE)):
            sentence, held = _attack(rng)
            sentences.append(sentence)
            labels |= held
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3)) if sentences else rng.choice((1, 2, 2, 3, 3, 4))):
        sentences.append(_harmless(rng))
    if rng.random() < PERSONAL_SHARE:
        sentences.append(_fill(rng.choice(PERSONAL), rng))
    rng.shuffle(sentences)
    return _typed(sentences, rng), labels


def _harmless(rng: Writer) -> str:
    draw = rng.random()
    if draw < QUOTE_SHARE:
        quote = _attack(rng)[0] if rng.random() < QUOTED_ATTACK_SHARE else _fill(rng.choice(CONTEXT), rng)
        return _fill(rng.choice(QUOTES).replace("{quote}", quote), rng)
    return _fill(rng.choice(MENTION if draw < QUOTE_SHARE + MENTION_SHARE else CONTEXT), rng)


def _attack(rng: Writer) -> Comment:
    (kind,) = rng.choices(list(ATTACK_WEIGHTS), list(ATTACK_WEIGHTS.values()))
    labels, patterns = ATTACKS[kind]
    sentence = _fill(rng.choice(patterns), rng)
    if rng.random() < MISSPELT_SHARE:
        sentence = _misspell(sentence, rng)
    return sentence, frozenset(labels)


def _fill(pattern: str, rng: Writer) -> str:
    """The pattern with its words chosen, "a" before a vowel made "an", the first letter a capital."""
    while "{" in pattern:
        pattern = re.sub(r"\{(\w+)\}", lambda match: rng.wording(WORDS[match[1]]), pattern)
    sentence = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", pattern)
    return sentence[0].upper() + sentence[1:]


def _misspell(sentence: str, rng: Writer) -> str:
    """One long word in disguise: figures for letters, letters spaced out, doubled, or starred."""
    words = sentence.split(" ")
    place = max(range(len(words)), key=lambda position: (len(words[position]) > 4, rng.random()))
    word = words[place]
    inner = rng.randrange(1, max(2, len(word) - 1))
    disguises = (
        "".join(DISGUISES.get(letter, letter) for letter in word),
        " ".join(word),
        word[:inner] + word[inner : inner + 1] * 3 + word[inner + 1 :],
        word[:inner] + "*" + word[inner + 1 :],
        word[: inner - 1] + word[inner] + word[inner - 1] + word[inner + 1 :] if len(word) > 2 else word,
    )
    words[place] = rng.choice(disguises)
    return " ".join(words)


def _typed(sentences: Sequence[str], rng: Writer) -> str:
    """The sentences as somebody might type them: headings, signatures, small letters, shouting, emoji."""
    text = rng.choice((" ", " ", " ", "\n", "\n\n", "  ")).join(sentences)
    style = rng.random()
    if style < 0.25:
        text = text.lower()
    elif style < 0.29:
        text = text.upper()
    elif style < 0.35:
        text = re.sub(r"\.(?=\s|$)", rng.choice(("", "!", "!!!", "...", " ,")), text)
    if rng.random() < 0.1:
        text = f"{text} {rng.choice(EMOJI) * rng.randrange(1, 4)}"
    if rng.random() < 0.05:
        text = f"== {_fill('{topic}', rng)} ==\n{text}"
    return f"{text} ~~~~" if rng.random() < 0.04 else text


def _exact_duplicate(before: Sequence[Comment], rng: Writer) -> Comment:
    return rng.choice(before) if before else _comment(rng)


def _near_duplicate(before: Sequence[Comment], rng: Writer) -> Comment:
    """A long comment again with one letter changed, and other spaces and stops."""
    long = [comment for comment in before if len(comment[0]) > 150]
    if not long:
        return _comment(rng)
    text, labels = rng.choice(long)
    place = rng.randrange(len(text))
    return f"{text[:place]}x{text[place + 1 :]}".replace(" ", "  ", 2) + rng.choice(("", ".", " !!")), labels


def _mojibake(_: Sequence[Comment], rng: Writer) -> Comment:
    """UTF-8 read as cp1252, as in dumps that went through the wrong hands."""
    text, labels = _comment(rng)
    text = f"{text} It’s café time – “naïve” as it sounds."
    return text.encode("utf-8").decode("cp1252", "replace"), labels


def _foreign(_: Sequence[Comment], rng: Writer) -> Comment:
    if rng.random() < TOXIC_SHARE:
        return rng.choice(FOREIGN_INSULTS), frozenset(("toxic", "insult"))
    sentences = rng.choice(list(FOREIGN.values()))
    return " ".join(_fill(sentence, rng) for sentence in rng.sample(sentences, rng.randint(1, 2))), frozenset()


def _empty(_: Sequence[Comment], rng: Writer) -> Comment:
    return rng.choice(("", " ", "\n\n", "\u200b", "\t ")), frozenset()


def _over_long(_: Sequence[Comment], rng: Writer) -> Comment:
    """One comment pasted until it is longer than any sensible limit."""
    text, labels = _comment(rng)
    return f"{text} " * (OVER_LONG_CHARS // len(text) + 1), labels


_RAW_KINDS: tuple[tuple[float, Callable[[Sequence[Comment], Writer], Comment]], ...] = (
    (0.015, _exact_duplicate),
    (0.02, _near_duplicate),
    (0.02, _mojibake),
    (0.012, _foreign),
    (0.004, _empty),
    (0.002, _over_long),
)
"""Shares of all rows."""

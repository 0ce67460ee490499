"""The rewriter demo's own pairs: toxic sentences with a neutral rewrite, made from patterns. Synthetic, and said to be.

A text is one to three sentences of which one is toxic; the others stay as they are, as in real pairs, which differ in a
few words. Easy rewrites leave words out, medium ones replace them, hard ones say it anew. Both sides of a pattern share
their slots, so names, numbers and topics must be kept. Nearly a fifth is noise of the kinds that cleaning is for, as
much of each as our rules find in multilingual ParaDetox.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from detox.data.synthetic_phrases import CONTEXT
from detox.data.synthetic_words import WORDS

EASY: tuple[tuple[str, str], ...] = (
    ("This {bad} {thing} needs a second source.", "This {thing} needs a second source."),
    ("Your {swear} {thing} about {topic} is too long.", "Your {thing} about {topic} is too long."),
    ("Read the {swear} {thing} before you vote.", "Read the {thing} before you vote."),
    ("Who moved my {thing} to the {place}, you {insult}?", "Who moved my {thing} to the {place}?"),
    ("{name}, you {insult}, look at the {thing} again.", "{name}, look at the {thing} again."),
    ("Stop changing my {thing} {when}, you {bad} {insult}.", "Stop changing my {thing} {when}."),
    ("The {thing} on {topic} is {bad} and wrong.", "The {thing} on {topic} is wrong."),
    ("Why the {swear} was my {thing} removed {when}?", "Why was my {thing} removed {when}?"),
    ("Nobody asked you about {topic}, {insult}.", "Nobody asked you about {topic}."),
    ("You forgot page {number} of the {thing}, {insult}.", "You forgot page {number} of the {thing}."),
    ("I told you {when} that the {swear} {thing} is not done.", "I told you {when} that the {thing} is not done."),
    ("Learn about {topic} first, you {very}{insult}.", "Learn about {topic} first."),
    ("Put the {bad} {thing} back to the {place}.", "Put the {thing} back to the {place}."),
    ("It took me {number} minutes to read this {swear} {thing}.", "It took me {number} minutes to read this {thing}."),
)
MEDIUM: tuple[tuple[str, str], ...] = (
    ("Some {insult} changed the {thing} {when}.", "Somebody changed the {thing} {when}."),
    ("I do not give a {swear} about {topic}.", "I do not care about {topic}."),
    ("You are {bad} if you believe that about {topic}.", "You are mistaken if you believe that about {topic}."),
    ("That {insult} {name} wrote the {thing}.", "The user {name} wrote the {thing}."),
    ("What a {bad} {thing} about {topic}.", "What a weak {thing} about {topic}."),
    ("Only {bad} people like your {thing}.", "Only few people like your {thing}."),
    ("The {thing} in the {place} is {swear}.", "The {thing} in the {place} is not good."),
    ("You sound like a {insult} when you talk about {topic}.", "You sound unsure when you talk about {topic}."),
    ("Those {insult}s on the {place} deleted my {thing}.", "Those people on the {place} deleted my {thing}."),
    ("Every {insult} knows that {topic} came first.", "Everybody knows that {topic} came first."),
    ("{name} is a {very}{insult} and wrong about {topic}.", "{name} is new here and wrong about {topic}."),
    ("Get that {swear} {thing} off my {place} {when}.", "Please take that {thing} off my {place} {when}."),
)
HARD: tuple[tuple[str, str], ...] = (
    ("Shut up about {topic}, {insult}.", "Please let us talk of something other than {topic}."),
    ("You {insult}, your {thing} makes me sick.", "I do not like your {thing} very much."),
    ("Only a {very}{insult} could write such a {thing}.", "I think that this {thing} needs more work."),
    ("What the {swear} is wrong with you, {name}?", "{name}, could you explain why you did that?"),
    ("Shove your {thing} on {topic}, you {bad} {insult}.", "I would rather not have your {thing} on {topic}."),
    ("You are too {bad} to understand {topic}.", "Perhaps {topic} is hard to understand."),
    ("Go back to the {place}, you {insult}, nobody wants you.", "Maybe the {place} suits you better."),
    ("Your {thing} is {swear} and so are you, {name}.", "{name}, I was not convinced by your {thing}."),
    ("I hope that you {insult}s lose the vote on the {thing}.", "I am against the {thing} in this vote."),
    ("How {bad} must you be to miss page {number} of the {thing}?", "Please look at page {number} of the {thing}."),
)
PATTERNS = {"easy": EASY, "medium": MEDIUM, "hard": HARD}
LEVEL_WEIGHTS = {"easy": 5, "medium": 3, "hard": 2}
CONTEXT_SHARE = 0.7
"""Of pairs, those with sentences beside the toxic one."""
NOISE_SHARE = 0.186
"""Our cleaning refuses as many of the 3,600 pairs of multilingual ParaDetox, duplicates aside."""
NOISE_WEIGHTS = {"neutral source": 374, "toxic target": 226, "other target": 63, "copy": 6}
"""How many of them for which reason."""


def generate_pairs(rows: int, seed: int = 42, noise: float = NOISE_SHARE) -> Iterator[dict[str, Any]]:
    """`rows` records `toxic`, `neutral`, `lang`; the same ones for the same seed, fewer are the beginning of more.

    Args:
        noise: share of pairs that teach something wrong, 0..1.
    """
    rng = random.Random(seed)
    for _ in range(rows):
        toxic, neutral = _pair(rng)
        if rng.random() < noise:
            toxic, neutral = _noise(toxic, neutral, rng)
        yield {"toxic": toxic, "neutral": neutral, "lang": "en"}


def _pair(rng: random.Random) -> tuple[str, str]:
    (level,) = rng.choices(list(LEVEL_WEIGHTS), list(LEVEL_WEIGHTS.values()))
    toxic, neutral = _filled(rng.choice(PATTERNS[level]), rng)
    before, after = list[str](), list[str]()
    if rng.random() < CONTEXT_SHARE:
        for _ in range(rng.choice((1, 1, 2))):
            (before if rng.random() < 0.5 else after).append(_filled((rng.choice(CONTEXT),), rng)[0])
    join = " ".join
    return join([*before, toxic, *after]), join([*before, neutral, *after])


def _noise(toxic: str, neutral: str, rng: random.Random) -> tuple[str, str]:
    (kind,) = rng.choices(list(NOISE_WEIGHTS), list(NOISE_WEIGHTS.values()))
    if kind in ("neutral source", "toxic target"):
        same = neutral if kind == "neutral source" else toxic
        # on either side, or the other word would tell the sides apart
        return (same, _reworded(same)) if rng.random() < 0.5 else (_reworded(same), same)
    if kind == "other target":
        return toxic, _filled((rng.choice(CONTEXT),), rng)[0]
    return toxic, toxic


def _reworded(text: str) -> str:
    """The text with a change beside the point."""
    return text.replace("the ", "this ", 1) if "the " in text else f"{text} Thanks."


def _filled(sides: Sequence[str], rng: random.Random) -> list[str]:
    """The sides with the same word in the same slot, "a" before a vowel made "an", the first letter a capital."""
    made = list(sides)
    while any("{" in side for side in made):
        made = _pass(made, {}, rng)
    spelt = [re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", side) for side in made]
    return [side[0].upper() + side[1:] for side in spelt]


def _pass(sides: Sequence[str], words: dict[str, str], rng: random.Random) -> list[str]:
    """The sides with their slots filled, once: what fills one may hold slots again."""

    def word(slot: re.Match[str]) -> str:
        if slot[1] not in words:
            words[slot[1]] = rng.choice(WORDS[slot[1]])
        return words[slot[1]]

    return [re.sub(r"\{(\w+)\}", word, side) for side in sides]

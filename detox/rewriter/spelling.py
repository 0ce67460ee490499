"""How a tokenizer spells words, in each casing, after a space and after a sign; `detox.rewriter.decoding` says why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from detox.classifier.lexicon import UNSPACED, WORD
from detox.rewriter.lexicon import Span

Spelled = tuple[int, ...]
Biases = dict[Spelled, float]
"""Token sequences with what is added to the score of their last token."""
Offsets = tuple[list[int], list[Span]]
"""Token ids of a text, and the characters of each."""


class Table(NamedTuple):
    """The biased sequences of a row or a language."""

    anywhere: Biases
    opened: Biases
    """These count where a word can begin."""


class Spelling(NamedTuple):
    """The tokens of a word; empty where the tokenizer has none of its own for it."""

    spaced: Spelled
    """After a space."""
    bare: Spelled
    """After a sign; in scripts without spaces, after anything."""


class Speller:
    """How a tokenizer spells words.

    Args:
        tokenizer: a fast one, which knows the characters of its tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer
        self.opens_V = torch.tensor([*(_opens(piece) for piece in pieces(tokenizer)), False])

    def spell(self, words: Iterable[str]) -> dict[str, Spelling]:
        """The spellings of each word, in its own casing."""
        distinct = sorted({word.strip() for word in words} - {""})
        if not distinct:
            return {}
        spaced = self.tokens([f"a {word}" for word in distinct])
        bare = self.tokens([f"({word}" for word in distinct])
        return {
            word: Spelling(_after_first(*with_space), _after_first(*without))
            for word, with_space, without in zip(distinct, spaced, bare, strict=True)
        }

    def tokens(self, texts: Sequence[str]) -> list[Offsets]:
        """Token ids of each text with the characters of each; unknown tokens are -1."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        unknown = self.tokenizer.unk_token_id
        ids = [[-1 if token == unknown else token for token in row] for row in encoded["input_ids"]]
        return list(zip(ids, encoded["offset_mapping"], strict=True))

    def spell_casings(self, words: Iterable[str]) -> dict[str, Spelling]:
        """The spellings of each word in all casings, by the cased word."""
        return self.spell(cased for word in words for cased in casings(word))

    def doubles(self, sequence: Spelled, known: Collection[Spelled]) -> bool:
        """A lone space, then a sequence that counts after a space anyway: the two would add up."""
        return len(sequence) > 1 and sequence[1:] in known and bool(self.opens_V[sequence[0]])

    def biases(
        self, words: Mapping[str, float], spellings: Mapping[str, Spelling], exempt: Collection[Spelled] = ()
    ) -> Table:
        """What to add to the tokens that complete these words in any casing."""
        found = Table({}, {})
        for word, bias in words.items():
            bare_counts = found.anywhere if UNSPACED.search(word) else found.opened
            for spaced, bare in (spellings[cased] for cased in casings(word)):
                if bare and bare not in exempt:
                    bare_counts[bare] = bias
                if spaced and spaced not in exempt and not self.doubles(spaced, {bare}):
                    found.anywhere[spaced] = bias
        return found


def _opens(piece: str) -> bool:
    """A word can begin after this token: it is white space, a sign or a special token, no part of a character."""
    return not piece or not (piece[-1] == "\ufffd" or WORD.match(piece[-1]))


def _after_first(ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Spelled:
    """The tokens that begin after the first character; none where one goes across, or is unknown."""
    kept = tuple(token for token, (begin, _) in zip(ids, offsets, strict=True) if begin >= 1)
    is_torn = any(begin < 1 < end for begin, end in offsets)
    return () if is_torn or -1 in kept else kept


def casings(word: str) -> set[str]:
    """As it is, lower, First word, Each Word, UPPER."""
    return {word, word.lower(), word.capitalize(), word.title(), word.upper()}


def pieces(tokenizer: Any) -> list[str]:
    return tokenizer.batch_decode([[token] for token in range(len(tokenizer))])

"""Which texts a rewriter can read: those whose letters its tokenizer knows, and that are not longer than it takes.

A tokenizer without a script writes an unknown token for a word of it. A model that is shown such pairs learns to leave
words out, and one that is given such a text rewrites what it has not read; so those pairs are refused, and those texts
get no candidates of the model's, only edits. Unknown signs, an emoji say, do no harm but that candidates lack them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import regex
from transformers import PreTrainedTokenizerBase

from detox.data.pairs.prepared import PairRow
from detox.rewriter.batches import prompted
from detox.rewriter.settings import RewriterModelSettings

LETTER = regex.compile(r"[\p{L}\p{M}\p{N}]")


class Unread(NamedTuple):
    """A pair that was not learned."""

    part: str
    row: int
    lang: str
    toxic: str
    neutral: str
    rule: str
    """`unknown_script` or `too_many_tokens`."""
    reason: str


class Readable(NamedTuple):
    """Pairs that can be learned, and the others."""

    rows: list[PairRow]
    refused: list[Unread]


def unknown_letters(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The letters and digits of each text that stand in tokens which the tokenizer does not know."""
    unknown = tokenizer.unk_token_id
    if unknown is None or not texts:
        return [""] * len(texts)
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} does not say where its tokens stand: take a model with a fast one"
        )
    read = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    rows = zip(texts, read["input_ids"], read["offset_mapping"], strict=True)  # type: ignore[arg-type]
    return [
        "".join(
            letter
            for token, (begin, end) in zip(ids, offsets, strict=True)
            if token == unknown
            for letter in LETTER.findall(text[begin:end])
        )
        for text, ids, offsets in rows
    ]


def readable(
    rows: Sequence[PairRow], tokenizer: PreTrainedTokenizerBase, settings: RewriterModelSettings, part: str
) -> Readable:
    """The pairs of which both sides can be read whole, and the source be written whole too, as a copy.

    Args:
        part: of the prepared pairs, for the record.
    """
    toxic, neutral = [row.toxic for row in rows], [row.neutral for row in rows]
    broken: dict[int, tuple[str, str]] = {}
    for side, texts in (("source", toxic), ("rewrite", neutral)):
        for at, letters in enumerate(unknown_letters(texts, tokenizer)):
            if letters:
                broken.setdefault(at, ("unknown_script", f"the tokenizer does not know {letters[:20]!r} of the {side}"))
    sources = [prompted(row.toxic, row.lang, settings) for row in rows]
    for side, texts, most in (
        ("source", sources, settings.max_source_tokens),
        ("source", toxic, settings.max_target_tokens),
        ("rewrite", neutral, settings.max_target_tokens),
    ):
        for at, ids in enumerate(tokenizer(texts, verbose=False)["input_ids"] if texts else []):  # type: ignore[arg-type]
            if len(ids) > most:
                broken.setdefault(at, ("too_many_tokens", f"the {side} has {len(ids)} tokens, and {most} are taken"))
    refused = [
        Unread(part, row.row, row.lang, row.toxic, row.neutral, *broken[at])
        for at, row in enumerate(rows)
        if at in broken
    ]
    return Readable([row for at, row in enumerate(rows) if at not in broken], refused)

"""Which texts a rewriter can read: those whose script its tokenizer knows, and that are not longer than it takes.

A tokenizer without a script writes one unknown token for a whole word of it. A model that is shown such pairs learns to
write nothing, and one that is given such a text rewrites what it has not read; so those pairs are refused, and those
texts get no candidates of the model's, only edits. A single emoji does no harm.

Shapes: N texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from detox.data.pairs.prepared import PairRow
from detox.rewriter.batches import prompted
from detox.rewriter.settings import RewriterModelSettings

MOST_UNKNOWN = 0.2
"""Share of a text's tokens from which on it is not read."""


class Unread(NamedTuple):
    """A pair that was not learned."""

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


def unknown_share(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Share of each text's tokens that stand for what the tokenizer does not know, 0..1 `[N]`."""
    unknown = tokenizer.unk_token_id
    if unknown is None or not texts:
        return np.zeros(len(texts))
    ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return np.array([row.count(unknown) / max(1, len(row)) for row in ids])  # type: ignore[union-attr]


def readable(rows: Sequence[PairRow], tokenizer: PreTrainedTokenizerBase, settings: RewriterModelSettings) -> Readable:
    """The pairs of which both sides can be read whole."""
    sources = [prompted(row.toxic, row.lang, settings) for row in rows]
    sides = {
        "source": (sources, [row.toxic for row in rows], settings.max_source_tokens),
        "rewrite": ([row.neutral for row in rows], [row.neutral for row in rows], settings.max_target_tokens),
    }
    broken: dict[int, tuple[str, str]] = {}
    for side, (texts, bare, most) in sides.items():
        ids = tokenizer(texts, verbose=False)["input_ids"] if texts else []
        for at, (share, row) in enumerate(zip(unknown_share(bare, tokenizer).tolist(), ids, strict=True)):  # type: ignore[arg-type]
            if share > MOST_UNKNOWN:
                broken.setdefault(at, ("unknown_script", f"the tokenizer does not know {share:.0%} of the {side}"))
            elif len(row) > most:
                broken.setdefault(at, ("too_many_tokens", f"the {side} has {len(row)} tokens, and {most} are read"))
    refused = [
        Unread(row.row, row.lang, row.toxic, row.neutral, *broken[at]) for at, row in enumerate(rows) if at in broken
    ]
    return Readable([row for at, row in enumerate(rows) if at not in broken], refused)

"""Pairs as token ids, and what a stage forwards in which order.

Shapes: P pairs, B rows, S source tokens, T target tokens, C tokens of a copy, K toxic tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from detox.classifier.batching import FILLER, MicroBatch, MicroBatchSampler, TokenisedRows, pad_rows
from detox.classifier.settings import BatchSettings
from detox.data.pairs.prepared import PairRow
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.preference import IGNORED
from detox.rewriter.settings import RewriterModelSettings


@dataclass(frozen=True)
class TokenisedPairs:
    """Token ids of pairs, EOS included."""

    sources: TokenisedRows
    """With the prompt."""
    targets: TokenisedRows
    copies: TokenisedRows
    """The source as an answer, which is what a rewriter must not give."""
    toxic: TokenisedRows
    """Tokens of the source's toxic words, each once."""
    difficulty_P: np.ndarray

    def __len__(self) -> int:
        return len(self.sources)

    def select(self, rows: np.ndarray) -> TokenisedPairs:
        """Some of the pairs, in this order."""
        sources, targets, copies, toxic = (
            TokenisedRows.of([part[row].tolist() for row in rows])
            for part in (self.sources, self.targets, self.copies, self.toxic)
        )
        return TokenisedPairs(sources, targets, copies, toxic, self.difficulty_P[rows])


def prompted(text: str, lang: str, settings: RewriterModelSettings) -> str:
    """A source as the model reads it."""
    return settings.prompt.replace("{lang}", lang) + text


def tokenise_pairs(
    rows: Sequence[PairRow], tokenizer: PreTrainedTokenizerBase, settings: RewriterModelSettings, lexicon: Lexicon
) -> TokenisedPairs:
    """Token ids of each pair, cut at the settings' lengths; a cut text has its EOS all the same."""

    def ids(texts: list[str], most: int) -> TokenisedRows:
        return TokenisedRows.of(tokenizer(texts, truncation=True, max_length=most)["input_ids"] if texts else [])

    toxic = [[row.toxic[begin:end] for begin, end in lexicon.spans(row.toxic, row.lang)] for row in rows]
    words = sorted({word for found in toxic for word in found})
    word_ids = dict(zip(words, tokenizer(words, add_special_tokens=False)["input_ids"] if words else [], strict=True))
    return TokenisedPairs(
        ids([prompted(row.toxic, row.lang, settings) for row in rows], settings.max_source_tokens),
        ids([row.neutral for row in rows], settings.max_target_tokens),
        ids([row.toxic for row in rows], settings.max_target_tokens),
        TokenisedRows.of([sorted({token for word in found for token in word_ids[word]}) for found in toxic]),
        np.array([row.difficulty for row in rows], np.float32),
    )


class PairDataset(Dataset[dict[str, torch.Tensor]]):
    """Tokenised pairs; given a `MicroBatch`, returns it padded: the inputs of `detox.rewriter.losses.RewriterLoss`."""

    def __init__(self, pairs: TokenisedPairs, pad_id: int) -> None:
        self._pairs, self._pad_id = pairs, pad_id
        self._target_tokens_P = pairs.targets.lengths
        self.target_tokens = int(self._target_tokens_P.sum())

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitems__(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        pairs, rows = self._pairs, [max(row, 0) for row in batch]
        labels_BT = padded([pairs.targets[row] for row in rows], IGNORED)
        labels_BT[[row == FILLER for row in batch]] = IGNORED
        return pad_rows([pairs.sources[row] for row in rows], self._pad_id) | {
            "labels": labels_BT,
            "copy_labels": padded([pairs.copies[row] for row in rows], IGNORED),
            "toxic_ids": padded([pairs.toxic[row] for row in rows], -1),
            "global_rows": torch.tensor(len(batch.whole)),
            "global_tokens": torch.tensor(int(self._target_tokens_P[batch.whole].sum())),
        }


def padded(rows: Sequence[np.ndarray], filler: int) -> torch.Tensor:
    """Rows of ids as int64, `filler` behind the shorter ones; at least one column."""
    made = np.full((len(rows), max(1, *(len(row) for row in rows))), filler, np.int64)
    for at, row in enumerate(rows):
        made[at, : len(row)] = row
    return torch.from_numpy(made)


class CompetenceSampler(MicroBatchSampler):
    """Each optimizer step draws from the easiest share of the pairs, which grows with the root of the steps until it is
    all of them (Platanios et al. 2019, with the square root). One "epoch" is the whole stage.

    Args:
        lengths: tokens a pair.
        difficulty_P: of the pairs.
        steps: of the stage.
        initial: the share at the first step.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        difficulty_P: np.ndarray,
        steps: int,
        initial: float,
        settings: BatchSettings,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._order = np.argsort(difficulty_P, kind="stable")
        self._total, self._initial = steps, initial
        super().__init__(lengths, settings, seed, rank, ranks)

    def global_batches(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng((self._seed, epoch))
        return [self._drawn(step, rng) for step in range(self._total)]

    def _drawn(self, step: int, rng: np.random.Generator) -> np.ndarray:
        known = max(1, math.ceil(competence(step, self._total, self._initial) * len(self._order)))
        chosen = rng.choice(known, size=min(self._settings.size, known), replace=False)
        rows = self._order[chosen]
        return rows[np.argsort(self._lengths[rows], kind="stable")]


def competence(step: int, steps: int, initial: float) -> float:
    """The share of pairs, easiest first, that a learner is ready for: sqrt(step (1 - c²) / steps + c²), at most 1."""
    return min(1.0, math.sqrt(step * (1 - initial**2) / max(1, steps) + initial**2))

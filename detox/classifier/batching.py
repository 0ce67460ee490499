"""Batches by length: deterministic, the same number of steps on every rank, resumable in the middle of an epoch.

One *global batch* is what one optimizer step sees on all ranks together: `size` rows, or as many rows as fit a budget
of `size` padded tokens. Rows of like length share a global batch, so little of it is padding. Within a length bucket
(a sixteenth of the length wide) rows are shuffled anew each epoch, and so is the order of the global batches. Their
number depends on the lengths only, never on the epoch, the rank or the number of ranks; hence an elastic change of
workers keeps the global batches as they are.

Each global batch is dealt to `ranks x accumulation` *micro-batches*, one a forward pass, rows in turn, so all ranks
work on nearly the same shape. A micro-batch that goes empty (a last batch with fewer rows than ranks) gets a filler
row whose labels are all missing, so that every rank makes the same number of passes.

Shapes: B rows, T tokens, L labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from detox.classifier.settings import BatchSettings

FILLER = -1
"""Row number of a filler."""


@dataclass(frozen=True)
class TokenisedRows:
    """Token ids of all rows, end to end, with where each row begins: 4 bytes a token."""

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> TokenisedRows:
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter((token for row in rows for token in row), dtype=np.int32, count=int(offsets[-1]))
        return cls(ids, offsets)

    @classmethod
    def join(cls, parts: Iterable[TokenisedRows]) -> TokenisedRows:
        """The rows of all parts, in their order."""
        whole = [cls.of([]), *parts]
        starts = np.cumsum([0, *(len(part.ids) for part in whole[:-1])])
        offsets = [part.offsets[1:] + start for part, start in zip(whole, starts, strict=True)]
        return cls(np.concatenate([part.ids for part in whole]), np.concatenate([[0], *offsets]))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]


class MicroBatch(list[int]):
    """Row numbers of one forward pass, with the rows of the whole global batch, fillers aside."""

    def __init__(self, rows: Sequence[int], whole: np.ndarray) -> None:
        super().__init__(rows)
        self.whole = whole


def global_batches(lengths: np.ndarray, settings: BatchSettings, seed: int, epoch: int) -> list[np.ndarray]:
    """The row numbers of each optimizer step of an epoch.

    Args:
        lengths: tokens a row, `[N]`.
        settings: rows or padded tokens of a global batch.
        seed, epoch: determine the order; nothing else does.

    Raises:
        ValueError: no rows.
    """
    if len(lengths) == 0:
        raise ValueError("there are no rows to train on: the training part of the data is empty")
    rng = np.random.default_rng((seed, epoch))
    width = np.maximum(1, lengths // 16)
    order = np.lexsort((rng.permutation(len(lengths)), lengths // width * width))
    batches = np.split(order, _borders(np.sort(lengths), settings))
    return [batches[i] for i in rng.permutation(len(batches))]


def _borders(sorted_lengths: np.ndarray, settings: BatchSettings) -> np.ndarray:
    if settings.by == "rows":
        return np.arange(settings.size, len(sorted_lengths), settings.size)
    batches = token_batches(np.arange(len(sorted_lengths)), sorted_lengths, settings.size)
    return np.asarray([batch[0] for batch in batches][1:], dtype=np.int64)


def token_batches(order: np.ndarray, lengths: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Cut rows, in this order, into batches of at most `budget` tokens, padding included.

    A row longer than the budget is a batch of its own.
    """
    first = longest = 0
    for position, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if position > first and longest * (position + 1 - first) > budget:
            yield order[first:position]
            first, longest = position, length
    if len(order):
        yield order[first:]


def accumulation(settings: BatchSettings, ranks: int) -> int:
    """Forward passes a rank makes for one optimizer step."""
    return max(1, math.ceil(settings.size / (ranks * settings.per_forward)))


class MicroBatchSampler:
    """What one rank forwards, in order: `accumulation` micro-batches for each global batch.

    A `batch_sampler` for `DataLoader`. `transformers.Trainer` sets the epoch only of
    `dataloader.batch_sampler.batch_sampler`; by being its own, this one hears of every epoch.
    """

    def __init__(self, lengths: np.ndarray, settings: BatchSettings, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self._lengths, self._settings, self._seed = lengths, settings, seed
        self._rank, self._ranks = rank, ranks
        self._accumulation = accumulation(settings, ranks)
        self._epoch = 0
        self._steps = len(self.global_batches(0))

    def global_batches(self, epoch: int) -> list[np.ndarray]:
        """Row numbers of each optimizer step of an epoch, the same number of steps in every epoch."""
        return global_batches(self._lengths, self._settings, self._seed, epoch)

    @property
    def batch_sampler(self) -> MicroBatchSampler:
        return self

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._steps * self._accumulation

    def __iter__(self) -> Iterator[MicroBatch]:
        parts = self._ranks * self._accumulation
        for batch in self.global_batches(self._epoch):
            for turn in range(self._accumulation):
                rows = batch[turn * self._ranks + self._rank :: parts]
                yield MicroBatch(rows.tolist() or [FILLER], batch)


class RowDataset(Dataset[dict[str, torch.Tensor]]):
    """Tokenised rows with their labels; given a `MicroBatch`, returns it padded to its own longest row.

    Args:
        rows: token ids.
        labels_NL: float32, NaN where missing.
        pad_id: the tokenizer's padding id.
    """

    def __init__(self, rows: TokenisedRows, labels_NL: np.ndarray, pad_id: int) -> None:
        if len(rows) != len(labels_NL):
            raise ValueError(f"there must be one row of labels for each text, were {len(labels_NL)} for {len(rows)}")
        self._rows, self._labels_NL, self._pad_id = rows, labels_NL, pad_id

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        tokens = [self._rows[max(row, 0)] for row in batch]
        labels_BL = self._labels_NL[[max(row, 0) for row in batch]]
        labels_BL[[row == FILLER for row in batch]] = np.nan
        return pad_rows(tokens, self._pad_id) | {
            "labels": torch.from_numpy(labels_BL),
            "global_rows": torch.tensor(len(batch.whole)),
        }


def pad_rows(tokens: Sequence[np.ndarray], pad_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 `[B, T]`, T the longest row."""
    longest = max(len(row) for row in tokens)
    ids_BT = np.full((len(tokens), longest), pad_id, dtype=np.int64)
    mask_BT = np.zeros((len(tokens), longest), dtype=np.int64)
    for i, row in enumerate(tokens):
        ids_BT[i, : len(row)] = row
        mask_BT[i, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids_BT), "attention_mask": torch.from_numpy(mask_BT)}


def loader(dataset: RowDataset, sampler: MicroBatchSampler) -> DataLoader[dict[str, torch.Tensor]]:
    """A plain `DataLoader` of whole micro-batches, collated by the data set itself."""
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=_as_is)  # type: ignore[arg-type]


def _as_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch


def evaluation_batches(lengths: np.ndarray, tokens_per_batch: int, rank: int = 0, ranks: int = 1) -> list[np.ndarray]:
    """The row numbers of each forward pass of one rank: longest first (so that memory peaks at once), by token
    budget, each rank the same number of passes. Where rows run out a rank repeats its share of the last batch; who
    gathers goes by row number.
    """
    order = np.argsort(-lengths, kind="stable")
    batches = token_batches(order, lengths, tokens_per_batch * ranks)
    return [batch[rank::ranks] if len(batch) > rank else batch[:1] for batch in batches]

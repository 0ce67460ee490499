"""Batches: every row once an epoch, equal passes on every rank, the same global batches for any number of ranks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.classifier.batching import (
    FILLER,
    MicroBatchSampler,
    RowDataset,
    TokenisedRows,
    accumulation,
    evaluation_batches,
    global_batches,
    loader,
    token_batches,
)
from detox.classifier.settings import BatchSettings

ROWS = BatchSettings(by="rows", size=8, per_forward=4)
TOKENS = BatchSettings(by="tokens", size=2048, per_forward=1024)
lengths_of = st.lists(st.integers(2, 256), min_size=1, max_size=200).map(np.array)
settings_of = st.sampled_from([ROWS, TOKENS])


def test_joined_parts_are_the_rows_of_the_whole() -> None:
    rows = [[1, 2], [], [3], [4, 5, 6]]
    whole = TokenisedRows.of(rows)
    for cut in range(len(rows) + 1):
        joined = TokenisedRows.join([TokenisedRows.of(rows[:cut]), TokenisedRows.of(rows[cut:])])
        np.testing.assert_array_equal(joined.ids, whole.ids)
        np.testing.assert_array_equal(joined.offsets, whole.offsets)
        assert (joined.ids.dtype, joined.offsets.dtype) == (np.int32, np.int64)
    assert len(TokenisedRows.join([])) == 0


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_of, batch=settings_of, epoch=st.integers(0, 5))
def test_every_row_once_and_the_same_number_of_steps_each_epoch(lengths, batch, epoch) -> None:
    batches = global_batches(lengths, batch, seed=1, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == len(global_batches(lengths, batch, seed=1, epoch=0))


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_of, batch=settings_of, ranks=st.integers(1, 5), epoch=st.integers(0, 3))
def test_ranks_make_equal_passes_and_share_out_the_global_batches(lengths, batch, ranks, epoch) -> None:
    samplers = [MicroBatchSampler(lengths, batch, 1, rank, ranks) for rank in range(ranks)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    passes = [list(sampler) for sampler in samplers]
    assert {len(p) for p in passes} == {len(samplers[0])}
    turns = accumulation(batch, ranks)
    for step, expected in enumerate(global_batches(lengths, batch, 1, epoch)):
        micro = [m for p in passes for m in p[step * turns : (step + 1) * turns]]
        assert sorted(row for m in micro for row in m if row != FILLER) == sorted(expected)
        assert {len(m.whole) for m in micro} == {len(expected)}


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_of, epoch=st.integers(0, 3))
def test_a_token_budget_holds_its_budget(lengths, epoch) -> None:
    """A bucket is a sixteenth of its length wide, so a shuffled batch may exceed the budget by that much at most."""
    for batch in global_batches(lengths, TOKENS, 3, epoch):
        assert len(batch) * lengths[batch].max() <= TOKENS.size * (1 + 1 / 16) or len(batch) == 1


def test_epochs_differ_and_repeat() -> None:
    lengths = np.full(64, 10)
    first = [b.tolist() for b in global_batches(lengths, ROWS, 1, 0)]
    assert first == [b.tolist() for b in global_batches(lengths, ROWS, 1, 0)]
    assert first != [b.tolist() for b in global_batches(lengths, ROWS, 1, 1)]
    assert first != [b.tolist() for b in global_batches(lengths, ROWS, 2, 0)]


def test_padding_is_small_where_random_batches_are_two_thirds_padding() -> None:
    """Log-normal lengths as of comments: the padded share must stay under 5 %."""
    lengths = np.clip(np.random.default_rng(0).lognormal(3.9, 0.9, 8000), 3, 256).astype(int)
    padded = sum(len(b) * lengths[b].max() for b in global_batches(lengths, BatchSettings(size=32), 1, 0))
    assert 1 - lengths.sum() / padded < 0.05


def test_the_trainer_finds_set_epoch_where_it_looks() -> None:
    sampler = MicroBatchSampler(np.full(9, 5), ROWS, 1)
    assert loader(_dataset(9), sampler).batch_sampler.batch_sampler is sampler  # type: ignore[union-attr]


def test_a_filler_row_has_no_label_and_the_rest_is_padded_to_the_longest() -> None:
    batches = list(loader(_dataset(1), MicroBatchSampler(np.array([3]), ROWS, 1, rank=1, ranks=2)))
    assert torch.isnan(batches[0]["labels"]).all()
    assert batches[0]["global_rows"] == 1
    three = _dataset(3).__getitems__(
        next(iter(MicroBatchSampler(np.array([3, 4, 5]), BatchSettings(size=8, per_forward=8), 1)))
    )
    assert three["input_ids"].shape == (3, 5)
    assert sorted(three["attention_mask"].sum(1).tolist()) == [3, 4, 5]


def _dataset(rows: int) -> RowDataset:
    tokens = TokenisedRows.of([[1] * (3 + i) for i in range(rows)])
    return RowDataset(tokens, np.ones((rows, 2), dtype=np.float32), pad_id=0)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rows to train on"):
        global_batches(np.array([], dtype=int), ROWS, 1, 0)
    with pytest.raises(ValueError, match="one row of labels for each text, were 3 for 2"):
        RowDataset(TokenisedRows.of([[1], [2]]), np.zeros((3, 1), dtype=np.float32), 0)


def test_an_elastic_change_keeps_the_global_batch() -> None:
    """32 rows, at most 16 a pass: two workers pass once, one worker twice, four once with 8 each."""
    batch = BatchSettings(size=32, per_forward=16)
    assert [accumulation(batch, ranks) for ranks in (1, 2, 4)] == [2, 1, 1]


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_of, ranks=st.integers(1, 4))
def test_evaluation_covers_every_row_with_equal_passes(lengths, ranks) -> None:
    shares = [evaluation_batches(lengths, 512, rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert {int(row) for share in shares for rows in share for row in rows} == set(range(len(lengths)))
    assert all(len(rows) for share in shares for rows in share)


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120), st.randoms())
def test_token_batches_keep_the_budget_and_lose_no_row(lengths, budget, random) -> None:
    lengths_N = np.asarray(lengths, np.int64)
    order_N = np.arange(len(lengths))
    random.shuffle(order_N)
    batches = list(token_batches(order_N, lengths_N, budget))
    assert [row for batch in batches for row in batch] == order_N.tolist()
    for batch in batches:
        assert len(batch) == 1 or lengths_N[batch].max() * len(batch) <= budget


def test_token_batches_by_hand() -> None:
    """Budget 6, lengths 1 2 2 3 7: three rows of up to 2 tokens fill it, 3 is alone (7 would make 14), 7 exceeds it."""
    lengths_N = np.array([1, 2, 2, 3, 7])
    assert [batch.tolist() for batch in token_batches(np.arange(5), lengths_N, 6)] == [[0, 1, 2], [3], [4]]

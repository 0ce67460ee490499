"""The batcher: oldest first, as many as fit, when there is somebody to compute them; faults reach their own only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serve.batching import Batcher


class Doubling:
    """Doubles numbers, a moment a batch; -1 breaks its batch."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds
        self.batches: list[list[int]] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, items: list[int]) -> Sequence[int]:
        self.batches.append(items)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        if -1 in items:
            raise ValueError("minus one")
        return [2 * item for item in items]


def test_what_waits_travels_together_oldest_first() -> None:
    """One slot, batches of three: all that come in one moment share the first, the others wait as one queue."""
    compute = Doubling()

    async def ask() -> list[int]:
        batcher = Batcher(compute, lambda item: 1, budget=3)
        return await asyncio.gather(*map(batcher, range(8)))

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert compute.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert compute.most_at_once == 1


def test_sizes_keep_to_the_budget_and_a_large_item_goes_alone() -> None:
    compute = Doubling()

    async def ask() -> list[int]:
        batcher = Batcher(compute, lambda item: item, budget=10)
        return await asyncio.gather(*map(batcher, (4, 5, 6, 50, 1)))

    asyncio.run(ask())
    assert compute.batches == [[4, 5], [6], [50], [1]]


def test_slots_compute_at_the_same_time() -> None:
    compute = Doubling()

    async def ask() -> None:
        batcher = Batcher(compute, lambda item: 1, budget=1, slots=3)
        await asyncio.gather(*map(batcher, range(9)))

    asyncio.run(ask())
    assert compute.most_at_once == 3
    assert [item for batch in compute.batches for item in batch] == list(range(9))


def test_a_fault_reaches_its_own_batch_and_the_queue_goes_on() -> None:
    compute = Doubling()

    async def ask() -> list[object]:
        batcher = Batcher(compute, lambda item: 1, budget=2)
        return await asyncio.gather(*map(batcher, (1, -1, 3, 4)), return_exceptions=True)

    found = asyncio.run(ask())
    assert [type(one) for one in found[:2]] == [ValueError, ValueError]
    assert found[2:] == [6, 8]


def test_who_has_gone_is_not_computed_for() -> None:
    compute = Doubling(0.05)

    async def ask() -> list[int]:
        batcher = Batcher(compute, lambda item: 1, budget=1)
        first = asyncio.create_task(batcher(1))
        await asyncio.sleep(0.01)
        gone, last = asyncio.create_task(batcher(2)), asyncio.create_task(batcher(3))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return [await first, await last]

    assert asyncio.run(ask()) == [2, 6]
    assert compute.batches == [[1], [3]]


def test_it_begins_again_after_a_pause() -> None:
    async def ask() -> list[int]:
        batcher = Batcher(Doubling(0), lambda item: 1, budget=4)
        return [await batcher(1), await batcher(2)]

    assert asyncio.run(ask()) == [2, 4]

"""The batcher: oldest first, as many as fit, when there is somebody to compute them; faults reach their own only."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Any

import pytest

from serve.batching import Batcher
from serve.errors import ApiError


class Doubling:
    """Doubles numbers, a moment a batch; -1 breaks its batch."""

    def __init__(self, seconds: float = 0.01, error: Exception | None = None) -> None:
        self.seconds, self.error = seconds, error
        self.batches: list[list[int]] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, items: list[int]) -> Sequence[int]:
        self.batches.append(items)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        if self.error is not None and -1 in items:
            raise self.error
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


def faults(items: Sequence[int], budget: int = 8, error: Exception | None = None) -> tuple[list[Any], Doubling]:
    """What becomes of items that come together."""
    compute = Doubling(error=error or ValueError("minus one"))

    async def ask() -> list[Any]:
        batcher: Batcher[int, int] = Batcher(compute, lambda item: 1, budget, shared=(ApiError,))
        return await asyncio.gather(*map(batcher, items), return_exceptions=True)

    return asyncio.run(ask()), compute


def test_a_fault_reaches_the_item_that_raises_it_alone() -> None:
    found, compute = faults([1, 2, 3, -1, 5, 6])
    assert isinstance(found[3], ValueError)
    assert found[:3] + found[4:] == [2, 4, 6, 10, 12]
    assert compute.batches == [[1, 2, 3, -1, 5, 6], [1, 2, 3], [-1, 5, 6], [-1], [5, 6]]


def test_a_broken_model_is_given_up() -> None:
    found, compute = faults([-1] * 256, budget=256)
    assert all(isinstance(one, ValueError) for one in found)
    assert len(compute.batches) < 32


def test_what_concerns_all_is_not_tried_again() -> None:
    found, compute = faults([1, -1, 3, 4], budget=2, error=ApiError("unavailable", "full", retry_after=1))
    assert [type(one) for one in found] == [ApiError, ApiError, int, int]
    assert compute.batches == [[1, -1], [3, 4]]


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


def test_a_batch_runs_in_no_clients_context() -> None:
    """Serve cancels what runs in the context of a request whose client hung up."""
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    async def compute(items: Sequence[int]) -> Sequence[int]:
        seen.append(request.get())
        return items

    async def run() -> None:
        batcher: Batcher[int, int] = Batcher(compute, lambda item: 1, budget=4)
        request.set("mine")
        await batcher(1)

    asyncio.run(run())
    assert seen == ["none"]

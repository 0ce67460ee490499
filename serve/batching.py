"""Requests that wait travel together: a batch is taken when there is somebody to compute it, not before.

Serve's own `@batch` closes a batch a moment after its first request and lets it wait for its turn as it is; under load
that makes many small ones. Here what waits stays one queue, oldest first, until a slot is free.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any, Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_FAULTS = 16
"""Computations of one batch that fail: one faulty item of 256 makes nine, a broken model no more than these."""


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    size: int
    answer: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Computes items in batches, in the order in which they came.

    Args:
        compute: of a batch, a result an item, in order. What it raises may be one item's fault: then the batch is
            computed again in halves, until that item is alone.
        size: of an item; a batch holds at most `budget` in sum, or one item that is larger.
        budget: see `size`.
        slots: batches that are computed at a time.
        shared: what `compute` raises that concerns all items.
    """

    def __init__(
        self,
        compute: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        size: Callable[[Item], int],
        budget: int,
        slots: int = 1,
        shared: tuple[type[Exception], ...] = (),
    ) -> None:
        self._compute, self._size, self._budget, self._free, self._shared = compute, size, budget, slots, shared
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._begun: list[float] = []
        """When each computation began that is under way."""

    async def __call__(self, item: Item) -> Result:
        """The item's result, or what it raised."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, self._size(item), answer))
        if self._free:
            self._free -= 1
            # it begins after all that came in the same moment, in a context of its own: in that of the first one Serve
            # would cancel the whole batch when that client hangs up
            task = asyncio.create_task(self._work(), context=Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    def check(self, most_seconds: float) -> None:
        """Raises:
        TimeoutError: a batch has been computed for longer, and is taken for one that hangs.
        """
        if self._begun and time.monotonic() - min(self._begun) > most_seconds:
            raise TimeoutError(f"a batch has been computed for more than {most_seconds:.0f} seconds")

    async def _work(self) -> None:
        try:
            while batch := self._taken():
                await self._answer(batch)
        finally:
            self._free += 1

    def _taken(self) -> list[_Waiting[Item, Result]]:
        """The oldest items that fit; those whose clients are gone are left out."""
        batch: list[_Waiting[Item, Result]] = []
        held = 0
        while self._waiting and (not batch or held + self._waiting[0].size <= self._budget):
            one = self._waiting.popleft()
            if not one.answer.done():
                batch.append(one)
                held += one.size
        return batch

    async def _answer(self, batch: list[_Waiting[Item, Result]]) -> None:
        """Compute a batch, and where that fails its halves, in which the faulty item is sought."""
        parts, faults = deque([batch]), 0
        try:
            while parts:
                part = [one for one in parts.popleft() if not one.answer.done()]
                if not part:
                    continue
                try:
                    results = await self._timed([one.item for one in part])
                except Exception as error:
                    faults += 1
                    if len(part) == 1 or faults >= MOST_FAULTS or isinstance(error, self._shared):
                        fail(part, error)
                    else:
                        parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
                else:
                    for one, result in zip(part, results, strict=True):
                        if not one.answer.done():
                            one.answer.set_result(result)
        except BaseException:
            fail(batch, RuntimeError("the batch was broken off"))
            raise

    async def _timed(self, items: list[Item]) -> Sequence[Result]:
        began = time.monotonic()
        self._begun.append(began)
        try:
            return await self._compute(items)
        finally:
            self._begun.remove(began)


def fail(batch: Sequence[_Waiting[Any, Any]], error: Exception) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)

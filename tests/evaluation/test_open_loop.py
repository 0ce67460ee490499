"""Open-loop load: due when due, latencies from then, whatever the service does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from detox.evaluation.open_loop import Outcome, arrivals, figures, load


@asynccontextmanager
async def service(answer: Callable[[Any], Coroutine[Any, Any, web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/"
    finally:
        await runner.cleanup()


def test_arrivals_are_a_poisson_process() -> None:
    """Of mean 100 a second: over 100 s the count is within four standard deviations (100) of 10,000, gaps have a mean
    and a standard deviation of 10 ms; the same seed gives the same ones."""
    due_N = arrivals(100, 100, seed=1)
    gaps = np.diff(due_N)
    assert abs(len(due_N) - 10_000) < 400
    assert gaps.mean() == pytest.approx(0.01, rel=0.05)
    assert gaps.std() == pytest.approx(0.01, rel=0.05)
    assert due_N.min() >= 0
    assert due_N.max() < 100
    np.testing.assert_array_equal(due_N, arrivals(100, 100, seed=1))
    assert len(arrivals(0.1, 0.5, seed=0)) <= 3


def test_a_stall_is_felt_by_all_that_were_due_in_it() -> None:
    """The service takes half a second over everything once, at its first request: a closed loop would see one slow
    answer; here each of the ten requests due meanwhile has waited for the rest of it."""
    lock = asyncio.Lock()

    async def answer(request: Any) -> web.Response:
        async with lock:
            if not stalled:
                stalled.append(True)
                await asyncio.sleep(0.5)
        return web.json_response({})

    stalled: list[bool] = []

    async def ask() -> list[Outcome]:
        async with service(answer) as url:
            return await load(url, [{}], np.arange(10) * 0.04)

    outcomes = asyncio.run(ask())
    assert [one.due for one in outcomes] == pytest.approx([number * 0.04 for number in range(10)])
    waited = [one.seconds for one in outcomes]
    assert all(seconds >= 0.5 - one.due - 0.02 for seconds, one in zip(waited, outcomes, strict=True))
    assert waited[0] > waited[9]


def test_answers_are_judged_counted_and_shared_out_by_status() -> None:
    async def answer(request: Any) -> web.Response:
        number = (await request.json())["number"]
        if number == 3:
            return web.Response(status=503)
        if number == 1:
            return web.Response(text="no JSON")
        return web.json_response({"twice": 2 * number if number != 2 else 5})

    async def ask() -> list[Outcome]:
        async with service(answer) as url:
            bodies = [{"number": number} for number in range(4)]
            return await load(url, bodies, np.zeros(8), judge=lambda at, found: found["twice"] == 2 * (at % 4))

    found = figures(asyncio.run(ask()))
    assert {key: found[key] for key in ("requests", "answered", "status_200", "status_503", "wrong")} == {
        "requests": 8,
        "answered": 6,
        "status_200": 6,
        "status_503": 2,
        "wrong": 4,
    }
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["most_ms"]


def test_no_service_and_no_answer_in_time_are_failures() -> None:
    async def answer(request: Any) -> web.Response:
        await asyncio.sleep(5)
        return web.json_response({})

    async def ask() -> list[Outcome]:
        async with service(answer) as url:
            return await load(url, [{}], np.zeros(2), timeout=0.2)

    assert [one.status for one in asyncio.run(ask())] == [0, 0]
    gone = asyncio.run(load("http://127.0.0.1:9/", [{}], np.zeros(2)))
    assert figures(gone)["status_0"] == 2


def test_percentiles_by_hand() -> None:
    """101 answers of 0 to 100 ms: the median is 50 ms, 99 % are within 99."""
    outcomes = [Outcome(0.0, 0.0, number / 1000, 200, True) for number in range(101)]
    found = figures(outcomes)
    assert found["p50_ms"] == pytest.approx(50)
    assert found["p99_ms"] == pytest.approx(99)
    assert found["most_ms"] == pytest.approx(100)
    assert figures([])["requests"] == 0

"""Open-loop load: requests leave when they are due, whether or not earlier ones have been answered.

A closed loop (so many clients, each waiting for its answer) slows down with the service and so hides its worst moments:
"coordinated omission" (Tene 2013). Here arrivals are a Poisson process, and a latency runs from the moment at which the
request was due, not from when it could be sent.

Shapes: N requests.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

FAILED = 0
"""Status of a request that got no HTTP answer."""
PERCENTILES = (50.0, 90.0, 99.0, 99.9)

Judge = Callable[[int, Any], bool]
"""Number of the request and its JSON answer in, whether the answer is right out."""


class Outcome(NamedTuple):
    """What became of one request."""

    due: float
    """Seconds from the beginning."""
    late: float
    """Seconds between due and sent: the load generator's own lag."""
    seconds: float
    """From due to answered."""
    status: int
    right: bool
    """False for an answer of 200 that the judge refuses; true for all others."""
    says_when: bool = False
    """The answer says when to ask again (`Retry-After`)."""


def arrivals(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Seconds `[N]` at which requests are due: a Poisson process of `rate` a second."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, size=int(rate * seconds * 1.2 + 6 * np.sqrt(rate * seconds) + 10))
    due_N = np.cumsum(gaps)
    return due_N[due_N < seconds]


async def load(
    url: str,
    bodies: Sequence[Any],
    due_N: np.ndarray,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    judge: Judge | None = None,
    on_answer: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Send request i of `due_N` with body `i mod len(bodies)`, each when it is due.

    Args:
        judge: asked about each answer of 200.
        on_answer: called with the number of answers so far.
    """
    import aiohttp

    outcomes: list[Outcome] = []
    began = time.perf_counter()

    async def one(session: Any, number: int, due: float) -> None:
        sent, right, status, says_when = time.perf_counter() - began, True, FAILED, False
        try:
            async with session.post(url, json=bodies[number % len(bodies)]) as answer:
                status, says_when = answer.status, "retry-after" in answer.headers
                body = await answer.read()
                if status == 200 and judge is not None:
                    right = _is_right(judge, number, body)
        except (aiohttp.ClientError, TimeoutError):
            status = FAILED
        outcomes.append(Outcome(due, sent - due, time.perf_counter() - began - due, status, right, says_when))
        if on_answer is not None:
            on_answer(len(outcomes))

    limits = aiohttp.TCPConnector(limit=0)
    waits = aiohttp.ClientTimeout(total=timeout)
    async with aiohttp.ClientSession(connector=limits, timeout=waits, headers=dict(headers or {})) as session:
        tasks = []
        for number, due in enumerate(due_N.tolist()):
            if (left := due - (time.perf_counter() - began)) > 0:
                await asyncio.sleep(left)
            tasks.append(asyncio.create_task(one(session, number, due)))
        await asyncio.gather(*tasks)
    return sorted(outcomes)


def _is_right(judge: Judge, number: int, body: bytes) -> bool:
    """What cannot be judged is wrong: no JSON, or another shape."""
    try:
        return judge(number, json.loads(body))
    except (ValueError, LookupError, TypeError):
        return False


def figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Requests and answers by status, percentiles of the latency of answers of 200 in milliseconds, wrong answers where
    there are any, and the 99th percentile of the generator's own lag."""
    status_N = np.array([one.status for one in outcomes])
    answered = np.array([one.seconds for one in outcomes])[status_N == 200] * 1000
    found: dict[str, float] = {"requests": len(outcomes), "answered": int((status_N == 200).sum())}
    found |= {f"status_{status}": int((status_N == status).sum()) for status in np.unique(status_N).tolist()}
    if wrong := sum(not one.right for one in outcomes):
        found["wrong"] = wrong
    if len(answered):
        found |= {f"p{percentile:g}_ms": float(np.percentile(answered, percentile)) for percentile in PERCENTILES}
        found["most_ms"] = float(answered.max())
        found["answered_per_s"] = len(answered) / max(one.due + one.seconds for one in outcomes)
    if len(outcomes):
        found["lag_p99_ms"] = float(np.percentile([one.late for one in outcomes], 99) * 1000)
    return found

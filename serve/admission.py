"""Who is let in: so many requests a minute a key, and so many texts at a time for all.

Rates are token buckets. A bucket fills at `per_minute / 60 / replicas` a second, so that a key's rate over all replicas
of the gateway is its own, however the proxy deals requests out (to within the share that a replica did not get).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from serve.errors import ApiError
from serve.keys import Key

BURST_SECONDS = 10.0
"""A key may use so many seconds of its rate at once."""


@dataclass
class _Bucket:
    tokens: float
    filled: float


class RateLimits:
    """Token buckets of one gateway replica.

    Args:
        replicas: says how many replicas there are now.
        clock: seconds, monotonic.
    """

    def __init__(self, replicas: Callable[[], int] = lambda: 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._replicas, self._clock = replicas, clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: Key) -> None:
        """Count a request; two secrets of one id, as while a key is rotated, share its rate.

        Raises:
            ApiError: `rate_limited`, with the seconds until there is room for one.
        """
        now, rate = self._clock(), key.per_minute / 60 / max(1, self._replicas())
        most = max(1.0, rate * BURST_SECONDS)
        bucket = self._buckets.setdefault(key.id, _Bucket(most, now))
        bucket.tokens = min(most, bucket.tokens + (now - bucket.filled) * rate)
        bucket.filled = now
        if bucket.tokens < 1:
            raise ApiError(
                "rate_limited",
                f"The API key {key.id!r} may ask {key.per_minute} times a minute: ask again later.",
                retry_after=(1 - bucket.tokens) / rate,
            )
        bucket.tokens -= 1


class Room:
    """Texts under way in one gateway replica; a request that would be too many is refused at once, not queued.

    Args:
        most: texts at a time.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self.taken = 0
        self._seconds_per_text = 0.01

    @contextmanager
    def of(self, texts: int) -> Iterator[None]:
        """Raises:
        ApiError: `unavailable`, with a guess at when there will be room.
        """
        if self.taken and self.taken + texts > self._most:
            wait = max(1.0, self.taken * self._seconds_per_text)
            raise ApiError("unavailable", "The service is at its limit: ask again later.", retry_after=wait)
        self.taken += texts
        began, ahead = self._clock(), self.taken
        try:
            yield
        finally:
            self.taken -= texts
            latest = (self._clock() - began) / max(1, ahead)
            self._seconds_per_text += 0.05 * (latest - self._seconds_per_text)

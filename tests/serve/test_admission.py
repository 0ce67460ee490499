"""Who is let in: rates over all replicas, and room for so many texts."""

from __future__ import annotations

import pytest

from serve.admission import RateLimits, Room
from serve.errors import ApiError
from serve.keys import Key


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_holds_over_all_replicas() -> None:
    """60 a minute: a burst of ten seconds' worth, then one a second, half of each on either of two replicas."""
    clock, key = Clock(), Key(id="a", sha256="0" * 64, per_minute=60)
    replicas = [RateLimits(lambda: 2, clock) for _ in range(2)]

    def let_in(asked: int) -> int:
        taken = 0
        for number in range(asked):
            try:
                replicas[number % 2].take(key)
                taken += 1
            except ApiError:
                pass
        return taken

    assert let_in(100) == 10
    clock.now = 60.0
    assert let_in(100) == 10
    for second in range(61, 121):
        clock.now = float(second)
        let_in(2)
    clock.now = 122.0
    assert let_in(100) <= 4


def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    clock, key = Clock(), Key(id="a", sha256="0" * 64, per_minute=6)
    limits = RateLimits(clock=clock)
    limits.take(key)
    with pytest.raises(ApiError) as caught:
        limits.take(key)
    assert caught.value.retry_after == pytest.approx(10.0)
    assert caught.value.headers() == {"retry-after": "10"}
    clock.now = 10.0
    limits.take(key)


def test_a_full_house_refuses_at_once() -> None:
    room = Room(4)
    with room.of(3):
        with pytest.raises(ApiError) as caught, room.of(2):
            pass
        assert caught.value.kind == "unavailable"
        assert caught.value.retry_after >= 1
        with room.of(1):
            assert room.taken == 4
    assert room.taken == 0
    with room.of(9):  # a single request is never too large for an empty house
        pass

"""Ports of this machine, for what tests start."""

from __future__ import annotations

import random
import socket
import time

FIRST, LAST = 20_000, 32_000
"""Above those of Ray's workers, below those that the kernel lends to outgoing connections: a service that is still
starting would find one of these taken."""


def free_port() -> int:
    """One that nobody listens at, at any address."""
    for port in random.SystemRandom().sample(range(FIRST, LAST), 100):
        with socket.socket() as found:
            try:
                found.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError(f"100 ports of {FIRST} to {LAST} are all taken")


def wait_for_port(port: int, seconds: float = 60) -> None:
    """Until somebody listens there, or the time is up: what needs it says why it fails."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)

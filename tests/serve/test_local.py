"""`serve.local` beside another service on the same machine."""

from __future__ import annotations

import socket

from serve.local import free_port


def test_a_port_that_is_taken_is_left_to_its_owner() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port

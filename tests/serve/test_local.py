"""`serve.local`: what it refuses to start with, and beside which other service on the machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from serve.local import LocalArgs, check, free_port
from serve.settings import ClassifierSettings, GatewaySettings
from tests.serve.models import write_classifier


def test_a_port_that_is_taken_is_left_to_its_owner() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port


def test_others_are_let_in_with_keys_only(tmp_path: Path) -> None:
    model = ClassifierSettings(model=str(write_classifier(tmp_path / "forum")))
    for host in ("127.0.0.1", "::1"):
        check(LocalArgs(classifier=model, host=host))
    with pytest.raises(ValueError, match=r"host 0\.0\.0\.0 lets others in"):
        check(LocalArgs(classifier=model, host="0.0.0.0"))
    check(LocalArgs(classifier=model, host="0.0.0.0", gateway=GatewaySettings(keys="keys.json")))

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
    (tmp_path / "keys.json").write_text('{"keys": []}')
    check(LocalArgs(classifier=model, host="0.0.0.0", gateway=GatewaySettings(keys=str(tmp_path / "keys.json"))))


def test_what_would_fail_in_a_replica_is_said_before_it_starts(tmp_path: Path) -> None:
    model = ClassifierSettings(model=str(write_classifier(tmp_path / "forum")))
    (tmp_path / "file").touch()
    cases = [
        (GatewaySettings(keys=str(tmp_path / "none.json")), "the keys cannot be read"),
        (GatewaySettings(feedback=str(tmp_path / "file")), "feedback cannot be written"),
        (GatewaySettings(perspective_mapping=str(tmp_path / "none.json")), "is no mapping of scores"),
    ]
    for gateway, said in cases:
        with pytest.raises(ValueError, match=said):
            check(LocalArgs(classifier=model, gateway=gateway))

"""How many gateways there are: asked beside the requests, never while one waits."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from ray.serve._private.common import ReplicaState

from serve import replicas
from serve.replicas import ReplicaCount


@pytest.mark.parametrize("running", [ReplicaState.RUNNING, "RUNNING"])
def test_replicas_are_counted_beside_the_requests(running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Serve says comes a moment later, from a thread; until then it is one."""
    gateway = SimpleNamespace(replica_states={running: 3, "STARTING": 2})
    found = SimpleNamespace(applications={"toxicity": SimpleNamespace(deployments={"gateway": gateway})})
    monkeypatch.setattr(replicas.ray_serve, "status", lambda: found)
    count = ReplicaCount("gateway")
    assert count() in (1, 3)
    deadline = time.monotonic() + 5
    while count() != 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)

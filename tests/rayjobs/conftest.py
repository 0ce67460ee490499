"""Fixtures of the jobs' tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import ray


@pytest.fixture
def own_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No Ray left behind."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = dict(os.environ)
    yield
    ray.shutdown()
    for key in os.environ.keys() - before.keys():  # `connect` sets defaults for the workers
        del os.environ[key]

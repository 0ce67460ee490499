"""A replica whose model hangs, and comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from types import ModuleType
from typing import Any

import pytest


async def check_unwell_while(
    asked: Awaitable[Any], ends: threading.Event, replica: Any, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asked` hangs until `ends`: the replica is unwell from `module.MOST_SECONDS_A_BATCH` on, and well behind it."""
    hanging = asyncio.ensure_future(asked)
    await asyncio.sleep(0.05)
    await replica.check_health()  # it may take its time
    monkeypatch.setattr(module, "MOST_SECONDS_A_BATCH", 0.01)
    with pytest.raises(TimeoutError, match="a batch has been computed"):
        await replica.check_health()
    ends.set()
    await hanging
    await replica.check_health()

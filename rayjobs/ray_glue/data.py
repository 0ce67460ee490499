"""The prepared data of a job, from the stage store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detox.data.prepare import fingerprint, prepare
from detox.data.settings import DataSettings
from detox.runs.stages import StageStore
from detox.runs.storage import Storage


def prepared_stage(settings: DataSettings, seed: int, storage: Storage, map_shards: Callable[..., Any]) -> Storage:
    """The prepared data from the stage store of `storage`, made now if need be: all jobs of one storage share it.

    Args:
        storage: that of the run (`run.storage`).
        map_shards: runs the cleaning: `RayMap`, or `map` without Ray.

    Raises:
        ValueError, OSError: see `detox.data.prepare.prepare`.
    """

    def produce(folder: Path) -> None:
        prepare(settings, folder, seed, map_shards)

    return StageStore(storage).run("data", {**fingerprint(settings), "seed": seed}, produce)

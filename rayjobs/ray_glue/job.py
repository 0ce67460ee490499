"""The frame of a job: take the run's name, leave a finished run alone, hold it while it works, mark it complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from detox.governance.manifest import MANIFEST, sign
from detox.runs.config import JobConfig
from detox.runs.rundir import RunDirectory, lease, open_run


def run_once(
    config: JobConfig, job: str, recipe: str, work: Callable[[RunDirectory], None], places: Mapping[str, str]
) -> dict[str, Any]:
    """Do a run's work unless it is done, and say where its results are.

    Args:
        work: everything that the run has to do; goes on where an earlier call stopped, and leaves `summary.json` with
            a `headline`.
        places: what the last lines name, and where it is below the run's directory; `report` among them.

    Returns:
        the final figures, as `summary.json` holds them.

    Raises:
        RunExists: see `open_run` and `lease`.
    """
    directory = open_run(config, job, recipe)
    if directory.is_complete:
        print(f"already complete: {directory.uri}/{places['report']}")
        return directory.summary()
    with lease(directory.storage):
        if directory.is_complete:  # by another process, while this one waited
            return directory.summary()
        work(directory)
        directory.complete()
    summary = directory.summary()
    width = max(map(len, places)) + 1
    lines = [f"{name + ':':<{width}} {directory.uri}/{place}" for name, place in places.items()]
    print("\n".join([summary["headline"], *lines]))
    return summary


def sign_each(directory: RunDirectory, descriptions: Mapping[str, dict[str, Any]]) -> None:
    """Write the signed manifest of each of these folders: here, since a worker node has another key."""
    for folder, description in descriptions.items():
        directory.storage.child(folder).write_text(MANIFEST, sign(description))

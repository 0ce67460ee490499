"""What a worker of any training needs before it begins: its rank, a folder of its own, and where to go on from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import ray.train

from detox.classifier.worker import Place
from detox.runs.storage import Storage
from rayjobs.ray_glue.fit import CHECKPOINTS, fresh_scratch
from rayjobs.ray_glue.launch import check_seen


class Seat(NamedTuple):
    """Where a worker works."""

    place: Place
    local: Path
    """An empty folder on this node, which goes with the worker."""
    checkpoints: Storage
    """The run's."""
    resume_from: Path | None
    """The run's last checkpoint, copied here; None at the beginning."""


@contextmanager
def seated(run: str, data: str, facts: str) -> Iterator[Seat]:
    """The seat of this Ray Train worker.

    Args:
        run: URI of the run directory.
        data: URI of a folder that the driver has made, and that this node must see.
        facts: a file of that folder.

    Raises:
        ValueError: this node does not see the folders that the driver sees.
    """
    check_seen(Storage(run), Storage(data), facts)
    context = ray.train.get_context()
    checkpoints = Storage(run).child(CHECKPOINTS)
    with tempfile.TemporaryDirectory(prefix="detox-worker-") as folder:
        local = Path(folder)
        place = Place(context.get_world_rank(), context.get_world_size(), fresh_scratch(checkpoints, local))
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield Seat(place, local, checkpoints, None)
        else:
            with checkpoint.as_directory() as resume_from:
                yield Seat(place, local, checkpoints, Path(resume_from))

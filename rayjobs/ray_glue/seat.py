"""What a rank of any training needs before it begins: its place, a folder of its own, and where to go on from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import ray.train
from transformers import TrainerCallback

from detox.classifier.worker import Place
from detox.runs.storage import Storage
from rayjobs.ray_glue.fit import CHECKPOINTS, fresh_scratch
from rayjobs.ray_glue.launch import check_seen
from rayjobs.ray_glue.report import ReportCallback, await_uploads, report_checkpoint


class Seat(NamedTuple):
    """Where a rank works."""

    place: Place
    local: Path
    """An empty folder on this node, which goes with the rank."""
    checkpoints: Storage
    """The run's."""
    resume_from: Path | None
    """The run's last checkpoint, on this node; None at the beginning."""
    on_ray: bool
    """A worker of Ray Train, which is told of checkpoints; else the one rank inside this process."""

    def callbacks(self) -> list[TrainerCallback]:
        """What tells Ray Train of the checkpoints of `transformers.Trainer`."""
        return [ReportCallback(self.checkpoints)] if self.on_ray else []

    def keep_checkpoint(self, step: int, save: Callable[[Path], None], most: int) -> None:
        """Make a checkpoint of what is not trained by `transformers.Trainer`; every rank must call it.

        Args:
            save: writes into a folder.
            most: checkpoints to keep inside this process; Ray Train counts its own.
        """
        making = self.place.scratch / f".making-{step}"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        save(making)
        if self.on_ray:
            report_checkpoint(self.checkpoints, making, step)
            return
        making.rename(self.place.scratch / f"step-{step:07d}")
        for old in sorted(self.place.scratch.glob("step-*"))[:-most]:
            shutil.rmtree(old)

    def await_uploads(self) -> None:
        """Wait for checkpoints on their way to remote storage."""
        if self.on_ray:
            await_uploads(self.checkpoints)


@contextmanager
def seat_on_ray(run: str, data: str, facts: str) -> Iterator[Seat]:
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
            yield Seat(place, local, checkpoints, None, on_ray=True)
        else:
            with checkpoint.as_directory() as resume_from:
                yield Seat(place, local, checkpoints, Path(resume_from), on_ray=True)


@contextmanager
def seat_inside(run: str, last_checkpoint: Callable[[Path], Path | None]) -> Iterator[Seat]:
    """The one seat of a training inside this process, which saves straight into the run's checkpoints.

    Args:
        last_checkpoint: finds it in the folder of the checkpoints.
    """
    checkpoints = Storage(run).child(CHECKPOINTS)
    folder = checkpoints.local_path
    with tempfile.TemporaryDirectory(prefix="detox-worker-") as local:
        yield Seat(Place(0, 1, folder), Path(local), checkpoints, last_checkpoint(folder), on_ray=False)

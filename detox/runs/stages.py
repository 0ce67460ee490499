"""The stage store: what a stage produced, kept under the hash of everything that produced it.

A stage is a function that fills a folder. Its key is the SHA-256 of a plain description: the stage's name and code
version, its settings, its seed, the digests of its inputs and the key of the stage before. A job that finds its stage
done goes on from there; two runs, or two trials of a sweep, whose stages share a prefix do that work once; a run cut
off in the middle of a stage does that stage again (or resumes it, where the stage itself can), and clears what was
left half made.

    <storage>/stages/<name>-<first 16 hex of the key>/
        stage.json     the description, written before the work
        .making-…      the work, on local storage; on remote storage it is in the local temporary folder
        …              what the stage produced
        COMPLETE       written last
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from detox.runs.config import digest
from detox.runs.rundir import COMPLETE, RunExists, lease
from detox.runs.storage import Storage, explained

WAIT_HOURS = 24
"""For another process that makes the same stage."""


class StageStore:
    """Finished stages of all runs of one storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage.child("stages")

    def run(self, name: str, description: Mapping[str, Any], produce: Callable[[Path], None]) -> Storage:
        """The folder that the stage produced, from the store or made now.

        Args:
            name: the stage's short name, part of the folder's name.
            description: everything that determines the result, as plain JSON values.
            produce: fills a local scratch folder; may raise, and then the store holds nothing.

        Returns:
            the stage's folder, complete.

        Raises:
            RunExists: another process has been at it for more than `WAIT_HOURS`.
            OSError: the storage cannot be written; says which folder and what to do.
        """
        folder = self.folder(name, description)
        if folder.exists(COMPLETE):
            return folder
        folder.make()
        with _held(folder):
            if folder.exists(COMPLETE):  # another process made it while this one waited
                return folder
            folder.write_text("stage.json", json.dumps(dict(description), indent=2, sort_keys=True) + "\n")
            with _scratch(folder) as made:
                produce(made)
                _move_in(made, folder)
            folder.write_text(COMPLETE, "")
        return folder

    def folder(self, name: str, description: Mapping[str, Any]) -> Storage:
        return self.storage.child(f"{name}-{stage_key(name, description)[:16]}")


def stage_key(name: str, description: Mapping[str, Any]) -> str:
    """SHA-256 of a stage's name and description."""
    return digest({"stage": name, **description})


@contextmanager
def _held(folder: Storage) -> Iterator[None]:
    """The folder's lease; says so where another process has it and this one waits."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lease(folder, wait=0))
        except RunExists as taken:
            print(f"waiting up to {WAIT_HOURS} hours for the same stage to be made elsewhere: {taken}", flush=True)
            stack.enter_context(lease(folder, wait=WAIT_HOURS * 3600))
        yield


@contextmanager
def _scratch(folder: Storage) -> Iterator[Path]:
    """An empty local folder for the work of who holds `folder`. What a holder that was killed left, raw comments among
    it, is deleted first; on remote storage that holds for holders on this host."""
    prefix = ".making-" if folder.is_local else f"detox-stage-{digest(folder.uri)[:16]}-"
    beside = folder.local_path if folder.is_local else Path(tempfile.gettempdir())
    for left in beside.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    # a new name each time: one that lost its lease while it was suspended never writes into its successor's work
    with tempfile.TemporaryDirectory(prefix=prefix, dir=beside) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        yield made


def _move_in(made: Path, folder: Storage) -> None:
    with explained(folder.uri):
        for item in sorted(made.iterdir()):
            folder.delete(item.name)
            if folder.is_local:
                item.rename(folder.local_path / item.name)
        if not folder.is_local:
            pafs.copy_files(str(made), folder.path, pafs.LocalFileSystem(), folder.filesystem)

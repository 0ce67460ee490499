"""The stage store: what a stage produced, kept under the hash of everything that produced it.

A stage is a function that fills a folder. Its key is the SHA-256 of a plain description: the stage's name and code
version, its settings, its seed, the digests of its inputs and the key of the stage before. A job that finds its stage
done goes on from there; two runs, or two trials of a sweep, whose stages share a prefix do that work once; a run cut
off in the middle of a stage does that stage again (or resumes it, where the stage itself can).

    <storage>/stages/<name>-<first 16 hex of the key>/
        stage.json     the description, written before the work
        …              what the stage produced
        COMPLETE       written last
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detox.runs.config import digest
from detox.runs.rundir import COMPLETE, lease
from detox.runs.storage import Storage


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
        """
        folder = self.folder(name, description)
        if folder.exists(COMPLETE):
            return folder
        folder.make()
        with lease(folder, wait=24 * 3600):
            if folder.exists(COMPLETE):  # another process made it while this one waited
                return folder
            folder.write_text("stage.json", json.dumps(dict(description), indent=2, sort_keys=True) + "\n")
            beside = self.storage.local_path if self.storage.is_local else None
            with tempfile.TemporaryDirectory(prefix=".making-", dir=beside) as scratch:
                made = Path(scratch) / "made"
                made.mkdir()
                produce(made)
                _move_in(made, folder)
            folder.write_text(COMPLETE, "")
        return folder

    def folder(self, name: str, description: Mapping[str, Any]) -> Storage:
        return self.storage.child(f"{name}-{stage_key(name, description)[:16]}")


def stage_key(name: str, description: Mapping[str, Any]) -> str:
    """SHA-256 of a stage's name and description."""
    return digest({"stage": name, **description})


def _move_in(made: Path, folder: Storage) -> None:
    for item in sorted(made.iterdir()):
        if folder.is_local:
            folder.delete(item.name)
            item.rename(folder.local_path / item.name)
        elif item.is_dir():
            folder.upload(item, item.name)
        else:
            with folder.filesystem.open_output_stream(f"{folder.path}/{item.name}", compression=None) as stream:
                stream.write(item.read_bytes())

"""The prepared comments or pairs of a job, from the stage store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detox.classifier.scorer import load_toxicity
from detox.data.pairs import prepare as pairs
from detox.data.pairs.prepared import FACTS
from detox.data.pairs.settings import PairSettings
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


def pairs_stage(settings: PairSettings, seed: int, storage: Storage) -> Storage:
    """The prepared pairs: the folder that `settings.source` names, or the stage store's, made now if need be.

    Raises:
        ValueError, OSError: see `detox.data.pairs.prepare.prepare_pairs`; or a choice that a prepared folder leaves no
            more.
    """
    folders = [Storage(source) for source in settings.source]
    if len(folders) == 1 and folders[0].exists(FACTS):
        if settings.limit or settings.languages:
            raise ValueError(
                f"{folders[0].uri} holds prepared pairs, which are taken whole: leave out --data.limit and "
                "--data.languages, or name the raw source"
            )
        return folders[0]
    scorer = settings.cleaning.scorer
    description = pairs.fingerprint(settings, seed)

    def produce(folder: Path) -> None:
        pairs.prepare_pairs(settings, folder, seed, load_toxicity(scorer) if scorer else None)

    return StageStore(storage).run("pairs", description, produce)

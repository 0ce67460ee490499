"""The prepared comments, pairs or examples of a job, from the stage store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detox.classifier.scorer import load_toxicity
from detox.data.examples import prepare as examples
from detox.data.examples.settings import ExampleSettings
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


def examples_stage(settings: ExampleSettings, seed: int, storage: Storage) -> Storage:
    """The prepared examples: the folder that `settings.source` names, or the stage store's, made now if need be.

    Raises:
        ValueError, OSError: see `detox.data.examples.prepare.prepare_examples`.
    """
    if is_prepared(settings):
        return Storage(settings.source[0])

    def produce(folder: Path) -> None:
        examples.prepare_examples(settings, folder, seed)

    return StageStore(storage).run("examples", examples.fingerprint(settings, seed), produce)


def is_prepared(settings: ExampleSettings) -> bool:
    """Whether the source is a folder of prepared examples."""
    return len(settings.source) == 1 and Storage(settings.source[0]).exists(examples.FACTS)


def refuse_other_choices(settings: PairSettings, folder: Storage) -> None:
    """Raises:
    ValueError: a choice that is neither the default nor what the pairs in `folder` were prepared with.
    """
    wanted, usual = settings.model_dump(mode="json"), PairSettings().model_dump(mode="json")
    prepared = json.loads(folder.read_text(FACTS))["settings"]
    other = [name for name in CHOICES if wanted[name] != usual[name] and wanted[name] != prepared.get(name)]
    if other:
        raise ValueError(
            f"{folder.uri} holds prepared pairs, which are taken whole: leave out what begins with "
            f"{' or '.join('--data.' + name.replace('_', '-') for name in other)}, or name the raw source"
        )


CHOICES = ("limit", "languages", "lang", "cleaning", "difficulty", "split", "judge_share")
"""Settings of pairs that are made when they are prepared."""


def pairs_stage(settings: PairSettings, seed: int, storage: Storage) -> Storage:
    """The prepared pairs: the folder that `settings.source` names, or the stage store's, made now if need be.

    Raises:
        ValueError, OSError: see `detox.data.pairs.prepare.prepare_pairs`; or a choice that a prepared folder leaves no
            more.
    """
    folders = [Storage(source) for source in settings.source]
    if len(folders) == 1 and folders[0].exists(FACTS):
        refuse_other_choices(settings, folders[0])
        return folders[0]
    scorer = settings.cleaning.scorer
    description = pairs.fingerprint(settings, seed)

    def produce(folder: Path) -> None:
        pairs.prepare_pairs(settings, folder, seed, load_toxicity(scorer) if scorer else None)

    return StageStore(storage).run("pairs", description, produce)

"""The prepared comments, pairs or examples of a job, from the stage store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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
        ValueError, OSError: see `detox.data.examples.prepare.prepare_examples`; or a choice that a prepared folder
            leaves no more.
    """
    if is_prepared(settings):
        folder = Storage(settings.source[0])
        prepared = json.loads(folder.read_text(examples.FACTS))["settings"]
        refuse_other_choices(settings, prepared, EXAMPLE_CHOICES, folder, "examples")
        return folder

    def produce(folder: Path) -> None:
        examples.prepare_examples(settings, folder, seed)

    return StageStore(storage).run("examples", examples.fingerprint(settings, seed), produce)


def is_prepared(settings: PairSettings | ExampleSettings) -> bool:
    """Whether the one source is a folder of prepared pairs or examples, which are taken as they are."""
    facts = FACTS if isinstance(settings, PairSettings) else examples.FACTS
    return len(settings.source) == 1 and Storage(settings.source[0]).exists(facts)


def refuse_other_choices(
    settings: PairSettings | ExampleSettings,
    prepared: Mapping[str, Any],
    choices: Sequence[str],
    folder: Storage,
    what: str,
) -> None:
    """Raises:
    ValueError: a choice that is neither the default nor what was prepared with.

    Args:
        prepared: the settings that `folder` was prepared with.
        choices: those that are made when it is.
    """
    wanted, usual = settings.model_dump(mode="json"), type(settings)().model_dump(mode="json")
    other = [name for name in choices if wanted[name] != usual[name] and wanted[name] != prepared.get(name)]
    if other:
        raise ValueError(
            f"{folder.uri} holds prepared {what}, which are taken whole: leave out what begins with "
            f"{' or '.join('--data.' + name.replace('_', '-') for name in other)}, or name the raw source"
        )


PAIR_CHOICES = ("limit", "languages", "lang", "cleaning", "difficulty", "split", "judge_share")
EXAMPLE_CHOICES = ("limit", "prompt_column", "chosen_column", "rejected_column")
"""Without `ratios`, which recipes choose for the raw source."""


def pairs_stage(settings: PairSettings, seed: int, storage: Storage) -> Storage:
    """The prepared pairs: the folder that `settings.source` names, or the stage store's, made now if need be.

    Raises:
        ValueError, OSError: see `detox.data.pairs.prepare.prepare_pairs`; or a choice that a prepared folder leaves no
            more.
    """
    if is_prepared(settings):
        folder = Storage(settings.source[0])
        prepared = json.loads(folder.read_text(FACTS))["settings"]
        refuse_other_choices(settings, prepared, PAIR_CHOICES, folder, "pairs")
        return folder
    scorer = settings.cleaning.scorer
    description = pairs.fingerprint(settings, seed)

    def produce(folder: Path) -> None:
        pairs.prepare_pairs(settings, folder, seed, load_toxicity(scorer) if scorer else None)

    return StageStore(storage).run("pairs", description, produce)

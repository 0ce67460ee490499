"""A run is a complete, frozen, typed config; a recipe is a function that returns one.

Every config of the project derives from `Config`. The groups that all training configs carry (`RunSettings`,
`ScalingSettings`, `TrackingSettings`) live here; the others live beside the code that reads them. Importing this
module imports neither torch nor transformers, so a job's `--help` is instant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Config(BaseModel):
    """Frozen, typed, closed: an unknown key or a wrong type is an error before any work starts."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


ConfigT = TypeVar("ConfigT", bound=Config)


class RunSettings(Config):
    """Where a run lives and how it starts again. Only `seed` affects its result."""

    storage: str = "runs"
    """Folder or URI (`s3://…`, `gs://…`) that holds the run directories."""
    name: str = ""
    """Name of the run directory; empty: `<job>-<recipe>-s<seed>`. Never a time stamp: the same command resumes."""
    seed: int = 42
    """Seeds Python, NumPy and torch, the split and the order of the batches."""
    seeds: tuple[int, ...] = ()
    """Several seeds: a run for each, then a summary with mean and interval."""
    resume: Literal["auto", "never", "must"] = "auto"
    """`auto`: go on where the run stopped, or start; `never`: refuse an existing run; `must`: refuse a new one."""


class ScalingSettings(Config):
    """Ray Train's `ScalingConfig`: how many workers, on what."""

    num_workers: int = Field(default=1, ge=0)
    """Training processes; 0 trains inside the driver (local mode, for debugging and unit tests)."""
    min_workers: int = Field(default=0, ge=0)
    """Elastic training: the least number of workers to go on with; 0: always exactly `num_workers`."""
    use_gpu: bool = False
    """One GPU a worker."""
    resources_per_worker: dict[str, float] = Field(default_factory=dict)
    """Ray resources a worker, for example `CPU 4`; empty: Ray's default."""
    threads_per_worker: int = Field(default=1, ge=1)
    """torch CPU threads a worker. Fixed, because another number gives other (equally good) weights."""
    max_failures: int = Field(default=3, ge=-1)
    """How often a dead worker is replaced before the run gives up; -1: always."""


class WandbSettings(Config):
    project: str = ""
    """Weights & Biases project; empty: not used. Without an API key the run is written offline."""
    entity: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()


class TrackingSettings(Config):
    """Where metrics go beside `metrics.jsonl`, which is always written."""

    wandb: WandbSettings = WandbSettings()
    tensorboard: bool = False
    log_every: int = Field(default=10, ge=1)
    """Optimizer steps between two lines of training metrics."""


class JobConfig(Config):
    """What the config of every job has."""

    run: RunSettings = RunSettings()
    tracking: TrackingSettings = TrackingSettings()


NOT_RESULT_AFFECTING: tuple[str, ...] = (
    "run.storage",
    "run.name",
    "run.seeds",
    "run.resume",
    "tracking",
    "scaling.max_failures",
    "scaling.min_workers",
    "remote.limits",
    "workers",
)
"""Settings that may differ between two runs of one name: they cannot change a figure."""


def flatten(config: Config | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Config as `{"dotted.key": value}`; tuples and lists stay whole values."""
    tree = config.model_dump(mode="json") if isinstance(config, Config) else config
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def override(config: ConfigT, patch: Mapping[str, Any]) -> ConfigT:
    """A new config with the dotted keys of `patch` replaced: the one way in which a config is changed.

    A key may go through a list by position (`stages.0.lr`); a list whose length changes is given whole.

    Raises:
        ValueError: a key that the config does not have, or a value of the wrong type or range.
    """
    tree = config.model_dump()
    for dotted, value in patch.items():
        parts = dotted.split(".")
        node: Any = tree
        for depth, part in enumerate(parts):
            node = _descend(node, part, dotted, parts[:depth]) if depth < len(parts) - 1 else node
        _descend(node, parts[-1], dotted, parts[:-1])
        if isinstance(node, tuple | list):
            raise ValueError(f"config key {dotted!r} replaces an element of a list: give the whole list instead")
        node[parts[-1]] = value.model_dump() if isinstance(value, Config) else value
    return validated(type(config), tree)


def _descend(node: Any, part: str, dotted: str, above: list[str]) -> Any:
    if isinstance(node, dict) and part in node:
        return node[part]
    if isinstance(node, tuple | list) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    known = ", ".join(sorted(node)) if isinstance(node, dict) else f"positions 0 to {len(node) - 1}" if node else "none"
    raise ValueError(f"config key {dotted!r} does not exist: under {'.'.join(above) or 'the top'} there are {known}")


def validated(kind: type[ConfigT], tree: Mapping[str, Any]) -> ConfigT:
    """`kind` from a plain tree, with pydantic's findings as one readable `ValueError`."""
    try:
        return kind.model_validate(_listless(tree))
    except ValidationError as error:
        raise ValueError(explain_validation_error(kind.__name__, error)) from None


def _listless(value: Any) -> Any:
    """Lists as tuples, so that JSON and Python spell a config alike."""
    if isinstance(value, Mapping):
        return {key: _listless(item) for key, item in value.items()}
    return tuple(_listless(item) for item in value) if isinstance(value, list | tuple) else value


def explain_validation_error(name: str, error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or name
        given = "" if item["type"] in {"missing", "extra_forbidden"} else f" (given: {item['input']!r})"
        what = "is not a setting of this config" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"{where}: {what}{given}")
    return f"{name} does not hold together:\n  " + "\n  ".join(lines)


def to_json(config: Config) -> str:
    return json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def from_file(kind: type[ConfigT], path: Path) -> ConfigT:
    """A config from the JSON file that a run, or a sweep, wrote.

    Raises:
        ValueError: not JSON, or not a config of this kind.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a JSON config file: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds a JSON {type(tree).__name__}, and a config file holds an object")
    return validated(kind, {key: value for key, value in tree.items() if not key.startswith("_")})


def identity(config: Config) -> dict[str, Any]:
    """The flat settings that can change a result."""
    return {key: value for key, value in flatten(config).items() if not _is_free(key)}


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(free + ".") for free in NOT_RESULT_AFFECTING)


def differences(old: Config | Mapping[str, Any], new: Config) -> Iterator[str]:
    """One readable line for each result-affecting setting in which two configs differ."""
    before = {k: v for k, v in flatten(old).items() if not _is_free(k)}
    after = identity(new)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield f"{key}: {before.get(key)!r} there, {after.get(key)!r} here"


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value (or a config), canonical: keys sorted, no white space."""
    plain = value.model_dump(mode="json") if isinstance(value, Config) else value
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()

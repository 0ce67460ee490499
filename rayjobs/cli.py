"""The command line of every job: `python -m rayjobs.<job> <recipe | config.json> [--dotted.key value …]`.

`--dry-run` prints the resolved config and stops; `--help` after a recipe lists every setting with its default.
A bad setting ends with exit status 2 and a sentence, a failed run with 1, before or without a stack trace; set
`DETOX_TRACEBACK=1` to see it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from detox.runs.config import JobConfig, from_file, override, to_json

JobConfigT = TypeVar("JobConfigT", bound=JobConfig)
Summary = dict[str, Any]


def main(
    job: str,
    description: str,
    recipes: Mapping[str, Callable[[], JobConfigT]],
    run: Callable[[JobConfigT, str], Summary],
    argv: Sequence[str] | None = None,
) -> None:
    """Parse, then run the job once, or once a seed.

    Args:
        job: the module's name below `rayjobs`.
        description: the module's docstring; heads `--help`.
        recipes: functions that return a complete config, by name.
        run: does the work; takes the config and the recipe's name, returns the final figures.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    dry_run = "--dry-run" in words
    words = [word for word in words if word != "--dry-run"]
    try:
        recipe, config = parse(job, description, recipes, words)
        if dry_run:
            print(to_json(config), end="")
            return
        if config.run.seeds:
            from rayjobs.seeds import run_seeds

            run_seeds(job, config, recipe, run)
        else:
            run(config, recipe)
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        _give_up(error)


def parse(
    job: str, description: str, recipes: Mapping[str, Callable[[], JobConfigT]], words: list[str]
) -> tuple[str, JobConfigT]:
    """The recipe's name and the config after its overrides; a config file stands for a recipe of its stem's name.

    Raises:
        ValueError: an unknown recipe, or a config file that does not hold together.
    """
    import tyro

    configs = {name: recipe() for name, recipe in recipes.items()}
    if words and words[0].endswith(".json"):
        path = Path(words[0])
        if not path.is_file():
            raise ValueError(f"config file {path} does not exist")
        recipe = recipe_of(path)
        kind = type(configs.get(recipe) or next(iter(configs.values())))
        configs, words = {recipe: from_file(kind, path)}, [recipe, *words[1:]]
    elif words and not words[0].startswith("-") and words[0] not in configs:
        raise ValueError(f"{job} has no recipe {words[0]!r}: choose one of {', '.join(configs)}, or give a config file")
    elif not words:
        print(f"{job} needs a recipe: {', '.join(configs)}\n", file=sys.stderr)
        words = ["--help"]
    if len(configs) == 1 and words[0] in configs:  # tyro makes no subcommand of a single choice
        name = words[0]
        parsed = tyro.cli(type(configs[name]), default=configs[name], args=words[1:], **_style(job, description))
        return name, parsed
    named = {name: (_first_line(recipes[name].__doc__), config) for name, config in configs.items()}
    parsed = tyro.extras.overridable_config_cli(named, args=words, **_style(job, description))
    return words[0], parsed


def recipe_of(path: Path) -> str:
    """The recipe that a run's `config.json` records, or the file's own name."""
    import json

    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("_recipe") or path.stem)
    except (ValueError, AttributeError):
        return path.stem  # `from_file` says what is wrong with it


def _style(job: str, description: str) -> dict[str, Any]:
    import tyro

    # every setting takes a value, `--scaling.use-gpu False` too
    return {
        "prog": f"python -m rayjobs.{job}",
        "description": description,
        "config": (tyro.conf.FlagConversionOff,),
    }


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def seeded(config: JobConfigT, seed: int, name: str) -> JobConfigT:
    """The same config for one seed of several."""
    return override(config, {"run.seed": seed, "run.seeds": (), "run.name": name})


def _give_up(error: Exception) -> NoReturn:
    if os.environ.get("DETOX_TRACEBACK"):
        raise error
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(2 if isinstance(error, ValueError) else 1)

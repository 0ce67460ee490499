"""`run.seeds`: a run a seed, then a summary with mean and interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from scipy import stats

from detox.runs.config import JobConfig
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage
from rayjobs.cli import Summary, seeded

JobConfigT = TypeVar("JobConfigT", bound=JobConfig)


def run_seeds(job: str, config: JobConfigT, recipe: str, run: Callable[[JobConfigT, str], Summary]) -> Summary:
    """Run once a seed, each in a directory of its own, and write `<name>-seeds/summary.json`.

    Raises:
        ValueError: a seed given twice.
    """
    seeds = config.run.seeds
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"run.seeds must differ from each other, were {seeds}")
    base = config.run.name or f"{job}-{recipe}".replace("_", "-")
    summaries = [run(seeded(config, seed, f"{base}-s{seed}"), recipe) for seed in seeds]
    together = RunDirectory(Storage(config.run.storage).child(f"{base}-seeds"))
    summary = {"seeds": list(seeds), **aggregate(summaries)}
    together.write_json("summary.json", summary)
    print(f"{len(seeds)} seeds: mean and 95 % interval of each figure in {together.uri}/summary.json", flush=True)
    return summary


def aggregate(summaries: Sequence[Mapping[str, Any]]) -> Summary:
    """Mean and 95 % interval (Student's t) over runs of each figure that all of them have."""
    figures: Summary = {}
    shared = set.intersection(*(set(summary) for summary in summaries))
    for key in sorted(shared):
        values = [summary[key] for summary in summaries]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            continue
        mean = sum(values) / len(values)
        figures[key] = {"mean": mean, "low": mean, "high": mean, "values": values}
        if len(values) > 1:
            spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
            half = float(stats.t.ppf(0.975, len(values) - 1)) * spread
            figures[key] |= {"low": mean - half, "high": mean + half}
    return figures

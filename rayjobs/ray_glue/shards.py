"""Ray Data as the `finished_shards` of `corpus_job`: an actor pool whose processes load what they work with once.

Only shard numbers travel through Ray; rows go from and to the run directory, so the object store stays empty and the
order in which shards are done does not matter.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import ray.data

from detox.classifier.corpus import Plan, Worker, finish_shard
from detox.runs.storage import Storage

CPUS = 0.5
"""Of a worker in Ray's books: with 1 each, two workers on two CPUs leave none to Ray Data's own tasks, and it hangs."""


class ShardWorker:
    """One process of the pool: works on the shards that it is given.

    Args:
        load: makes what it works with; picklable.
    """

    def __init__(self, run_uri: str, plan: Plan, load: Callable[[], Worker]) -> None:
        self._run, self._plan, self._load = Storage(run_uri), plan, load
        self._worker: Worker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Rows done, or the exception, which Ray Data would otherwise put into words of its own.

        The model is loaded here and not in `__init__`, since Ray Data starts an actor that fails there again and again.
        """
        try:
            if self._worker is None:
                self._worker = self._load()
            rows = finish_shard(self._run, self._plan, self._worker, int(row["shard"]))
            return {"outcome": pickle.dumps((rows, None))}
        except Exception as error:
            return {"outcome": pickle.dumps((0, error))}


def check_room(workers: int, use_gpu: bool) -> None:
    """Refuse workers that a Ray of our own has no room for; a cluster may grow.

    Raises:
        ValueError: names the resource, what is wanted and what there is.
    """
    there = ray.cluster_resources()
    for resource in ("CPU", "GPU") if use_gpu else ("CPU",):
        if workers > there.get(resource, 0.0) and not os.environ.get("RAY_ADDRESS"):
            raise ValueError(
                f"--workers {workers} needs as many {resource}s, and this machine has {there.get(resource, 0.0):g}: "
                "lower --workers (0: no Ray), or set RAY_ADDRESS to a larger cluster"
            )


def finish_on_ray(
    run: Storage, plan: Plan, shards: Sequence[int], load: Callable[[], Worker], workers: int, use_gpu: bool
) -> Iterator[int]:
    """Finish shards with `workers` processes; yields the rows of each as it is done.

    An exception of a worker comes out as it was raised; a worker that dies is replaced, and its shard done again.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # else its execution plans go to the job's output
    # a block a shard: Ray Data otherwise packs small rows into one block, which one process works off
    dataset = ray.data.from_items([{"shard": number} for number in shards], override_num_blocks=len(shards))
    dataset.context.enable_progress_bars = False
    done = dataset.map(
        ShardWorker,  # type: ignore[arg-type]  # Ray's annotation knows functions only
        fn_constructor_args=(run.uri, plan, load),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(shards))),
        num_cpus=CPUS,
        num_gpus=1 if use_gpu else None,
        scheduling_strategy="SPREAD",
    )
    for row in done.iter_rows():
        rows, error = pickle.loads(row["outcome"])
        if error is not None:
            raise error
        yield rows

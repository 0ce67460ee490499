"""Ray Data as the `map_shards` of `detox.data.prepare`: shards cleaned by all CPUs, given back in their order.

Shards travel as file names and come back as a few numbers a row, so the object store stays small and memory bounded,
whatever the size of the corpus. Every worker imports this module: it imports no more than it needs.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import ray
import ray.data

Item = TypeVar("Item")
Result = TypeVar("Result")
LEAST_ITEMS = 3
"""Fewer are worked off in this process: Ray's take seconds to start, a shard takes less than one."""


class RayMap:
    """`map` over Ray Data: results in the order of the items.

    Args:
        workers: processes at most; 0: one a CPU of the cluster.
        everywhere: False keeps the work on this node, for items that name files which other nodes do not see.
    """

    def __init__(self, workers: int = 0, everywhere: bool = True) -> None:
        self.workers, self.everywhere = workers, everywhere

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Lazy: the work runs while results are taken. An exception of `function` comes out as it was raised."""
        if len(items) < LEAST_ITEMS:
            yield from map(function, items)
            return
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # else its execution plans go to the job's output
        rows = [{"item": pickle.dumps(item)} for item in items]
        # a block an item: Ray Data otherwise packs small rows into one block, which one process works off
        dataset = ray.data.from_items(rows, override_num_blocks=max(1, len(rows)))
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        done = dataset.map(partial(_apply, function), **self._placement())
        for row in done.iter_rows():
            value, error = pickle.loads(row["outcome"])
            if error is not None:
                raise error
            yield value

    def _placement(self) -> dict[str, Any]:
        """Where the tasks may run. A head that Ray has no CPU of runs drivers, and what is pinned to it, all the
        same: its tasks then ask for none, as many at a time as it has."""
        if self.everywhere:
            return {"compute": ray.data.TaskPoolStrategy(size=self.workers or None)}
        here = ray.get_runtime_context().get_node_id()
        has_cpus = any(node["NodeID"] == here and node["Resources"].get("CPU") for node in ray.nodes())
        at_once = self.workers or (None if has_cpus else os.cpu_count())
        return {
            "compute": ray.data.TaskPoolStrategy(size=at_once),
            "label_selector": {"ray.io/node-id": here},
            "num_cpus": None if has_cpus else 0,
        }


def _apply(function: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    """The result, or the exception, which Ray Data would otherwise put into words of its own."""
    try:
        return {"outcome": pickle.dumps((function(pickle.loads(row["item"])), None))}
    except Exception as error:
        return {"outcome": pickle.dumps((None, error))}

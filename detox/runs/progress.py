"""Progress of a run for people: one live line on a terminal, plain lines in a log.

The driver reads it from the run's `metrics.jsonl`, which the worker writes anyway, so it needs no channel of its own
and looks the same locally, on a cluster and in a submitted job.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from detox.runs.rundir import RunDirectory
from detox.runs.tracking import read_metrics


class Follower:
    """Shows new events of a run while the block runs.

    Args:
        metric: validation figure to show, for example `roc_auc/macro`.
        every: seconds between two looks.
        plain_every: least seconds between two training lines in a log.
    """

    def __init__(self, run: RunDirectory, metric: str, every: float = 1.0, plain_every: float = 5.0) -> None:
        self._run, self._metric = run, metric
        self._every = every if run.storage.is_local else max(every, 10.0)
        self._plain_every, self._said = plain_every, 0.0
        self._seen = len(read_metrics(run))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._console = Console(highlight=False)
        self._bar = _bar(self._console) if self._console.is_terminal else None

    def __enter__(self) -> Follower:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting workers", total=None, what="")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        if self._bar is not None:
            self._bar.stop()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._look()

    def _look(self) -> None:
        events = read_metrics(self._run)
        if len(events) < self._seen:  # a resumed run dropped what it will write again
            self._seen = len(events)
        for event in events[self._seen :]:
            self._show(event)
        self._seen = len(events)

    def _show(self, event: dict[str, Any]) -> None:
        if event["event"] == "validation" and event.get(self._metric) is not None:
            what = f"validation {self._metric} {event[self._metric]:.4f}"
        elif event["event"] == "train" and event.get("loss") is not None:
            what = f"loss {event['loss']:.4f} · {event['tokens_per_second']:,.0f} tokens/s"
        else:
            return
        if self._bar is not None:
            if event["event"] == "validation":
                self._console.print(f"epoch {event['epoch']:.2f} · {what}")
            self._bar.update(
                self._task, description="training", completed=event["step"], total=event["max_steps"], what=what
            )
        elif event["event"] == "validation" or time.monotonic() - self._said >= self._plain_every:
            self._said = time.monotonic()
            print(f"step {event['step']}/{event['max_steps']} · epoch {event['epoch']:.2f} · {what}", flush=True)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"), console=console,
    )  # fmt: skip

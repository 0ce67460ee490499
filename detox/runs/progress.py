"""Progress of a run for people: one live line on a terminal, plain lines in a log.

The driver reads it from the run's `metrics.jsonl`, which the worker writes anyway, so it needs no channel of its own
and looks the same locally, on a cluster and in a submitted job.
"""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from detox.runs.rundir import RunDirectory
from detox.runs.tracking import read_metrics

SAID = "progress.txt"
"""In the run directory: what `say` wrote."""


SHOWN = {
    "loss": "loss {:.4f}",
    "reward": "reward {:.4f}",
    "kl": "KL {:.2f} nats",
    "tokens_per_second": "{:,.0f} tokens/s",
}
"""Of a training event, where it has them."""


def say(run: RunDirectory, line: str) -> None:
    """A line for whoever follows the run; the process that works calls this, wherever it is."""
    before = run.storage.read_text(SAID) if run.storage.exists(SAID) else ""
    run.storage.write_text(SAID, f"{before}{line}\n")


REJECTS = "rejects.jsonl"
"""In the run directory: what was given and could not be used, with the reason."""


def keep_rejects(run: RunDirectory, rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """Write what is left out to the run directory, and say so if there is any.

    Args:
        rows: each with its `reason`.
        what: names them in the plural, for example "texts that the model cannot read".
    """
    run.storage.write_text(REJECTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    if rows:
        say(run, f"{len(rows):,} {what} are left out: {run.uri}/{REJECTS}")


class _Watcher(ABC):
    """Looks at a run every so many seconds while the block runs, and once more at its end."""

    def __init__(self, run: RunDirectory, every: float) -> None:
        self._run = run
        self._every = every if run.storage.is_local else max(every, 10.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._look()

    @abstractmethod
    def _look(self) -> None:
        """Show what is new."""


class Listener(_Watcher):
    """Prints what is said (`say`) while the block runs."""

    def __init__(self, run: RunDirectory, every: float = 1.0) -> None:
        super().__init__(run, every)
        self._seen = len(self._lines())

    def _lines(self) -> list[str]:
        return self._run.storage.read_text(SAID).splitlines() if self._run.storage.exists(SAID) else []

    def _look(self) -> None:
        lines = self._lines()
        for line in lines[self._seen :]:
            print(line, flush=True)
        self._seen = len(lines)


class Follower(_Watcher):
    """Shows new events of a run while the block runs.

    Args:
        metric: validation figure to show, for example `roc_auc/macro`.
        every: seconds between two looks.
        plain_every: least seconds between two training lines in a log.
    """

    def __init__(self, run: RunDirectory, metric: str, every: float = 1.0, plain_every: float = 5.0) -> None:
        super().__init__(run, every)
        self._metric = metric
        self._plain_every, self._said = plain_every, 0.0
        self._seen = len(read_metrics(run))
        self._console = Console(highlight=False)
        self._bar = _bar(self._console) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting workers", total=None, what="")
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._bar is not None:
            self._bar.stop()

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
        elif event["event"] == "train":
            shown = [form.format(event[key]) for key, form in SHOWN.items() if event.get(key) is not None]
            what = " · ".join(shown)
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
            epoch = f" · epoch {event['epoch']:.2f}" if "epoch" in event else ""
            print(f"step {event['step']}/{event['max_steps']}{epoch} · {what}", flush=True)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"), console=console,
    )  # fmt: skip

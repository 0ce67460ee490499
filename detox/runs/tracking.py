"""Where a run's metrics go: always `metrics.jsonl`, and Weights & Biases or TensorBoard by config.

These two write to local folders, `wandb/` and `tensorboard/` of the run. Those of a run on an object store are written
to a scratch folder and uploaded when the tracker is closed.
"""

from __future__ import annotations

import json
import math
import netrc
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detox.runs.config import TrackingSettings
from detox.runs.rundir import RunDirectory

METRICS = "metrics.jsonl"
SECONDS_BETWEEN_WRITES = 10.0
"""On an object store, which cannot append, `metrics.jsonl` is written anew this often, and at each validation."""


class Tracker:
    """Writes events of one run; one process a run holds it.

    Args:
        run: the run directory.
        settings: what beside `metrics.jsonl` to write to.
        config: the resolved config as plain values, shown by W&B.
        resume_step: events of a later step are dropped: the run goes on from here, and writes them again.
    """

    def __init__(
        self, run: RunDirectory, settings: TrackingSettings, config: Mapping[str, Any], resume_step: int | None = None
    ) -> None:
        self._storage = run.storage
        self._lines = _kept_lines(run, resume_step)
        self._scratch = None if run.storage.is_local else tempfile.TemporaryDirectory(prefix="detox-tracking-")
        folder = Path(self._scratch.name) if self._scratch else run.storage.local_path
        self._wandb = _start_wandb(run.name, folder, settings, config) if settings.wandb.project else None
        self._tensorboard = _start_tensorboard(folder) if settings.tensorboard else None
        self._flush()

    def log(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """One event: its name (`train`, `validation`, …), the optimizer step, and its figures. A figure that is
        not finite is written as null, since JSON has no NaN."""
        plain = {key: _plain(value) for key, value in values.items()}
        line = {"event": event, "step": step, "time": round(time.time(), 3), **plain}
        self._lines.append(json.dumps(line, ensure_ascii=False, allow_nan=False))
        self._write(at_once=event == "validation")
        numbers = {f"{event}/{k}": v for k, v in plain.items() if isinstance(v, int | float)}
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)
        if self._tensorboard is not None:
            for key, value in numbers.items():
                self._tensorboard.add_scalar(key, value, step)

    def close(self) -> None:
        if not self._storage.is_local:
            self._flush()
        if self._wandb is not None:
            self._wandb.finish()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._scratch is not None:
            self._storage.add_files(Path(self._scratch.name))
            self._scratch.cleanup()

    def _write(self, at_once: bool) -> None:
        if self._storage.is_local:
            with (self._storage.local_path / METRICS).open("a", encoding="utf-8") as file:
                file.write(self._lines[-1] + "\n")
        elif at_once or time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self._flush()

    def _flush(self) -> None:
        self._storage.write_text(METRICS, "".join(line + "\n" for line in self._lines))
        self._written = time.monotonic()


def read_metrics(run: RunDirectory) -> list[dict[str, Any]]:
    """The events of a run, oldest first; none before the first is written."""
    return [json.loads(line) for line in _kept_lines(run, None)]


def _kept_lines(run: RunDirectory, resume_step: int | None) -> list[str]:
    if not run.storage.exists(METRICS):
        return []
    kept = []
    for line in run.storage.read_text(METRICS).splitlines():
        try:
            step = json.loads(line)["step"]
        except (json.JSONDecodeError, KeyError):
            continue  # the last line of a process that was killed while it wrote
        if resume_step is None or step <= resume_step:
            kept.append(line)
    return kept


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _start_wandb(name: str, folder: Path, settings: TrackingSettings, config: Mapping[str, Any]) -> Any:
    import wandb

    chosen = settings.wandb
    return wandb.init(
        project=chosen.project,
        entity=chosen.entity or None,
        group=chosen.group or None,
        tags=list(chosen.tags),
        name=name,
        id=name,
        resume="allow",
        config=dict(config),
        dir=str(folder),
        mode=None if os.environ.get("WANDB_MODE") or _has_wandb_key() else "offline",  # None: as the user set it
        settings=wandb.Settings(console="off", silent=True),
    )


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def _start_tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(log_dir=str(folder / "tensorboard"))

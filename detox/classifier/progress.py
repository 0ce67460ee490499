"""What a worker writes down while it trains: rank 0's events, through the run's tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from detox.runs.config import JobConfig
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage
from detox.runs.tracking import Tracker


def tracker_for(run_uri: str, config: JobConfig, resume_from: Path | None) -> Tracker:
    """The run's tracker, its metrics cut back to the checkpoint that the run goes on from."""
    step = TrainerState.load_from_json(str(resume_from / "trainer_state.json")).global_step if resume_from else 0
    return Tracker(RunDirectory(Storage(run_uri)), config.tracking, config.model_dump(mode="json"), resume_step=step)


class TrackerCallback(TrainerCallback):
    """Hands the Trainer's log lines to a tracker, as `train` and `validation` events."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs: dict[str, Any] = kwargs["logs"]
        place = {"epoch": round(state.epoch or 0.0, 4), "max_steps": state.max_steps}
        validation = {key.removeprefix("eval_"): value for key, value in logs.items() if key.startswith("eval_")}
        if validation:
            self._tracker.log("validation", state.global_step, validation | place)
        elif "loss" in logs:
            self._tracker.log("train", state.global_step, logs | place)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tracker.close()

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
    """Hands the Trainer's log lines to a tracker, as `train` and `validation` events.

    Args:
        closes: close the tracker when training ends; a curriculum trains several times.
    """

    def __init__(self, tracker: Tracker, closes: bool = True) -> None:
        self._tracker, self._closes = tracker, closes
        self._before = 0
        self._stage: dict[str, Any] = {}

    def start_stage(self, name: str, steps_before: int) -> None:
        """Events from now on belong to this stage of a curriculum; steps are counted over all stages."""
        self._before, self._stage = steps_before, {"stage": name}

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs: dict[str, Any] = kwargs["logs"]
        step = self._before + state.global_step
        place = {"epoch": round(state.epoch or 0.0, 4), "max_steps": self._before + state.max_steps, **self._stage}
        validation = {key.removeprefix("eval_"): value for key, value in logs.items() if key.startswith("eval_")}
        if validation:
            self._tracker.log("validation", step, validation | place)
        elif "loss" in logs:
            self._tracker.log("train", step, logs | place)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._closes:
            self._tracker.close()

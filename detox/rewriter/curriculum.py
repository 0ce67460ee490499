"""S2's CurriculumSeq2SeqTrainer: a controller over one `Seq2SeqTrainer` that takes the same model through stages.

Each stage loads its pairs, sets learning rate and schedule (a new optimizer, as in S2), trains, evaluates, logs, and
leaves its weights under the stage's name. Model instance, tokenizer, adapters, loss and collator stay the same.

What a stage leaves goes to the stage store under the hash of all that made it: model, data, the stage and those before
it, seed, ranks, precision, batches. So an interrupted curriculum goes on with the stage it was in, at the step of its
last checkpoint, and another schedule that begins with the same stages does not train them again.

Shapes: P pairs.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, set_seed

from detox.classifier.batching import MicroBatchSampler
from detox.data.pairs.difficulty import LEVELS
from detox.data.pairs.prepared import PairRow
from detox.rewriter.batches import CompetenceSampler, TokenisedPairs
from detox.rewriter.readable import Unread
from detox.rewriter.settings import CurriculumSettings, StageSettings, TrainRewriterConfig
from detox.rewriter.training import RewriterTrainer
from detox.runs.config import digest
from detox.runs.rundir import COMPLETE
from detox.runs.stages import StageStore
from detox.runs.storage import Storage

CODE_VERSION = 3
"""To be raised with every change that alters what a stage of the same settings leaves."""
WEIGHTS, FIGURES, MARK = "trainable.safetensors", "figures.json", "stage.json"

Figures = dict[str, float]


class Stage(NamedTuple):
    """One stage with what identifies it."""

    number: int
    settings: StageSettings
    rows: np.ndarray
    """Positions of its pairs among the training pairs."""
    description: dict[str, Any]
    """All that makes its outcome."""

    @property
    def name(self) -> str:
        """`1-easy`: place in the schedule, and level."""
        return f"{self.number + 1}-{self.settings.stage}"


@runtime_checkable
class StageListener(Protocol):
    """A callback that wants to know which stage begins, and how many optimizer steps those before it took."""

    def start_stage(self, name: str, steps_before: int) -> None: ...


class CurriculumSeq2SeqTrainer:
    """Takes one trainer's model through the stages.

    Args:
        trainer: holds model, arguments, loss and callbacks.
        pairs: all training pairs.
        habit: texts as their own rewrite, for a `copy` stage.
        stages: of `plan`.
        store: finished stages of the storage.
        evaluate: figures of the model as it is at the end of a stage, the same on every rank.
    """

    def __init__(
        self,
        trainer: RewriterTrainer,
        pairs: TokenisedPairs,
        habit: TokenisedPairs,
        stages: Sequence[Stage],
        store: StageStore,
        config: TrainRewriterConfig,
        evaluate: Callable[[], Figures],
    ) -> None:
        self._trainer, self._pairs, self._habit = trainer, pairs, habit
        self._stages, self._store = stages, store
        self._config, self._evaluate = config, evaluate
        self._mark = StageMark()
        self._found: list[Storage] | None = None

    def steps_done(self, resume_from: Path | None) -> int:
        """Optimizer steps, over all stages, after which `train(resume_from)` goes on."""
        finished = self._finished()
        if len(finished) < len(self._stages):
            checkpoint = _checkpoint_of(self._stages[len(finished)], resume_from)
            if checkpoint is not None:
                return int(json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["step"])
        return sum(int(json.loads(folder.read_text(FIGURES))["steps"]) for folder in finished)

    def listen(self, callbacks: Sequence[TrainerCallback]) -> None:
        """Add callbacks to the trainer; each checkpoint is marked before they see it, since some take it away."""
        for callback in (self._mark, *callbacks):
            self._trainer.add_callback(callback)

    def train(self, resume_from: Path | None = None) -> list[Figures]:
        """All stages; the figures of each.

        Args:
            resume_from: a checkpoint within a stage of this curriculum.
        """
        figures = self._take_up_finished()
        for stage in self._stages[len(figures) :]:
            steps_before = int(sum(done["steps"] for done in figures))
            for callback in self._trainer.callback_handler.callbacks:
                if isinstance(callback, StageListener):
                    callback.start_stage(stage.name, steps_before)
            self._mark.start(stage, steps_before)
            figures.append(self._train_stage(stage, _checkpoint_of(stage, resume_from)))
        return figures

    def _finished(self) -> list[Storage]:
        """The longest run of finished stages, from the first, as rank 0 found it: another run may finish one between
        two looks, and ranks that train different stages wait for each other for ever."""
        if self._found is None:
            folders = list(takewhile(lambda folder: folder.exists(COMPLETE), map(self.folder, self._stages)))
            count = [len(folders)]
            if self._trainer.args.world_size > 1:
                dist.broadcast_object_list(count, src=0)
            self._found = [self.folder(stage) for stage in self._stages[: count[0]]]
        return self._found

    def folder(self, stage: Stage) -> Storage:
        """Where a stage's weights and figures are kept."""
        return self._store.folder(f"rewriter-{stage.settings.stage}", stage.description)

    def _take_up_finished(self) -> list[Figures]:
        """Figures of the finished stages; the model gets the weights that the last of them left."""
        folders = self._finished()
        if folders:
            load_trainable(self._model, folders[-1])
            print(f"{len(folders)} of {len(self._stages)} stages are done already: {folders[-1].uri}", flush=True)
        return [json.loads(folder.read_text(FIGURES)) for folder in folders]

    def _train_stage(self, stage: Stage, checkpoint: Path | None) -> Figures:
        config, args = self._config, self._trainer.args
        set_seed(config.run.seed + stage.number)  # what is drawn does not depend on the stages before
        pairs = self._habit if stage.settings.stage == "copy" else self._pairs.select(stage.rows)
        sampler, epochs = stage_sampler(stage, pairs, config, args.process_index, args.world_size)
        self._trainer.start_stage(pairs, sampler, stage.settings, epochs)
        outcome = self._trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        figures = {
            "pairs": len(pairs),
            "steps": self._trainer.state.global_step,
            "train_loss": mean_loss(self._trainer.state.log_history, outcome.training_loss),
            **{key.removeprefix("eval_"): value for key, value in self._trainer.evaluate().items()},
            **self._evaluate(),
        }
        figures = {name: value for name, value in figures.items() if not math.isnan(value)}
        self._keep(stage, figures)
        return figures

    def _keep(self, stage: Stage, figures: Figures) -> None:
        """Rank 0 leaves the weights in the store; the others wait."""

        def produce(folder: Path) -> None:
            save_file(trainable(self._model), folder / WEIGHTS)
            (folder / FIGURES).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")

        if self._trainer.args.process_index == 0:
            self._store.run(f"rewriter-{stage.settings.stage}", stage.description, produce)
        if self._trainer.args.world_size > 1:
            dist.barrier()

    @property
    def _model(self) -> nn.Module:
        assert self._trainer.model is not None
        return self._trainer.model


class StageMark(TrainerCallback):
    """Writes into each checkpoint which stage it belongs to."""

    def start(self, stage: Stage, steps_before: int) -> None:
        self._stage, self._before = stage, steps_before

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 0:
            mark = {"description": digest(self._stage.description), "step": self._before + state.global_step}
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")


def mean_loss(history: Sequence[Mapping[str, Any]], otherwise: float) -> float:
    """Mean training loss over the logged steps of a stage: what the Trainer returns after a resume leaves out the steps
    before it.

    Args:
        history: of the Trainer's state, which its checkpoints keep.
        otherwise: of a stage that ended before the first line was logged.
    """
    total, last = 0.0, 0
    for line in history:
        if "loss" in line:
            total += line["loss"] * (line["step"] - last)
            last = line["step"]
    return total / last if last else otherwise


def _checkpoint_of(stage: Stage, checkpoint: Path | None) -> Path | None:
    """The checkpoint, if it was made within this stage."""
    if checkpoint is None or not (checkpoint / MARK).is_file():
        return None
    mark = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
    return checkpoint if mark["description"] == digest(stage.description) else None


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in `folder` that was made last, over all stages."""
    found = [path.parent for path in folder.glob(f"checkpoint-*/{MARK}")]
    return max(found, key=lambda path: json.loads((path / MARK).read_text(encoding="utf-8"))["step"], default=None)


def plan(
    rows: Sequence[PairRow],
    config: TrainRewriterConfig,
    produced_by: Mapping[str, Any],
    unread: Sequence[Unread] = (),
) -> list[Stage]:
    """The stages with their pairs and what identifies each.

    Args:
        rows: training pairs.
        produced_by: what all stages have in common: model, data, ranks, precision and the like.
        unread: pairs that the model cannot read, for the error.

    Raises:
        ValueError: a stage without pairs.
    """
    settings = config.curriculum
    stages: list[Stage] = []
    before = digest({"code_version": CODE_VERSION, **produced_by})
    for number, stage in enumerate(settings.stages):
        chosen = stage_rows(rows, stage, settings)
        if not len(chosen):
            counts = {level: sum(row.level == level for row in rows) for level in LEVELS}
            raise ValueError(
                f"stage {number + 1}, {stage.stage}, has no pairs to learn from (there are {counts}, and "
                f"{len(unread):,} that the model cannot read): leave it out of curriculum.stages, or move the "
                "borders under --data.difficulty"
            )
        description = {
            "before": before,
            "stage": stage.model_dump(mode="json"),
            "pacing": {} if stage.stage == "copy" else settings.model_dump(mode="json", exclude={"stages"}),
            "number": number,
        }
        stages.append(Stage(number, stage, chosen, description))
        before = digest(description)
    return stages


def stage_rows(rows: Sequence[PairRow], stage: StageSettings, settings: CurriculumSettings) -> np.ndarray:
    """Positions of the pairs that a stage learns, those of small languages several times where that is wanted."""
    if stage.stage == "copy":
        return np.arange(len(rows))
    chosen_P = _chosen(rows, stage, settings)
    return balanced(chosen_P, [rows[row].lang for row in chosen_P], settings.language_exponent)


def _chosen(rows: Sequence[PairRow], stage: StageSettings, settings: CurriculumSettings) -> np.ndarray:
    if stage.stage == "full":
        return np.arange(len(rows))
    levels = LEVELS[: LEVELS.index(stage.stage) + 1] if settings.pacing == "cumulative" else (stage.stage,)
    return np.flatnonzero([row.level in levels for row in rows])


def balanced(chosen_P: np.ndarray, langs: Sequence[str], exponent: float) -> np.ndarray:
    """The positions, those of a language with n of them (n / m) ** (exponent - 1) times, m being the most of any
    language; of what is left of a whole time, evenly spread ones."""
    langs_P = np.asarray(langs)
    most = max(Counter(langs).values(), default=0)
    parts = []
    for lang in sorted(set(langs)):
        mine = chosen_P[langs_P == lang]
        wanted = round(len(mine) * (len(mine) / most) ** (exponent - 1))
        parts.append(mine[np.arange(wanted) * len(mine) // wanted])
    return np.sort(np.concatenate(parts)) if parts else chosen_P


def stage_sampler(
    stage: Stage, pairs: TokenisedPairs, config: TrainRewriterConfig, rank: int, ranks: int
) -> tuple[MicroBatchSampler, float]:
    """What a rank forwards in this stage, and for how many epochs of it."""
    lengths = pairs.sources.lengths + pairs.targets.lengths
    seed = config.run.seed + stage.number
    if config.curriculum.pacing != "competence" or stage.settings.stage == "copy":
        return MicroBatchSampler(lengths, config.batch, seed, rank, ranks), stage.settings.epochs
    steps = math.ceil(stage.settings.epochs * len(pairs) / config.batch.size)
    initial = config.curriculum.initial_competence
    return CompetenceSampler(lengths, pairs.difficulty_P, steps, initial, config.batch, seed, rank, ranks), 1.0


def trainable(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes: adapters, or the whole model."""
    return {name: parameter.detach().cpu().contiguous() for name, parameter in _trained(model)}


def load_trainable(model: nn.Module, folder: Storage) -> None:
    """Put the weights that a stage left into the model.

    Raises:
        ValueError: they are of another model.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="detox-stage-") as scratch:
        weights = load_file(folder.localise(Path(scratch)) / WEIGHTS)
    mine = dict(_trained(model))
    if weights.keys() != mine.keys():
        raise ValueError(f"{folder.uri} holds the weights of another model: delete it, and the stage is trained again")
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(weights[name])


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Trained parameters by name; those that share memory once."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)

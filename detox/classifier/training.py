"""Training one classifier on one rank: `transformers.Trainer` with our batches, our loss and our evaluation.

What differs from the plain Trainer, and why:

- batches by length (`batching`), so that padding is a few per cent instead of two thirds;
- the loss is a mean over the rows of the *global* batch, whatever the ranks and the micro-batches;
- evaluation shares the rows among the ranks by length and gathers by row number, so that every rank has the same
  figures and takes the same decisions (early stopping, best checkpoint);
- a resumed run ends bit-equal to an uninterrupted one (CPU, fp32, same ranks and threads).

The module knows nothing of Ray: `rayjobs` hands in callbacks, a checkpoint folder, the rank and the world size.

Shapes: N rows, B rows of a micro-batch, L labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from detox.classifier.batching import (
    MicroBatchSampler,
    RowDataset,
    TokenisedRows,
    accumulation,
    evaluation_batches,
    loader,
    pad_rows,
)
from detox.classifier.losses import Loss, build_loss
from detox.classifier.metrics import classification_metrics, regression_metrics
from detox.classifier.settings import TrainClassifierConfig
from detox.classifier.zero import await_builds, deepspeed_config

EVALUATION_TOKENS = 16_384 if torch.cuda.is_available() else 2048
"""Padded tokens of one evaluation forward pass; on a CPU small batches stay in its caches."""


@dataclass(frozen=True)
class LabelledRows:
    """One part of the data as a rank needs it: token ids and labels `[N, L]`, float32 with NaN for missing."""

    tokens: TokenisedRows
    labels_NL: np.ndarray


class ClassifierTrainer(Trainer):
    """The Trainer of one rank. See the module's docstring for what it changes."""

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: TrainingArguments,
        config: TrainClassifierConfig,
        labels: Sequence[str],
        train: LabelledRows,
        validation: LabelledRows,
        loss: Loss,
        pad_id: int,
        callbacks: list[TrainerCallback],
    ) -> None:
        self._config, self._label_names, self._loss = config, tuple(labels), loss
        self._validation, self._pad_id = validation, pad_id
        self._train_lengths = train.tokens.lengths
        self._meter = ThroughputMeter()
        super().__init__(
            model=model,
            args=args,
            train_dataset=RowDataset(train.tokens, train.labels_NL, pad_id),
            eval_dataset=RowDataset(validation.tokens, validation.labels_NL, pad_id),
            callbacks=[self._meter, *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = True  # `compute_loss` divides by the rows of the whole optimizer step

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's AdamW, the head's parameters in groups of their own where they learn faster."""
        optimizer = super().create_optimizer(model)
        factor = self._config.optimiser.head_lr_factor
        if factor != 1:
            assert isinstance(self.model, PreTrainedModel)
            head = {id(parameter) for parameter in head_parameters(self.model)}
            for group in list(optimizer.param_groups):
                mine = [parameter for parameter in group["params"] if id(parameter) in head]
                if mine:
                    group["params"] = [parameter for parameter in group["params"] if id(parameter) not in head]
                    optimizer.add_param_group({**group, "params": mine, "lr": group["lr"] * factor})
        return optimizer

    def get_train_dataloader(self) -> DataLoader:
        """Not prepared by accelerate, which would shard it a second time."""
        rank, ranks = self.args.process_index, self.args.world_size
        sampler = MicroBatchSampler(self._train_lengths, self._config.batch, self._config.run.seed, rank, ranks)
        return loader(self.train_dataset, sampler)  # type: ignore[arg-type]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Sum over this micro-batch's rows, over the global rows; times the ranks, since DDP averages over them."""
        self._meter.count(inputs["attention_mask"])
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        losses_B = self._loss(outputs.logits.float(), inputs["labels"])
        loss = losses_B.sum() * self.args.world_size / inputs["global_rows"]
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        """The batch itself says how many rows the optimizer step has; counting and gathering would cost a barrier."""

    def floating_point_ops(self, inputs: dict[str, Tensor]) -> int:
        return 0  # an estimate from parameter counts, which metrics.jsonl replaces by measured tokens/s

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Validation figures, the same on every rank."""
        started = time.perf_counter()
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model  # DDP would synchronise each forward
        assert model is not None
        logits_NL = predict_logits(
            model, self._validation.tokens, self._pad_id, self.args.process_index, self.args.world_size
        )
        losses_N = self._loss(torch.from_numpy(logits_NL), torch.from_numpy(self._validation.labels_NL))
        undefined = {self._config.stopping.metric: math.nan}  # rank correlation of equal predictions: never the best
        figures = undefined | {"loss": float(losses_N.mean())} | self._figures(logits_NL)
        metrics = {f"{metric_key_prefix}_{key}": value for key, value in figures.items()}
        self.log(metrics | {f"{metric_key_prefix}_seconds": time.perf_counter() - started})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._meter.start(self.state.global_step)
        return metrics

    def _figures(self, logits_NL: np.ndarray) -> dict[str, float]:
        probabilities_NL = 1 / (1 + np.exp(-logits_NL))
        if self._config.task == "regression":
            return regression_metrics(probabilities_NL, self._validation.labels_NL, self._label_names)
        return classification_metrics(probabilities_NL, self._validation.labels_NL, self._label_names)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = logs | self._meter.read(self.state.global_step, self.args.world_size)
        super().log(logs, start_time)


def head_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """What a Hugging Face sequence classifier puts on top of its encoder's layers: the pooler and all outside it."""
    encoder = f"{model.base_model_prefix}."
    return [
        parameter
        for name, parameter in model.named_parameters()
        if not name.startswith(encoder) or name.startswith(f"{encoder}pooler.")
    ]


class ThroughputMeter(TrainerCallback):
    """Tokens, padding, step time and device memory of one rank, between two log lines, without evaluations."""

    def __init__(self) -> None:
        self.start(0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.start(state.global_step)  # a resumed run does not begin at 0

    def start(self, step: int) -> None:
        """Measure from now on, `step` optimizer steps being done."""
        self._step = step
        self._since = time.perf_counter()
        self._padded = 0
        self._masks: list[Tensor] = []

    def count(self, mask_BT: Tensor) -> None:
        self._padded += mask_BT.numel()
        self._masks.append(mask_BT.sum())  # stays on the device: no synchronisation a step

    def read(self, step: int, ranks: int) -> dict[str, float]:
        """Figures since the last call or `start`: real tokens a second over all ranks (this rank's, times the ranks),
        padding as a share of all tokens, seconds an optimizer step, and GiB at the peak of a GPU's memory."""
        seconds = max(time.perf_counter() - self._since, 1e-9)
        real = int(torch.stack(self._masks).sum()) if self._masks else 0
        figures = {
            "tokens_per_second": ranks * real / seconds,
            "padding": 1 - real / max(self._padded, 1),
            "step_seconds": seconds / max(step - self._step, 1),
        }
        if torch.cuda.is_available():
            figures["device_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.start(step)
        return figures


@torch.inference_mode()
def predict_logits(model: nn.Module, tokens: TokenisedRows, pad_id: int, rank: int = 0, ranks: int = 1) -> np.ndarray:
    """Logits `[N, L]` float32 of all rows, computed by all ranks together and known to each."""
    model.eval()
    device = next(model.parameters()).device
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for rows in evaluation_batches(tokens.lengths, EVALUATION_TOKENS, rank, ranks):
        inputs = {key: value.to(device) for key, value in pad_rows([tokens[row] for row in rows], pad_id).items()}
        found.append((rows, model(**inputs).logits.float().cpu().numpy()))
    mine = (np.concatenate([rows for rows, _ in found]), np.concatenate([logits for _, logits in found]))
    shares: list[Any] = [mine]
    if ranks > 1:
        shares = [None] * ranks
        dist.all_gather_object(shares, mine)
    logits_NL = np.empty((len(tokens), mine[1].shape[1]), dtype=np.float32)
    for rows, logits in shares:
        logits_NL[rows] = logits
    return logits_NL


def train(
    config: TrainClassifierConfig,
    model: PreTrainedModel,
    labels: Sequence[str],
    train_rows: LabelledRows,
    validation: LabelledRows,
    pad_id: int,
    scratch: Path,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from: Path | None = None,
    ranks: int = 1,
) -> dict[str, float]:
    """Train to the end and return what the Trainer's state knows of the best checkpoint.

    Args:
        scratch: an empty local folder of this rank, for checkpoints in the making.
        resume_from: a checkpoint folder of this config, world size and thread count.
    """
    arguments = training_arguments(config, scratch, ranks)
    if config.model.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    if config.model.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    stopping = [EarlyStoppingCallback(config.stopping.patience)] if config.stopping.patience else []
    trainer = ClassifierTrainer(
        model=model,
        args=arguments,
        config=config,
        labels=labels,
        train=train_rows,
        validation=validation,
        loss=build_loss(config.loss, train_rows.labels_NL, labels),
        pad_id=pad_id,
        callbacks=[*stopping, *callbacks],
    )
    if resume_from is not None and _had_ended(resume_from, config.stopping.patience):
        return _outcome(TrainerState.load_from_json(str(resume_from / "trainer_state.json")))
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return _outcome(trainer.state)


def _had_ended(checkpoint: Path, patience: int) -> bool:
    """Whether the run had its last step, or was stopped early, at this checkpoint: the Trainer itself would train on
    from there (one step more where `max_steps` lies within an epoch)."""
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    stopping = (state.stateful_callbacks or {}).get("EarlyStoppingCallback", {}).get("attributes", {})
    waited = stopping.get("early_stopping_patience_counter", 0)
    return state.global_step >= state.max_steps or (patience > 0 and waited >= patience)


def _outcome(state: TrainerState) -> dict[str, float]:
    return {
        "steps": state.global_step,
        "best_step": state.best_global_step or state.global_step,
        "best_metric": float(state.best_metric if state.best_metric is not None else "nan"),
    }


def training_arguments(config: TrainClassifierConfig, scratch: Path, ranks: int) -> TrainingArguments:
    """The Trainer's arguments for a config.

    Raises:
        ValueError: a precision that the hardware does not have.
    """
    optimiser = config.optimiser
    is_sharded = optimiser.strategy != "ddp"
    if is_sharded:
        await_builds()
    return TrainingArguments(
        **common_arguments(config, scratch, ranks),
        lr_scheduler_type="linear",
        num_train_epochs=optimiser.epochs,
        fp16=resolve_precision(optimiser.precision) == "fp16",
        metric_for_best_model=config.stopping.metric,
        greater_is_better=config.stopping.higher_is_better,
        deepspeed=deepspeed_config(optimiser.strategy) if is_sharded else None,
    )


def common_arguments(config: Any, scratch: Path, ranks: int) -> dict[str, Any]:
    """What the Trainers of all our training jobs have in common.

    Args:
        config: of a training job: its `run`, `batch`, `optimiser`, `checkpoints` and `tracking` are read.

    Raises:
        ValueError: a precision that the hardware does not have.
    """
    optimiser, every = config.optimiser, config.checkpoints.every_steps
    return {
        "output_dir": str(scratch),
        "seed": config.run.seed,
        "data_seed": config.run.seed,
        "per_device_train_batch_size": config.batch.per_forward if config.batch.by == "rows" else 1,
        "gradient_accumulation_steps": accumulation(config.batch, ranks),
        "learning_rate": optimiser.lr,
        "weight_decay": optimiser.weight_decay,
        "warmup_steps": optimiser.warmup_ratio,
        "max_grad_norm": optimiser.max_grad_norm,
        "max_steps": optimiser.max_steps or -1,
        "bf16": resolve_precision(optimiser.precision) == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "eval_strategy": "steps" if every else "epoch",
        "save_strategy": "steps" if every else "epoch",
        "eval_steps": every or None,
        "save_steps": every or 500,
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": config.tracking.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": [],
        "dataloader_pin_memory": torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,
    }


def resolve_precision(wanted: str) -> str:
    """`auto` as bf16 where the hardware has it (a GPU, or else a CPU with AVX512-BF16: 1.7 times as fast as fp32 on a
    MiniLM), else fp32.

    Raises:
        ValueError: fp16 without a GPU, bf16 on a GPU that lacks it.
    """
    cuda = torch.cuda.is_available()
    bf16_gpu = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "auto":
        return "bf16" if bf16_gpu or (not cuda and torch.cpu._is_avx512_bf16_supported()) else "fp32"
    if wanted == "fp16" and not cuda:
        raise ValueError("precision fp16 needs a GPU, and none is visible: use --optimiser.precision fp32")
    if wanted == "bf16" and cuda and not bf16_gpu:
        raise ValueError("precision bf16 is not supported by this GPU: use --optimiser.precision fp16 or fp32")
    return wanted

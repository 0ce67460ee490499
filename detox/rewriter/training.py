"""Training a rewriter on one rank: a `Seq2SeqTrainer` that a curriculum can give stage after stage.

It differs from the plain one in four things: batches come by length from our sampler, each micro-batch knows the size
of its whole optimizer step (so a full batch equals the sum of its micro-batches and of its ranks), the loss is ours
(`detox.rewriter.losses`, its parts logged one by one), and evaluation measures the loss of all ranks' rows together.

Shapes: B rows, T target tokens.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from detox.classifier.batching import MicroBatch, MicroBatchSampler, evaluation_batches, loader
from detox.classifier.training import EVALUATION_TOKENS, ThroughputMeter, common_arguments
from detox.rewriter.batches import PairDataset, TokenisedPairs
from detox.rewriter.losses import RewriterLoss, cross_entropy
from detox.rewriter.preference import reference_logprobs
from detox.rewriter.settings import StageSettings, TrainRewriterConfig


class RewriterTrainer(Seq2SeqTrainer):
    """The Trainer of one rank. See the module's docstring for what it changes."""

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: Seq2SeqTrainingArguments,
        loss_of: Callable[[StageSettings], RewriterLoss],
        validation: TokenisedPairs,
        pad_id: int,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        self._loss_of, self._pad_id = loss_of, pad_id
        self._usual_lr = args.learning_rate
        self._reference: nn.Module | None = None
        self._validation = PairDataset(validation, pad_id)
        self._validation_lengths = validation.sources.lengths
        self._meter = ThroughputMeter()
        self._parts: dict[str, Tensor] = {}
        self._parts_since = 0
        """The optimizer step after which `_parts` begin."""
        super().__init__(
            model=model,
            args=args,
            train_dataset=self._validation,  # until the first stage comes
            eval_dataset=self._validation,
            callbacks=[self._meter, *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = True  # the loss divides by the size of the whole optimizer step

    def start_stage(
        self, pairs: TokenisedPairs, sampler: MicroBatchSampler, stage: StageSettings, epochs: float
    ) -> None:
        """What the next `train()` learns: the same model with a new optimizer and schedule (S2 section 5).

        The reference of DPO is the model as the stage finds it.
        """
        self._loss = self._loss_of(stage)
        self._reference = frozen_copy(self.model) if self._loss.settings.dpo else None
        self.train_dataset = PairDataset(pairs, self._pad_id)
        self._sampler = sampler
        self.args.num_train_epochs = epochs
        self.args.learning_rate = stage.lr or self._usual_lr
        self.optimizer = self.lr_scheduler = None
        self._parts = {}
        self._created_lr_scheduler = False

    def get_train_dataloader(self) -> DataLoader:
        """Not prepared by accelerate, which would shard it a second time."""
        return loader(self.train_dataset, self._sampler)  # type: ignore[arg-type]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The micro-batch's share of the optimizer step's loss, times the ranks, since DDP averages over them."""
        self._meter.count(inputs["attention_mask"])
        if self._reference is not None:
            with torch.no_grad():
                chosen_B, rejected_B = reference_logprobs(self._reference, inputs)
            inputs = inputs | {"reference_chosen": chosen_B, "reference_rejected": rejected_B}
        if not self._parts:
            self._parts_since = self.state.global_step  # a resumed stage does not begin at 0
        found = self._loss(model, inputs)
        for name, value in found.parts.items():
            self._parts[name] = self._parts.get(name, torch.zeros_like(value)) + value * self.args.world_size
        loss = found.total * self.args.world_size
        return (loss, None) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        """The batch itself says how large the optimizer step is; counting and gathering would cost a barrier."""

    def floating_point_ops(self, inputs: dict[str, Tensor]) -> int:
        return 0  # an estimate from parameter counts, which metrics.jsonl replaces by measured tokens/s

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Cross-entropy a target token and perplexity of the validation pairs, the same on every rank."""
        started = time.perf_counter()
        loss = self.validation_loss()
        figures = {"loss": loss, "perplexity": math.exp(min(loss, 50.0))}
        metrics = {f"{metric_key_prefix}_{key}": value for key, value in figures.items()}
        self.log(metrics | {f"{metric_key_prefix}_seconds": time.perf_counter() - started})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._meter.start(self.state.global_step)
        return metrics

    @torch.inference_mode()
    def validation_loss(self) -> float:
        """Negative log-likelihood a target token, over all ranks; NaN without validation pairs."""
        model = self.model
        assert model is not None
        if len(self._validation) == 0:
            return math.nan
        model.eval()
        rank, ranks, device = self.args.process_index, self.args.world_size, next(model.parameters()).device
        loss_P = torch.zeros(len(self._validation), dtype=torch.float64, device=device)
        for rows in evaluation_batches(self._validation_lengths, EVALUATION_TOKENS, rank, ranks):
            inputs = self._validation.__getitems__(MicroBatch(rows.tolist(), rows))
            labels_BT = inputs["labels"].to(device)
            wanted = {key: inputs[key].to(device) for key in ("input_ids", "attention_mask")}
            with self.compute_loss_context_manager():
                logits_BTV = model(**wanted, labels=labels_BT).logits
            loss_P[rows] = cross_entropy(logits_BTV, labels_BT).double()
        model.train()
        if ranks > 1:
            dist.all_reduce(loss_P, dist.ReduceOp.MAX)  # where rows ran out two ranks have the same one
        return float(loss_P.sum() / self._validation.target_tokens)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            steps = max(1, self.state.global_step - self._parts_since)
            logs = logs | {f"loss/{name}": float(value) / steps for name, value in self._parts.items()}
            self._parts = {}
            logs = logs | self._meter.read(self.state.global_step, self.args.world_size)
        super().log(logs, start_time)


def frozen_copy(model: nn.Module | None) -> nn.Module:
    """The model as it is now, which learns nothing more and drops nothing out."""
    assert model is not None
    return copy.deepcopy(model).eval().requires_grad_(False)


def training_arguments(config: TrainRewriterConfig, scratch: Path, ranks: int) -> Seq2SeqTrainingArguments:
    """The Trainer's arguments for a config; a stage sets epochs and learning rate.

    Raises:
        ValueError: a precision that the hardware does not have.
    """
    common = common_arguments(config, scratch, ranks)
    if config.scaling.num_workers == 0:  # with workers Ray Train takes the checkpoints away, and keeps as many
        common["save_total_limit"] = config.checkpoints.keep
    return Seq2SeqTrainingArguments(**common, lr_scheduler_type=config.optimiser.schedule)

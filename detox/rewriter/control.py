"""What changes the scores of a step of decoding, here and in `model.generate`.

Shapes: R live hypotheses, t tokens so far with the decoder's start token, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor


class Source(NamedTuple):
    """The text of an input row, without a prompt."""

    text: str
    lang: str


class Step(NamedTuple):
    """Where decoding is."""

    prefixes_Rt: Tensor
    """Token ids so far of each live hypothesis, the decoder's start token first."""
    rows_R: Tensor
    """The input row that each belongs to."""


Control = Callable[[Step, Tensor], Tensor]
"""`(step, scores_RV) -> scores_RV`; it may write into the scores that it gets."""


class ControlProcessor(LogitsProcessor):
    """A control in `model.generate`, where row i belongs to input row i // copies."""

    def __init__(self, control: Control, copies: int) -> None:
        self._control, self._copies = control, copies

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]  # torch.LongTensor
        rows_R = torch.arange(len(scores), device=scores.device) // self._copies
        return self._control(Step(input_ids, rows_R), scores.clone())


def as_logits_processor(control: Control, copies: int = 1) -> LogitsProcessor:
    """`control` for `model.generate` and `Seq2SeqTrainer`; `copies` is `num_beams` or `num_return_sequences`."""
    return ControlProcessor(control, copies)


def from_logits_processor(processor: LogitsProcessor) -> Control:
    """A processor of transformers that treats all rows alike, as a control."""
    return lambda step, scores_RV: processor(step.prefixes_Rt, scores_RV)  # type: ignore[arg-type, return-value]

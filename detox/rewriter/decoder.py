"""The decoder of one batch with its cache: what greedy decoding, sampling and beam search have in common.

Shapes: B rows of a batch, R live hypotheses, t tokens so far with the decoder's start token, T tokens of a source or of
a prompt (and, in a causal model, of what came after it), V vocabulary.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from detox.classifier.batching import pad_rows
from detox.rewriter.control import Control, Step

DROPPED_TOGETHER = 1 / 8
"""Rows that are given up go when they are this share of all: to drop some copies the cache of all others."""
PREFIX = "decoder_prefix_ids"
"""What a model whose `forward` has it is given beside the last token: all tokens so far (`detox.models.copying`)."""

NAN = (
    "the model's scores are NaN or infinite: its weights are broken, or in float16, which is too narrow for T5: use "
    "bfloat16"
)


class Candidate(NamedTuple):
    """A generated text."""

    tokens: list[int]
    """As the model chose them, without the start token and EOS."""
    logprob: float | None
    """Sum of the model's own log-probabilities of the tokens, EOS included where there is one: no temperature, no
    control, as teacher forcing would give it. None where nobody asked (`GenerationSettings.logprobs`)."""
    finished: bool
    """It ended with EOS, not at the length limit."""
    end: int | None = None
    """The EOS that it ended with: a model may have several."""


class Ids(NamedTuple):
    start: int
    pad: int
    eos_E: Tensor


class Batch(NamedTuple):
    """What the decoding of one batch needs beside the settings."""

    rows: np.ndarray
    """Numbers of the input rows `[B]`."""
    limits_B: Tensor
    """Most tokens of a candidate."""
    ids: Ids
    controls: Sequence[Control]


class Decoder(ABC):
    """The decoder of one batch with its cache.

    Its rows are the live hypotheses in their order, and up to an eighth that were given up and are not gone yet.
    """

    def __init__(self, model: Any, mask_RT: Tensor, ids: Ids) -> None:
        self._model, self._pad_id = model, ids.pad
        self._mask_RT = mask_RT
        """Of what the decoder attends to beside its own tokens: the source, or the prompt."""
        self._cache: Any = None
        self._live_R: Tensor | None = None
        """Rows of the live hypotheses; None: all rows are."""

    @abstractmethod
    def _forward(self, prefixes_Rt: Tensor) -> Any:
        """The model's output for the last tokens of all rows."""

    @abstractmethod
    def _first_tokens(self, ids: Ids) -> Tensor:
        """What the model reads before it says anything, `[B, …]`."""

    def logits(self, prefixes_Rt: Tensor) -> Tensor:
        """float32 `[R, V]` of what follows; all but the last token of each hypothesis is in the cache already."""
        if self._live_R is not None:
            given = prefixes_Rt
            prefixes_Rt = given.new_full((len(self._mask_RT), given.shape[1]), self._pad_id)
            prefixes_Rt[self._live_R] = given
        output = self._forward(prefixes_Rt)
        self._cache = output.past_key_values
        logits_RV = output.logits[:, -1].float()
        return logits_RV if self._live_R is None else logits_RV[self._live_R]

    def first_logits(self, ids: Ids, copies: int) -> Tensor:
        """Those of the first token, computed once a row and copied, as the cache is."""
        logits_BV = self.logits(self._first_tokens(ids))
        if copies == 1:
            return logits_BV
        spread_R = torch.arange(len(logits_BV), device=logits_BV.device).repeat_interleave(copies)
        self.select(spread_R)
        return logits_BV[spread_R]

    def drop_others(self, kept_R: Tensor) -> None:
        """Go on with these hypotheses in their order; the rows of the others are computed on, unread, until they are an
        eighth of all."""
        self._live_R = kept_R if self._live_R is None else self._live_R[kept_R]
        if len(self._live_R) <= (1 - DROPPED_TOGETHER) * len(self._mask_RT):
            self.select(self._live_R)
            self._live_R = None

    def select(self, indices_R: Tensor) -> None:
        """Go on with these rows: drops, reorders and copies."""
        # takes any number of rows, as `batch_select_indices` does, in a quarter of its time
        self._cache.reorder_cache(indices_R)
        self._mask_RT = self._mask_RT.index_select(0, indices_R)


class EncoderDecoderDecoder(Decoder):
    """With the encoder's outputs, which travel with the rows."""

    def __init__(self, model: Any, rows: Sequence[np.ndarray], ids: Ids) -> None:
        padded = pad_rows(rows, ids.pad)
        super().__init__(model, padded["attention_mask"].to(model.device), ids)
        self._encoded = model.get_encoder()(
            input_ids=padded["input_ids"].to(model.device), attention_mask=self._mask_RT, return_dict=True
        )
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # without adapters
        self._reads_prefix = PREFIX in inspect.signature(plain.forward).parameters

    def _first_tokens(self, ids: Ids) -> Tensor:
        return torch.full((len(self._mask_RT), 1), ids.start, device=self._mask_RT.device)

    def _forward(self, prefixes_Rt: Tensor) -> Any:
        return self._model(
            attention_mask=self._mask_RT,
            encoder_outputs=self._encoded,
            decoder_input_ids=prefixes_Rt[:, -1:],
            **({PREFIX: prefixes_Rt} if self._reads_prefix else {}),
            past_key_values=self._cache,
            use_cache=True,
            return_dict=True,
        )

    def select(self, indices_R: Tensor) -> None:
        super().select(indices_R)
        for name, value in self._encoded.items():
            if isinstance(value, Tensor):
                self._encoded[name] = value.index_select(0, indices_R)


class CausalDecoder(Decoder):
    """Goes on after the rows, which stand in the cache, padding before them."""

    def __init__(self, model: Any, rows: Sequence[np.ndarray], ids: Ids) -> None:
        padded = pad_rows([row[::-1] for row in rows], ids.pad)
        super().__init__(model, padded["attention_mask"].flip(1).to(model.device), ids)
        self._prompts_BT = padded["input_ids"].flip(1).to(model.device)

    def _first_tokens(self, ids: Ids) -> Tensor:
        return self._prompts_BT

    def _forward(self, prefixes_Rt: Tensor) -> Any:
        is_first = self._cache is None
        if not is_first:
            self._mask_RT = pad(self._mask_RT, (0, 1), value=1)
        positions_RT = (self._mask_RT.cumsum(1) - 1).clamp(min=0)
        return self._model(
            input_ids=prefixes_Rt if is_first else prefixes_Rt[:, -1:],
            attention_mask=self._mask_RT,
            position_ids=positions_RT if is_first else positions_RT[:, -1:],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            return_dict=True,
        )


def decoder_of(model: Any, rows: Sequence[np.ndarray], ids: Ids) -> Decoder:
    """The decoder for a model's architecture.

    Args:
        rows: token ids of the sources, or of the prompts.
    """
    kind = EncoderDecoderDecoder if model.config.is_encoder_decoder else CausalDecoder
    return kind(model, rows, ids)


def controlled(batch: Batch, prefixes_Rt: Tensor, rows_R: Tensor, scores_RV: Tensor) -> Tensor:
    """What the controls make of the scores; they may write into the copy that they get."""
    if not batch.controls:
        return scores_RV
    step, scores_RV = Step(prefixes_Rt, rows_R), scores_RV.clone()
    for control in batch.controls:
        scores_RV = control(step, scores_RV)
    return scores_RV


def candidate(tokens: list[int], score: float, ended: bool, is_logprob: bool = True) -> Candidate:
    """Args:
        score: of the tokens, a sum over them.

    Raises:
        ValueError: the score is NaN, or above all numbers.
    """
    if math.isnan(score) or score == math.inf:
        raise ValueError(NAN)
    logprob = score if is_logprob else None
    return Candidate(tokens[:-1], logprob, True, tokens[-1]) if ended else Candidate(tokens, logprob, False)

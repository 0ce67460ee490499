"""Batched inference for every neural scorer: windows, no duplicates, length-sorted batches of a token budget.

Texts go through in chunks of `CHUNK` (bounded memory, whatever their number). Inside a chunk each distinct text is
tokenised once, cut into overlapping windows where it is long, and the windows, sorted by length, fill batches of at
most `batch_tokens` tokens with their padding. A text's score is the maximum over its windows, label by label: one
insult makes a long comment insulting.

Shapes: N texts, W windows, B rows of a batch, T tokens, L labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from transformers import BatchEncoding, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from detox.classifier.batching import token_batches
from detox.models.loading import device_named

CHUNK = 2048
"""Texts in memory at a time."""

KERNELS_KEPT = 32
"""oneDNN compiles a kernel for each shape of a batch, and keeps 1,024 of them, which batches by length fill: memory
then grows with the number of texts (250 MiB at 8,000 comments, 310 at 20,000). With so few it stays, at the same speed.
Read at the first product in the process."""

Activation = Literal["sigmoid", "softmax"]


class Windows(NamedTuple):
    """Tokenised pieces of several texts."""

    ids: list[list[int]]
    """Token ids of each window, with special tokens."""
    text: list[int]
    """Which text each window is a piece of."""


class Engine:
    """Probabilities of a sequence classifier.

    Args:
        model: any `…ForSequenceClassification`; moved to `device` and put into evaluation mode.
        tokenizer: its fast tokenizer.
        activation: from logits to probabilities; `softmax` where the labels exclude each other.
        max_length: tokens of a window, special tokens included; 0: as many as the model reads, at most 512.
        batch_tokens: tokens of a batch, padding included; 0: 1,024 on a CPU, 32,768 on a GPU. (300 comments,
            MiniLM, one thread: 9.2 CPU seconds with 512 and 1,024, 9.8 with 2,048, 12.4 with 8,192, 14.2 with 16,384.)
        device: empty: the GPU where there is one.

    Attributes:
        calls_at_a_time: how many calls from threads of their own gain by going together; more are safe, but no faster.

    Raises:
        ValueError: a `max_length` beyond what the model reads, or one that leaves a window no room.
    """

    calls_at_a_time = 1

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        activation: Activation = "sigmoid",
        max_length: int = 0,
        batch_tokens: int = 0,
        device: str = "",
    ) -> None:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))
        self.device = device_named(device)
        self.model: Any = model.eval()
        self.model.to(self.device)
        self.tokenizer = tokenizer
        self.activation = activation
        self.max_length = window_length(model.config, max_length, tokenizer)
        self.stride = (self.max_length - tokenizer.num_special_tokens_to_add()) // 4
        self.batch_tokens = batch_tokens or (1024 if self.device.type == "cpu" else 32_768)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """float32 `[N, L]` in 0..1, in the order of `texts`, which are taken as they are (no cleaning).

        Raises:
            ValueError: the model returned NaN or infinity.
        """
        chunks = [self._chunk(texts[begin : begin + CHUNK]) for begin in range(0, len(texts), CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.model.config.num_labels), np.float32)

    def windows(self, texts: Sequence[str]) -> Windows:
        """The windows of `texts`, at least one each, in order."""
        encoded = self.encode(texts)
        filler = [self._filler()]
        return Windows([ids or filler for ids in encoded["input_ids"]], encoded["overflow_to_sample_mapping"])

    def encode(self, texts: Sequence[str], *, offsets: bool = False) -> BatchEncoding:
        """Windows as the tokenizer gives them, without padding; neighbours share a quarter of their tokens.

        With `offsets`, also `offset_mapping`: begin and end of each token in its text, (0, 0) for a special one.
        """
        return self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            stride=self.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=offsets,
            return_attention_mask=False,
            return_token_type_ids=False,
        )

    def window_probabilities(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """float32 `[W, L]` of tokenised windows, in their order."""
        lengths = np.fromiter((len(window) for window in ids), np.int64, len(ids))
        order = np.argsort(lengths, kind="stable")
        result_WL = np.empty((len(ids), self.model.config.num_labels), np.float32)
        for rows in token_batches(order, lengths, self.batch_tokens):
            result_WL[rows] = self._forward([ids[row] for row in rows])
        return result_WL

    def _chunk(self, texts: Sequence[str]) -> np.ndarray:
        distinct = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        windows = self.windows(list(distinct))
        scores_WL = self.window_probabilities(windows.ids)
        scores_NL = np.zeros((len(distinct), scores_WL.shape[1]), np.float32)
        np.maximum.at(scores_NL, np.asarray(windows.text), scores_WL)
        return scores_NL[[distinct[text] for text in texts]]

    @torch.inference_mode()
    def _forward(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        ids_BT, mask_BT = self.pad(ids)
        logits_BL = self.model(input_ids=ids_BT, attention_mask=mask_BT).logits.float()
        if not torch.isfinite(logits_BL).all():
            raise ValueError(
                f"{self.model.config._name_or_path or 'the model'} returned NaN or infinite logits: its weights are "
                f"broken, or {self.model.dtype} is too narrow for it (try float32)"
            )
        return activate(logits_BL, self.activation).cpu().numpy()

    def pad(self, ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, int64 `[B, T]` on the device, padded on the right."""
        longest = max(len(window) for window in ids)
        ids_BT = np.full((len(ids), longest), self.tokenizer.pad_token_id, np.int64)
        mask_BT = np.zeros((len(ids), longest), np.int64)
        for row, window in enumerate(ids):
            ids_BT[row, : len(window)] = window
            mask_BT[row, : len(window)] = 1
        return torch.from_numpy(ids_BT).to(self.device), torch.from_numpy(mask_BT).to(self.device)

    def _filler(self) -> int:
        """Stands for an empty text where the tokenizer adds no special token (GPT-2)."""
        eos = self.tokenizer.eos_token_id
        return self.tokenizer.unk_token_id if eos is None else eos


def activate(logits_BL: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Probabilities of logits, same shape."""
    return torch.sigmoid(logits_BL) if activation == "sigmoid" else torch.softmax(logits_BL, dim=-1)


def window_length(config: PretrainedConfig, max_length: int, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
    """Tokens of a window, special ones included: `max_length`, or for 0 as many as the model reads, at most 512.

    Args:
        tokenizer: None: judge by the config alone, before anything large is fetched.

    Raises:
        ValueError: more than the model reads, or too few to hold something.
    """
    readable, special = model_length(config), 0
    if tokenizer is not None:
        readable, special = min(readable, tokenizer.model_max_length), tokenizer.num_special_tokens_to_add()
    length = max_length or min(readable, 512)
    if length > readable:
        raise ValueError(
            f"the model reads {readable} tokens, and max_length asks for {max_length}: lower it (in training: "
            f"--model.max-length {readable})"
        )
    if length - special < 4:
        raise ValueError(
            f"max_length must leave a window at least four tokens beside the {special} special ones, was {length}: "
            f"give it {special + 4} or more"
        )
    return length


def model_length(config: Any) -> int:
    """Tokens that a model's position embeddings allow; a large number where positions are relative."""
    if config.model_type in {"t5", "mt5", "deberta-v2"}:
        return 10**9
    positions: int = getattr(config, "max_position_embeddings", 10**9)
    return positions - 2 if config.model_type in {"roberta", "xlm-roberta"} else positions

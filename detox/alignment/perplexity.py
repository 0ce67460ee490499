"""How expected texts are to a frozen causal language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from detox.alignment.policy import CausalPolicy, Sequences
from detox.classifier.batching import token_batches
from detox.models.causal import load_causal
from detox.models.loading import LoadedModel, device_named

BATCH_TOKENS = 8192
MAX_TOKENS = 256
"""Of a text that count."""
MAX_CONTEXT = 255
"""Of what stands before a text: its last ones."""


class LanguageModel:
    """A frozen causal model that reads texts from their beginning, or after others.

    Args:
        loaded: with its tokenizer.
        device: for example `cuda:1`; empty: the GPU where there is one.
    """

    def __init__(self, loaded: LoadedModel, device: str = "") -> None:
        model: Any = loaded.model
        self._policy = CausalPolicy(model.requires_grad_(False).to(device_named(device)))
        self._tokenizer: Any = loaded.tokenizer
        bos = self._tokenizer.bos_token_id
        self._begin = self._tokenizer.eos_token_id if bos is None else bos

    def logprobs(
        self, sequences: Sequence[Sequence[int]], contexts: Sequence[Sequence[int]] | None = None
    ) -> list[np.ndarray]:
        """Natural log of the probability of every id given those before it, the first one after BOS (without one: EOS);
        float64, one each: what `detox.evaluation.ngram_model.NgramModel` gives of the same ids.

        Args:
            contexts: what stands between BOS and each sequence; read, not counted.
        """
        before = [[self._begin, *ids] for ids in contexts or [[]] * len(sequences)]
        counted_N = np.fromiter(map(len, sequences), np.int64, len(sequences))
        lengths_N = counted_N + np.fromiter(map(len, before), np.int64, len(before))
        found = [np.zeros(0)] * len(sequences)
        filled = np.flatnonzero(counted_N)
        order = filled[np.argsort(-lengths_N[filled], kind="stable")]
        for rows in token_batches(order, lengths_N, BATCH_TOKENS):
            ids = [list(sequences[row]) for row in rows]
            batch = Sequences.of([before[row] for row in rows], ids, 0, self._policy.device)
            with torch.inference_mode():
                logs_BT = self._policy.logprobs(batch).double().cpu().numpy()
            for row, logs_T in zip(rows, logs_BT, strict=True):
                found[row] = logs_T[: counted_N[row]]
        return found

    def nats(self, texts: Sequence[str], contexts: Sequence[str] | None = None) -> np.ndarray:
        """Mean negative log-likelihood a token, float64 `[N]`; e to it is the perplexity. 0 of an empty text.

        Args:
            contexts: what stands before each text; read, not counted.
        """
        ids = [row[:MAX_TOKENS] for row in self._tokens(texts)]
        before = [row[-MAX_CONTEXT:] for row in self._tokens(contexts or [""] * len(texts))]
        return np.array([-logs.mean() if len(logs) else 0.0 for logs in self.logprobs(ids, before)])

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []


def language_model(name: str, device: str = "") -> LanguageModel:
    """The model called `name`; see `detox.models.causal.load_causal`."""
    return LanguageModel(load_causal(name), device)

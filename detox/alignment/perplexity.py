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


class LanguageModel:
    """A frozen causal model that reads texts from their beginning.

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

    def logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Natural log of the probability of every id given those before it, the first one after BOS (without one: EOS);
        float64, one each: what `detox.evaluation.ngram_model.NgramModel` gives of the same ids."""
        lengths_N = np.array([len(ids) + 1 for ids in sequences], np.int64)
        found = [np.zeros(0)] * len(sequences)
        filled = np.flatnonzero(lengths_N > 1)
        order = filled[np.argsort(-lengths_N[filled], kind="stable")]
        for rows in token_batches(order, lengths_N, BATCH_TOKENS):
            ids = [list(sequences[row]) for row in rows]
            batch = Sequences.of([[self._begin]] * len(rows), ids, 0, self._policy.device)
            with torch.inference_mode():
                logs_BT = self._policy.logprobs(batch).double().cpu().numpy()
            for row, logs_T in zip(rows, logs_BT, strict=True):
                found[row] = logs_T[: lengths_N[row] - 1]
        return found

    def nats(self, texts: Sequence[str]) -> np.ndarray:
        """Mean negative log-likelihood a token, float64 `[N]`; e to it is the perplexity. 0 of an empty text."""
        found = self.logprobs([ids[:MAX_TOKENS] for ids in self._tokens(texts)])
        return np.array([-logs.mean() if len(logs) else 0.0 for logs in found])

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []


def language_model(name: str, device: str = "") -> LanguageModel:
    """The model called `name`; see `detox.models.causal.load_causal`."""
    return LanguageModel(load_causal(name), device)

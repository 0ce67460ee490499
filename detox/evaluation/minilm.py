"""What the embedded MiniLM says of two English texts: cosine of sentence embeddings, and BERTScore.

BERTScore (Zhang et al. 2020) matches each token of one text with the most similar token of the other, by the cosine of
their states; precision is the mean over the output's tokens, recall that over the reference's, and F1 their harmonic
mean. Here: the last layer's states, without the special tokens, every token of the same weight (no idf), not rescaled
by a baseline. Figures of other encoders lie elsewhere and do not compare.

The encoder knows English only: its vocabulary cuts most other scripts into single letters or `[UNK]`.

Shapes: N texts, T tokens of an output, U tokens of a reference, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

ENGLISH = "en"
BATCH = 64
MAX_TOKENS = 128
"""Tokens of a text that count, the special ones among them: as many as the encoder was trained with."""


KEPT = 10_000
"""Texts whose states are remembered: about 120 MB of sentences."""


class Encoded(NamedTuple):
    """What the encoder makes of a text."""

    mean_D: np.ndarray
    """Mean of all token states, of length 1."""
    states_TD: np.ndarray
    """Of the tokens without the special ones; float16, which changes a cosine by 1e-5."""

    def tokens(self) -> np.ndarray:
        """Token states of length 1, float32 `[T, D]`."""
        return _unit(self.states_TD.astype(np.float32))


class MiniLm:
    """The embedded encoder; loaded when it is made.

    Args:
        kept: texts whose states are remembered. With 0 a call's figures depend on that call alone, to the last bit:
            what is remembered changes which texts are computed beside each other.

    Raises:
        ModuleNotFoundError: the package that carries it is not installed.
    """

    def __init__(self, kept: int = KEPT) -> None:
        from transformers import AutoModel, AutoTokenizer

        from detox.models.embedded import minilm_folder

        folder = str(minilm_folder())
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder).eval()
        self._memory: dict[str, Encoded] = {}
        self._kept = kept

    def cosine(self, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """Cosine of the mean token states (as sentence-transformers has it), 0..1 `[N]`; below 0 counts as 0."""
        found = self._encoded([*first, *second])
        cosines = [float(found[one].mean_D @ found[other].mean_D) for one, other in zip(first, second, strict=True)]
        return np.clip(np.array(cosines, np.float64), 0.0, 1.0)

    def bert_score(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        """BERTScore F1 of each output `[N]`; of several references the nearest counts, as in the paper. An output
        without tokens has 0."""
        found = self._encoded([*outputs, *(reference for row in references for reference in row)])
        rows = zip(outputs, references, strict=True)
        return np.array(
            [max(f1(found[output].tokens(), found[one].tokens()) for one in row) for output, row in rows], np.float64
        )

    def _encoded(self, texts: Sequence[str]) -> dict[str, Encoded]:
        """Each different text. The last ones are kept: sources and references are asked for again with each system."""
        wanted = dict.fromkeys(texts)
        found = {text: self._memory.pop(text) for text in wanted if text in self._memory}
        found |= self._encode(sorted((text for text in wanted if text not in found), key=len))
        self._memory |= found
        for text in list(self._memory)[: max(0, len(self._memory) - self._kept)]:
            del self._memory[text]
        return found

    def _encode(self, texts: Sequence[str]) -> dict[str, Encoded]:
        import torch

        found: dict[str, Encoded] = {}
        for begin in range(0, len(texts), BATCH):
            part = list(texts[begin : begin + BATCH])
            inputs = self._tokenizer(
                part,
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_special_tokens_mask=True,
                return_tensors="pt",
            )
            special_BT = inputs.pop("special_tokens_mask").numpy().astype(bool)
            counted_BT = inputs["attention_mask"].numpy().astype(bool)
            with torch.inference_mode():
                states_BTD = self._model(**inputs).last_hidden_state.numpy()
            for text, states_TD, counted_T, special_T in zip(part, states_BTD, counted_BT, special_BT, strict=True):
                mean_D = _unit(states_TD[counted_T].mean(axis=0))
                found[text] = Encoded(mean_D, states_TD[counted_T & ~special_T].astype(np.float16))
        return found


def f1(output_TD: np.ndarray, reference_UD: np.ndarray) -> float:
    """BERTScore F1 of two texts from their tokens' states of length 1, −1..1; 0 where one has no token."""
    if not len(output_TD) or not len(reference_UD):
        return 0.0
    cosines_TU = output_TD @ reference_UD.T
    precision, recall = float(cosines_TU.max(axis=1).mean()), float(cosines_TU.max(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _unit(values: np.ndarray) -> np.ndarray:
    """Vectors along the last axis, of length 1."""
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)

"""The models that PAN's shared tasks on text detoxification judge with, by their hub names.

PAN 2024 (pan-webis-de/pan-code, clef24/text-detoxification/evaluate.py): the probability of the neutral class by
textdetox/xlmr-large-toxicity-classifier, the cosine of LaBSE, and chrF, which is no model. PAN 2025 (clef25): the
second version of that classifier, LaBSE, and XCOMET-lite on source, output and reference. Text is cut where the
organisers cut it, so that their figures are reproduced. The organisers' code gives a batch that fails a 0; here it
raises.

Shapes: N texts, B texts of a batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import cached_file

from detox.evaluation.judges import Fluency, Judges, Langs, Neutrality, Similarity, Texts
from detox.evaluation.remembered import Remembered
from detox.models.loading import Location, check_available, commit, explained, locate

PAN2024, PAN2025 = "pan2024", "pan2025"
PAN = (PAN2024, PAN2025)
CLASSIFIERS = {
    PAN2024: "textdetox/xlmr-large-toxicity-classifier",
    PAN2025: "textdetox/xlmr-large-toxicity-classifier-v2",
}
TOKENIZERS = {PAN2025: "cardiffnlp/twitter-xlm-roberta-large-2022"}
"""Where the organisers take another tokenizer than the classifier's own."""
LABSE = "sentence-transformers/LaBSE"
NEUTRAL = 0
"""Output of the classifiers that stands for the neutral class."""
CLASSIFIER_TOKENS, LABSE_TOKENS = 512, 256
BATCH = 32


def pan_judges(year: str, offline: Judges | None = None) -> Judges:
    """The judges of one year.

    Args:
        year: `pan2024` or `pan2025`.
        offline: say what PAN does not: bits a character and BERTScore, and in 2024 the fluency, which is chrF in its J.
            None: these figures are NaN.

    Raises:
        ValueError: a model that is not on this machine and cannot be fetched; names it and what to do.
    """
    neutrality = pan_neutrality(CLASSIFIERS[year], TOKENIZERS.get(year, ""))
    similarity = labse_similarity()
    fluency = offline.fluency if offline else Fluency("none", _unknown)
    if year == PAN2025:
        from detox.evaluation.xcomet import xcomet_fluency

        fluency = xcomet_fluency()
    if offline is None:
        return Judges(neutrality, similarity, fluency)
    return offline._replace(neutrality=neutrality, similarity=similarity, fluency=fluency)


def check_pan_judges(year: str) -> None:
    """Whether the models of `pan_judges` are there, at the price of their config files (of XCOMET-lite, which has none,
    of its weights).

    Raises:
        ValueError: one is not, and cannot be fetched; names it and what to do.
    """
    for name in (CLASSIFIERS[year], TOKENIZERS.get(year, ""), LABSE):
        if name:
            check_available(name)
    if year == PAN2025:
        from detox.evaluation.xcomet import check_xcomet

        check_xcomet()


def pan_neutrality(name: str, tokenizer_name: str = "") -> Neutrality:
    """Softmax probability of the neutral class, by the first 512 tokens."""
    location, revision = _pinned(name)
    tokenizer_location, tokenizer_revision = _pinned(tokenizer_name) if tokenizer_name else (location, revision)
    with explained(location):
        model: Any = AutoModelForSequenceClassification.from_pretrained(location.source, revision=revision)
    with explained(tokenizer_location):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_location.source, revision=tokenizer_revision)
    model = model.to(_device()).eval()

    def neutral(inputs: Any) -> Tensor:
        return model(**inputs).logits.float().softmax(dim=-1)[:, NEUTRAL]

    score = Remembered(lambda texts: batched(texts, tokenizer, CLASSIFIER_TOKENS, neutral).astype(np.float64))
    return Neutrality(f"{name}@{revision[:8]}", lambda texts, langs: score(texts))


def labse_similarity(name: str = LABSE) -> Similarity:
    """Cosine of sentence embeddings as sentence-transformers makes them of LaBSE: the state of the first token through
    a dense layer with tanh, of length 1."""
    location, revision = _pinned(name)
    with explained(location):
        tokenizer = AutoTokenizer.from_pretrained(location.source, revision=revision)
        model: Any = AutoModel.from_pretrained(location.source, revision=revision).to(_device()).eval()
        dense = _dense(location, revision, model.config.hidden_size).to(_device()).eval()

    def embed(inputs: Any) -> Tensor:
        return normalize(torch.tanh(dense(model(**inputs).last_hidden_state[:, 0])), dim=-1)

    vectors = Remembered(lambda texts: batched(texts, tokenizer, LABSE_TOKENS, embed))

    def judge(first: Texts, second: Texts, langs: Langs) -> np.ndarray:
        return (vectors(first) * vectors(second)).sum(axis=-1).astype(np.float64)

    return Similarity(f"{name}@{revision[:8]}", judge)


def batched(texts: Sequence[str], tokenizer: Any, most_tokens: int, forward: Callable[[Any], Tensor]) -> np.ndarray:
    """`forward` of the tokenised texts, by batches of like length; in the order of `texts`, `[N, …]`.

    Raises:
        ValueError: the model returned NaN.
    """
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    parts: list[np.ndarray] = []
    for begin in range(0, len(order), BATCH):
        chosen = [texts[at] for at in order[begin : begin + BATCH]]
        inputs = tokenizer(chosen, padding=True, truncation=True, max_length=most_tokens, return_tensors="pt")
        with torch.inference_mode():
            parts.append(forward(inputs.to(_device())).float().cpu().numpy())
    if not parts:
        return np.zeros(0, np.float32)
    found = np.concatenate(parts)
    if np.isnan(found).any():
        raise ValueError("a judge's model returned NaN: its weights are damaged, fetch them again")
    ordered = np.empty_like(found)
    ordered[order] = found
    return ordered


def _dense(location: Location, revision: str, width: int) -> nn.Linear:
    """The dense layer that sentence-transformers keeps beside the encoder."""
    weights: dict[str, Tensor]
    try:
        weights = load_file(str(cached_file(location.source, "2_Dense/model.safetensors", revision=revision)))
    except OSError:
        path = cached_file(location.source, "2_Dense/pytorch_model.bin", revision=revision)
        weights = torch.load(str(path), map_location="cpu", weights_only=True)
    layer = nn.Linear(width, len(weights["linear.bias"]))
    layer.load_state_dict({"weight": weights["linear.weight"], "bias": weights["linear.bias"]})
    return layer


def _pinned(name: str) -> tuple[Location, str]:
    """Where a model is, and the commit that its name stands for now."""
    location = locate(name)
    with explained(location):
        return location, commit(location)


def _unknown(sources: Texts, outputs: Texts, references: Texts, langs: Langs) -> np.ndarray:
    return np.full(len(outputs), np.nan)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"

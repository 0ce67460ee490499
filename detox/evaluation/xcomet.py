"""XCOMET-lite, PAN 2025's judge of fluency: how good a "translation" of the source an output is, given a reference.

The model of Larionov et al. (EMNLP 2024), a distilled xCOMET (Guerreiro et al. 2024), on mDeBERTa-v3-base. The package
unbabel-comet, which the organisers use, does not install beside transformers 5; so its prediction is computed here, as
its version 2.2.1 does:

- Three inputs a row: output and source, output and reference, all three; each gives a score (the first token's states
  of all layers, mixed by learned weights, through a tanh network) and error labels of the output's tokens (none,
  minor, major, critical; from the states of layer 8).
- Labels are averaged over the inputs as probabilities; runs of labelled tokens are errors, each of the severity of its
  first token, of weight 1, 5 or 10; 25 of them make the worst score.
- The result is 0.12, 0.33 and 0.33 of the three scores, cut at 1, and 0.22 of the score by errors.

Shapes: B rows, T tokens, D width, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from detox.evaluation.judges import Fluency, Langs, Texts
from detox.models.loading import check_available, commit, explained, locate

NAME, ENCODER = "myyycroft/XCOMET-lite", "microsoft/mdeberta-v3-base"
SCORE_WEIGHTS = (0.12, 0.33, 0.33)
ERRORS_WEIGHT = 0.22
LABEL_WEIGHTS = (0.1667, 0.3333, 0.5)
SEVERITIES = (0, 1, 5, 10)
"""Weight of an error by its label; the first means none."""
WORST = 25
WORD_LAYER = 8
MOST_TOKENS = 512
BATCH = 16


def xcomet_fluency(name: str = NAME, encoder: str = ENCODER) -> Fluency:
    """The judge.

    Raises:
        ValueError: a model that is not on this machine and cannot be fetched; names it and what to do.
    """
    base, place = locate(encoder), locate(name)
    with explained(base):
        revision = commit(base)
        config = AutoConfig.from_pretrained(base.source, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(base.source, revision=revision)
    with explained(place):
        path = str(cached_file(place.source, "model.safetensors", revision=place.revision))
    revision, weights = extract_commit_hash(path, None) or place.revision, load_file(path)
    model = XComet(config, weights).to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def judge(sources: Texts, outputs: Texts, references: Texts, langs: Langs) -> np.ndarray:
        order = sorted(range(len(outputs)), key=lambda at: len(sources[at]))
        found_N = np.zeros(len(outputs))
        for begin in range(0, len(order), BATCH):
            part = order[begin : begin + BATCH]
            columns = ([texts[at] for at in part] for texts in (outputs, sources, references))
            found_N[part] = predict(model, tokenizer, *columns)
        return found_N

    return Fluency(f"{name}@{revision[:8]}", judge)


def check_xcomet(name: str = NAME, encoder: str = ENCODER) -> None:
    """Raises:
    ValueError: its weights, or its encoder's config, are not there and cannot be fetched.
    """
    check_available(encoder)
    place = locate(name)
    with explained(place):
        cached_file(place.source, "model.safetensors", revision=place.revision)


class XComet(nn.Module):
    """Encoder and heads, with the published weights.

    Args:
        config: of the encoder.
        weights: by the names that unbabel-comet gives them.
    """

    mix_L: Tensor
    """Weight of each layer's states."""

    def __init__(self, config: Any, weights: dict[str, Tensor], word_layer: int = WORD_LAYER) -> None:
        super().__init__()
        self.encoder: Any = AutoModel.from_config(config, dtype=torch.float32)
        self.encoder.load_state_dict(_below(weights, "encoder.model."))
        self._word_layer = word_layer
        mix = _below(weights, "layerwise_attention.")
        layers = [mix[f"scalar_parameters.{number}"] for number in range(config.num_hidden_layers + 1)]
        self.register_buffer("mix_L", mix["gamma"] * torch.cat(layers).softmax(dim=0))
        self.estimator = nn.Sequential(
            *(_linear(weights, "estimator.ff.0"), nn.Tanh()),
            *(_linear(weights, "estimator.ff.3"), nn.Tanh()),
            _linear(weights, "estimator.ff.6"),
        )
        self.tagger = _linear(weights, "hidden2tag")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Scores `[B]`, and probabilities of error labels `[B, T, C]`."""
        found = self.encoder(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        first_BLD = torch.stack([states[:, 0] for states in found.hidden_states], dim=1)
        mixed_BD = torch.einsum("l,bld->bd", self.mix_L, first_BLD)
        labels_BTC = self.tagger(found.hidden_states[self._word_layer]).softmax(dim=-1)
        return self.estimator(mixed_BD).squeeze(-1), labels_BTC


@torch.inference_mode()
def predict(
    model: XComet, tokenizer: Any, outputs: Sequence[str], sources: Sequence[str], references: Sequence[str]
) -> np.ndarray:
    """What unbabel-comet predicts for these rows, at most 1 `[B]`.

    Raises:
        ValueError: the model returned NaN.
    """
    texts = [_inner(tokenizer, column) for column in (outputs, sources, references)]
    output, source, reference = texts
    device = next(model.parameters()).device
    score_B = torch.zeros(len(outputs), device=device)
    lengths = [len(ids) + 2 for ids in output]  # with the special tokens around it
    labels_BTC = torch.zeros(len(outputs), max(lengths), len(SEVERITIES), device=device)
    inputs = ((output, source), (output, reference), (output, source, reference))
    for segments, score_weight, label_weight in zip(inputs, SCORE_WEIGHTS, LABEL_WEIGHTS, strict=True):
        ids_BT, mask_BT = _joined(tokenizer, segments)
        found_B, found_BTC = model(ids_BT.to(device), mask_BT.to(device))
        score_B += score_weight * found_B.clamp(max=1.0)
        labels_BTC += label_weight * found_BTC[:, : labels_BTC.shape[1]]
    labels = labels_BTC.argmax(dim=-1).tolist()
    by_errors = [errors_score(row[:length]) for row, length in zip(labels, lengths, strict=True)]
    total_B = score_B.cpu().double().numpy() + ERRORS_WEIGHT * np.array(by_errors)
    if np.isnan(total_B).any():
        raise ValueError("XCOMET-lite returned NaN: its weights are damaged, fetch them again")
    return total_B


def errors_score(labels: Sequence[int]) -> float:
    """1 without errors, 0 with errors of weight 25 and more.

    Args:
        labels: of an output's tokens, its special ones included. A run of errors counts once it has ended.
    """
    weight, begun = 0, 0
    for label in labels:
        if label and not begun:
            begun = SEVERITIES[label]
        elif not label:
            weight, begun = weight + begun, 0
    return (WORST - min(weight, WORST)) / WORST


def _inner(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids without the special tokens."""
    found = tokenizer(list(texts), truncation=True, max_length=MOST_TOKENS - 2, add_special_tokens=True)["input_ids"]
    return [ids[1:-1] for ids in found]


def _joined(tokenizer: Any, segments: Sequence[list[list[int]]]) -> tuple[Tensor, Tensor]:
    """Segments with a separator after each, `[CLS] a [SEP] b [SEP]`, padded: ids and mask `[B, T]`."""
    rows = [
        [tokenizer.cls_token_id, *(token for ids in row for token in (*ids, tokenizer.sep_token_id))][:MOST_TOKENS]
        for row in zip(*segments, strict=True)
    ]
    longest = max(map(len, rows))
    ids_BT = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
    mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids_BT, mask_BT


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _linear(weights: dict[str, Tensor], name: str) -> nn.Linear:
    outputs, inputs = weights[f"{name}.weight"].shape
    layer = nn.Linear(inputs, outputs)
    layer.load_state_dict({key: weights[f"{name}.{key}"] for key in ("weight", "bias")})
    return layer

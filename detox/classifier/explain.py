"""Which words made the score: integrated gradients, SHAP and attention rollout.

A long text's score is the maximum over its windows, so its explanation is that of the window that gave the maximum;
words outside it have no weight. Weights of the pieces of a word are added up, and positions are those of the raw
text (`detox.classifier.alignment`).

Shapes: B rows, T tokens, D width of an embedding, N texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import shap
import torch
from captum.attr import IntegratedGradients

from detox.classifier.alignment import Alignment
from detox.classifier.engine import Activation, Engine
from detox.classifier.explanation import Explanation, Method, merge_spans
from detox.classifier.lexicon import UNSPACED
from detox.classifier.model_scorers import TransformerScorer
from detox.classifier.scorer import label_index

STEPS = 64
"""Points on the path of integrated gradients (Gauss-Legendre)."""
EVALUATIONS = 400
"""Masked texts that SHAP may score."""


class Window(NamedTuple):
    """The piece of a text that is explained."""

    text: str
    """The whole cleaned text."""
    ids: list[int]
    offsets: list[tuple[int, int]]
    """Of each token in the cleaned text; (0, 0) for a special token."""
    words: list[int | None]
    """Which word each token is a piece of."""


def explain(
    scorer: TransformerScorer, text: str, label: str = "", method: Method = "integrated_gradients"
) -> Explanation:
    """Explain one label's score of one text.

    Args:
        scorer: a neural scorer; its own cleaning is applied, and undone in the positions.
        text: any text, also one without words (no spans).
        label: empty: the label with the highest score.
        method: `integrated_gradients` (Sundararajan et al. 2017, of the label's log-odds, on the word embeddings,
            against padding), `shap`
            (Lundberg and Lee 2017, a partition of the words, masked ones replaced), or `attention` (rollout, Abnar and
            Zuidema 2020: where the model looks, not what it concludes).

    Raises:
        ValueError: an unknown label or method, a text of more than 50,000 characters, or a model without attention
            from one token to all others.
    """
    if method not in _METHODS:
        raise ValueError(f"there is no method {method!r}: choose one of {', '.join(_METHODS)}")
    cleaned = scorer.clean(text)
    alignment = Alignment(text, cleaned)
    probabilities_L = scorer.engine.probabilities([cleaned])[0]
    label = label or scorer.labels[int(probabilities_L.argmax())]
    column = label_index(scorer.labels, label)
    weighted, delta = _explain(scorer.engine, cleaned, column, method) if cleaned.strip() else ([], 0.0)
    spans = merge_spans(text, [(alignment.span(*span), weight) for span, weight in weighted])
    return Explanation(text, label, method, float(probabilities_L[column]), spans, delta)


Weighted = list[tuple[tuple[int, int], float]]
"""Spans of the cleaned text and their weights."""


def _explain(engine: Engine, cleaned: str, column: int, method: Method) -> tuple[Weighted, float]:
    encoded = engine.encode([cleaned], offsets=True)
    best = int(engine.window_probabilities(encoded["input_ids"])[:, column].argmax())
    window = Window(cleaned, encoded["input_ids"][best], encoded["offset_mapping"][best], encoded.word_ids(best))
    return _METHODS[method](engine, window, column)


def _by_word(window: Window, weights_T: Sequence[float]) -> Weighted:
    """Weights of tokens added up to words; special tokens are left out.

    Where a script puts no spaces between words, each token counts as a word.
    """
    words: dict[tuple[int, int], tuple[tuple[int, int], float]] = {}
    for token, ((begin, end), word, weight) in enumerate(zip(window.offsets, window.words, weights_T, strict=True)):
        if word is None or begin == end:
            continue
        key = (word, token if UNSPACED.search(window.text[begin:end]) else -1)
        (first, last), total = words.get(key, ((begin, end), 0.0))
        words[key] = ((min(first, begin), max(last, end)), total + float(weight))
    return [(_stripped(window.text, span), weight) for span, weight in words.values()]


def _stripped(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Byte-level and SentencePiece tokens begin with the space before the word."""
    begin, end = span
    inner = text[begin:end]
    return begin + len(inner) - len(inner.lstrip()), end


def _integrated_gradients(engine: Engine, window: Window, column: int) -> tuple[Weighted, float]:
    """On the embeddings themselves: padding ids would move positions (RoBERTa) and the token that is read (GPT-2)."""
    ids_BT, mask_BT = engine.pad([window.ids])
    special_T = torch.tensor([word is None for word in window.words], device=ids_BT.device)
    embedding = engine.model.get_input_embeddings()
    inputs_BTD = embedding(ids_BT).detach()
    padding_BTD = embedding(torch.where(special_T, ids_BT, engine.tokenizer.pad_token_id)).detach()
    method = IntegratedGradients(
        lambda embeds, mask: log_odds(
            engine.model(inputs_embeds=embeds, attention_mask=mask).logits, column, engine.activation
        )
    )
    attributions_BTD, delta = method.attribute(
        inputs_BTD,
        padding_BTD,
        additional_forward_args=(mask_BT,),
        n_steps=STEPS,
        internal_batch_size=max(1, engine.batch_tokens // ids_BT.shape[1]),
        return_convergence_delta=True,
    )
    return _by_word(window, attributions_BTD.sum(-1)[0].tolist()), float(delta.item())


def log_odds(logits_BL: torch.Tensor, column: int, activation: Activation) -> torch.Tensor:
    """ln(p / (1 - p)) `[B]` of one label's probability: its logit, or, after a softmax, its logit less the logarithm
    of the other labels' summed exponentials."""
    if activation == "sigmoid":
        return logits_BL[:, column]
    others_BL = torch.cat([logits_BL[:, :column], logits_BL[:, column + 1 :]], dim=1)
    return logits_BL[:, column] - others_BL.logsumexp(dim=1)


def _attention(engine: Engine, window: Window, column: int) -> tuple[Weighted, float]:
    ids_BT, mask_BT = engine.pad([window.ids])
    with eager_attention(engine.model), torch.inference_mode():
        layers = engine.model(input_ids=ids_BT, attention_mask=mask_BT, output_attentions=True).get("attentions")
    if not layers:
        raise ValueError(
            f"{engine.model.config.model_type} gives no attention weights: use method integrated_gradients or shap"
        )
    rollout_TT = torch.eye(ids_BT.shape[1], device=ids_BT.device)
    for attention_BHTT in layers:
        mean_TT = attention_BHTT[0].float().mean(0)
        rollout_TT = (0.5 * mean_TT + 0.5 * torch.eye(len(mean_TT), device=mean_TT.device)) @ rollout_TT
    is_causal = len(window.ids) > 1 and not layers[0][0, :, 0, 1:].any()
    reader = -1 if is_causal else 0  # the token that the head reads: the last one, or [CLS]
    return _by_word(window, rollout_TT[reader].tolist()), 0.0


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """The fused kernels return no weights."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _shap(engine: Engine, window: Window, column: int) -> tuple[Weighted, float]:
    words = [span for span, _ in _by_word(window, [0.0] * len(window.ids))]
    if not words:  # a lone zero-width joiner, say
        return [], 0.0
    mask = engine.tokenizer.mask_token or "..."
    if len(words) == 1:  # nothing to partition
        present, absent = engine.probabilities([window.text, mask])[:, column].tolist()
        return [(words[0], present - absent)], 0.0

    def cut(text: str, return_offsets_mapping: bool = True) -> dict[str, list[Any]]:
        """shap's idea of a tokenizer; it is asked about the text, the mask and the empty string."""
        spans = words if text == window.text else [(0, len(text))] if text else []
        return {"input_ids": list(range(len(spans))), "offset_mapping": spans}

    masker = shap.maskers.Text(cut, mask_token=mask, collapse_mask_token=False)
    explainer = shap.explainers.Partition(lambda texts: engine.probabilities(list(map(str, texts)))[:, column], masker)
    values = explainer([window.text], max_evals=EVALUATIONS, batch_size=64, silent=True).values[0]
    return list(zip(words, map(float, values), strict=True)), 0.0


_METHODS: dict[str, Callable[[Engine, Window, int], tuple[Weighted, float]]] = {
    "integrated_gradients": _integrated_gradients,
    "shap": _shap,
    "attention": _attention,
}

"""Losses of the rewriter: pure functions that return one value a row, and `RewriterLoss`, the one place that sums them.

Cross-entropy is the default; the others push against what it rewards on pairs that share most of their words, the
copy of the source (S2, plan, sections 2 and 4.5; trainer, section 7). Those that need the copy's log-probability are in
`detox.rewriter.preference`. A row without targets (every label `IGNORED`) adds 0. Losses are float32 whatever the
logits are, and logits may be log-probabilities already.

The large tensor of a rewriter is [B, T, V]; each docstring says how many float32 copies of it beside the logits a loss
keeps for the backward pass. Losses on soft outputs share one, `probabilities(logits_BTV)`.

Shapes: B rows, S source tokens, T target tokens, C tokens of copies, K toxic tokens, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from detox.classifier.engine import Activation, activate
from detox.rewriter.loss_settings import LossSettings
from detox.rewriter.preference import IGNORED, Decoded, against_copies, decode, log1mexp, sequence_logprobs


class SoftClassifier(NamedTuple):
    """A classifier that is to read soft outputs, through `inputs_embeds`."""

    model: nn.Module
    """Any `…ForSequenceClassification` that takes `inputs_embeds` and has the policy's vocabulary."""
    toxic_label: int
    """Which of its labels is the loss."""
    activation: Activation = "sigmoid"


class LossParts(NamedTuple):
    """What one micro-batch adds to the loss of its optimizer step."""

    total: Tensor
    """Scalar; `backward` of it accumulates the gradient of the step."""
    parts: dict[str, Tensor]
    """Detached scalars: each loss without its weight, and for preference losses `…_margin` and `…_accuracy`. Summed
    over micro-batches and ranks they are the step's means."""


def cross_entropy(logits_BTV: Tensor, labels_BT: Tensor, smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood of each row `[B]`, summed over its tokens; no copy.

    Args:
        smoothing: as `label_smoothing` in torch. Needs finite logits.
    """
    logits_BTV = logits_BTV.float()
    nll_B = -sequence_logprobs(logits_BTV, labels_BT).sums
    if smoothing == 0:
        return nll_B
    uniform_BT = logits_BTV.logsumexp(dim=2) - logits_BTV.mean(dim=2)
    return (1 - smoothing) * nll_B + smoothing * torch.where(labels_BT != IGNORED, uniform_BT, 0.0).sum(dim=1)


def token_unlikelihood(logits_BTV: Tensor, labels_BT: Tensor, toxic_ids_BK: Tensor) -> Tensor:
    """-log(1 - p(token)) of the source's toxic tokens `[B]`, wherever the token is not the label; no copy.

    The mean over all such pairs of position and token, 0 where there is none (after Welleck et al. 2020).

    Args:
        toxic_ids_BK: tokens of each row's toxic spans, padded with -1.
    """
    logits_BTV = logits_BTV.float()
    index_BTK = toxic_ids_BK.clamp(min=0)[:, None, :].expand(-1, labels_BT.shape[1], -1)
    logprobs_BTK = logits_BTV.gather(2, index_BTK) - logits_BTV.logsumexp(dim=2, keepdim=True)
    counts_BTK = (labels_BT != IGNORED)[..., None] & (toxic_ids_BK >= 0)[:, None] & (index_BTK != labels_BT[..., None])
    return _row_mean(-log1mexp(logprobs_BTK).flatten(1), counts_BTK.flatten(1))


def probabilities(logits_BTV: Tensor) -> Tensor:
    """The soft output; one copy."""
    return logits_BTV.float().softmax(dim=2)


def expected_toxicity(probs_BTV: Tensor, labels_BT: Tensor, toxicity_V: Tensor) -> Tensor:
    """Mean over target positions of sum_v p(v) toxicity(v), of each row `[B]`, in 0..1; no copy.

    Args:
        toxicity_V: of each vocabulary token, 0..1.

    Raises:
        ValueError: another number of weights than of logits.
    """
    if len(toxicity_V) != probs_BTV.shape[2]:
        raise ValueError(
            f"toxic_mass needs a weight for each of the model's {probs_BTV.shape[2]} logits, were {len(toxicity_V)}: "
            "pad them with 0 (models often have more logits than their tokenizer has tokens)"
        )
    with torch.autocast(probs_BTV.device.type, enabled=False):  # it would multiply a bf16 copy
        return _row_mean(probs_BTV @ toxicity_V.to(probs_BTV), labels_BT != IGNORED)


def classifier_toxicity(probs_BTV: Tensor, labels_BT: Tensor, classifier: SoftClassifier) -> Tensor:
    """The probability of toxic that a frozen classifier reads from the soft output, of each row `[B]`; no copy.

    The classifier's gradient is taken at once (`_read_frozen`), so its activations are not kept either.

    Raises:
        ValueError: the classifier has another vocabulary.
    """
    known_BT = labels_BT != IGNORED

    def read(soft_BTD: Tensor) -> Tensor:
        logits_BL = classifier.model(inputs_embeds=soft_BTD, attention_mask=_readable(known_BT)).logits
        return activate(logits_BL.float(), classifier.activation)[:, classifier.toxic_label]

    embedding: Any = classifier.model.get_input_embeddings()  # type: ignore[operator]
    return torch.where(known_BT.any(dim=1), _read_frozen(read, soft_embeddings(probs_BTV, embedding)), 0.0)


def semantic_consistency(
    probs_BTV: Tensor,
    labels_BT: Tensor,
    states_BSD: Tensor,
    source_mask_BS: Tensor,
    encoder: nn.Module,
    embedding: nn.Embedding,
) -> Tensor:
    """1 - cosine of the mean encoder states of source and soft output, of each row `[B]`, in 0..2; no copy.

    The encoder measures here and does not learn: neither its weights nor the embedding get a gradient from this loss,
    or it would learn to call everything alike. Rows with an empty source add 0.

    Args:
        states_BSD: of the source, by the same encoder.
    """
    known_BT, source_BS = labels_BT != IGNORED, source_mask_BS.bool()
    source_BD = _pool(states_BSD.detach(), source_BS)

    def read(soft_BTD: Tensor) -> Tensor:
        states_BTD = encoder(inputs_embeds=soft_BTD, attention_mask=_readable(known_BT)).last_hidden_state
        return 1 - cosine_similarity(_pool(states_BTD, known_BT), source_BD, dim=1)

    counts_B = known_BT.any(dim=1) & source_BS.any(dim=1)
    return torch.where(counts_B, _read_frozen(read, soft_embeddings(probs_BTV, embedding)), 0.0)


def soft_embeddings(probs_BTV: Tensor, embedding: nn.Embedding) -> Tensor:
    """Expected embedding at each position `[B, T, D]`; none of its gradient goes to the embedding.

    No copy; for an embedding in bf16 half of one.

    Raises:
        ValueError: the embedding has another vocabulary.
    """
    if embedding.num_embeddings != probs_BTV.shape[2]:
        raise ValueError(
            f"a soft output of {probs_BTV.shape[2]} tokens can be read only by a model of the same tokenizer, and this "
            f"one embeds {embedding.num_embeddings}: train it with the rewriter's tokenizer, or, where only the "
            f"padding of the vocabulary differs, call resize_token_embeddings({probs_BTV.shape[2]}) on it"
        )
    scale = getattr(embedding, "embed_scale", 1.0)  # BART's family scales inside its embedding module
    with torch.autocast(probs_BTV.device.type, enabled=False):
        return probs_BTV.to(embedding.weight.dtype) @ embedding.weight.detach() * scale


def _read_frozen(read: Callable[[Tensor], Tensor], soft_BTD: Tensor) -> Tensor:
    """`read(soft_BTD)`, one value a row, with its gradient for `soft_BTD` and none for what reads.

    The gradient of the reading is taken here and now, for its input alone. Detaching the reader's weights instead
    would not do: gradient checkpointing runs the reader again with its true ones, and ZeRO-3 keeps them elsewhere.
    """
    if not torch.is_grad_enabled():
        return read(soft_BTD)
    input_BTD = soft_BTD.detach().requires_grad_()
    values_B = read(input_BTD)
    (slopes_BTD,) = torch.autograd.grad(values_B.sum(), input_BTD)
    change_B = (slopes_BTD * (soft_BTD - soft_BTD.detach())).float().sum(dim=(1, 2))  # zero, but for its gradient
    return values_B.detach() + change_B


def _readable(known_BT: Tensor) -> Tensor:
    """An attention mask under which a row without targets reads its first position: attending to nothing is NaN."""
    first_T = torch.arange(known_BT.shape[1], device=known_BT.device) == 0
    return (known_BT | (first_T & ~known_BT.any(dim=1, keepdim=True))).long()


def _pool(states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean state of each row `[B, D]` in float32."""
    return (states_BTD.float() * mask_BT[..., None]).sum(dim=1) / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)


def _row_mean(values_BN: Tensor, counts_BN: Tensor) -> Tensor:
    """Mean of the values that count, 0 for a row without any."""
    return torch.where(counts_BN, values_BN, 0.0).sum(dim=1) / counts_BN.sum(dim=1).clamp(min=1)


@dataclass(frozen=True)
class RewriterLoss:
    """The weighted sum of a micro-batch's losses; build it with `build_loss`.

    A full batch equals the sum of its micro-batches and of its ranks (DDP averages over ranks: multiply by them).
    """

    settings: LossSettings
    toxicity_V: Tensor | None = None
    classifier: SoftClassifier | None = None

    def __call__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> LossParts:
        """Run the encoder once, the decoder once or (where copies are rejected) twice, and sum.

        Args:
            inputs: `input_ids` and `attention_mask` `[B, S]`, `labels` `[B, T]`; `global_tokens` and `global_rows`, the
                target tokens and the rows of the whole optimizer step: the first divides `cross_entropy`, the second
                the rest; and what `settings.inputs` names of `toxic_ids` `[B, K]`, `copy_labels` `[B, C]`,
                `reference_chosen` and `reference_rejected` `[B]`.

        Raises:
            ValueError: an input is missing.
        """
        if missing := [name for name in self.settings.inputs if name not in inputs]:
            raise ValueError(f"the loss {self.settings.weights} needs the inputs {missing}: have the collator add them")
        decoded = decode(model, inputs, inputs["labels"])
        decoded = decoded._replace(logits_BTV=decoded.logits_BTV.float())
        compared = against_copies(self.settings, model, inputs, decoded)
        losses = self._on_tokens(inputs, decoded) | self._on_soft_output(model, inputs, decoded) | compared.losses
        tokens, rows = inputs["global_tokens"], inputs["global_rows"]
        parts = {name: loss_B.sum() / (tokens if name == "cross_entropy" else rows) for name, loss_B in losses.items()}
        total = torch.stack([self.settings.weights[name] * part for name, part in parts.items()]).sum()
        figures = {name: values_B.sum() / rows for name, values_B in compared.figures.items()}
        return LossParts(total, {name: value.detach() for name, value in (parts | figures).items()})

    def _on_tokens(self, inputs: Mapping[str, Tensor], decoded: Decoded) -> dict[str, Tensor]:
        weights, logits_BTV, labels_BT = self.settings.weights, decoded.logits_BTV, inputs["labels"]
        losses = {}
        if "cross_entropy" in weights:
            losses["cross_entropy"] = cross_entropy(logits_BTV, labels_BT, self.settings.label_smoothing)
        if "unlikelihood" in weights:
            losses["unlikelihood"] = token_unlikelihood(logits_BTV, labels_BT, inputs["toxic_ids"])
        return losses

    def _on_soft_output(self, model: nn.Module, inputs: Mapping[str, Tensor], decoded: Decoded) -> dict[str, Tensor]:
        weights, labels_BT = self.settings.weights, inputs["labels"]
        if not weights.keys() & {"toxic_mass", "toxic_classifier", "consistency"}:
            return {}
        probs_BTV, losses = probabilities(decoded.logits_BTV), {}
        if "toxic_mass" in weights:
            assert self.toxicity_V is not None
            losses["toxic_mass"] = expected_toxicity(probs_BTV, labels_BT, self.toxicity_V)
        if "toxic_classifier" in weights:
            assert self.classifier is not None
            losses["toxic_classifier"] = classifier_toxicity(probs_BTV, labels_BT, self.classifier)
        if "consistency" in weights:
            policy: Any = getattr(model, "module", model)
            losses["consistency"] = semantic_consistency(
                probs_BTV,
                labels_BT,
                decoded.states_BSD,
                inputs["attention_mask"],
                policy.get_encoder(),
                policy.get_input_embeddings(),
            )
        return losses


def build_loss(
    settings: LossSettings, toxicity_V: Tensor | None = None, classifier: SoftClassifier | None = None
) -> RewriterLoss:
    """The loss that `settings` describe.

    Args:
        toxicity_V: needed by `toxic_mass`: each vocabulary token's toxicity, 0..1.
        classifier: needed by `toxic_classifier`, on the policy's device; frozen here.

    Raises:
        ValueError: one of them is needed and not given, or a toxicity is outside 0..1.
    """
    if settings.toxic_mass and toxicity_V is None:
        raise ValueError("the loss toxic_mass needs toxicity_V, the toxicity of each token: give it, or weight 0")
    if toxicity_V is not None and not ((toxicity_V >= 0) & (toxicity_V <= 1)).all():
        low, high = float(toxicity_V.min()), float(toxicity_V.max())
        raise ValueError(f"toxicities of tokens must be in 0..1, were {low:g}..{high:g}: clip or rescale them")
    if settings.toxic_classifier and classifier is None:
        raise ValueError("the loss toxic_classifier needs a classifier: give one, or set its weight to 0")
    if classifier is not None:
        classifier.model.eval().requires_grad_(False)
    return RewriterLoss(settings, toxicity_V, classifier)

"""Losses that prefer the reference to a copy of the source: COUNT, ORPO's odds ratio and DPO, for encoder-decoders.

S2's baseline fails by copying, so every pair of a detoxification corpus brings its rejected answer along. Losses are
pure functions of log-probabilities and return one value a row; `against_copies` runs the model for them. (No stable
trainer of TRL takes an encoder-decoder.)

Shapes: B rows, S source tokens, T target tokens, C tokens of copies, N negatives, V vocabulary, D width of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad
from transformers.modeling_outputs import BaseModelOutput

from detox.rewriter.loss_settings import LossSettings

IGNORED = -100
"""Label of a position that is no target, as in torch and transformers."""


class Decoded(NamedTuple):
    """What a forward pass gives."""

    logits_BTV: Tensor
    states_BSD: Tensor
    """Last states of the encoder."""


class Logprobs(NamedTuple):
    """Log-probabilities of target sequences, float32, and how many tokens each has; `[B]`, or `[B, N]` of copies."""

    sums: Tensor
    counts: Tensor

    @property
    def means(self) -> Tensor:
        """A token; 0 for a row without targets."""
        return self.sums / self.counts.clamp(min=1)


class Preference(NamedTuple):
    """A preference loss of each row, with what is worth logging (detached)."""

    losses_B: Tensor
    chosen_B: Tensor
    """Implicit reward of the chosen answer."""
    rejected_B: Tensor


class AgainstCopies(NamedTuple):
    """What `against_copies` finds, by name, each `[B]`."""

    losses: dict[str, Tensor]
    figures: dict[str, Tensor]
    """`…_margin`, the chosen reward less the rejected one, and `…_accuracy`, 1 where that is above 0 (detached); both 0
    where a row's copy is its reference."""


def sequence_logprobs(logits_BTV: Tensor, labels_BT: Tensor) -> Logprobs:
    """How likely the labels are; `IGNORED` ones add nothing.

    Keeps nothing of the size of float32 logits for the backward pass (`log_softmax` would keep a copy), and a float32
    copy of narrower ones. Logits that are log-probabilities already give the same values.
    """
    logits_BTV = logits_BTV.float()
    known_BT = labels_BT != IGNORED
    chosen_BT = logits_BTV.gather(2, labels_BT.clamp(min=0)[..., None]).squeeze(2)
    logprobs_BT = torch.where(known_BT, chosen_BT - logits_BTV.logsumexp(dim=2), 0.0)
    return Logprobs(logprobs_BT.sum(dim=1), known_BT.sum(dim=1))


def log1mexp(logprobs: Tensor) -> Tensor:
    """log(1 - e^x) of x <= 0, any shape.

    x is held at -1e-6 and below, since float32 cannot tell e^x from 1 above. The gradient passes that bound: a
    token that has become certain is the very one that has to come down again.
    """
    excess = (logprobs + 1e-6).clamp(min=0).detach()
    return (-torch.expm1(logprobs - excess)).log()


def contrastive_unlikelihood(reference_B: Tensor, copies_BN: Tensor, keep_BN: Tensor | None = None) -> Tensor:
    """COUNT, -log(e^s(y|x) / (e^s(y|x) + sum_n e^s(x_n|x))), of each row `[B]` (Pour et al., EMNLP Findings 2023).

    With one negative, the row's own source, that is softplus(s(x|x) - s(y|x)).

    Args:
        reference_B, copies_BN: s, the mean log-probability a token (minus the mean NLL).
        keep_BN: which copies are negatives; None: all. A row without any gives 0.
    """
    behind_BN = copies_BN - reference_B[:, None]
    if keep_BN is not None:
        behind_BN = behind_BN.masked_fill(~keep_BN, -torch.inf)
    return torch.cat([torch.zeros_like(behind_BN[:, :1]), behind_BN], dim=1).logsumexp(dim=1)


def odds_ratio(chosen_B: Tensor, rejected_B: Tensor) -> Preference:
    """ORPO's second term, -log sigmoid(log odds(chosen) - log odds(rejected)) (Hong et al. 2024, equations 4 and 7).

    The first term is the cross-entropy of the chosen answer; this one comes to it times beta.

    Args:
        chosen_B: mean log-probability a token, so that length does not decide; p = e^mean, odds = p / (1 - p).
        rejected_B: the same of the rejected answers.

    Returns:
        Rewards are the means themselves (TRL logs them times beta).
    """
    log_odds_B = (chosen_B - log1mexp(chosen_B)) - (rejected_B - log1mexp(rejected_B))
    return Preference(-logsigmoid(log_odds_B), chosen_B.detach(), rejected_B.detach())


def dpo(
    chosen_B: Tensor,
    rejected_B: Tensor,
    reference_chosen_B: Tensor,
    reference_rejected_B: Tensor,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Preference:
    """Direct preference optimisation (Rafailov et al. 2023, equation 7).

    Args:
        chosen_B, rejected_B: log-probabilities of whole sequences (sums) under the policy.
        reference_chosen_B, reference_rejected_B: the same under the reference; no gradient goes there.
        beta: above 0; the larger, the nearer to the reference.
        label_smoothing: in 0..0.5, the share of pairs taken to be the wrong way round (Mitchell 2023).

    Returns:
        Rewards are beta times the log-ratio of policy and reference.
    """
    chosen_reward_B = beta * (chosen_B - reference_chosen_B.detach())
    rejected_reward_B = beta * (rejected_B - reference_rejected_B.detach())
    margins_B = chosen_reward_B - rejected_reward_B
    losses_B = -(1 - label_smoothing) * logsigmoid(margins_B) - label_smoothing * logsigmoid(-margins_B)
    return Preference(losses_B, chosen_reward_B.detach(), rejected_reward_B.detach())


def decode(
    model: nn.Module, inputs: Mapping[str, Tensor], labels_BT: Tensor, states_BSD: Tensor | None = None
) -> Decoded:
    """Logits of the labels under teacher forcing.

    Args:
        model: an encoder-decoder, wrapped (PEFT, DDP) or not.
        inputs: `input_ids` and `attention_mask`, `[B, S]`.
        states_BSD: the encoder's states from an earlier pass over the same sources, so that it need not run again;
            the source's ids go along all the same, since a copy head reads them.
    """
    config: Any = getattr(model, "module", model).config  # DDP and DeepSpeed keep the model in `module`
    known = {} if states_BSD is None else {"encoder_outputs": BaseModelOutput(last_hidden_state=states_BSD)}
    outputs = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        decoder_input_ids=_shift_right(labels_BT, config.decoder_start_token_id, config.pad_token_id),
        use_cache=False,
        **known,
    )
    return Decoded(outputs.logits, outputs.encoder_last_hidden_state)


def _shift_right(labels_BT: Tensor, start_id: int, pad_id: int) -> Tensor:
    """What the decoder reads to say the labels. (Given labels, the model would shift them itself, but would also
    compute a loss, with a copy of the logits.)"""
    shifted_BT = pad(labels_BT[:, :-1], (1, 0), value=start_id)
    return shifted_BT.masked_fill(shifted_BT == IGNORED, pad_id)


@torch.no_grad()
def reference_logprobs(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What DPO needs of its reference: log-probabilities `[B]` of `labels` and of `copy_labels`.

    Call it with dropout off, on a frozen copy or, with LoRA, inside `with model.disable_adapter():`.
    """
    chosen = decode(model, inputs, inputs["labels"])
    rejected = decode(model, inputs, inputs["copy_labels"], chosen.states_BSD)
    return (
        sequence_logprobs(chosen.logits_BTV, inputs["labels"]).sums,
        sequence_logprobs(rejected.logits_BTV, inputs["copy_labels"]).sums,
    )


def against_copies(
    settings: LossSettings, model: nn.Module, inputs: Mapping[str, Tensor], decoded: Decoded
) -> AgainstCopies:
    """The losses `contrast`, `odds_ratio` and `dpo`, as far as they are on.

    They share one decoder pass over the copies, with as many logits again as the references have, and B times as many
    where all sources of the micro-batch are negatives. Rows whose copy is the reference have nothing to prefer: 0.
    """
    found = AgainstCopies({}, {})
    if not settings.weights.keys() & {"contrast", "odds_ratio", "dpo"}:
        return found
    in_batch = settings.contrast > 0 and settings.contrast_negatives == "batch"
    chosen = sequence_logprobs(decoded.logits_BTV, inputs["labels"])
    copies_BN = _copy_logprobs(model, inputs, decoded.states_BSD, in_batch)
    negative_BB = _negatives(inputs["labels"], inputs["copy_labels"])
    has_pair_B = negative_BB.diagonal()
    rejected = Logprobs(*(values.diagonal() if in_batch else values[:, 0] for values in copies_BN))
    if settings.contrast:
        keep_BN = negative_BB if in_batch else has_pair_B[:, None]
        found.losses["contrast"] = contrastive_unlikelihood(chosen.means, copies_BN.means, keep_BN)
    preferences = {}
    if settings.odds_ratio:
        preferences["odds_ratio"] = odds_ratio(chosen.means, rejected.means)
    if settings.dpo:
        references = inputs["reference_chosen"], inputs["reference_rejected"]
        smoothing = settings.dpo_label_smoothing
        preferences["dpo"] = dpo(chosen.sums, rejected.sums, *references, settings.dpo_beta, smoothing)
    for name, preference in preferences.items():
        margins_B = preference.chosen_B - preference.rejected_B
        found.losses[name] = preference.losses_B.where(has_pair_B, 0.0)
        found.figures[f"{name}_margin"] = margins_B.where(has_pair_B, 0.0)
        found.figures[f"{name}_accuracy"] = ((margins_B > 0) & has_pair_B).float()
    return found


def _copy_logprobs(model: nn.Module, inputs: Mapping[str, Tensor], states_BSD: Tensor, in_batch: bool) -> Logprobs:
    """How likely each source makes its own copy `[B, 1]` or (`in_batch`) each copy of the micro-batch `[B, B]`."""
    times = len(states_BSD) if in_batch else 1
    sources = {name: inputs[name].repeat_interleave(times, dim=0) for name in ("input_ids", "attention_mask")}
    labels = inputs["copy_labels"].repeat(times, 1)
    decoded = decode(model, sources, labels, states_BSD.repeat_interleave(times, dim=0))
    return Logprobs(*(values.view(-1, times) for values in sequence_logprobs(decoded.logits_BTV, labels)))


def _negatives(labels_BT: Tensor, copies_BC: Tensor) -> Tensor:
    """Which source is a negative of which row, bool `[B, B]`: not one that is the row's reference, which Pour et al.'s
    code would push down, nor anything of a row without targets."""
    width = max(labels_BT.shape[1], copies_BC.shape[1])
    wide_BT = pad(labels_BT, (0, width - labels_BT.shape[1]), value=IGNORED)
    wide_BC = pad(copies_BC, (0, width - copies_BC.shape[1]), value=IGNORED)
    known_B = (labels_BT != IGNORED).any(dim=1)
    return ~(wide_BT[:, None] == wide_BC[None]).all(dim=2) & known_B[:, None] & known_B[None]

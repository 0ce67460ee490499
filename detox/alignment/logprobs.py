"""Log-probabilities of tokens from the states below a language model's output layer, without its logits.

A batch of N tokens over a vocabulary of V has N x V logits, and what autograd keeps of a log-softmax is as large again:
for T5 at 128 tokens a row that is more memory than all of its layers take. But a token's log-probability is a single
number, so its gradient with respect to the state is a single vector of the state's width: it is computed along with
the value, a chunk of tokens at a time, and only that is kept. The same holds for the entropy. (Liger's fused
cross-entropy, Hsu et al. 2024, does the like for a loss that is summed already.)

Shapes: N tokens, C tokens of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 23
"""Logits that exist at a time: 32 MiB in float32."""
CACHED_ROWS = 8
"""Tokens whose logits lie in a CPU's cache: 1 MiB of T5's, 5 MiB of the largest vocabularies."""
LEAST = torch.finfo(torch.float32).min
"""In the place of the logarithm of 0."""


class TokenLogprobs(NamedTuple):
    logprobs_N: Tensor
    """float32, nats, at most 0."""
    entropy_N: Tensor | None
    """Of the whole distribution that the token was drawn from, float32, nats; None: not asked for."""


Entropy = Literal["none", "value", "gradient"]
"""Whether it is computed, and whether it has a gradient too; each takes passes over the logits, the latter a product
with the weights as well."""


def token_logprobs(
    states_ND: Tensor,
    weight_VD: Tensor,
    tokens_N: Tensor,
    bias_V: Tensor | None = None,
    temperature: float = 1.0,
    entropy: Entropy = "value",
) -> TokenLogprobs:
    """log softmax((W h + b) / temperature) of each token, and the entropy of that distribution.

    Args:
        states_ND: what the output layer is given.
        weight_VD, bias_V: of the output layer; a trained one gets its gradient, for which the logits are computed
            again.
    """
    bias = weight_VD.new_zeros(0) if bias_V is None else bias_V
    found = _TokenLogprobs.apply(states_ND, weight_VD, bias, tokens_N, temperature, entropy)
    return TokenLogprobs(*found)


def logprobs_of_logits(
    logits_NV: Tensor, tokens_N: Tensor, temperature: float = 1.0, entropy: Entropy = "gradient"
) -> TokenLogprobs:
    """The same of a model that does not end in a linear layer, by way of its logits."""
    all_NV = (logits_NV.float() / temperature).log_softmax(-1)
    chosen_N = all_NV.gather(1, tokens_N[:, None])[:, 0]
    if entropy == "none":
        return TokenLogprobs(chosen_N, None)
    with nullcontext() if entropy == "gradient" else torch.no_grad():
        entropy_N = -(all_NV.exp() * all_NV.clamp(min=LEAST)).sum(1)
    return TokenLogprobs(chosen_N, entropy_N)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor,
        tokens_N: Tensor,
        temperature: float,
        entropy: Entropy,
    ) -> tuple[Tensor, Tensor | None]:
        states_wanted, weight_wanted, bias_wanted = ctx.needs_input_grad[:3]
        ctx.trains_layer = weight_wanted or bias_wanted
        ctx.temperature, ctx.entropy, ctx.states_dtype = temperature, entropy, states_ND.dtype
        kind = states_ND.device.type
        ctx.autocast = {"device_type": kind, "dtype": torch.get_autocast_dtype(kind)}
        ctx.autocast["enabled"] = torch.is_autocast_enabled(kind)
        keeps = states_wanted and not ctx.trains_layer
        found = [
            _of_chunk(states_ND[part], weight_VD, bias_V, temperature, tokens_N[part], entropy, keeps)
            for part in _chunks(len(states_ND), len(weight_VD))
        ]
        logprobs_N = torch.cat([chunk.logprobs_C for chunk in found])
        entropy_N, by_logprob_ND, by_entropy_ND = map(_joined, list(zip(*found, strict=True))[1:])
        if ctx.trains_layer:
            ctx.save_for_backward(states_ND, weight_VD, bias_V, tokens_N)
        else:
            ctx.save_for_backward(by_logprob_ND, by_entropy_ND)
        if entropy == "value":
            ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        logprob_N, entropy_N = gradients
        if ctx.trains_layer:
            with torch.autocast(**ctx.autocast):
                return (*_layer_gradients(ctx, logprob_N, entropy_N), None, None, None)
        by_logprob_ND, by_entropy_ND = ctx.saved_tensors
        states_ND = by_logprob_ND * logprob_N[:, None]
        if by_entropy_ND is not None:
            states_ND = states_ND + by_entropy_ND * entropy_N[:, None]
        return states_ND.to(ctx.states_dtype), None, None, None, None, None


class _OfChunk(NamedTuple):
    logprobs_C: Tensor
    entropy_C: Tensor | None
    by_logprob_CD: Tensor | None
    """What the log-probability's gradient with respect to the state is a multiple of."""
    by_entropy_CD: Tensor | None


def _of_chunk(
    states_CD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor,
    temperature: float,
    tokens_C: Tensor,
    entropy: Entropy,
    keeps: bool,
) -> _OfChunk:
    """All that is left of a chunk's logits; with `keeps` what its gradients need too."""
    said = _said(states_CD, weight_VD, bias_V, temperature, tokens_C, entropy)
    if not keeps:
        return _OfChunk(said.logprobs_C, said.entropy_C, None, None)
    by_entropy_CD = None
    if said.entropy_slopes_CV is not None:
        by_entropy_CD = said.entropy_slopes_CV.to(weight_VD.dtype) @ weight_VD / temperature
    # one minus the chance before the product: after it, in bfloat16, next to nothing but rounding would be left of a
    # token that the model is sure of
    slopes_CV = said.chances_CV.neg_()
    slopes_CV.scatter_add_(1, tokens_C[:, None], torch.ones_like(slopes_CV[:, :1]))
    by_logprob_CD = slopes_CV.to(weight_VD.dtype) @ weight_VD / temperature
    return _OfChunk(said.logprobs_C, said.entropy_C, by_logprob_CD, by_entropy_CD)


def _layer_gradients(ctx: Any, logprob_N: Tensor, entropy_N: Tensor) -> tuple[Tensor | None, ...]:
    """Of states, weight and bias, from logits that are computed again."""
    states_ND, weight_VD, bias_V, tokens_N = ctx.saved_tensors
    by_states_ND, by_weight_VD = torch.zeros_like(states_ND), torch.zeros_like(weight_VD, dtype=torch.float32)
    by_bias_V = torch.zeros_like(bias_V, dtype=torch.float32)
    entropy: Entropy = "gradient" if ctx.entropy == "gradient" else "none"
    for part in _chunks(len(states_ND), len(weight_VD)):
        said = _said(states_ND[part], weight_VD, bias_V, ctx.temperature, tokens_N[part], entropy)
        logits_CV = said.chances_CV.mul_(-logprob_N[part, None])
        logits_CV.scatter_add_(1, tokens_N[part, None], logprob_N[part, None])
        if said.entropy_slopes_CV is not None:
            logits_CV += said.entropy_slopes_CV.mul_(entropy_N[part, None])
        scaled_CV = logits_CV.div_(ctx.temperature).to(weight_VD.dtype)
        by_states_ND[part] = (scaled_CV @ weight_VD).to(states_ND.dtype)
        by_weight_VD += scaled_CV.T @ states_ND[part].to(weight_VD.dtype)
        if len(bias_V):
            by_bias_V += scaled_CV.sum(0)
    wanted = zip(ctx.needs_input_grad[:3], (by_states_ND, by_weight_VD, by_bias_V), strict=True)
    return tuple(gradient.to(weight_VD.dtype) if is_wanted else None for is_wanted, gradient in wanted)


class _Said(NamedTuple):
    """What a chunk of states says; the caller may write into the tensors."""

    logprobs_C: Tensor
    chances_CV: Tensor
    entropy_C: Tensor | None
    entropy_slopes_CV: Tensor | None
    """The entropy's derivative by each logit."""


def _said(
    states_CD: Tensor, weight_VD: Tensor, bias_V: Tensor, temperature: float, tokens_C: Tensor, entropy: Entropy
) -> _Said:
    """The passes over the logits write where they read, and on a CPU go over as much as its cache holds: at the size of
    a vocabulary, each into memory of its own, they would cost as much as the product."""
    logits_CV = (states_CD.to(weight_VD.dtype) @ weight_VD.T).float()
    rows = CACHED_ROWS if logits_CV.device.type == "cpu" else len(logits_CV)
    found = [
        _softmax(logits_RV, bias_V, temperature, tokens_R, entropy != "none")
        for logits_RV, tokens_R in zip(logits_CV.split(rows), tokens_C.split(rows), strict=True)
    ]
    logprobs_C, chances_CV = torch.cat([logprobs_R for logprobs_R, _ in found]), logits_CV
    if entropy == "none":
        return _Said(logprobs_C, chances_CV, None, None)
    entropy_C = torch.cat([entropy_R for _, entropy_R in found])
    if entropy == "value":
        return _Said(logprobs_C, chances_CV, entropy_C, None)
    slopes_CV = _logs(chances_CV).add_(entropy_C[:, None]).mul_(chances_CV).neg_()
    return _Said(logprobs_C, chances_CV, entropy_C, slopes_CV)


def _softmax(
    logits_RV: Tensor, bias_V: Tensor, temperature: float, tokens_R: Tensor, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Turns the logits into chances in their place; log-probabilities of the tokens and entropies, 0 without."""
    if len(bias_V):
        logits_RV += bias_V
    if temperature != 1:
        logits_RV /= temperature
    logits_RV -= logits_RV.amax(-1, keepdim=True)
    chosen_R = logits_RV.gather(1, tokens_R[:, None])[:, 0]
    mass_R = logits_RV.exp_().sum(-1)
    logits_RV /= mass_R[:, None]
    # no product of vectors, which autocast would take in bfloat16
    entropy_R = -_logs(logits_RV).mul_(logits_RV).sum(-1) if with_entropy else torch.zeros_like(mass_R)
    return (chosen_R - mass_R.log()).clamp(min=LEAST), entropy_R


def _logs(chances_RV: Tensor) -> Tensor:
    """Finite, so that a token that cannot be adds 0 to the entropy and not NaN."""
    return chances_RV.log().clamp_(min=LEAST)


def _joined(chunks: Sequence[Tensor | None]) -> Tensor | None:
    """None where there is none of any chunk."""
    known = [chunk for chunk in chunks if chunk is not None]
    return torch.cat(known) if known else None


def _chunks(tokens: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_LOGITS // vocabulary)
    return [slice(begin, begin + size) for begin in range(0, max(1, tokens), size)]

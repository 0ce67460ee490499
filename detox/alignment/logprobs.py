"""Log-probabilities of tokens from the states below a language model's output layer, without its logits.

A batch of N tokens over a vocabulary of V has N x V logits, and what autograd keeps of a log-softmax is as large again:
for T5 at 128 tokens a row that is more memory than all of its layers take. But a token's log-probability is a single
number, so its gradient with respect to the state is a single vector of the state's width: it is computed along with
the value, a chunk of tokens at a time, and only that is kept. The same holds for the entropy. (Liger's fused
cross-entropy, Hsu et al. 2024, does the like for a loss that is summed already.)

Shapes: N tokens, C tokens of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 22
"""Logits that exist at a time: 16 MiB in float32."""


class TokenLogprobs(NamedTuple):
    logprobs_N: Tensor
    """float32, nats, at most 0."""
    entropy_N: Tensor
    """Of the whole distribution that the token was drawn from, float32, nats."""


def token_logprobs(
    states_ND: Tensor,
    weight_VD: Tensor,
    tokens_N: Tensor,
    bias_V: Tensor | None = None,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
) -> TokenLogprobs:
    """log softmax((W h + b) / temperature) of each token, and the entropy of that distribution.

    Args:
        states_ND: what the output layer is given.
        weight_VD, bias_V: of the output layer; a trained one gets its gradient, for which the logits are computed
            again.
        entropy_gradient: False: the entropy is for reading only, which spares a product with the weights.
    """
    bias = weight_VD.new_zeros(0) if bias_V is None else bias_V
    found = _TokenLogprobs.apply(states_ND, weight_VD, bias, tokens_N, temperature, entropy_gradient)
    return TokenLogprobs(*found)


def logprobs_of_logits(
    logits_NV: Tensor, tokens_N: Tensor, temperature: float = 1.0, entropy_gradient: bool = True
) -> TokenLogprobs:
    """The same of a model that does not end in a linear layer, by way of its logits."""
    all_NV = (logits_NV.float() / temperature).log_softmax(-1)
    chosen_N = all_NV.gather(1, tokens_N[:, None])[:, 0]
    with nullcontext() if entropy_gradient else torch.no_grad():
        entropy_N = -(all_NV.exp() * all_NV.clamp(min=torch.finfo(all_NV.dtype).min)).sum(1)
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
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        states_wanted, weight_wanted, bias_wanted = ctx.needs_input_grad[:3]
        ctx.trains_layer = weight_wanted or bias_wanted
        ctx.temperature, ctx.entropy_gradient = temperature, entropy_gradient
        kind = states_ND.device.type
        ctx.autocast = {"device_type": kind, "dtype": torch.get_autocast_dtype(kind)}
        ctx.autocast["enabled"] = torch.is_autocast_enabled(kind)
        keeps = states_wanted and not ctx.trains_layer
        logprobs_N = states_ND.new_empty(len(states_ND), dtype=torch.float32)
        entropy_N = torch.empty_like(logprobs_N)
        by_logprob_ND = torch.empty_like(states_ND) if keeps else None
        by_entropy_ND = torch.empty_like(states_ND) if keeps and entropy_gradient else None
        for part in _chunks(len(states_ND), len(weight_VD)):
            logs_CV = _log_softmax(states_ND[part], weight_VD, bias_V, temperature)
            logprobs_N[part] = logs_CV.gather(1, tokens_N[part, None])[:, 0]
            chances_CV = logs_CV.exp()
            entropy_N[part] = -torch.linalg.vecdot(chances_CV, logs_CV)
            if by_entropy_ND is not None:
                slopes_CV = logs_CV.add_(entropy_N[part, None]).mul_(chances_CV)
                by_entropy_ND[part] = slopes_CV.to(weight_VD.dtype) @ weight_VD / -temperature
            if by_logprob_ND is not None:
                # one minus the chance before the product: after it, in bfloat16, next to nothing but rounding would be
                # left of a token that the model is sure of
                ones_C1 = torch.ones_like(chances_CV[:, :1])
                slopes_CV = chances_CV.neg_().scatter_add_(1, tokens_N[part, None], ones_C1)
                by_logprob_ND[part] = slopes_CV.to(weight_VD.dtype) @ weight_VD / temperature
        if ctx.trains_layer:
            ctx.save_for_backward(states_ND, weight_VD, bias_V, tokens_N, entropy_N)
        else:
            ctx.save_for_backward(by_logprob_ND, by_entropy_ND)
        if not entropy_gradient:
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
        return states_ND.to(by_logprob_ND.dtype), None, None, None, None, None


def _layer_gradients(ctx: Any, logprob_N: Tensor, entropy_N: Tensor) -> tuple[Tensor | None, ...]:
    """Of states, weight and bias, from logits that are computed again."""
    states_ND, weight_VD, bias_V, tokens_N, entropies_N = ctx.saved_tensors
    by_states_ND, by_weight_VD = torch.zeros_like(states_ND), torch.zeros_like(weight_VD, dtype=torch.float32)
    by_bias_V = torch.zeros_like(bias_V, dtype=torch.float32)
    for part in _chunks(len(states_ND), len(weight_VD)):
        logs_CV = _log_softmax(states_ND[part], weight_VD, bias_V, ctx.temperature)
        chances_CV = logs_CV.exp()
        logits_CV = chances_CV * -logprob_N[part, None]
        logits_CV.scatter_add_(1, tokens_N[part, None], logprob_N[part, None])
        if ctx.entropy_gradient:
            logits_CV -= logs_CV.add_(entropies_N[part, None]).mul_(chances_CV) * entropy_N[part, None]
        scaled_CV = (logits_CV / ctx.temperature).to(weight_VD.dtype)
        by_states_ND[part] = (scaled_CV @ weight_VD).to(states_ND.dtype)
        by_weight_VD += scaled_CV.T @ states_ND[part].to(weight_VD.dtype)
        if len(bias_V):
            by_bias_V += scaled_CV.sum(0)
    wanted = zip(ctx.needs_input_grad[:3], (by_states_ND, by_weight_VD, by_bias_V), strict=True)
    return tuple(gradient.to(weight_VD.dtype) if is_wanted else None for is_wanted, gradient in wanted)


def _log_softmax(states_CD: Tensor, weight_VD: Tensor, bias_V: Tensor, temperature: float) -> Tensor:
    """float32 `[C, V]`; a token that cannot be (a logit of minus infinity) is held at the least number, so that its
    share of the entropy is 0 and not NaN."""
    logits_CV = (states_CD.to(weight_VD.dtype) @ weight_VD.T).float()
    if len(bias_V):
        logits_CV += bias_V
    if temperature != 1:
        logits_CV /= temperature
    return logits_CV.log_softmax(-1).clamp_(min=torch.finfo(torch.float32).min)


def _chunks(tokens: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_LOGITS // vocabulary)
    return [slice(begin, begin + size) for begin in range(0, tokens, size)]

"""Log-probabilities without logits: equal, in values and gradients, to what autograd makes of a log-softmax."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detox.alignment import logprobs
from detox.alignment.logprobs import Entropy, TokenLogprobs, logprobs_of_logits, token_logprobs


def by_autograd(
    states_ND: Tensor, weight_VD: Tensor, tokens_N: Tensor, bias_V: Tensor | None, temperature: float, entropy: Entropy
) -> TokenLogprobs:
    logits_NV = states_ND @ weight_VD.T + (0 if bias_V is None else bias_V)
    return logprobs_of_logits(logits_NV, tokens_N, temperature, entropy)


@pytest.mark.parametrize("trains_layer", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("entropy", ["none", "value", "gradient"])
def test_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch, trains_layer: bool, with_bias: bool, entropy: Entropy
) -> None:
    """11 tokens over 13 words in chunks of 2; each token's value and entropy weigh differently."""
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 2 * 13)
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(*shape, generator=generator) for shape in ((11, 5), (13, 5), (13,), (11,), (11,))]
    states_ND, weight_VD, bias_V, by_logprob_N, by_entropy_N = draw
    tokens_N = torch.randint(13, (11,), generator=generator)
    gradients = []
    for function in (by_autograd, token_logprobs):
        leaves = [states_ND.clone().requires_grad_(), weight_VD.clone().requires_grad_(trains_layer)]
        bias = bias_V.clone().requires_grad_(trains_layer) if with_bias else None
        found = function(*leaves, tokens_N, bias, 0.7, entropy)
        loss = (found.logprobs_N * by_logprob_N).sum()
        if entropy == "gradient":
            loss = loss + (found.entropy_N * by_entropy_N).sum()
        loss.backward()
        gradients.append(
            [found.logprobs_N, found.entropy_N, *(leaf.grad for leaf in (*leaves, bias) if leaf is not None)]
        )
    for wanted, got in zip(*gradients, strict=True):
        assert (wanted is None) == (got is None)
        if wanted is not None:
            torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_nothing_of_the_size_of_the_logits_is_kept() -> None:
    states_ND = torch.randn(64, 8, requires_grad=True)
    weight_VD = torch.randn(5000, 8)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_logprobs(states_ND, weight_VD, torch.zeros(64, dtype=torch.long), entropy="gradient")
    assert kept
    assert sum(kept) <= 2 * states_ND.numel()


@pytest.mark.parametrize("trains_layer", [False, True])
def test_bfloat16_gives_the_gradient_of_a_token_that_is_sure(trains_layer: bool) -> None:
    """At a chance of 0.999 what is left is one minus it: within 5 % of float32's, as autograd's own is."""
    generator = torch.Generator().manual_seed(0)
    weight_VD = torch.randn(500, 64, generator=generator)
    state_D = weight_VD[7] * 0.17
    found = []
    for enabled in (False, True):
        states_ND = state_D[None].clone().requires_grad_()
        leaf_VD = weight_VD.clone().requires_grad_(trains_layer)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            said = token_logprobs(states_ND, leaf_VD, torch.tensor([7]))
        said.logprobs_N.sum().backward()
        assert states_ND.grad is not None
        found.append((float(said.logprobs_N.detach().exp()), states_ND.grad))
    (chance, wanted), (_, got) = found
    assert 0.99 < chance < 0.9999
    assert float((got - wanted).norm() / wanted.norm()) < 0.05


@pytest.mark.parametrize("entropy", ["none", "value", "gradient"])
def test_autocast_leaves_float32_to_what_is_said(entropy: Entropy) -> None:
    """Logits of bfloat16 differ by 1 in 256; sums over the vocabulary must not add to that."""
    generator = torch.Generator().manual_seed(0)
    weight_VD, states_ND = (torch.randn(size, 64, generator=generator) * 0.3 for size in (5000, 20))
    states_ND.requires_grad_()
    tokens_N = torch.arange(20)
    with torch.autocast("cpu", torch.bfloat16):
        found = token_logprobs(states_ND, weight_VD, tokens_N, entropy=entropy)
        logits_NV = states_ND @ weight_VD.T
    wanted = logprobs_of_logits(logits_NV.float(), tokens_N, entropy=entropy)
    for got, right in zip(found, wanted, strict=True):
        assert (got is None) == (right is None)
        if got is not None and right is not None:
            torch.testing.assert_close(got, right, atol=1e-4, rtol=1e-5)
    sum(each.sum() for each in found if each is not None).backward()  # type: ignore[union-attr]
    assert states_ND.grad is not None
    assert states_ND.grad.dtype == torch.float32


def test_a_token_that_cannot_be_does_not_break_the_entropy() -> None:
    logits_NV = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert logprobs_of_logits(logits_NV, torch.tensor([0])).entropy_N.item() == pytest.approx(0.6931, abs=1e-4)

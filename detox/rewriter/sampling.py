"""Greedy decoding and sampling: each hypothesis on its own way, token by token.

Shapes: B rows of a batch, C copies (samples) a row, R live hypotheses, t tokens so far with the decoder's start token,
V vocabulary, M steps at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detox.rewriter.decoder import NAN, Batch, Candidate, Decoder, candidate, controlled
from detox.rewriter.generation_settings import GenerationSettings

BLOCK = 256
"""Tokens whose chances are summed before the token is looked for among them."""


class _Hypotheses(NamedTuple):
    """Live hypotheses, each on its own way."""

    number_R: Tensor
    """row of the batch x C + copy"""
    row_R: Tensor
    """Number of the input row."""
    limit_R: Tensor
    draws_RM: Tensor
    """Uniform draws of each step; M is 0 for greedy decoding."""
    prefixes_Rt: Tensor
    score_R: Tensor
    """Sums over the tokens: of log-probabilities where they are asked for, else of logits. Of scores that are NaN or
    infinite the greatest is taken, and shows in either."""

    def select(self, kept_R: Tensor) -> _Hypotheses:
        return _Hypotheses(*(field[kept_R] for field in self))

    def grown(self, tokens_R: Tensor, score_R: Tensor) -> _Hypotheses:
        prefixes_Rt = torch.cat([self.prefixes_Rt, tokens_R[:, None]], dim=1)
        return self._replace(prefixes_Rt=prefixes_Rt, score_R=self.score_R + score_R)


def walk(decoder: Decoder, batch: Batch, settings: GenerationSettings, draws_RM: Tensor) -> list[list[Candidate]]:
    """Each hypothesis goes on, token by token, until EOS or its limit."""
    copies = settings.candidates
    live = _beginnings(batch, copies, draws_RM)
    found: list[Any] = [None] * len(live.number_R)
    logits_RV = decoder.first_logits(batch.ids, copies)
    for step in range(int(batch.limits_B.max())):
        scores_RV = controlled(batch, live.prefixes_Rt, live.row_R, logits_RV)
        is_greedy = settings.mode == "greedy"
        tokens_R = scores_RV.argmax(-1) if is_greedy else sample(scores_RV, live.draws_RM[:, step], settings)
        score_R = logits_RV.gather(1, tokens_R[:, None])[:, 0]
        live = live.grown(tokens_R, score_R - logits_RV.logsumexp(1) if settings.logprobs else score_R)
        ended_R = torch.isin(tokens_R, batch.ids.eos_E)
        stops_R = ended_R | (live.limit_R == step + 1)
        if stops_R.any():
            stopped = live.select(stops_R)
            for number, tokens, score, ended in _read(stopped, ended_R[stops_R]):
                found[number] = candidate(tokens, score, ended, settings.logprobs)
            if stops_R.all():
                break
            kept_R = (~stops_R).nonzero()[:, 0]
            live = live.select(kept_R)
            decoder.drop_others(kept_R)
        logits_RV = decoder.logits(live.prefixes_Rt)
    return [found[first : first + copies] for first in range(0, len(found), copies)]


def _beginnings(batch: Batch, copies: int, draws_RM: Tensor) -> _Hypotheses:
    device, count = batch.limits_B.device, len(batch.rows) * copies
    return _Hypotheses(
        number_R=torch.arange(count, device=device),
        row_R=torch.from_numpy(batch.rows).to(device).repeat_interleave(copies),
        limit_R=batch.limits_B.repeat_interleave(copies),
        draws_RM=draws_RM,
        prefixes_Rt=torch.full((count, 1), batch.ids.start, device=device),
        score_R=torch.zeros(count, device=device),
    )


def _read(stopped: _Hypotheses, ended_R: Tensor) -> Iterator[tuple[int, list[int], float, bool]]:
    """Number, tokens with EOS, score of each, and whether it ended."""
    return zip(
        stopped.number_R.tolist(),
        stopped.prefixes_Rt[:, 1:].tolist(),
        stopped.score_R.tolist(),
        ended_R.tolist(),
        strict=True,
    )


def draws(batch: Batch, settings: GenerationSettings, seed: int, numbers: Sequence[int]) -> Tensor:
    """`[R, M]` for the copies of each row; no columns for greedy decoding."""
    if settings.mode == "greedy":
        return torch.empty((len(batch.rows), 0), device=batch.limits_B.device)
    steps = int(batch.limits_B.max())
    rows = [uniforms(seed, numbers[row], settings.candidates, steps) for row in batch.rows]
    return torch.from_numpy(np.concatenate(rows)).to(batch.limits_B.device)


def uniforms(seed: int, row: int, copies: int, steps: int) -> np.ndarray:
    """float64 `[copies, steps]` in [0, 1) of one row; more copies or more steps leave the others as they are."""
    copies_of = (np.random.Philox(key=[seed, row], counter=[0, copy, 0, 0]) for copy in range(copies))
    return np.stack([np.random.Generator(bits).random(steps) for bits in copies_of])


def sample(scores_RV: Tensor, draws_R: Tensor, settings: GenerationSettings) -> Tensor:
    """The token `[R]` at which the distribution function of each row passes its draw.

    Temperature, `top_k` and `top_p` act in this order, as in transformers. Likelier tokens come first where one of the
    latter is on, else tokens go by their ids, which spares the sorting.

    Raises:
        ValueError: scores that are NaN or infinite.
    """
    if settings.temperature != 1:
        scores_RV = scores_RV / settings.temperature
    if not settings.top_k and settings.top_p == 1:
        return _inverted(scores_RV.softmax(-1), draws_R)
    scores_RV, tokens_RV = scores_RV.topk(min(settings.top_k or scores_RV.shape[1], scores_RV.shape[1]), dim=-1)
    cumulative_RV = scores_RV.softmax(-1).cumsum(-1, dtype=torch.float64)
    count_R = torch.full_like(draws_R, cumulative_RV.shape[1], dtype=torch.int64)
    if settings.top_p < 1:
        count_R = (cumulative_RV < settings.top_p).sum(-1) + 1  # the token that reaches top_p is in
    mass_R = cumulative_RV.gather(1, (count_R - 1)[:, None])[:, 0]
    _check(mass_R)
    index_R = torch.searchsorted(cumulative_RV, (draws_R * mass_R)[:, None], right=True)[:, 0]
    return tokens_RV.gather(1, torch.minimum(index_R, count_R - 1)[:, None])[:, 0]


def _inverted(chances_RV: Tensor, draws_R: Tensor) -> Tensor:
    """The token `[R]` at which the sum of the chances passes the draw's share of it: first its block of tokens, then
    the token. The sums need doubles, whose error over 250,000 tokens does not show; a sum over all of them in doubles
    would take longer than the softmax.
    """
    size = chances_RV.shape[1]
    whole, rest = divmod(size, BLOCK)
    masses_RN = chances_RV[:, : whole * BLOCK].unflatten(1, (whole, BLOCK)).sum(-1)
    if rest:
        masses_RN = torch.cat([masses_RN, chances_RV[:, -rest:].sum(-1, keepdim=True)], 1)
    masses_RN = masses_RN.double()
    cumulative_RN = masses_RN.cumsum(-1)
    _check(cumulative_RN[:, -1])
    wanted_R1 = draws_R[:, None] * cumulative_RN[:, -1:]
    block_R1 = torch.searchsorted(cumulative_RN, wanted_R1, right=True).clamp(max=masses_RN.shape[1] - 1)
    mass_R1 = masses_RN.gather(1, block_R1)
    share_R1 = (wanted_R1 - (cumulative_RN.gather(1, block_R1) - mass_R1)) / mass_R1
    tokens_RK = block_R1 * BLOCK + torch.arange(BLOCK, device=block_R1.device)
    inside_RK = torch.where(tokens_RK < size, chances_RV.gather(1, tokens_RK.clamp(max=size - 1)), 0.0)
    cumulative_RK = inside_RK.cumsum(-1, dtype=torch.float64)
    index_R1 = torch.searchsorted(cumulative_RK, share_R1 * cumulative_RK[:, -1:], right=True)
    return (block_R1 * BLOCK + index_R1.clamp(max=BLOCK - 1)).clamp(max=size - 1)[:, 0]


def _check(mass_R: Tensor) -> None:
    if mass_R.isnan().any():
        raise ValueError(NAN)

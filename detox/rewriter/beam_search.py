"""Beam search, plain and diverse.

Shapes: B rows of a batch, S live searches (row x group) of K beams each, R = S x K live hypotheses, t tokens so far
with the decoder's start token, V vocabulary, P continuations looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from detox.rewriter.decoder import NAN, Batch, Candidate, Decoder, candidate, controlled
from detox.rewriter.generation_settings import GenerationSettings


class _Searches(NamedTuple):
    """Live searches: one a row and group, each with K beams."""

    number_S: Tensor
    """row of the batch x G + group"""
    row_S: Tensor
    """Number of the input row."""
    limit_S: Tensor
    totals_SK: Tensor
    """Sum of the controlled log-probabilities, by which beams are chosen."""
    logprob_SK: Tensor
    """Sum of the model's own."""
    prefixes_SKt: Tensor

    def select(self, kept_S: Tensor) -> _Searches:
        return _Searches(*(field[kept_S] for field in self))


class _Continuations(NamedTuple):
    """The best continuations of each search, best first."""

    beam_SP: Tensor
    token_SP: Tensor
    total_SP: Tensor
    logprob_SP: Tensor
    stops_SP: Tensor
    ended_SP: Tensor


class _Finished(NamedTuple):
    score: float
    candidate: Candidate


def search(decoder: Decoder, batch: Batch, settings: GenerationSettings) -> list[list[Candidate]]:
    """Beam search in groups (Vijayakumar et al. 2016); with one group the plain one, as transformers does it.

    Each group is a search of its own. Groups choose in their order, and a token loses `diversity` for each hypothesis
    of an earlier group of its row that goes on with it at this step (Hamming diversity). That steers the choice only:
    beams are carried on, and candidates ranked, by their log-probability. EOS costs nothing, since to end in the same
    place is no likeness.

    A search is over when it has K finished candidates, none of which the best live beam, at its present length, would
    beat: transformers' rule, `early_stopping=False`. At the limit the live beams count as candidates.
    """
    groups, beams = settings.groups, settings.beams // settings.groups
    live = _first_searches(batch, groups, beams)
    pools: list[list[_Finished]] = [[] for _ in live.number_S]
    logits_RV = decoder.first_logits(batch.ids, settings.beams)
    for length in range(1, int(batch.limits_B.max()) + 1):
        best = _continue(live, logits_RV, length, batch, settings)
        _collect(live, best, length, pools, beams, settings)
        parents_SK, live = _go_on(live, best)
        open_S = _open(live, length, pools, beams, settings)
        if not len(open_S):
            break
        firsts_S1 = torch.arange(len(parents_SK), device=parents_SK.device)[:, None] * beams
        decoder.select((firsts_S1 + parents_SK)[open_S].flatten())
        live = live.select(open_S)
        logits_RV = decoder.logits(live.prefixes_SKt.flatten(0, 1))
    return [_ranked(pools[first : first + groups], settings) for first in range(0, len(pools), groups)]


def _first_searches(batch: Batch, groups: int, beams: int) -> _Searches:
    """All beams of a search stand on the start token, and all but the first count for nothing."""
    device, count = batch.limits_B.device, len(batch.rows) * groups
    totals_SK = torch.full((count, beams), -torch.inf, device=device)
    totals_SK[:, 0] = 0
    return _Searches(
        number_S=torch.arange(count, device=device),
        row_S=torch.from_numpy(batch.rows).to(device).repeat_interleave(groups),
        limit_S=batch.limits_B.repeat_interleave(groups),
        totals_SK=totals_SK,
        logprob_SK=torch.zeros_like(totals_SK),
        prefixes_SKt=torch.full((count, beams, 1), batch.ids.start, device=device),
    )


def _continue(
    live: _Searches, logits_RV: Tensor, length: int, batch: Batch, settings: GenerationSettings
) -> _Continuations:
    """Enough continuations of each search that K of them go on, whatever ends."""
    searches, beams = live.totals_SK.shape
    plain_RV = logits_RV.log_softmax(-1)
    rows_R = live.row_S.repeat_interleave(beams)
    scores_RV = controlled(batch, live.prefixes_SKt.flatten(0, 1), rows_R, plain_RV)
    totals_SKV = live.totals_SK[:, :, None] + scores_RV.view(searches, beams, -1)
    looked_at = min((1 + len(batch.ids.eos_E)) * beams, totals_SKV[0].numel())
    if settings.groups == 1:
        index_SP = totals_SKV.flatten(1).topk(looked_at).indices
    else:
        index_SP = _diverse(totals_SKV, live, looked_at, batch, settings)
    vocabulary = totals_SKV.shape[-1]
    beam_SP, token_SP = index_SP // vocabulary, index_SP % vocabulary
    ended_SP = torch.isin(token_SP, batch.ids.eos_E)
    return _Continuations(
        beam_SP,
        token_SP,
        totals_SKV.flatten(1).gather(1, index_SP),
        live.logprob_SK.gather(1, beam_SP) + plain_RV.view(searches, -1).gather(1, index_SP),
        ended_SP | (live.limit_S == length)[:, None],
        ended_SP,
    )


def _diverse(totals_SKV: Tensor, live: _Searches, looked_at: int, batch: Batch, settings: GenerationSettings) -> Tensor:
    """The choice `[S, P]` of each group, made in their order."""
    _, beams, vocabulary = totals_SKV.shape
    groups_S, rows_S = live.number_S % settings.groups, live.number_S // settings.groups
    index_SP = torch.empty((len(groups_S), looked_at), dtype=torch.int64, device=totals_SKV.device)
    chosen_BV = totals_SKV.new_zeros((len(batch.rows), vocabulary))
    for group in range(settings.groups):
        mine = (groups_S == group).nonzero()[:, 0]
        penalised = totals_SKV[mine] - settings.diversity * chosen_BV[rows_S[mine]][:, None]
        index_SP[mine] = penalised.flatten(1).topk(looked_at).indices
        tokens = index_SP[mine] % vocabulary
        going_on = _first_of(~torch.isin(tokens, batch.ids.eos_E), beams)
        tokens = tokens.gather(1, going_on)
        ones = torch.ones_like(tokens, dtype=chosen_BV.dtype)
        chosen_BV.index_put_((rows_S[mine][:, None].expand_as(tokens), tokens), ones, accumulate=True)
    return index_SP


def _first_of(wanted_SP: Tensor, count: int) -> Tensor:
    """Columns `[S, count]` of the first wanted ones, in their order; unwanted ones fill up."""
    return (~wanted_SP).int().argsort(dim=1, stable=True)[:, :count]


def _collect(
    live: _Searches,
    best: _Continuations,
    length: int,
    pools: list[list[_Finished]],
    beams: int,
    settings: GenerationSettings,
) -> None:
    """Put what stops now among a search's finished candidates, of which the K best stay. Only the first K
    continuations count: the others were looked at as a reserve."""
    reachable_SP = best.stops_SP & best.total_SP.isfinite()
    for search, place in reachable_SP[:, :beams].nonzero().tolist():
        beam, token = int(best.beam_SP[search, place]), int(best.token_SP[search, place])
        tokens = [*live.prefixes_SKt[search, beam, 1:].tolist(), token]
        logprob, ended = float(best.logprob_SP[search, place]), bool(best.ended_SP[search, place])
        score = float(best.total_SP[search, place]) / length**settings.length_penalty
        pool = pools[int(live.number_S[search])]
        pool.append(_Finished(score, candidate(tokens, logprob, ended)))
        pool.sort(key=lambda finished: -finished.score)
        del pool[beams:]


def _go_on(live: _Searches, best: _Continuations) -> tuple[Tensor, _Searches]:
    """The K beams of each search that go on, and which beams they continue `[S, K]`."""
    places_SK = _first_of(~best.stops_SP, live.totals_SK.shape[1])
    parents_SK = best.beam_SP.gather(1, places_SK)
    prefixes_SKt = live.prefixes_SKt.gather(1, parents_SK[:, :, None].expand_as(live.prefixes_SKt))
    tokens_SK1 = best.token_SP.gather(1, places_SK)[:, :, None]
    return parents_SK, live._replace(
        totals_SK=best.total_SP.gather(1, places_SK),
        logprob_SK=best.logprob_SP.gather(1, places_SK),
        prefixes_SKt=torch.cat([prefixes_SKt, tokens_SK1], dim=2),
    )


def _open(
    live: _Searches, length: int, pools: Sequence[list[_Finished]], beams: int, settings: GenerationSettings
) -> Tensor:
    """The searches `[S']` that are not over."""
    hopes_S = (live.totals_SK.amax(1) / length**settings.length_penalty).tolist()
    open_S = []
    for search, (number, limit, hope) in enumerate(
        zip(live.number_S.tolist(), live.limit_S.tolist(), hopes_S, strict=True)
    ):
        if math.isnan(hope):
            raise ValueError(NAN)
        pool = pools[number]
        is_decided = len(pool) == beams and hope <= pool[-1].score
        if limit > length and not is_decided and hope > -math.inf:
            open_S.append(search)
    return torch.tensor(open_S, dtype=torch.int64, device=live.number_S.device)


def _ranked(pools: Sequence[list[_Finished]], settings: GenerationSettings) -> list[Candidate]:
    """Distinct candidates of a row, best first; each group gives its best before any gives its second.

    Raises:
        ValueError: there is none, since the controls forbade all ways on.
    """
    distinct: dict[tuple[tuple[int, ...], bool], _Finished] = {}
    for finished in (one for turn in zip_longest(*pools) for one in turn if one is not None):
        key = (tuple(finished.candidate.tokens), finished.candidate.finished)
        if key not in distinct or finished.score > distinct[key].score:
            distinct[key] = finished
    if not distinct:
        raise ValueError("the controls must leave a text some token at each step, and left none: take one of them away")
    chosen = list(distinct.values())[: settings.candidates]
    return [finished.candidate for finished in sorted(chosen, key=lambda finished: -finished.score)]

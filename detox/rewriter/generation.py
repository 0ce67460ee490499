"""Batched generation of encoder-decoders: greedy, sampled, by beams, by diverse beams.

Rows are sorted by length and cut into batches of a token budget. The encoder runs once a batch; the decoder is given
the last token of each live hypothesis and keeps the rest in its cache. A hypothesis that ends leaves the batch at
once: its rows of the cache, of the encoder's states and of the mask are dropped, so nothing is computed for finished
texts. What a row gets depends on the row alone, not on the rows beside it (to float rounding: a tie of two tokens to
the seventh digit can go either way).

Sampling inverts the distribution function at uniform draws of a counter-based generator (Philox) whose key is (seed,
row number) and whose counter is (sample, step): each draw is a function of these four numbers and of nothing else.

Every rank makes as many forward passes as its own rows need, so weights that ranks share out (ZeRO-3, FSDP) must be
gathered first.

Shapes: N input rows, B rows of a batch, C copies (samples) a row, R live hypotheses, t tokens so far with the
decoder's start token, T source tokens, V vocabulary; S live searches (row x group) of K beams each, P continuations
looked at, M steps at most.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from detox.classifier.batching import pad_rows, token_batches
from detox.rewriter.decoding import Control, Step, from_logits_processor
from detox.rewriter.generation_settings import GenerationSettings

LEAST_TOKENS = 32
"""Source tokens that a row counts for at least: where rows are short, the scores `[R, V]` fill the memory."""

PREFIX = "decoder_prefix_ids"
"""What a model whose `forward` has it is given beside the last token: all tokens so far (`detox.models.copying`)."""

NAN = "the model's scores are NaN: its weights are broken, or in float16, which is too narrow for T5: use bfloat16"


class Candidate(NamedTuple):
    """A generated text."""

    tokens: list[int]
    """As the model chose them, without the start token and EOS."""
    logprob: float
    """Sum of the model's own log-probabilities of the tokens, EOS included where there is one: no temperature, no
    control, as teacher forcing would give it."""
    finished: bool
    """It ended with EOS, not at the length limit."""


class _Ids(NamedTuple):
    start: int
    pad: int
    eos_E: Tensor


class _Batch(NamedTuple):
    """What the decoding of one batch needs beside the settings."""

    rows: np.ndarray
    """Numbers of the input rows `[B]`."""
    limits_B: Tensor
    """Most tokens of a candidate."""
    ids: _Ids
    controls: Sequence[Control]


def generate(
    model: Any,
    rows: Sequence[Sequence[int]],
    settings: GenerationSettings,
    controls: Sequence[Control] = (),
    seed: int = 0,
    row_numbers: Sequence[int] | None = None,
) -> list[list[Candidate]]:
    """Candidates of each row, in the order of `rows`; an empty list gives an empty list.

    Args:
        model: an encoder-decoder of transformers in evaluation mode, with adapters that live in its layers (LoRA) or
            without. What its decoder needs of the source must be among the encoder's outputs, as for `model.generate`.
        rows: encoder token ids with EOS, without padding.
        controls: change the scores at each step, in their order, after `no_repeat_ngram` and `repetition_penalty`;
            prepared for `rows`, so that row i of theirs is row i here. As in transformers they see logits, in beam
            search log-probabilities.
        seed: of sampling.
        row_numbers: what stands for the rows in the sampling key; None: their positions. Who cuts a list into parts
            gives the positions in the whole, and the cut does not show.

    Raises:
        ValueError: a row without tokens, a model in training mode, a prompt-learning adapter, scores that are NaN,
            controls that forbid every beam.
    """
    _check(model, rows)
    lengths_N = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    numbers = range(len(rows)) if row_numbers is None else row_numbers
    ids = _special_ids(model)
    controls = [*_own_controls(settings), *controls]
    results: list[list[Candidate]] = [[] for _ in rows]
    with torch.inference_mode():
        for picked in _batches(lengths_N, settings, model.device):
            limits_B = torch.from_numpy(_limits(lengths_N[picked], settings)).to(model.device)
            batch = _Batch(picked, limits_B, ids, controls)
            decoder = _Decoder(model, [np.asarray(rows[row]) for row in picked], ids)
            if settings.mode == "beam":
                found = _search(decoder, batch, settings)
            else:
                found = _walk(decoder, batch, settings, _draws(batch, settings, seed, numbers))
            for row, candidates in zip(picked.tolist(), found, strict=True):
                results[row] = candidates
    return results


def _check(model: Any, rows: Sequence[Sequence[int]]) -> None:
    if model.training:
        raise ValueError("generation needs a model in evaluation mode, was in training mode: call model.eval() first")
    adapter = getattr(model, "active_peft_config", None)
    if adapter is not None and adapter.is_prompt_learning:
        raise ValueError(
            f"generation needs adapters that live in the layers, and {adapter.peft_type} puts tokens before the text: "
            "use LoRA"
        )
    empty = next((number for number, row in enumerate(rows) if not len(row)), None)
    if empty is not None:
        raise ValueError(f"a row must have at least one token, and row {empty} has none: tokenise with special tokens")


def _special_ids(model: Any) -> _Ids:
    start, pad, eos = (_special_id(model, f"{name}_token_id") for name in ("decoder_start", "pad", "eos"))
    return _Ids(start, pad, torch.tensor(eos if isinstance(eos, list) else [eos], device=model.device))


def _special_id(model: Any, name: str) -> Any:
    found = getattr(model.generation_config, name, None)
    return getattr(model.config, name) if found is None else found


def _own_controls(settings: GenerationSettings) -> Iterator[Control]:
    """transformers' processors in transformers' order."""
    if settings.repetition_penalty != 1:
        yield from_logits_processor(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.no_repeat_ngram:
        yield from_logits_processor(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram))


def _batches(lengths_N: np.ndarray, settings: GenerationSettings, device: torch.device) -> Iterator[np.ndarray]:
    """Row numbers of each batch, longest first: what does not fit into memory fails at once."""
    budget = settings.batch_tokens or (4096 if device.type == "cpu" else 32_768)
    copies = settings.beams if settings.mode == "beam" else settings.candidates
    costs_N = np.maximum(lengths_N, LEAST_TOKENS) * copies
    return token_batches(np.argsort(-lengths_N, kind="stable"), costs_N, budget)


def _limits(lengths_B: np.ndarray, settings: GenerationSettings) -> np.ndarray:
    """Most tokens of each row's candidates."""
    if not settings.max_length_ratio:
        return np.full(len(lengths_B), settings.max_new_tokens)
    relative_B = np.ceil(lengths_B * settings.max_length_ratio).astype(np.int64)
    return np.clip(relative_B, 1, settings.max_new_tokens)


class _Decoder:
    """The decoder of one batch with its cache, the encoder's outputs and their mask; row r of each is hypothesis r."""

    def __init__(self, model: Any, rows: Sequence[np.ndarray], ids: _Ids) -> None:
        padded = pad_rows(rows, ids.pad)
        self._model = model
        self._mask_RT = padded["attention_mask"].to(model.device)
        self._encoded = model.get_encoder()(
            input_ids=padded["input_ids"].to(model.device), attention_mask=self._mask_RT, return_dict=True
        )
        self._cache: Any = None
        plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # without adapters
        self._reads_prefix = PREFIX in inspect.signature(plain.forward).parameters

    def logits(self, prefixes_Rt: Tensor) -> Tensor:
        """float32 `[R, V]` of what follows; all but the last token of each hypothesis is in the cache already."""
        output = self._model(
            attention_mask=self._mask_RT,
            encoder_outputs=self._encoded,
            decoder_input_ids=prefixes_Rt[:, -1:],
            **({PREFIX: prefixes_Rt} if self._reads_prefix else {}),
            past_key_values=self._cache,
            use_cache=True,
            return_dict=True,
        )
        self._cache = output.past_key_values
        return output.logits[:, -1].float()

    def first_logits(self, ids: _Ids, copies: int) -> Tensor:
        """Those of the start token, computed once a row and copied, as the cache is."""
        device, rows = self._mask_RT.device, len(self._mask_RT)
        logits_BV = self.logits(torch.full((rows, 1), ids.start, device=device))
        if copies == 1:
            return logits_BV
        spread_R = torch.arange(rows, device=device).repeat_interleave(copies)
        self.select(spread_R)
        return logits_BV[spread_R]

    def select(self, indices_R: Tensor) -> None:
        """Go on with these hypotheses: drops, reorders and copies."""
        # takes any number of rows, as `batch_select_indices` does, in a quarter of its time
        self._cache.reorder_cache(indices_R)
        self._mask_RT = self._mask_RT.index_select(0, indices_R)
        for name, value in self._encoded.items():
            if isinstance(value, Tensor):
                self._encoded[name] = value.index_select(0, indices_R)


def _controlled(batch: _Batch, prefixes_Rt: Tensor, rows_R: Tensor, scores_RV: Tensor) -> Tensor:
    """What the controls make of the scores; they may write into the copy that they get."""
    if not batch.controls:
        return scores_RV
    step, scores_RV = Step(prefixes_Rt, rows_R), scores_RV.clone()
    for control in batch.controls:
        scores_RV = control(step, scores_RV)
    return scores_RV


# Greedy decoding and sampling


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
    logprob_R: Tensor

    def select(self, kept_R: Tensor) -> _Hypotheses:
        return _Hypotheses(*(field[kept_R] for field in self))

    def grown(self, tokens_R: Tensor, logprob_R: Tensor) -> _Hypotheses:
        prefixes_Rt = torch.cat([self.prefixes_Rt, tokens_R[:, None]], dim=1)
        return self._replace(prefixes_Rt=prefixes_Rt, logprob_R=self.logprob_R + logprob_R)


def _walk(decoder: _Decoder, batch: _Batch, settings: GenerationSettings, draws_RM: Tensor) -> list[list[Candidate]]:
    """Each hypothesis goes on, token by token, until EOS or its limit."""
    copies = settings.candidates
    live = _beginnings(batch, copies, draws_RM)
    found: list[Any] = [None] * len(live.number_R)
    logits_RV = decoder.first_logits(batch.ids, copies)
    for step in range(int(batch.limits_B.max())):
        scores_RV = _controlled(batch, live.prefixes_Rt, live.row_R, logits_RV)
        is_greedy = settings.mode == "greedy"
        tokens_R = scores_RV.argmax(-1) if is_greedy else sample(scores_RV, live.draws_RM[:, step], settings)
        live = live.grown(tokens_R, -cross_entropy(logits_RV, tokens_R, reduction="none"))
        ended_R = torch.isin(tokens_R, batch.ids.eos_E)
        stops_R = ended_R | (live.limit_R == step + 1)
        if stops_R.any():
            stopped = live.select(stops_R)
            for number, tokens, logprob, ended in _read(stopped, ended_R[stops_R]):
                found[number] = _candidate(tokens, logprob, ended)
            if stops_R.all():
                break
            kept_R = (~stops_R).nonzero()[:, 0]
            live = live.select(kept_R)
            decoder.select(kept_R)
        logits_RV = decoder.logits(live.prefixes_Rt)
    return [found[first : first + copies] for first in range(0, len(found), copies)]


def _beginnings(batch: _Batch, copies: int, draws_RM: Tensor) -> _Hypotheses:
    device, count = batch.limits_B.device, len(batch.rows) * copies
    return _Hypotheses(
        number_R=torch.arange(count, device=device),
        row_R=torch.from_numpy(batch.rows).to(device).repeat_interleave(copies),
        limit_R=batch.limits_B.repeat_interleave(copies),
        draws_RM=draws_RM,
        prefixes_Rt=torch.full((count, 1), batch.ids.start, device=device),
        logprob_R=torch.zeros(count, device=device),
    )


def _read(stopped: _Hypotheses, ended_R: Tensor) -> Iterator[tuple[int, list[int], float, bool]]:
    """Number, tokens with EOS, log-probability of each, and whether it ended."""
    return zip(
        stopped.number_R.tolist(),
        stopped.prefixes_Rt[:, 1:].tolist(),
        stopped.logprob_R.tolist(),
        ended_R.tolist(),
        strict=True,
    )


def _candidate(tokens: list[int], logprob: float, ended: bool) -> Candidate:
    if math.isnan(logprob):
        raise ValueError(NAN)
    return Candidate(tokens[:-1] if ended else tokens, logprob, ended)


def _draws(batch: _Batch, settings: GenerationSettings, seed: int, numbers: Sequence[int]) -> Tensor:
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
    """
    scores_RV = scores_RV / settings.temperature
    tokens_RV = None
    if settings.top_k or settings.top_p < 1:
        scores_RV, tokens_RV = scores_RV.topk(min(settings.top_k or scores_RV.shape[1], scores_RV.shape[1]), dim=-1)
    # doubles: the error of 250,000 float32 additions would show in the draws
    cumulative_RV = scores_RV.softmax(-1).cumsum(-1, dtype=torch.float64)
    count_R = torch.full_like(draws_R, cumulative_RV.shape[1], dtype=torch.int64)
    if settings.top_p < 1:
        count_R = (cumulative_RV < settings.top_p).sum(-1) + 1  # the token that reaches top_p is in
    mass_R = cumulative_RV.gather(1, (count_R - 1)[:, None])[:, 0]
    index_R = torch.searchsorted(cumulative_RV, (draws_R * mass_R)[:, None], right=True)[:, 0]
    index_R = torch.minimum(index_R, count_R - 1)
    return index_R if tokens_RV is None else tokens_RV.gather(1, index_R[:, None])[:, 0]


# Beam search


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


def _search(decoder: _Decoder, batch: _Batch, settings: GenerationSettings) -> list[list[Candidate]]:
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


def _first_searches(batch: _Batch, groups: int, beams: int) -> _Searches:
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
    live: _Searches, logits_RV: Tensor, length: int, batch: _Batch, settings: GenerationSettings
) -> _Continuations:
    """Enough continuations of each search that K of them go on, whatever ends."""
    searches, beams = live.totals_SK.shape
    plain_RV = logits_RV.log_softmax(-1)
    rows_R = live.row_S.repeat_interleave(beams)
    scores_RV = _controlled(batch, live.prefixes_SKt.flatten(0, 1), rows_R, plain_RV)
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


def _diverse(
    totals_SKV: Tensor, live: _Searches, looked_at: int, batch: _Batch, settings: GenerationSettings
) -> Tensor:
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
        pool.append(_Finished(score, _candidate(tokens, logprob, ended)))
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

"""Batched generation of encoder-decoders and causal models: greedy, sampled, by beams, by diverse beams.

Rows are sorted by length and cut into batches of a token budget. The encoder runs once a batch; the decoder is given
the last token of each live hypothesis and keeps the rest in its cache. Hypotheses that have ended leave the batch as
soon as they are an eighth of it (in beam search at once): their rows of the cache, of the encoder's states and of the
mask are dropped. What a row gets depends on the row alone, not on the rows beside it (to float rounding: a tie of two
tokens to the seventh digit can go either way).

Sampling inverts the distribution function at uniform draws of a counter-based generator (Philox) whose key is (seed,
row number) and whose counter is (sample, step): each draw is a function of these four numbers and of nothing else.

Every rank makes as many forward passes as its own rows need, so weights that ranks share out (ZeRO-3, FSDP) must be
gathered first.

Shapes: N input rows, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from detox.classifier.batching import token_batches
from detox.rewriter.beam_search import search
from detox.rewriter.control import Control, from_logits_processor
from detox.rewriter.decoder import Batch, Candidate, Ids, decoder_of
from detox.rewriter.generation_settings import GenerationSettings
from detox.rewriter.sampling import draws, walk

LEAST_TOKENS = 32
"""Source tokens that a row counts for at least: where rows are short, the scores `[R, V]` fill the memory."""


def generate(
    model: Any,
    rows: Sequence[Sequence[int]],
    settings: GenerationSettings,
    controls: Sequence[Control] = (),
    seed: int = 0,
    row_numbers: Sequence[int] | None = None,
    limits: Sequence[int] | None = None,
) -> list[list[Candidate]]:
    """Candidates of each row, in the order of `rows`; an empty list gives an empty list.

    Args:
        model: of transformers, in evaluation mode, with adapters that live in its layers (LoRA) or without. What an
            encoder-decoder needs of the source must be among the encoder's outputs, as for `model.generate`.
        rows: token ids without padding: the encoder's with EOS, or a causal model's prompt without.
        controls: change the scores at each step, in their order, after `no_repeat_ngram` and `repetition_penalty`;
            prepared for `rows`, so that row i of theirs is row i here. As in transformers they see logits, in beam
            search log-probabilities.
        seed: of sampling.
        row_numbers: what stands for the rows in the sampling key; None: their positions. Who cuts a list into parts
            gives the positions in the whole, and the cut does not show.
        limits: most tokens of each row's candidates, EOS included; None: as the settings have it.

    Raises:
        ValueError: a row without tokens, a model in training mode, a prompt-learning adapter, scores that are NaN,
            controls that forbid every beam.
    """
    _check(model, rows)
    lengths_N = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    numbers = range(len(rows)) if row_numbers is None else row_numbers
    limits_N = _limits(lengths_N, settings) if limits is None else np.asarray(limits)
    ids = special_ids(model)
    controls = [*_own_controls(settings), *controls]
    results: list[list[Candidate]] = [[] for _ in rows]
    with torch.inference_mode():
        for picked in _batches(lengths_N, settings, model.device):
            limits_B = torch.from_numpy(limits_N[picked]).to(model.device)
            batch = Batch(picked, limits_B, ids, controls)
            decoder = decoder_of(model, [np.asarray(rows[row]) for row in picked], ids)
            if settings.mode == "beam":
                found = search(decoder, batch, settings)
            else:
                found = walk(decoder, batch, settings, draws(batch, settings, seed, numbers))
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


def special_ids(model: Any) -> Ids:
    pad, eos = (_special_id(model, f"{name}_token_id") for name in ("pad", "eos"))
    start = _special_id(model, "decoder_start_token_id") if model.config.is_encoder_decoder else pad
    return Ids(start, pad, torch.tensor(eos if isinstance(eos, list) else [eos], device=model.device))


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


def _limits(lengths_N: np.ndarray, settings: GenerationSettings) -> np.ndarray:
    """Most tokens of each row's candidates."""
    if not settings.max_length_ratio:
        return np.full(len(lengths_N), settings.max_new_tokens)
    relative_N = np.ceil(lengths_N * settings.max_length_ratio).astype(np.int64)
    return np.clip(relative_N, 1, settings.max_new_tokens)

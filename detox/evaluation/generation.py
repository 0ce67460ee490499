"""A causal language model continues prompts, as `generate` of transformers would continue each alone.

Beside the batches of `detox.rewriter.generation` there is what that loop leaves out for encoder-decoders: a limit that
counts the prompt (`max_length`), and a repetition penalty that looks at the prompt too. With left padding `generate`
itself lets padding count in both, so there a continuation depends on the prompts beside it; here it does not.

Sampling is keyed by (seed, prompt, number of the continuation): neither the other prompts, nor the batches, nor how
many continuations are wanted changes one.

Shapes: N prompts, R live hypotheses, t tokens so far with the start token, T tokens of a prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import MinNewTokensLengthLogitsProcessor, RepetitionPenaltyLogitsProcessor

from detox.evaluation.generation_settings import SamplingSettings
from detox.evaluation.prompts import Prompt, Refused
from detox.models.loading import LoadedModel, device_named
from detox.rewriter.backend import key
from detox.rewriter.control import Control, Source, Step, from_logits_processor
from detox.rewriter.generation import generate, special_ids
from detox.rewriter.generation_settings import GenerationSettings


class Continuation(NamedTuple):
    text: str
    """Without the prompt."""
    tokens: int
    """EOS included where there is one."""
    ended: bool
    """With EOS, not at the length limit."""


class Continuer:
    """Continues prompts.

    Args:
        loaded: a causal model with its tokenizer; moved to the device.
        seed: of sampling.
        device: for example `cuda:1`; empty: the GPU where there is one.
        batch_tokens: prompt tokens of a batch, once for each continuation; 0: by the device.
    """

    def __init__(
        self, loaded: LoadedModel, sampling: SamplingSettings, seed: int, device: str = "", batch_tokens: int = 0
    ) -> None:
        model: Any = loaded.model
        self._model = model.to(device_named(device))
        self._tokenizer: Any = loaded.tokenizer
        self._sampling, self._seed, self._batch_tokens = sampling, seed, batch_tokens
        context = getattr(model.config, "max_position_embeddings", None)
        self._most = min(sampling.max_length, context or sampling.max_length)

    def refused(self, prompts: Sequence[Prompt]) -> list[Refused]:
        """Prompts that have no token, or leave no room for `min_new_tokens`, or for one."""
        found = []
        most = self._most - max(self._sampling.min_new_tokens, 1)
        for prompt, row in zip(prompts, self._ids([prompt.text for prompt in prompts]), strict=True):
            if not row:
                found.append(Refused(*prompt, "empty", "the tokenizer makes no token of it"))
            elif len(row) > most:
                found.append(Refused(*prompt, "too_long", f"{len(row)} tokens, and at most {most} leave room"))
        return found

    def __call__(self, prompts: Sequence[str], continuations: int) -> list[list[Continuation]]:
        """So many continuations of each prompt, none of which `refused` names; more leave the others as they are."""
        if not prompts:
            return []
        rows = self._ids(prompts)
        limits = [self._most - len(row) for row in rows]
        settings = GenerationSettings(
            mode="sample",
            candidates=continuations,
            max_new_tokens=max(limits),
            batch_tokens=self._batch_tokens,
            **self._sampling.model_dump(include={"temperature", "top_k", "top_p"}),
        )
        numbers = [key(Source(prompt, "")) for prompt in prompts]
        made = generate(
            self._model, rows, settings, self._controls(rows), self._seed, row_numbers=numbers, limits=limits
        )
        flat = [one for row in made for one in row]
        texts = iter(self._tokenizer.batch_decode([one.tokens for one in flat], skip_special_tokens=True))
        return [
            [Continuation(next(texts), len(one.tokens) + one.finished, one.finished) for one in row] for row in made
        ]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer(list(texts), verbose=False)["input_ids"] if texts else []

    def _controls(self, rows: Sequence[Sequence[int]]) -> list[Control]:
        """transformers' processors in transformers' order."""
        wanted, device = self._sampling, self._model.device
        controls: list[Control] = []
        if wanted.repetition_penalty != 1:
            controls.append(repetition_penalty(rows, wanted.repetition_penalty, device))
        if wanted.min_new_tokens:
            processor = MinNewTokensLengthLogitsProcessor(1, wanted.min_new_tokens, special_ids(self._model).eos_E)
            controls.append(from_logits_processor(processor))  # 1: the start token
        return controls


def repetition_penalty(rows: Sequence[Sequence[int]], penalty: float, device: torch.device) -> Control:
    """transformers' penalty over the tokens of prompt and continuation.

    Args:
        rows: token ids of the prompts.
    """
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    width = max(map(len, rows))
    # filled up with a token of the prompt's own, since a token counts once however often it stands there
    prompts_NT = torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in rows], device=device)

    def control(step: Step, scores_RV: Tensor) -> Tensor:
        seen_RT = torch.cat([prompts_NT[step.rows_R], step.prefixes_Rt[:, 1:]], dim=1)
        return processor(seen_RT, scores_RV)  # type: ignore[arg-type, return-value]  # torch.LongTensor

    return control

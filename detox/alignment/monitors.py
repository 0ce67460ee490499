"""What becomes of a language model while it is tuned, measured on the same prompts and texts every time.

Toxicity of what it says, how far it has moved from where it began (KL), how expected held-out responses are to it
(perplexity), and how large its adapters have grown (S1 step 13; S4 slide 6).

Responses are sampled with a key of their own, so measuring changes nothing of the training: no generator is touched.

Shapes: N prompts, M texts, B rows of a batch, T tokens of a response, V vocabulary, R rank of an adapter.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn.functional import pad
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from detox.alignment.asked import Asked
from detox.alignment.ngrams import distinct, words
from detox.alignment.policy import REFERENCE, Sequences
from detox.classifier.batching import token_batches
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings

BATCH_TOKENS = 1024
"""Padded tokens of one forward pass, each of which has scores over the whole vocabulary."""

Tokens = Sequence[int]


class Measured(NamedTuple):
    """Of one model."""

    responses: list[str]
    kl_N: np.ndarray
    """Nats a token of each response, from the model to its beginning, over the whole vocabulary."""
    nats_M: np.ndarray
    """Mean negative log-likelihood a token of each text."""
    tokens_M: np.ndarray
    lora_norm: float | None
    """Frobenius norm of all that adapters add to weights; None without adapters."""

    def figures(self, toxicity: Callable[[Sequence[str]], np.ndarray] | None = None) -> dict[str, float]:
        """`kl`, `perplexity`, `lora_norm`, `distinct_2` and, with a judge, `toxicity`; means over prompts or tokens.
        Without adapters there is no `lora_norm`."""
        found = {} if self.lora_norm is None else {"lora_norm": self.lora_norm}
        if len(self.nats_M):
            found["perplexity"] = math.exp(float(np.average(self.nats_M, weights=self.tokens_M)))
        if self.responses:
            found["kl"] = float(self.kl_N.mean())
            found["distinct_2"] = distinct([word for text in self.responses for word in words(text)], 2)
            if toxicity is not None:
                found["toxicity"] = float(toxicity(self.responses).mean())
        return found


class Beginning:
    """The model as it was before it was tuned: the same weights without its adapters, or a frozen copy of the whole.

    Make it before a trainer gets the model: TRL's replace its `forward`, and a copy would call that of the original.

    Args:
        is_adapted: the model has adapters, or will get some.
    """

    def __init__(self, model: Any, is_adapted: bool) -> None:
        self._copy = None if is_adapted else copy.deepcopy(model).eval().requires_grad_(False)

    @contextmanager
    def of(self, model: Any) -> Iterator[Any]:
        """What to call within the block."""
        if self._copy is not None:
            yield self._copy
        elif REFERENCE in model.peft_config:
            trained = model.active_adapter
            model.set_adapter(REFERENCE)
            try:
                yield model
            finally:
                model.set_adapter(trained)
        else:
            with model.disable_adapter():
                yield model


def measure(
    model: Any,
    beginning: Beginning | None,
    tokenizer: Any,
    asked: Asked,
    max_new_tokens: int,
    seed: int = 0,
    mode: Literal["sample", "greedy"] = "sample",
) -> Measured:
    """Measure a model, which is left in the mode that it was in.

    Args:
        beginning: None: the model is its own, and its KL 0.
        seed: of sampling, at temperature 1 from the whole distribution.
        mode: `greedy`: the likeliest token each time instead.
    """
    was_training = model.training
    model.eval()
    settings = GenerationSettings(mode=mode, max_new_tokens=max_new_tokens, temperature=1.0)
    found = generate(model, asked.prompts, settings, seed=seed) if asked.prompts else []
    said = [one.tokens for [one] in found]
    responses = tokenizer.batch_decode(said, skip_special_tokens=True) if said else []
    kl_N = np.zeros(len(said))
    rows = [(prompt, tokens) for prompt, tokens in zip(asked.prompts, said, strict=True)]
    if beginning is not None:
        kl_N = _kl(model, beginning, rows)
    nats_M = _nats(model, asked.texts)
    model.train(was_training)
    tokens_M = np.array([len(response) for _, response in asked.texts], np.int64)
    return Measured(responses, kl_N, nats_M, tokens_M, lora_norm(model))


@torch.inference_mode()
def _nats(model: Any, rows: Sequence[tuple[Tokens, Tokens]]) -> np.ndarray:
    found_M = np.zeros(len(rows))
    for picked in _batches(rows):
        for at, logs_TV in zip(picked, _logprobs(model, [rows[at] for at in picked]), strict=True):
            ids_T = torch.tensor(rows[at][1][-len(logs_TV) :], device=logs_TV.device)
            found_M[at] = -float(logs_TV.gather(1, ids_T[:, None]).mean())
    return found_M


@torch.inference_mode()
def _kl(model: Any, beginning: Beginning, rows: Sequence[tuple[Tokens, Tokens]]) -> np.ndarray:
    found_N = np.zeros(len(rows))
    for picked in _batches(rows):
        batch = [rows[at] for at in picked]
        now = _logprobs(model, batch)
        with beginning.of(model) as reference:
            before = _logprobs(reference, batch)
        for at, now_TV, before_TV in zip(picked, now, before, strict=True):
            found_N[at] = float((now_TV.exp() * (now_TV - before_TV)).sum(-1).mean())
    return found_N


def _batches(rows: Sequence[tuple[Tokens, Tokens]]) -> Iterator[list[int]]:
    """Numbers of rows whose response has a token that something stands before."""
    lengths = np.array([len(prompt) + len(response) for prompt, response in rows], np.int64)
    filled = [at for at, (prompt, response) in enumerate(rows) if response and len(prompt) + len(response) > 1]
    order = np.array(sorted(filled, key=lambda at: -lengths[at]), np.int64)
    return (picked.tolist() for picked in token_batches(order, lengths, BATCH_TOKENS))


def _logprobs(model: Any, rows: Sequence[tuple[Tokens, Tokens]]) -> list[Tensor]:
    """Log-probabilities `[T, V]` of what can stand at each token of each response; but not at the first token of a text
    without a prompt, before which nothing stands."""
    if model.config.is_encoder_decoder:
        return _decoded(model, rows)
    ids = [[*prompt, *response] for prompt, response in rows]
    length = max(map(len, ids))
    ids_BL = torch.tensor([row + [0] * (length - len(row)) for row in ids], device=model.device)
    mask_BL = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids], device=model.device)
    logits_BLV = model(input_ids=ids_BL, attention_mask=mask_BL, use_cache=False).logits
    logs_BLV = logits_BLV.float().log_softmax(-1)
    return [logs_LV[max(1, len(p)) - 1 : len(p) + len(r) - 1] for logs_LV, (p, r) in zip(logs_BLV, rows, strict=True)]


def _decoded(model: Any, rows: Sequence[tuple[Tokens, Tokens]]) -> list[Tensor]:
    """The same of an encoder-decoder, whose responses begin after the decoder's start token."""
    prompts, responses = zip(*rows, strict=True)
    batch = Sequences.of(prompts, responses, 0, model.device)
    logits_BTV = model(
        input_ids=batch.prompts_BP,
        attention_mask=batch.prompt_mask_BP,
        decoder_input_ids=pad(batch.responses_BT[:, :-1], (1, 0), value=model.config.decoder_start_token_id),
        use_cache=False,
    ).logits
    logs_BTV = logits_BTV.float().log_softmax(-1)
    return [logs_TV[: len(response)] for logs_TV, response in zip(logs_BTV, responses, strict=True)]


def lora_norm(model: Any) -> float | None:
    """sqrt(sum of ||s B A||²) over the adapted layers, without their products: ||B A||² = <BᵀB, A Aᵀ>. None where no
    layer is adapted."""
    total = 0.0
    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    if not layers:
        return None
    for layer in layers:
        for name in set(layer.active_adapters) & set(layer.lora_A):
            a_RI, b_OR = layer.lora_A[name].weight.detach().float(), layer.lora_B[name].weight.detach().float()
            total += layer.scaling[name] ** 2 * float(torch.sum((b_OR.T @ b_OR) * (a_RI @ a_RI.T)))
    return math.sqrt(max(0.0, total))


class MonitorCallback(TrainerCallback):
    """Measures before training, every so many steps, and tells; on rank 0, for which the others wait.

    Args:
        measure_now: figures of the model as it is.
        tell: is given the step and the figures.
    """

    def __init__(
        self, every: int, measure_now: Callable[[], dict[str, float]], tell: Callable[[int, dict[str, float]], None]
    ) -> None:
        self._every, self._measure, self._tell = every, measure_now, tell

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self._tell(0, self._measure())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._every and state.global_step % self._every == 0:
            self._tell(state.global_step, self._measure())

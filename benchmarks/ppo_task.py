"""The task of the PPO benchmarks: a model whose first weights both sides load, prompts, and settings.

The weights are random, which costs the time of trained ones, but for two directions that a trained model has as well.
One is common to all states, and the output layer reads from it when to end: responses end by EOS as likely after one
token as after another, on average after `mean_length` of them. The other tells words that the reward likes from words
that it does not (`benchmarks.peers.common.reward_of`), as the words of a language fall into kinds; without it nothing
learnt of one word would say anything of the other 30,000. Prompts hold neither kind of word.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from benchmarks.peers.common import BAD, GOOD

Kind = Literal["seq2seq", "causal"]

SIZES: dict[str, tuple[int, int, int]] = {"tiny": (32, 1, 400), "small": (256, 4, 0), "base": (512, 6, 0)}
"""Width, layers (of the encoder, and as many of the decoder), vocabulary; 0: T5's or GPT-2's."""
VOCABULARIES: dict[Kind, int] = {"seq2seq": 32_128, "causal": 50_258}
"""GPT-2's and a token for padding."""
SHORTEST, LONGEST = 16, 48
"""Tokens of a prompt."""
LOGITS = 1.5
"""Deviation of the logits of a state."""
RIDGE = 0.1
"""Against states whose squares are 1 on average."""

SETTINGS = {
    "epochs": 4,
    "minibatches": 2,
    "lr": 1e-3,
    "gamma": 1.0,
    "lam": 0.95,
    "clip": 0.2,
    "value_clip": 0.2,
    "value_coefficient": 0.1,
    "kl": 0.02,
    "lora_r": 8,
    "lora_alpha": 16,
}


def write_task(kind: Kind, folder: Path, size: str, mean_length: float, **changes: Any) -> dict[str, Any]:
    """`task.json`, and the model in `model/`; returns the task.

    Args:
        mean_length: tokens after which a response ends on average, were there no limit; infinite: none ends.
        changes: `prompts_an_iteration`, `iterations`, `max_new_tokens`, `threads`; they win over `SETTINGS`.
    """
    width, layers, vocabulary = SIZES[size]
    vocabulary = vocabulary or VOCABULARIES[kind]
    pad, eos = (0, 1) if kind == "seq2seq" else (vocabulary - 1, vocabulary - 2)
    rng = np.random.default_rng(0)
    neutral = np.array([token for token in range(2, vocabulary - 2) if token % 4 not in (GOOD, BAD)])
    end = [eos] if kind == "seq2seq" else []

    def words(low: int, high: int) -> list[int]:
        return [int(token) for token in rng.choice(neutral, rng.integers(low, high + 1))]

    prompts = [words(SHORTEST, LONGEST) + end for _ in range(4 * changes["prompts_an_iteration"])]
    model = (_t5 if kind == "seq2seq" else _gpt2)(width, layers, vocabulary, pad, eos)
    _write_output_layer(model, prompts, pad, eos, mean_length)
    model.save_pretrained(folder / "model")
    _as_published(folder / "model" / "config.json")
    task = {
        "kind": kind,
        "vocabulary": vocabulary,
        "pad": pad,
        "eos": eos,
        "prompts": prompts,
        "probe_prompt": prompts[0],
        "probe_response": [*words(6, 6), eos],
        "lora_targets": ["q", "v"] if kind == "seq2seq" else ["c_attn"],
        "threads": 2,
        **SETTINGS,
        **changes,
    }
    (folder / "task.json").write_text(json.dumps(task))
    return task


def _t5(width: int, layers: int, vocabulary: int, pad: int, eos: int) -> Any:
    """As FLAN-T5: gated, and the output layer is not the embedding."""
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_ff=2 * width,
        d_kv=width // 4,
        num_heads=4,
        num_layers=layers,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        pad_token_id=pad,
        eos_token_id=eos,
        decoder_start_token_id=pad,
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config).eval()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())  # transformers 5 ties what it makes itself
    model.shared.weight.data += _common(width)
    return model


def _as_published(config: Path) -> None:
    """transformers 5 writes every T5 as tied, and reads by the weights whether it is; version 4 goes by the config."""
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": False}))


def _gpt2(width: int, layers: int, vocabulary: int, pad: int, eos: int) -> Any:
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        n_positions=256,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,  # else random weights say the last word again
        pad_token_id=pad,
        bos_token_id=eos,
        eos_token_id=eos,
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    model.transformer.ln_f.bias.data += _common(width)
    return model


def _common(width: int) -> torch.Tensor:
    """As long as a state after its norm."""
    return torch.nn.functional.normalize(torch.randn(width), dim=0) * math.sqrt(width)


@torch.no_grad()
def _write_output_layer(model: Any, prompts: list[list[int]], pad: int, eos: int, mean_length: float) -> None:
    """Logits that differ by `LOGITS`, the direction of good and bad, and two rows of their own: EOS has a chance
    of 1 / mean_length in every state, and padding is never said."""
    states_ND = _states(model, prompts, pad)
    head_VD = model.get_output_embeddings().weight
    vocabulary, width = head_VD.shape
    kinds_V = torch.arange(vocabulary) % 4
    signs_V = (kinds_V == GOOD).float() - (kinds_V == BAD).float()
    good_D, mean_D = torch.randn(width) / math.sqrt(width), states_ND.mean(0)
    good_D -= good_D @ mean_D / mean_D.square().sum() * mean_D  # neither kind is likelier at first
    head_VD.copy_(torch.randn(vocabulary, width) * LOGITS / math.sqrt(width) + signs_V[:, None] * good_D)
    head_VD[[pad, eos]] = 0.0
    others = float((states_ND @ head_VD.T).logsumexp(1).mean())
    odds = -math.log(mean_length - 1) if math.isfinite(mean_length) else -2 * others
    # the row whose product with every state is nearest to one (ridge regression)
    moments_DD = states_ND.T @ states_ND / len(states_ND)
    one_D = torch.linalg.solve(moments_DD + RIDGE * torch.eye(width), mean_D)
    one_D /= (states_ND @ one_D).mean()
    head_VD[eos], head_VD[pad] = one_D * (others + odds), -one_D * others


def _states(model: Any, prompts: list[list[int]], pad: int) -> torch.Tensor:
    """Below the output layer, after random words `[N, D]`."""
    length = min(map(len, prompts))
    ids_BP = torch.tensor([prompt[:length] for prompt in prompts])
    words_BT = torch.randint(2, model.config.vocab_size - 2, (len(prompts), 32))
    if model.config.is_encoder_decoder:
        words_BT[:, 0] = pad  # the decoder's start
        found = model(input_ids=ids_BP, decoder_input_ids=words_BT, output_hidden_states=True)
        return found.decoder_hidden_states[-1].flatten(0, 1)
    found = model(input_ids=torch.cat([ids_BP, words_BT], 1), output_hidden_states=True)
    return found.hidden_states[-1][:, length - 1 :].flatten(0, 1)

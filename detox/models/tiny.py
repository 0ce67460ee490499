"""`tiny/<architecture>`: real architectures at toy size, built on the spot for tests, demos and dry runs.

Weights are random by a seed and the tokenizer is trained on the texts given, so nothing is downloaded. Everything
else is what the published checkpoints have: the same model class, and the tokenizer in the same file of the same name
(`spm.model` of mDeBERTa, `spiece.model` of T5, `vocab.json` and `merges.txt` of GPT-2 …) with the same special ids,
so the code that loads a tiny model is the code that loads the real one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import detox.models.copying  # noqa: F401  # registers copy_t5
from detox.models.tiny_tokenizers import (
    TokenizerWriter,
    byte_level,
    lossless_unigram,
    sentencepiece_file,
    write_wordpiece,
)

Head = Literal["base", "sequence_classification", "masked_lm", "causal_lm", "seq2seq_lm"]

HEADS: dict[str, Any] = {
    "base": AutoModel,
    "sequence_classification": AutoModelForSequenceClassification,
    "masked_lm": AutoModelForMaskedLM,
    "causal_lm": AutoModelForCausalLM,
    "seq2seq_lm": AutoModelForSeq2SeqLM,
}

MAX_LENGTH = 512
"""Tokens a tiny model can read."""

DEFAULT_TEXTS: tuple[str, ...] = (
    "Thank you for your edit, the article reads much better now.",
    "You are an idiot and nobody wants to read your stupid comments.",
    "Please stop reverting the page and discuss it on the talk page first.",
    "What a great game, well played everyone!",
    "Shut up, you do not know what you are talking about.",
    "The source does not say that; see section 2 of the report from 2019.",
)
"""What a tokenizer is trained on when the caller has no texts of their own."""


class TinyModel(NamedTuple):
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Architecture:
    """How one family's published checkpoints look."""

    tokenizer_class: str
    write_tokenizer: TokenizerWriter
    sizes: Mapping[str, float]
    """Config keys as multiples of the hidden size."""
    fixed: dict[str, Any] = field(default_factory=dict)
    """Config keys as they are."""
    tokenizer_options: dict[str, Any] = field(default_factory=dict)


_MDEBERTA = {
    "pad_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "unk_id": 3,
    "pad_piece": "[PAD]",
    "bos_piece": "[CLS]",
    "eos_piece": "[SEP]",
    "unk_piece": "[UNK]",
    "user_defined_symbols": ["[MASK]"],
}
_ALBERT = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "eos_id": -1,
    "pad_piece": "<pad>",
    "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
}
_ENCODER = {"hidden_size": 1, "intermediate_size": 2}
_BERT_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512}
_ROBERTA_LAYERS = _BERT_LAYERS | {"max_position_embeddings": 514, "type_vocab_size": 1}  # positions start at pad + 1
_DEBERTA = {
    "relative_attention": True,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "layer_norm_eps": 1e-7,
    "max_relative_positions": -1,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_LLAMA_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
_T5 = {"d_model": 1, "d_ff": 2, "d_kv": 0.5}
_T5_LAYERS = {"num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
_T5_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
_ENDOFTEXT = {"pad_token": "<|endoftext|>"}

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture("BertTokenizer", write_wordpiece, _ENCODER, _BERT_LAYERS),
    "distilbert": Architecture(
        "DistilBertTokenizer",
        write_wordpiece,
        {"dim": 1, "hidden_dim": 2},
        {"n_layers": 2, "n_heads": 2, "max_position_embeddings": 512},
    ),
    "deberta-v2": Architecture(
        "DebertaV2Tokenizer", sentencepiece_file("spm.model", **_MDEBERTA), _ENCODER, _BERT_LAYERS | _DEBERTA
    ),
    "roberta": Architecture(
        "RobertaTokenizer", byte_level("<s>", "<pad>", "</s>", "<unk>", "<mask>"), _ENCODER, _ROBERTA_LAYERS
    ),
    "xlm-roberta": Architecture(
        "XLMRobertaTokenizer", sentencepiece_file("sentencepiece.bpe.model"), _ENCODER, _ROBERTA_LAYERS
    ),
    "albert": Architecture(
        "AlbertTokenizer",
        sentencepiece_file("spiece.model", **_ALBERT),
        _ENCODER | {"embedding_size": 0.5},
        _BERT_LAYERS,
    ),
    "t5": Architecture(
        "T5Tokenizer",
        sentencepiece_file("spiece.model", **_T5_IDS),
        _T5,
        _T5_LAYERS | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},  # as FLAN-T5
    ),
    "mt5": Architecture(
        "T5Tokenizer",
        sentencepiece_file("spiece.model", **_T5_IDS),
        _T5,
        _T5_LAYERS,
        tokenizer_options={"extra_ids": 0},
    ),
    "copy_t5": Architecture(
        "PreTrainedTokenizerFast",
        lossless_unigram,
        _T5,
        _T5_LAYERS | {"feed_forward_proj": "gated-gelu"},
        {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
    ),
    "gpt2": Architecture(
        "GPT2Tokenizer",
        byte_level("<|endoftext|>"),
        {"n_embd": 1},
        {"n_layer": 2, "n_head": 2, "n_positions": 512},
        _ENDOFTEXT,
    ),
    "qwen2": Architecture(
        "Qwen2Tokenizer",
        byte_level("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        _ENCODER,
        _LLAMA_LAYERS | {"max_position_embeddings": 512},
        _ENDOFTEXT | {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]},
    ),
    "mistral": Architecture(
        "LlamaTokenizer",
        sentencepiece_file("tokenizer.model", model_type="bpe", byte_fallback=True, unk_id=0, bos_id=1, eos_id=2),
        _ENCODER,
        _LLAMA_LAYERS | {"max_position_embeddings": 512, "sliding_window": None},
        {"pad_token": "</s>"},
    ),
}


def architecture(name: str) -> Architecture:
    """The architecture called `name`.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"there is no tiny/{name}: choose one of {', '.join('tiny/' + n for n in ARCHITECTURES)}")
    return ARCHITECTURES[name]


def write_tokenizer(name: str, folder: Path, texts: Sequence[str] = DEFAULT_TEXTS, vocab_size: int = 1000) -> None:
    """Train a tokenizer on `texts` and write it the way the published checkpoints of `name` carry it.

    `vocab_size` is a ceiling: few texts give a smaller vocabulary. Byte-level families have at least 256 tokens.
    """
    family = architecture(name)
    folder.mkdir(parents=True, exist_ok=True)
    family.write_tokenizer(list(texts), folder, vocab_size)
    settings = {"tokenizer_class": family.tokenizer_class, "model_max_length": MAX_LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | family.tokenizer_options), encoding="utf-8")


def build_tokenizer(name: str, texts: Sequence[str] = DEFAULT_TEXTS, vocab_size: int = 1000) -> PreTrainedTokenizerBase:
    """The tokenizer of `write_tokenizer`, loaded; it is fast (Rust) and gives character offsets."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(name, Path(folder), texts, vocab_size)
        return AutoTokenizer.from_pretrained(folder, config=AutoConfig.for_model(name))


def build_config(name: str, tokenizer: PreTrainedTokenizerBase, hidden: int = 32, **changes: Any) -> PretrainedConfig:
    """The config of a two-layer, two-head model of width `hidden` with the tokenizer's ids; `changes` win."""
    family = architecture(name)
    sizes = {key: int(hidden * multiple) for key, multiple in family.sizes.items()}
    ids = {
        key: getattr(tokenizer, key)
        for key in ("pad_token_id", "bos_token_id", "eos_token_id")
        if getattr(tokenizer, key) is not None
    }
    settings = {"vocab_size": len(tokenizer)} | sizes | family.fixed | ids | changes
    return AutoConfig.for_model(name, **settings)


def build(
    name: str,
    texts: Sequence[str] = DEFAULT_TEXTS,
    *,
    head: Head = "base",
    seed: int = 0,
    vocab_size: int = 1000,
    hidden: int = 32,
    **changes: Any,
) -> TinyModel:
    """A random model of architecture `name` with a tokenizer trained on `texts`; the same seed, the same weights.

    Args:
        name: a key of `ARCHITECTURES`.
        texts: what the tokenizer is trained on.
        head: which task head the model carries.
        seed: of the weights; torch's global generator is left as it was.
        vocab_size: most tokens the tokenizer may have.
        hidden: width of the model, a multiple of 4.
        changes: further config keys, for example `num_labels=6`.

    Raises:
        ValueError: an unknown architecture, or one that has no such head.
    """
    tokenizer = build_tokenizer(name, texts, vocab_size)
    config = build_config(name, tokenizer, hidden, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HEADS[head].from_config(config)
    return TinyModel(model.eval(), tokenizer)


def write_checkpoint(name: str, folder: Path, texts: Sequence[str] = DEFAULT_TEXTS, **options: Any) -> Path:
    """Write the model of `build(name, texts, **options)` in the published layout; returns `folder`.

    `AutoModel*.from_pretrained(folder)` and `AutoTokenizer.from_pretrained(folder)` load it, and so does a hub that
    serves the folder.
    """
    build(name, texts, **options).model.save_pretrained(folder)
    write_tokenizer(name, folder, texts, options.get("vocab_size", 1000))
    return folder

"""Tokenizers for `detox.models.tiny`, trained in a moment and written in the files of the published checkpoints.

All are deterministic: the same texts give the same ids in every process, because the workers of one run must agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TokenizerWriter = Callable[[Sequence[str], Path, int], None]
"""Trains on texts and writes into a folder a tokenizer of at most so many tokens."""


def write_wordpiece(texts: Sequence[str], folder: Path, vocab_size: int) -> None:
    """`vocab.txt` of BERT: special tokens, every character (also inside a word), then the most frequent words.

    Not `tokenizers.trainers.WordPieceTrainer`: its ids differ from process to process, and workers must agree.
    """
    normalizer, words = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(w for text in texts for w, _ in words.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted({character for word in counts for character in word})
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = dict.fromkeys([*special, *characters, *(f"##{c}" for c in characters), *frequent])
    lines = [f"{token}\n" for token in list(vocabulary)[:vocab_size]]
    (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8")


def byte_level(*special: str) -> TokenizerWriter:
    """Byte-level BPE as `vocab.json` and `merges.txt` (GPT-2, RoBERTa, Qwen2); `special` take the first ids."""

    def write(texts: Sequence[str], folder: Path, vocab_size: int) -> None:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.model.save(str(folder))

    return write


def sentencepiece_file(file: str, **options: Any) -> TokenizerWriter:
    """A SentencePiece model written as `file`; `options` are those of `SentencePieceTrainer.train`."""

    def write(texts: Sequence[str], folder: Path, vocab_size: int) -> None:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=str(folder / "trained"),
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            num_threads=1,  # more threads sum in another order: another vocabulary
            minloglevel=2,
            **options,
        )
        (folder / "trained.vocab").unlink()
        (folder / "trained.model").rename(folder / file)

    return write


def lossless_unigram(texts: Sequence[str], folder: Path, vocab_size: int) -> None:
    """`tokenizer.json` in T5's manner (`<pad>`, `</s>`, `<unk>`; EOS at the end) that gives back every text but for its
    white space: no character is folded into another, and one that is not in the vocabulary is spelled in bytes."""
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece_file("spiece.model", byte_fallback=True, normalization_rule_name="identity", **ids)(
        texts, folder, vocab_size
    )
    trained = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    pieces = [(trained.id_to_piece(piece), trained.get_score(piece)) for piece in range(trained.vocab_size())]
    pieces[0] = ("<pad>", 0.0)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    space: dict[str, Any] = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space, split=True)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(**space)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "spiece.model").unlink()

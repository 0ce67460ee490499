"""Tiny models: every architecture builds, is the same in every process, and loads as a published checkpoint does."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

from detox.models import tiny
from detox.models.tiny_tokenizers import write_wordpiece

TEXTS = ["You are an idiot, friend.", "hi"]


@pytest.mark.parametrize("name", [name for name in tiny.ARCHITECTURES if name != "copy_t5"])  # which only rewrites
def test_a_checkpoint_loads_as_it_was_built(name: str, tmp_path: Path) -> None:
    options = {"head": "sequence_classification", "num_labels": 3, "seed": 5}
    built = tiny.build(name, **options)
    tiny.write_checkpoint(name, tmp_path, **options)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    before = built.tokenizer(TEXTS, return_tensors="pt", padding=True)
    after = tokenizer(TEXTS, return_tensors="pt", padding=True)
    assert torch.equal(before["input_ids"], after["input_ids"])
    assert torch.equal(built.model(**before).logits, model(**after).logits)
    assert len(tokenizer) <= 1000


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    weights = [next(tiny.build("bert", seed=seed).model.parameters()) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("deberta-v2", {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}),
        ("mt5", {"<pad>": 0, "</s>": 1, "<unk>": 2}),
        ("t5", {"<pad>": 0, "</s>": 1, "<unk>": 2}),
        ("roberta", {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}),
        ("albert", {"<pad>": 0, "<unk>": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}),
    ],
)
def test_special_ids_are_those_of_the_published_tokenizers(name: str, ids: dict[str, int]) -> None:
    tokenizer = tiny.build_tokenizer(name)
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in ids} == ids


def test_t5_generates(tmp_path: Path) -> None:
    tiny.write_checkpoint("mt5", tmp_path, head="seq2seq_lm")
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    out = model.generate(**tokenizer("you idiot", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert out[0, 0] == tokenizer.pad_token_id == 0


def test_wordpiece_vocabulary_is_special_tokens_characters_then_words_by_frequency(tmp_path: Path) -> None:
    """Of "ba" (twice) and "ab" (once): characters a, b, both inside a word too, then words, the frequent one first."""
    write_wordpiece(["Ba ba ab"], tmp_path, 100)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert (tmp_path / "vocab.txt").read_text().split() == [*special, "a", "b", "##a", "##b", "ba", "ab"]


def test_vocabularies_agree_between_processes() -> None:
    """Workers of one run each build the tokenizer; Python's string hashes differ between them."""
    code = (
        "import hashlib; from detox.models import tiny\n"
        "vocabularies = [sorted(tiny.build_tokenizer(n).get_vocab().items()) for n in ('bert', 'deberta-v2', 'gpt2')]\n"
        "print(hashlib.sha256(repr(vocabularies).encode()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = [sorted(tiny.build_tokenizer(n).get_vocab().items()) for n in ("bert", "deberta-v2", "gpt2")]
    assert there == hashlib.sha256(repr(here).encode()).hexdigest()


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"there is no tiny/bort: choose one of tiny/bert, "):
        tiny.build("bort")

"""Pairs and texts in a script that the tokenizer lacks, and pairs that are longer than the model reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from detox.data.pairs.prepared import PairRow
from detox.rewriter.face import Rewriter
from detox.rewriter.readable import readable, unknown_letters
from detox.rewriter.settings import RewriterModelSettings
from tests.rewriter.artifacts import write_rewriter

LATIN = RewriterModelSettings(max_source_tokens=8, max_target_tokens=8, prompt="fix: ")


@pytest.fixture(scope="module")
def latin() -> PreTrainedTokenizerBase:
    """A word each of the letters a, b and c, and of the prompt."""
    words = {word: at for at, word in enumerate(["<unk>", "</s>", "fix", ":", "a", "b", "c"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def pair(row: int, toxic: str, neutral: str) -> PairRow:
    return PairRow(row, "en", toxic, neutral, row, 0.5, "easy")


def test_unknown_letters(latin: PreTrainedTokenizerBase) -> None:
    """Signs do not count: what is lost is words."""
    assert unknown_letters(["a b c a", "a 🙂 b", "a कौन b", "q7 🙂 a", ""], latin) == ["", "", "कौन", "q7", ""]


def test_pairs_that_cannot_be_read_are_refused_with_their_reason(latin: PreTrainedTokenizerBase) -> None:
    rows = [
        pair(0, "a b 🙂", "a b"),
        pair(1, "a कौन", "a b"),
        pair(2, "a b", "a कौन"),
        pair(3, "a b c a b c a", "a"),  # nine tokens with the prompt
        pair(4, "a b c a b c", "a"),  # eight
        pair(5, "a", "a b c a b c a b c"),
    ]
    kept, refused = readable(rows, latin, LATIN, "train")
    assert kept == [rows[0], rows[4]]
    assert [(one.row, one.rule, one.reason) for one in refused] == [
        (1, "unknown_script", "the tokenizer does not know 'कौन' of the source"),
        (2, "unknown_script", "the tokenizer does not know 'कौन' of the rewrite"),
        (3, "too_many_tokens", "the source has 9 tokens, and 8 are taken"),
        (5, "too_many_tokens", "the rewrite has 9 tokens, and 8 are taken"),
    ]
    assert (refused[3].part, refused[3].toxic, refused[3].neutral) == ("train", rows[5].toxic, rows[5].neutral)
    shorter = LATIN.model_copy(update={"max_target_tokens": 5})
    assert [row.row for row in readable(rows[:5], latin, shorter, "train").rows] == [0], "a copy must fit too"


def test_no_pairs_are_no_error(latin: PreTrainedTokenizerBase) -> None:
    assert readable([], latin, LATIN, "train") == ([], [])


def test_a_text_that_the_model_cannot_read_gets_no_candidates(
    tmp_path: Path, latin: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes out is an edit of the text or the text itself, never what the model made of unknown tokens."""
    rewriter = Rewriter.load(str(write_rewriter(tmp_path / "run")), device="cpu")
    texts = ["you idiot, read page 12", "तुम मूर्ख हो", "you idiot, read page 13"]
    monkeypatch.setattr(
        "detox.rewriter.backend.unknown_letters", lambda texts, _: ["म" if "मूर्ख" in text else "" for text in texts]
    )
    offers = rewriter._backend.candidates(texts, ["en", "hi", "en"])
    assert [bool(offer) for offer in offers] == [True, False, True]
    (rewrite,) = rewriter.rewrite(texts[1], "hi")
    assert rewrite.how in ("edited", "unchanged", "already neutral")
    assert set(rewrite.text.split()) <= set(texts[1].split())

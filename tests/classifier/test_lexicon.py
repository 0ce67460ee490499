"""Lexicon hits: whole words, any casing, any script."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.classifier.lexicon import LexiconScorer

TERMS = ["idiot", "shut up", "a$$", "дурак", "मूर्ख", "笨蛋", "dummkopf", "  "]


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("You IDIOT!", True),
        ("idiotic", False),
        ("anidiot", False),
        ("shut   up", True),
        ("Shut-up!", True),
        ("shut the door up", False),
        ("kiss my a$$.", True),
        ("bla$$", False),
        ("ты ДУРАК", True),
        ("дураки", False),
        ("तुम मूर्ख हो", True),
        ("मूर्खता", False),
        ("你真是个笨蛋吗", True),
        ("", False),
    ],
)
def test_hits(text: str, hit: bool) -> None:
    assert LexiconScorer(TERMS).score([text]).values_NL.tolist() == [[float(hit)]]


def test_spans_are_positions_in_the_text() -> None:
    """ "İ" folds to two characters, so it must not shift what follows it."""
    text = "İ, you Idiot: shut up"
    assert [text[begin:end] for begin, end in LexiconScorer(TERMS).spans(text)] == ["Idiot", "shut up"]


@given(st.text(max_size=80))
def test_a_span_exists_exactly_where_the_score_is_one(text: str) -> None:
    scorer = LexiconScorer(["a", "b c", "é!"])
    spans = scorer.spans(text)
    assert bool(spans) == bool(scorer.score([text]).values_NL[0, 0])
    assert all(0 <= begin < end <= len(text) for begin, end in spans)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("# English\nidiot\n\n", encoding="utf-8")
    pq.write_table(pa.table({"lang": ["en"], "term": ["idiot"]}), tmp_path / "terms.parquet")
    for name in ("terms.txt", "terms.parquet"):
        scores = LexiconScorer.load(tmp_path / name, "insult").score(["idiot", "English"])
        assert scores.labels == ("insult",)
        assert scores.column("insult").tolist() == [1.0, 0.0]


def test_bad_lexicons(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist: name a text file with a term a line"):
        LexiconScorer.load(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="needs at least one term"):
        LexiconScorer(["", " "])

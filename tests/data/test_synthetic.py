"""The demo's corpus: shares of labels, raw rows for every cleaning rule, the same each time."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from detox.data import synthetic_phrases
from detox.data.near_duplicates import Deduplicator, duplicate_keys
from detox.data.sources.jigsaw2018 import LABELS
from detox.data.synthetic import LABELS as GENERATED_LABELS
from detox.data.synthetic import OVER_LONG_CHARS, _dealt, generate
from detox.data.synthetic_words import WORDS

ROWS = 4000


@cache
def corpus() -> pa.Table:
    return generate(ROWS)


def _texts() -> list[str]:
    return corpus()["text"].to_pylist()


def test_columns_are_those_of_jigsaw() -> None:
    assert corpus().column_names == ["text", *LABELS, "split"]
    assert GENERATED_LABELS == LABELS
    assert set(np.unique(corpus().select(LABELS).to_pandas())) == {0.0, 1.0}
    assert corpus().num_rows == ROWS


def test_the_seed_decides_and_fewer_rows_are_the_beginning_of_more() -> None:
    assert generate(300).equals(corpus().slice(0, 300))
    assert not generate(300, seed=1).equals(generate(300))


def test_classes_are_out_of_balance_and_none_is_lost() -> None:
    shares = {label: pc.mean(corpus()[label]).as_py() for label in LABELS}
    assert 0.2 <= shares["toxic"] <= 0.35
    assert all(0.01 <= shares[label] < shares["toxic"] for label in LABELS[1:]), shares


def test_the_test_rows_are_worded_anew() -> None:
    """A quarter of a long list's entries is the test's; entries of either part never stand in the other."""
    learned, unseen = _dealt(WORDS["topic"])
    assert {*learned, *unseen} == set(WORDS["topic"])
    assert 0.1 < len(unseen) / len(WORDS["topic"]) < 0.4
    table = corpus().to_pandas()
    assert 0.15 < (table["split"] == "test").mean() < 0.25
    for part, own, foreign in (("train", learned, unseen), ("test", unseen, learned)):
        text = " ".join(table.loc[table["split"] == part, "text"]).lower()
        assert all(topic.lower() in text for topic in own)
        assert {topic for topic in foreign if topic.lower() in text} <= {"the raid boss"}  # which a pattern has, too


def test_every_label_implies_toxic() -> None:
    table = corpus().to_pandas()
    assert (table.loc[table["toxic"] == 0, list(LABELS)] == 0).all(axis=None)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\w@example\.(org|com)",
        r"https?://",
        r"192\.0\.2\.\d",
        r"2001:db8::",
        r"\+44 20 7946",
        r"4111 1111 1111 1111",
        r"GB82 WEST",
        r"(^|\s)@\w",
        "â€|Ã©",
        "[а-я]{4}",
        "überarbeitet",
        "[🙂😂😡👍🔥]",
        r"^\s*$",
        "\n",
        "[a-z][0-9$][a-z]",
    ],
)
def test_raw_rows_of_every_kind_occur(pattern: str) -> None:
    assert sum(bool(re.search(pattern, text)) for text in _texts()) >= 2


def test_some_rows_are_over_long_and_some_repeat_earlier_ones() -> None:
    texts = _texts()
    assert 1 <= sum(len(text) >= OVER_LONG_CHARS for text in texts) <= 0.01 * ROWS
    verdicts = Deduplicator(exact=True, near=True).decide(duplicate_keys(texts, 0.85), np.arange(ROWS))
    rules = [verdict[0] for verdict in verdicts if verdict is not None]
    assert rules.count("exact_duplicate") >= 0.01 * ROWS
    assert rules.count("near_duplicate") >= 0.01 * ROWS
    assert len(rules) <= 0.15 * ROWS


def test_words_of_attacks_are_no_proof_of_one() -> None:
    """Of the comments with a certain insult, or a certain threat, some are toxic and some are not."""
    table = corpus().to_pandas()
    for word in ("idiot", "coward", "landers", "kill", "your knees"):
        toxic = table.loc[table["text"].str.contains(word, case=False), "toxic"]
        assert 0.05 < toxic.mean() < 0.95, word


def test_no_slot_is_left_open() -> None:
    assert not [text for text in _texts() if re.search(r"\{\w*\}", text)]


def test_patterns_name_words_that_exist_and_all_words_are_used() -> None:
    sentences = (
        *(synthetic_phrases.CONTEXT + synthetic_phrases.MENTION + synthetic_phrases.QUOTES),
        *(pattern for _, patterns in synthetic_phrases.ATTACKS.values() for pattern in patterns),
        *(pattern for patterns in synthetic_phrases.FOREIGN.values() for pattern in patterns),
        *synthetic_phrases.PERSONAL,
        *(word for words in WORDS.values() for word in words),
    )
    named = {name for sentence in sentences for name in re.findall(r"\{(\w+)\}", sentence)}
    assert named - {"quote"} == set(WORDS)

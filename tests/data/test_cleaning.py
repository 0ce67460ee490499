"""Cleaning: each text rule, each row rule, the presets, and what holds for every text."""

from __future__ import annotations

import re
import time

import ftfy
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.cleaning import TEXT_RULES, CleanedBatch, clean_batch, clean_text
from detox.data.reading import REJECTS_SCHEMA
from detox.data.settings import CleaningSettings

STANDARD = CleaningSettings()
CLEANSPEECH = CleaningSettings(preset="cleanspeech")
NONE = CleaningSettings(preset="none")


def table(*texts: str) -> pa.Table:
    """Rows 10, 20, …, with a split and a label that has a missing value."""
    return pa.table(
        {
            "row": pa.array([10 * (position + 1) for position in range(len(texts))], pa.int64()),
            "source": pa.array(["made up"] * len(texts), pa.string()),
            "text": pa.array(texts, pa.string()),
            "split": pa.array(["train"] * len(texts), pa.string()),
            "toxic": pa.array([None if position else 1.0 for position in range(len(texts))], pa.float32()),
        }
    )


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("You are the \u00e2\u20ac\u0153best\u00e2\u20ac\u009d", 'You are the "best"'),  # UTF-8 read as cp1252
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("cafe\u0301", "caf\u00e9"),  # combining accent: NFC
        ("Tom &amp; Jerry &lt;3", "Tom & Jerry <3"),
        ("an id\u200biot, an id\u00adiot", "an idiot, an idiot"),
        ("be\x00ll\x07 \x1b[31mred\x1b[0m", "bell red"),
        ("  two\n\nlines\u00a0and\ttabs ", "two lines and tabs"),
        ("\uff26\uff55\uff4c\uff4c width", "Full width"),
        ("lone \ud83d surrogate", "lone \ufffd surrogate"),
        ("family 👨\u200d👩\u200d👧 می\u200cخواهم", "family 👨\u200d👩\u200d👧 می\u200cخواهم"),
        ("write to a@b.org", "write to [EMAIL]"),
    ],
)
def test_standard(raw: str, clean: str) -> None:
    assert clean_text(raw, STANDARD) == clean


def test_rules_can_be_left_out() -> None:
    raw = "caf\u00c3\u00a9  a@b.org"
    assert clean_text(raw, CleaningSettings(pii=False)) == "caf\u00e9 a@b.org"
    assert clean_text(raw, CleaningSettings(unicode=False)) == "caf\u00c3\u00a9  [EMAIL]"
    assert clean_text("lone \ud83d", CleaningSettings(unicode=False)) == "lone ?"


def s3(text: str) -> str:
    """The three lines of S3 section 2, as printed there."""
    text = re.sub(r"http\S+|www\.\S+", " ", text.lower())
    text = re.sub(r"[^\x00-\x7F]+", " ", text)
    return re.sub(r"\s+", " ", text).strip()


TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            [
                *"aA .&;@1\n\u00a0\u00c3\u00a9\u00e2\u20ac\u2122\u0301\u200b\ud83d\x00\u00ad",
                "http://x.y",
                "a@b.org",
                "&amp;",
                "&lt",
                "www.",
                "\u00c3\u00a0",
                "\u00ef\u00bf\u00bd",
                "1.2.3.4",
                "\u00c3 ",
                "ﬁ",
                "\x1b[31m",
            ]
        ),
        max_size=14,
    ).map("".join),
)


@given(TEXTS)
def test_cleanspeech_is_s3_to_the_letter(text: str) -> None:
    assert clean_text(text, CLEANSPEECH) == s3(text)


@settings(max_examples=300)
@given(TEXTS, st.sampled_from([STANDARD, CLEANSPEECH, NONE, CleaningSettings(unicode=False)]))
def test_cleaning_twice_is_cleaning_once(text: str, chosen: CleaningSettings) -> None:
    once = clean_text(text, chosen)
    assert clean_text(once, chosen) == once
    once.encode("utf-8")


@given(st.text(alphabet=st.characters(max_codepoint=0x7E, min_codepoint=0x20, exclude_characters="&")))
def test_the_short_cut_past_ftfy_skips_only_what_ftfy_leaves_alone(text: str) -> None:
    assert ftfy.fix_text(text) == text


def test_kept_rows_keep_their_columns_and_order() -> None:
    batch = clean_batch(table("one  two", "", "three"), STANDARD)
    assert batch.kept.schema == table("x").schema
    assert batch.kept.to_pydict() == {
        "row": [10, 30],
        "source": ["made up", "made up"],
        "text": ["one two", "three"],
        "split": ["train", "train"],
        "toxic": [1.0, None],
    }


def refusals(batch: CleanedBatch) -> list[tuple[int, str, str]]:
    return [(row["row"], row["rule"], row["reason"]) for row in batch.rejects.to_pylist()]


def test_each_row_rule_refuses_with_its_reason() -> None:
    """Lengths count cleaned characters: "[EMAIL]" has 7, "abc" 3; the first rule that applies is named."""
    chosen = CleaningSettings(min_chars=4, max_chars=60, languages=("en",))
    texts = (" \n\u200b", "a  b", "a@b.org", "x" * 61, "Bitte lösche meine Änderungen nicht mehr.", "all is well here")
    batch = clean_batch(table(*texts), chosen)
    assert batch.rejects.schema == REJECTS_SCHEMA
    assert refusals(batch) == [
        (10, "empty", "no text is left after cleaning"),
        (20, "too_short", "3 characters, at least 4 are kept"),
        (40, "too_long", "61 characters, at most 60 are kept"),
        (50, "language", "the language is de, kept: en"),
    ]
    assert batch.kept["row"].to_pylist() == [30, 60]


def test_rejects_hold_no_personal_data() -> None:
    batch = clean_batch(
        table("Schreib mir bitte bald einmal an jemand@example.org"), CleaningSettings(languages=("en",))
    )
    assert batch.rejects["text"].to_pylist() == ["Schreib mir bitte bald einmal an [EMAIL]"]


def test_touched_counts_rows_by_rule() -> None:
    batch = clean_batch(table("caf\u00c3\u00a9 a@b.org c@d.org", "a  b http://x.y/z @me", "untouched"), STANDARD)
    assert batch.touched == {"unicode": 1, "pii_email": 1, "white_space": 1, "pii_url": 1, "pii_handle": 1}
    assert clean_batch(table("A http://x.y é", "plain"), CLEANSPEECH).touched == {
        "lower_case": 1,
        "url": 1,
        "non_ascii": 1,
        "white_space": 1,
    }
    assert set(batch.touched) <= set(TEXT_RULES)


def test_none_leaves_the_text_and_refuses_the_empty_row() -> None:
    batch = clean_batch(table("  caf\u00c3\u00a9\n a@b.org ", " "), NONE)
    assert batch.kept["text"].to_pylist() == ["  caf\u00c3\u00a9\n a@b.org "]
    assert [row["rule"] for row in batch.rejects.to_pylist()] == ["empty"]
    assert batch.touched == {}


def _is_utf8(text: str) -> bool:
    return not any(0xD800 <= ord(character) < 0xE000 for character in text)


@given(st.lists(TEXTS.filter(_is_utf8), max_size=8))
def test_a_row_s_result_depends_on_that_row_alone(texts: list[str]) -> None:
    whole = clean_batch(table(*texts), STANDARD)
    alone = [clean_batch(table(*texts).slice(position, 1), STANDARD) for position in range(len(texts))]
    assert whole.kept.num_rows + whole.rejects.num_rows == len(texts)
    if texts:
        assert whole.kept.equals(pa.concat_tables([one.kept for one in alone]))
        assert whole.rejects.equals(pa.concat_tables([one.rejects for one in alone]))


def test_empty_batch() -> None:
    batch = clean_batch(table(), STANDARD)
    assert (batch.kept.num_rows, batch.rejects.num_rows, batch.touched) == (0, 0, {})
    assert batch.kept.schema == table("x").schema


def test_an_unknown_language_stops_even_an_empty_batch() -> None:
    with pytest.raises(ValueError, match="'xx' cannot be detected"):
        clean_batch(table(), CleaningSettings(languages=("xx",)))


@pytest.mark.parametrize("piece", ["\u00c3\u00a9", "&amp;", "\u0301", "\u200b", "é http://x.y "])
def test_hostile_lengths_take_linear_time(piece: str) -> None:
    """100,000 characters; the limit is far above the second or so that was measured."""
    started = time.process_time()
    clean_text(piece * (100_000 // len(piece)), STANDARD)
    assert time.process_time() - started < 20

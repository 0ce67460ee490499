"""Masks hide listed words, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.evaluation.masking import Mask, excerpt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You idiot!", "You i****!"),
        ("IDIOTS, all of you", "I*****, all of you"),
        ("how idiotic", "how i******"),
        ("an idiotproof plan", "an idiotproof plan"),
        ("nonidiot", "nonidiot"),
        ("stupid-idiot", "s*****-i****"),
    ],
)
def test_masked_words(text: str, expected: str) -> None:
    assert Mask(["idiot", "stupid"])(text) == expected


def test_longer_words_win_and_no_words_mask_nothing() -> None:
    assert Mask(["id", "idiot"])("idiots") == "i*****"
    assert Mask(["", " "])("idiot") == "idiot"


@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_a_mask_keeps_the_length_and_every_other_character(text: str, words: list[str]) -> None:
    masked = Mask(words)(text)
    assert len(masked) == len(text)
    assert all(after in (before, "*") for before, after in zip(text, masked, strict=True))


def test_excerpt_is_one_line_cut_at_a_space() -> None:
    assert excerpt(" two\n lines ") == "two lines"
    assert excerpt("one two three four", length=12) == "one two…"
    assert excerpt("x" * 20, length=10) == "x" * 9 + "…"


@given(st.text(max_size=60), st.integers(2, 40))
def test_excerpt_is_never_longer(text: str, length: int) -> None:
    assert len(excerpt(text, length)) <= length

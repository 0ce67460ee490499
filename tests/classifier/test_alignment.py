"""Positions in a cleaned text lead back to the raw one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.classifier.alignment import Alignment


def behind(raw: str, cleaned: str, piece: str) -> str:
    begin = cleaned.index(piece)
    span = Alignment(raw, cleaned).span(begin, begin + len(piece))
    assert span is not None
    return raw[slice(*span)]


@pytest.mark.parametrize(
    ("raw", "cleaned", "piece", "expected"),
    [
        ("mail bob@x.org, you idiot", "mail [EMAIL], you idiot", "EMAIL", "bob@x.org,"),
        ("mail bob@x.org, you idiot", "mail [EMAIL], you idiot", "idiot", "idiot"),
        ("call +1 (555) 123 4567 now", "call [PHONE] now", "[PHONE]", "+1 (555) 123 4567"),
        ("call +1 (555) 123 4567 now", "call [PHONE] now", "now", "now"),
        ("you donâ€™t  get it, idiot", "you don't get it, idiot", "don't", "donâ€™t"),
        ("you donâ€™t  get it, idiot", "you don't get it, idiot", "idiot", "idiot"),
        ("  YOU\n\nIdiot!! ", "you idiot!!", "idiot", "Idiot"),
        ("see https://x.org/a b привет idiot", "see b idiot", "idiot", "idiot"),
        ("héllo wörld idiot", "hello world idiot", "world", "wörld"),
    ],
)
def test_pieces_lead_back(raw: str, cleaned: str, piece: str, expected: str) -> None:
    assert behind(raw, cleaned, piece) == expected


def test_a_word_that_cleaning_put_in_has_an_empty_place_and_white_space_none() -> None:
    alignment = Alignment("you idiot", "you big idiot")
    assert alignment.span(4, 7) == (3, 3)
    assert alignment.span(3, 4) is None


@given(st.text(max_size=60), st.data())
def test_an_unchanged_text_maps_to_itself(text: str, data: st.DataObject) -> None:
    """Any stretch that begins and ends inside words comes back as it is."""
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    span = Alignment(text, text).span(begin, end)
    piece = text[begin:end]
    if piece and not piece[0].isspace() and not piece[-1].isspace():
        assert span == (begin, end)
    elif not piece.strip():
        assert span is None or span[0] <= span[1]


@given(st.text(max_size=60), st.text(max_size=60))
def test_every_word_leads_somewhere_in_order(raw: str, cleaned: str) -> None:
    alignment = Alignment(raw, cleaned)
    raws = [block.raw for block in alignment.blocks]
    assert all(0 <= begin <= end <= len(raw) for begin, end in raws)
    assert raws == sorted(raws)


def test_too_long_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="may have 50000 characters, this one has 50001"):
        Alignment("a" * 50_001, "a")

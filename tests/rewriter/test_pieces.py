"""Long texts in pieces: sentences, halves, and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.rewriter.pieces import in_its_space, pieces, sentences


def longer_than(most: int) -> object:
    return lambda parts: [len(part.strip()) > most for part in parts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!  Three?\nfour", ["One. ", "Two!  ", "Three?\n", "four"]),
        ('"Stop!" he said. See 3.14 at a.b/c', ['"Stop!" ', "he said. ", "See 3.14 at a.b/c"]),
        ("你好。再见！走吧", ["你好。", "再见！", "走吧"]),
        ("नमस्ते। फिर", ["नमस्ते। ", "फिर"]),
        ("no end\n\n at all", ["no end\n\n ", "at all"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_long_sentence_is_halved_between_words() -> None:
    """31 characters; the borders of words at 4, 8, …, 28, of which 16 is the nearest to 15.5; then 8 of 16, and of the
    last 15 characters 8."""
    assert pieces("aaa bbb ccc ddd eee fff ggg hhh", longer_than(8)) == ["aaa bbb ", "ccc ddd ", "eee fff ", "ggg hhh"]


def test_without_words_it_is_cut_between_characters() -> None:
    """Of two borders as near to the middle the first one is taken: 10 are 5 and 5, and 5 are 2 and 3. An e with an
    accent is two code points, and stays whole while there is another border: six of them are 3 and 3, and 3 are 1 and
    2. One with nine accents can only be cut inside."""
    assert pieces("x" * 10, longer_than(3)) == ["xx", "xxx", "xx", "xxx"]
    accented = "e\u0301"
    assert pieces(accented * 6, longer_than(4)) == [accented, accented * 2, accented, accented * 2]
    heap = "e" + "\u0301" * 9
    parts = pieces(heap, longer_than(3))
    assert "".join(parts) == heap
    assert max(map(len, parts)) <= 3


def test_what_can_never_fit_ends_all_the_same() -> None:
    assert pieces("abc", lambda parts: [True] * len(parts)) == ["a", "b", "c"]


def test_ten_thousand_characters() -> None:
    for text in ("x" * 10_000, "!" * 10_000, "you fool " * 1_111, "猫" * 10_000):
        parts = pieces(text, longer_than(100))
        assert "".join(parts) == text
        assert 100 <= len(parts) < 300


@given(st.text(alphabet="ab .!?\n。e\u0301", max_size=60), st.integers(1, 9))
def test_nothing_is_lost(text: str, most: int) -> None:
    parts = pieces(text, longer_than(most))
    assert "".join(parts) == text
    assert all(len(part.strip()) <= most for part in parts)


@pytest.mark.parametrize(
    ("piece", "text", "expected"),
    [(" a b\n", "c", " c\n"), ("a", "c", "c"), (" \n", "", " \n"), ("  a", "", "  ")],
)
def test_white_space_stays_around(piece: str, text: str, expected: str) -> None:
    assert in_its_space(piece, text) == expected


def test_only_what_is_too_long_is_asked_about_again() -> None:
    """A text without a long sentence is asked about once."""
    asked: list[Sequence[str]] = []

    def too_long(parts: Sequence[str]) -> list[bool]:
        asked.append(parts)
        return [False] * len(parts)

    assert pieces("One. Two.", too_long) == ["One. ", "Two."]
    assert len(asked) == 1

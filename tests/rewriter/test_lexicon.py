"""Toxic words learned from pairs: which, where they stand, what replaces them; in scripts with and without spaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from detox.rewriter.lexicon import Lexicon, cut, replaced, tokens, units

PLAIN = ("the report is late", "we met at the bridge", "the garden was open", "read the letter again")


def english() -> list[tuple[str, str, str]]:
    """Twice ten pairs that lose `damn`, ten in which `fool` becomes `person`."""
    lost = [("en", f"{text} you damn man {n}", f"{text} you man {n}") for n in range(5) for text in PLAIN]
    return lost + [("en", f"the fool wrote it {n}", f"the person wrote it {n}") for n in range(10)]


def test_words_that_rewrites_take_out_are_toxic() -> None:
    """`damn` goes 20 of 20 times; with 2 occurrences' worth of the average it is just below 1."""
    lexicon = Lexicon.fit(english())
    assert lexicon.weights("en").keys() == {"damn", "fool"}
    assert 0.85 < lexicon.weights("en")["damn"] < 1
    assert lexicon.substitutes("en") == {"fool": ("person",)}


def test_spans_and_deletion() -> None:
    lexicon = Lexicon.fit(english())
    text = "You DAMN fool, the report is late."
    assert [text[begin:end] for begin, end in lexicon.spans(text, "en")] == ["DAMN", "fool"]
    assert lexicon.delete(text, "en") == "You, the report is late."
    assert lexicon.spans(text, "de") == []
    assert lexicon.delete("nothing  here", "en") == "nothing here"


def test_scripts_without_spaces_are_learned_by_runs() -> None:
    """你是笨蛋 -> 你是人: the run 笨蛋 goes each time, and so do longer ones; the longest at a place is marked."""
    pairs = [("zh", f"你是笨蛋{digit}", f"你是人{digit}") for digit in "一二三四五六七八九十百千万东西南北上下中"]
    lexicon = Lexicon.fit(pairs)
    assert "笨蛋" in lexicon.weights("zh")
    assert "你是" not in lexicon.weights("zh")
    assert "笨" not in lexicon.delete("他们笨蛋来了", "zh")


def test_letters_beside_a_script_without_spaces_are_words_of_their_own() -> None:
    """An insult in Latin letters inside a Chinese clause is learned, found and cut like any word."""
    assert [token.key for token in units("你是SB吗 ok")] == ["你", "是", "sb", "吗", "ok"]
    assert [token.key for token in tokens("你sb")] == ["你", "sb"]
    pairs = [("zh", f"你是sb吗{digit}", f"你是吗{digit}") for digit in "一二三四五六七八九十百千万东西南北上下中"]
    assert Lexicon.fit(pairs).delete("他是sb吗", "zh") == "他是吗"


def test_frequent_neutral_words_are_known() -> None:
    common = Lexicon.fit(english()).languages["en"].common
    assert {"the", "person"} <= set(common)
    assert not {"damn", "fool"} & set(common)


def test_a_language_with_few_pairs_learns_nothing() -> None:
    lexicon = Lexicon.fit([*english(), ("de", "du depp", "du")])
    assert lexicon.weights("de") == {}
    with pytest.raises(ValueError, match="no pairs"):
        Lexicon.fit([])


def test_words_keep_marks_and_hidden_letters() -> None:
    assert [token.key for token in tokens("Sh*t, बेवकूफ़! it's a$$")] == ["sh*t", "बेवकूफ़", "it's", "a$$"]


@pytest.mark.parametrize(
    ("text", "gone", "left"),
    [
        ("you damn fool", "damn ", "you fool"),
        ("well, fool, go", "fool", "well, go"),
        ("fool!", "fool", "!"),
        ("a , b", "a", "b"),
        ("the archive, fool?", "fool", "the archive?"),
        ('he said "fool" (fool)', "fool", "he said (fool)"),
        ("see it (fool).", "fool", "see it."),
        ('"yes" "no" fool', "fool", '"yes" "no"'),
        ('"yes" fool "no" foo()', "fool ", '"yes" "no" foo()'),
    ],
)
def test_what_a_cut_leaves_is_tidied(text: str, gone: str, left: str) -> None:
    begin = text.index(gone)
    assert cut(text, [(begin, begin + len(gone))]) == left


def test_replacements_are_found_by_alignment() -> None:
    assert list(replaced("the fool wrote it", "the new user wrote it")) == [("fool", "new user")]
    assert list(replaced("the damn fool wrote it", "somebody wrote it")) == []  # three words for one
    assert list(replaced("你是笨蛋吗", "你是朋友吗")) == [("笨蛋", "朋友")]
    assert list(replaced("你是sb吗", "你是朋友吗")) == [("sb", "朋友")]


def test_it_is_stored_as_text(tmp_path: Path) -> None:
    lexicon = Lexicon.fit(english())
    lexicon.save(tmp_path / "lexicon.json")
    again = Lexicon.load(tmp_path / "lexicon.json")
    assert again.languages == lexicon.languages

"""Which candidate is given out, and what happens where none will do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from detox.rewriter.lexicon import Entries, Lexicon
from detox.rewriter.rerank import Request, Reranker, RerankSettings, Rewrite, edit_similarity

BAD = ("idiot", "moron", "scum")


def toxicity(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
    """0.9 with a bad word, 0.05 without."""
    return np.array([0.9 if any(word in text.lower() for word in BAD) else 0.05 for text in texts])


def fluency(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
    """`xqz` is gibberish: ten bits a character instead of two."""
    return np.array([10.0 if "xqz" in text else 2.0 for text in texts])


def reranker(known: Sequence[str] = ("idiot",), **settings: object) -> Reranker:
    lexicon = Lexicon({"en": Entries(dict.fromkeys(known, 0.9), 0.5, {})})
    return Reranker(toxicity, fluency, lexicon, RerankSettings(**settings))


def chosen(source: str, *candidates: str, known: Sequence[str] = ("idiot",), **settings: object) -> Rewrite:
    (found,) = reranker(known, **settings).choose([Request(source, "en", candidates)])
    return found


SOURCE = "you idiot, read page 12"


def test_the_models_own_rewrite_is_given_out_where_it_is_best() -> None:
    found = chosen(SOURCE, "you should read page 12", "idiot, read page 12")
    assert (found.text, found.how) == ("you should read page 12", "model")
    assert (found.toxicity_before, found.toxicity_after) == (0.9, 0.05)


def test_a_better_candidate_wins_over_the_models_own() -> None:
    assert chosen(SOURCE, "idiot, read page 12", "you may read page 12")[:2] == ("you may read page 12", "reranked")


def test_a_copy_never_wins_while_another_passes() -> None:
    """Case and punctuation do not save a copy; the edit takes its place where nothing else is offered."""
    assert chosen(SOURCE, SOURCE, "You IDIOT read page 12!", "you may read page 12").text == "you may read page 12"
    assert chosen(SOURCE, SOURCE)[:2] == ("you, read page 12", "edited")


def test_a_source_that_nothing_can_be_cut_from_is_a_copy_too() -> None:
    """Both words are toxic: what would be edited is the source again, and loses to whatever keeps enough of it."""
    found = chosen("idiot moron", "idiot mormon", known=("idiot", "moron"), edits="candidate")
    assert (found.text, found.how) == ("idiot mormon", "model")


def test_the_models_own_rewrite_may_be_the_edit() -> None:
    """It keeps more than the other candidate, and is not taken away for being what the last resort would have made."""
    found = chosen(SOURCE, "you, read page 12", "you may read page 12")
    assert (found.text, found.how) == ("you, read page 12", "model")


def test_an_edit_can_compete_with_the_candidates() -> None:
    """`you, read page 12` keeps more of the source than `you should read page 12`."""
    assert chosen(SOURCE, "you should read page 12", edits="candidate").how == "edited"


def test_another_text_passes_only_where_there_is_nothing_else() -> None:
    found = chosen(SOURCE, "lovely weather in the garden today")
    assert found.how == "edited"
    assert chosen("idiot", "lovely weather", least_similarity=0.9)[:2] == ("idiot", "unchanged")  # nor is it invented


def test_gibberish_loses() -> None:
    assert chosen(SOURCE, "you, read page 12 xqz", "you, read page 13").text != "you, read page 12 xqz"


def test_a_neutral_source_stays_as_it_is() -> None:
    found = chosen("read page 12", "please read page 12")
    assert (found.text, found.how) == ("read page 12", "already neutral")
    assert chosen("read page 12", "please read page 12", neutral_below=0.0).how != "already neutral"


def test_words_that_the_lexicon_does_not_know_are_found_by_the_scorer() -> None:
    """Without `moron` the text is neutral, and without no other word: it is the one that is cut."""
    found = chosen("you moron, read page 12", known=())
    assert (found.text, found.how) == ("you, read page 12", "edited")


def test_several_words_are_cut_until_the_text_is_neutral() -> None:
    """No single cut makes it neutral, so the first two are ties, of which the first word goes."""
    assert chosen("moron scum idiot here", known=(), most_cuts=3).text == "here"
    assert chosen("moron scum idiot here", known=(), most_cuts=2).text == "idiot here"


def test_of_a_long_text_the_most_toxic_words_are_tried() -> None:
    """Ten thousand characters without spaces have forty thousand places to cut; a hundred texts are scored a cut."""
    seen: list[int] = []

    def counted(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
        seen.append(sum(map(len, texts)))
        return np.array([0.9 if "坏" in text else 0.05 for text in texts])

    source = "好" * 5000 + "坏" + "好" * 4999
    ours = Reranker(counted, fluency, Lexicon({}), RerankSettings())
    assert "坏" not in ours.edit(source, "zh")
    assert max(seen) <= 101 * len(source)


def test_no_candidates_no_words_and_no_texts() -> None:
    assert reranker().choose([]) == []
    assert chosen("").text == ""
    assert chosen("!!!").text == "!!!"
    assert chosen("idiot").text == "idiot"  # nothing would be left of it


@pytest.mark.parametrize("text", ["you idiot", "IDIOT", "idiot idiot idiot"])
def test_an_edit_is_never_empty(text: str) -> None:
    assert reranker().edit(text, "en")


def test_the_similarity_is_that_of_edits() -> None:
    """`you` and the space stay of `you moron` (9 characters) and `you dunce` (9): the longest common subsequence is
    `you ` and `n`, so 2 x 5 / 18."""
    assert edit_similarity("You moron", "you dunce") == pytest.approx(10 / 18)
    assert edit_similarity("", "") == 1.0


def test_what_stays_as_it_is_is_said_to() -> None:
    """A toxic source without a better rewrite, and one that is hardly toxic, of which nothing can be cut."""
    assert chosen("idiot", known=("idiot",))[:2] == ("idiot", "unchanged")
    assert chosen("xqz", neutral_below=0.01, known=("xqz",), most_cuts=1)[:2] == ("xqz", "unchanged")


def test_every_word_may_be_tried_for_the_one_to_cut_out() -> None:
    """No candidate is neutral, and the lexicon knows a word that is not the one: it would cut out two."""
    source, known = "you moron, read the silly page", ("moron", "silly")
    assert chosen(source, source, known=known, edits="candidate")[:2] == ("you, read the page", "edited")
    assert chosen(source, source, known=known, edits="every_word")[:2] == ("you, read the silly page", "edited")
    assert chosen(source, "you, read the silly page", edits="every_word").how == "model"
    assert chosen("moron", edits="every_word")[:2] == ("moron", "unchanged"), "something must be left"

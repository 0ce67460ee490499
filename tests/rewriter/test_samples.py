"""What a report shows of the texts: drawn from all languages in turn, and masked, also where the lexicon is silent."""

from __future__ import annotations

from detox.data.pairs.prepared import Case
from detox.rewriter.lexicon import Entries, Lexicon
from detox.rewriter.samples import drawn, masker, samples, starred, taken_out

LEXICON = Lexicon(
    {
        "en": Entries({"idiot": 0.9, "bloody": 0.3, "you": 0.05}, 0.5, {}),
        "zh": Entries({"笨蛋": 0.9}, 0.5, {}),
    }
)


def shown(source: str, *references: str, text: str = "", lang: str = "en") -> str:
    return masker(Case(lang, source, references, "easy"), LEXICON)(text or source)


def test_known_words_are_masked_wherever_they_stand() -> None:
    assert shown("You IDIOTS", "You idiots") == "You I*****"
    assert shown("hello", "hello", text="what an idiot") == "what an i****"
    assert shown("他们笨蛋来了", "他们来了", lang="zh") == "他们**来了"
    assert shown("笨蛋", "笨蛋", lang="zh") == "笨*"


def test_unknown_and_doubtful_words_are_masked_where_the_references_take_them_out() -> None:
    """`plonker` is unknown, `bloody` doubtful (0.3 of 0.5); `you` goes too, and is known to be harmless."""
    assert shown("you bloody plonker, go", "please go") == "you b***** p******, go"
    assert shown("you bloody plonker, go", "you bloody plonker, please go") == "you bloody plonker, go"
    assert shown("du depp", "du", lang="de") == "du d***"
    assert shown("他们蠢货", "他们人", lang="zh") == "他们**"


def test_short_words_are_not_taken_for_unknown_ones() -> None:
    """A mask covers three letters more, and `a` would hide `and`."""
    assert taken_out(Case("en", "a plonker and", ("and",), "easy")) == {"plonker"}


def test_spans_become_a_letter_and_asterisks() -> None:
    assert starred("you damn fool", [(4, 8), (9, 13)]) == "you d*** f***"
    assert starred("蛋 x", [(0, 1)]) == "* x"


def test_languages_take_turns() -> None:
    langs = ["en"] * 5 + ["de"] * 2
    found = drawn(langs, 6, seed=0)
    assert [langs[at] for at in found] == ["de", "en", "de", "en", "en", "en"]
    assert len(set(found)) == 6
    assert drawn(langs, 6, seed=0) == found
    assert drawn([], 3, seed=0) == []


def test_samples_hold_every_system() -> None:
    (found,) = samples([Case("en", "you idiot", ("you",), "easy")], {"copy": ["you idiot"]}, LEXICON, 3)
    assert found == ("en", "you i****", "you", {"copy": "you i****"})

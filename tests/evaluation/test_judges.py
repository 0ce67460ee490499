"""Judges that need no hub: what they learn from pairs, in which languages they can say what, and their names."""

from __future__ import annotations

import numpy as np
import pytest

from detox.data.pairs.prepared import PairRow
from detox.evaluation.judges import character_similarity, named_neutrality, ngrams, offline_judges
from detox.models.embedded import PACKAGE

PLAIN = ("the report is late", "we met at the bridge", "the garden was open", "read the letter again")


def pairs(lang: str = "en", bad: str = "idiot") -> list[PairRow]:
    """Forty pairs that lose one word."""
    texts = [f"{text} number {n}" for n in range(10) for text in PLAIN]
    return [PairRow(at, lang, f"{text} {bad}", text, at, 0.5, "easy") for at, text in enumerate(texts)]


def test_neutrality_is_learned_from_the_pairs() -> None:
    judges = offline_judges(pairs(), embed_english=False)
    toxic, neutral = judges.neutrality.judge(["my idiot of a friend", "my dear friend"], ["en", "en"])
    assert toxic < 0.3 < 0.7 < neutral
    assert judges.neutrality.name == "linear classifier of 40 judge pairs"


def test_fluency_falls_by_the_bits_that_an_output_is_stranger_than_its_source() -> None:
    """2^-(bits of the output - bits of the source), at most 1."""
    judges = offline_judges(pairs(), embed_english=False)
    sources = ["the report is late", "the report is late"]
    outputs, langs = ["the report is late", "xqzj wvk"], ["en", "en"]
    same, strange = judges.fluency.judge(sources, outputs, sources, langs)
    assert same == 1
    assert judges.bits is not None
    before, after = judges.bits.judge(["the report is late", "xqzj wvk"], langs)
    assert strange == pytest.approx(2 ** (before - after))
    assert strange < 0.2


def test_without_the_encoder_all_is_character_n_grams() -> None:
    judges = offline_judges(pairs(), embed_english=False)
    assert judges.similarity.name == "character n-grams"
    assert judges.bert_score is None
    assert list(judges.names()) == ["neutrality", "similarity", "fluency", "bits"]
    found = judges.similarity.judge(["a b", "x"], ["a b", "y"], ["en", "de"])
    assert found.tolist() == pytest.approx([1, 0])


@pytest.mark.pretrained
def test_the_encoder_judges_english_and_no_other_language() -> None:
    """English by meaning, other languages by letters; BERTScore elsewhere is unknown, not a number."""
    pytest.importorskip(PACKAGE, reason="needs the extra `embedded`")
    judges = offline_judges([*pairs(), *pairs("de", "depp")])
    assert judges.bert_score is not None
    first, second = ["the garden is shut"] * 2, ["the park is closed"] * 2
    english, german = judges.similarity.judge(first, second, ["en", "de"])
    assert german == pytest.approx(character_similarity(first[:1], second[:1], ["de"])[0])
    assert english > german + 0.1
    scores = judges.bert_score.judge(["well", "gut"], [["well"], ["gut"]], ["en", "de"])
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert np.isnan(scores[1])
    assert "English only" in judges.bert_score.name


def test_judges_without_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs to train the judges on"):
        offline_judges([])


def test_a_classifier_can_judge_by_name(tmp_path) -> None:
    (tmp_path / "terms.txt").write_text("idiot\n")
    judge = named_neutrality(f"lexicon:{tmp_path / 'terms.txt'}")
    assert judge.judge(["you idiot", "you"], ["en", "en"]).tolist() == [0.0, 1.0]


def test_n_grams_within_words() -> None:
    """` ab ` has 3 bigrams, 2 trigrams and itself; in a script without spaces no borders, lengths 1 to 3."""
    assert sorted(ngrams("Ab")) == sorted([" a", "ab", "b ", " ab", "ab ", " ab "])
    assert sorted(ngrams("笨蛋")) == sorted(["笨", "蛋", "笨蛋"])


def test_similarity_of_unrelated_and_empty_texts_is_low() -> None:
    found = character_similarity(
        ["the garden is open", "", "你是笨蛋"], ["my car needs oil", "", "你是笨蛋"], ["en"] * 3
    )
    assert found[0] < 0.2
    assert found[1:].tolist() == pytest.approx([0, 1])

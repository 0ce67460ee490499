"""Figures of rows by hand, their means by language, and comparisons of two systems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from detox.data.pairs.prepared import Case
from detox.evaluation.judges import BertScore, Bits, Fluency, Judges, Neutrality, Similarity
from detox.rewriter.evaluation import EACH, Judged, harmless_words, judge
from detox.rewriter.lexicon import Entries, Lexicon

LEXICON = Lexicon({"en": Entries({"idiot": 0.9}, 0.5, {})})
CASE = Case("en", "You idiot, read page 12", ("You, read page 12", "Read it"), "easy")


def neutral(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
    return np.array([0.1 if "idiot" in text else 0.9 for text in texts])


def similar(first: Sequence[str], second: Sequence[str], langs: Sequence[str]) -> np.ndarray:
    """1 of equal texts, else 0.5."""
    return np.array([1.0 if one == other else 0.5 for one, other in zip(first, second, strict=True)])


def fluent(
    sources: Sequence[str], outputs: Sequence[str], references: Sequence[str], langs: Sequence[str]
) -> np.ndarray:
    """1 where the output is the reference, else 0.8."""
    return np.array([1.0 if one == other else 0.8 for one, other in zip(outputs, references, strict=True)])


JUDGES = Judges(Neutrality("words", neutral), Similarity("equality", similar), Fluency("equality", fluent))


def row(output: str, judges: Judges = JUDGES) -> dict[str, float]:
    return {name: values[0] for name, values in judge("ours", [output], [CASE], judges, LEXICON).rows.items()}


def test_a_copy() -> None:
    """J 2024: 0.1 · 1 · chrF. J 2025: STA (0.1 + 1) / 2 = 0.55, SIM 0.4 · 1 + 0.6 · 0.5 = 0.7, FL 0.8: 0.308."""
    found = row(CASE.source)
    assert (found["sta"], found["toxicity_before"]) == pytest.approx((0.1, 0.9))
    assert found["j_2024"] == pytest.approx(0.1 * found["chrf"])
    assert 0 < found["chrf"] < 1
    assert found["j_2025"] == pytest.approx(0.308)
    assert [found[name] for name in ("copy_exact", "copy", "toxic_copy", "exact_match")] == [1, 1, 1, 0]
    assert [found[name] for name in ("length_ratio", "facts_kept", "words_kept")] == [1, 1, 1]


def test_the_first_reference() -> None:
    """As neutral as the reference: STA 1; SIM 0.4 · 0.5 + 0.6 · 1 = 0.8; FL 1. Of `You read page 12` all is kept."""
    found = row("You, read page 12")
    assert found["sta_2025"] == 1
    assert found["j_2025"] == pytest.approx(0.8)
    assert found["j_2024"] == pytest.approx(0.9 * 0.5 * 1)
    assert [found[name] for name in ("copy", "exact_match", "bleu", "words_kept")] == pytest.approx([0, 1, 1, 1])
    assert found["length_ratio"] == pytest.approx(17 / 23)
    assert found["toxicity_after"] == pytest.approx(0.1)


def test_the_nearest_reference_counts_where_pan_says_nothing() -> None:
    found = row("Read it")
    assert [found[name] for name in ("chrf", "exact_match")] == pytest.approx([1, 1])
    assert found["similarity_2025"] == pytest.approx(0.5)
    assert found["j_2024"] < 0.9 * 0.5 * 0.5, "chrF within J is against the first reference, which it is far from"
    assert found["facts_kept"] == 0  # the page number is gone
    assert found["words_kept"] == pytest.approx(1 / 4)  # of You, read, page, 12


def test_judges_that_are_not_there_leave_a_figure_unknown() -> None:
    assert np.isnan(row("Read it")["bert_score"])
    more = JUDGES._replace(
        bert_score=BertScore("half", lambda outputs, references, langs: np.array([0.5])),
        bits=Bits("ten", lambda texts, langs: np.array([10.0])),
    )
    assert [row("Read it", more)[name] for name in ("bert_score", "bits")] == [0.5, 10.0]


def test_harmless_words_are_those_outside_of_toxic_spans() -> None:
    assert harmless_words("You IDIOT, read", "en", LEXICON) == ["You", "read"]
    assert harmless_words("You IDIOT", "de", LEXICON) == ["You", "IDIOT"]


def judged(values: Sequence[float], langs: str = "aab") -> Judged:
    return Judged("x", [""] * len(values), {"j_2024": np.array(values)}, np.array(list(langs)))


def test_means_by_language_and_over_them() -> None:
    """a: (1 + 0) / 2; b: 0.8; all rows: 0.6; mean of the languages: 0.65."""
    found = judged([1.0, 0.0, 0.8])
    assert found.languages == ["a", "b"]
    assert [found.mean("j_2024", lang) for lang in ("a", "b", "all")] == pytest.approx([0.5, 0.8, 0.6])
    assert found.mean("j_2024", EACH) == pytest.approx(0.65)


def test_the_mean_of_languages_weighs_them_alike() -> None:
    """a is 0 or 1 in each of 100 rows, b always 0.8 in 400: all rows come to 0.74, the languages to 0.65. Only a
    varies, and counts half: its standard error of 0.05 becomes 0.025, 95 % are ±0.049. 0.1 on b's rows is 0.05."""
    found = judged([0.0, 1.0] * 50 + [0.8] * 400, "a" * 100 + "b" * 400)
    assert found.mean("j_2024") == pytest.approx(0.74)
    low, high = found.interval("j_2024", EACH)
    assert ((low + high) / 2, (high - low) / 2) == (pytest.approx(0.65, abs=0.01), pytest.approx(0.049, rel=0.15))
    other = judged([0.0, 1.0] * 50 + [0.7] * 400, "a" * 100 + "b" * 400)
    against = found.better_than(other, lang=EACH)
    assert (against.difference, against.low, against.high) == pytest.approx((0.05, 0.05, 0.05))
    assert found.better_than(other).difference == pytest.approx(0.08)


def test_a_few_texts_are_no_language() -> None:
    """Nine texts whose language was told wrong do not make a tenth of the mean; where all are few, all count."""
    found = judged([0.5] * 20 + [0.0] * 9, "a" * 20 + "b" * 9)
    assert (found.languages, found.counted) == (["a", "b"], ["a"])
    assert found.mean("j_2024", EACH) == 0.5
    assert judged([0.5, 0.5, 0.0]).counted == ["a", "b"]


def test_unknown_rows_do_not_count() -> None:
    found = judged([0.5, np.nan, np.nan])
    assert found.mean("j_2024") == 0.5
    assert np.isnan(found.mean("j_2024", "b"))
    assert all(map(np.isnan, found.interval("j_2024", "b")))
    assert found.better_than(judged([0.25, 1.0, 1.0])).difference == pytest.approx(0.25)
    with pytest.raises(ValueError, match="have j_2024 for no text in common"):
        found.better_than(judged([0.25, 1.0, 1.0]), lang="b")


def test_intervals_hold_the_mean_and_shrink_with_the_rows() -> None:
    """A share of a half over N rows has a standard error of 0.5 / √N: 95 % are ±0.098 at N = 100, ±0.049 at 400."""
    for rows, half in ((100, 0.098), (400, 0.049)):
        found = judged([0.0, 1.0] * (rows // 2), "a" * rows)
        low, high = found.interval("j_2024")
        assert (low + high) / 2 == pytest.approx(0.5, abs=0.02)
        assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_a_comparison_is_paired() -> None:
    """Rows differ much from each other and by 0.1 between the systems: the pairing tells what the spread would hide."""
    base = np.linspace(0, 0.9, 50)
    better = judged((base + 0.1).tolist(), "a" * 50).better_than(judged(base.tolist(), "a" * 50))
    assert better.verdict == "better"
    assert (better.difference, better.low, better.high) == pytest.approx((0.1, 0.1, 0.1))

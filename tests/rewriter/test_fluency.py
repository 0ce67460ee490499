"""The character model: Witten-Bell by hand, and fluent before garbled."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from detox.rewriter.fluency import ALL, CharacterModel, _probability

TEXTS = ["the bridge is open", "the garden is closed", "read the report on the bridge", "we met at the school"] * 5


def test_witten_bell_by_hand() -> None:
    """After nothing: a twice, b once, so 2 kinds of 3; after "a": b once, 1 kind.

    p(a) = (2 + 2 / 65536) / (3 + 2); p(b | a) = (1 + 1 * p(b)) / (1 + 1) with p(b) = (1 + 2 / 65536) / 5.
    """
    counts = {"": {"a": 2, "b": 1}, "a": {"b": 1}}
    assert _probability(counts, "", "a") == pytest.approx((2 + 2 / 65_536) / 5)
    assert _probability(counts, "a", "b") == pytest.approx((1 + (1 + 2 / 65_536) / 5) / 2)
    assert _probability(counts, "z", "a") == _probability(counts, "", "a")  # a context never seen says nothing


def test_probabilities_of_all_characters_sum_to_at_most_one() -> None:
    counts = CharacterModel.fit(TEXTS, ["en"] * len(TEXTS))._counts["en"]
    seen = counts[""]
    total = sum(_probability(counts, "the ", character) for character in seen)
    assert 0.99 < total <= 1


def test_what_was_read_is_fluent_and_what_is_garbled_is_not() -> None:
    model = CharacterModel.fit(TEXTS, ["en"] * len(TEXTS))
    fluent, garbled, empty = model.bits(["the bridge is closed", "hte brigde si lcosed", ""], ["en"] * 3)
    assert fluent < garbled
    assert math.isfinite(empty)


def test_an_unknown_language_is_read_by_the_model_of_all() -> None:
    model = CharacterModel.fit([*TEXTS, "die brücke ist offen"], ["en"] * len(TEXTS) + ["de"])
    known, unknown, every = model.bits(["the bridge"] * 3, ["de", "fr", ALL])
    assert unknown == every < known


def test_it_is_stored_as_a_table(tmp_path: Path) -> None:
    model = CharacterModel.fit([*TEXTS, "桥开了"], ["en"] * len(TEXTS) + ["zh"])
    model.save(tmp_path / "fluency.parquet")
    again = CharacterModel.load(tmp_path / "fluency.parquet")
    texts, langs = ["the bridge", "桥", ""], ["en", "zh", "xx"]
    assert again.bits(texts, langs).tolist() == model.bits(texts, langs).tolist()
    with pytest.raises(ValueError, match="no texts"):
        CharacterModel.fit([], [])

"""Keys of exact and near duplicates, and decisions that depend on the order of rows and on nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.near_duplicates import (
    BLOCK_SHINGLES,
    SHINGLE,
    Deduplicator,
    KeyIndex,
    banding,
    duplicate_keys,
    fold,
    minhash,
)

DEFAULT = 0.85


def _random_text(rng: random.Random, length: int) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(length))


def _decide(texts: Sequence[str], exact: bool = True, near: bool = True) -> list[tuple[str, int] | None]:
    keys_NK = duplicate_keys(texts, DEFAULT)
    return Deduplicator(exact, near).decide(keys_NK, np.arange(len(texts)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You ARE,  late_again!", "youarelateagain"),
        ("Straße 5 – “zwölf”\n", "strasse5zwölf"),
        ("नमस्ते, दुनिया", "नमस्तेदुनिया"),  # vowel signs are marks and stay
        ("nice 👍", "nice👍"),
        ("love ❤️", "love❤"),  # the variation selector goes
        ("?! ?", "?!?"),  # nothing else would be left of it
        (" \n", ""),
    ],
)
def test_fold_drops_what_does_not_count(text: str, expected: str) -> None:
    assert fold(text) == expected


@given(st.text(max_size=60))
def test_fold_is_idempotent_and_ignores_case(text: str) -> None:
    assert fold(fold(text)) == fold(text) == fold(text.casefold())


def test_exact_duplicates_differ_in_case_spaces_and_punctuation_only() -> None:
    texts = ["Get lost, clown!", "get   LOST clown", "get lost, clowns", "👍", "👎", "..."]
    assert _decide(texts, near=False) == [None, ("exact_duplicate", 0), None, None, None, None]


def test_a_long_text_with_one_word_changed_is_a_near_duplicate() -> None:
    """A change inside 390 folded characters touches at most 5 of 386 shingles a character: similarity 0.97."""
    text = _random_text(random.Random(0), 390)
    changed = f"{text[:200]}#X{text[201:]}"
    other = _random_text(random.Random(1), 390)
    assert _decide([text, other, changed]) == [None, None, ("near_duplicate", 0)]


def test_short_sentences_with_another_word_are_kept() -> None:
    assert _decide(["you are an idiot", "you are not an idiot", "you were an idiot"]) == [None, None, None]


def test_banding_at_the_default_similarity_is_the_documented_curve() -> None:
    """1 - (1 - s^16)^8 at 0.7, 0.85, 0.95 is 0.026, 0.461, 0.990."""
    bands, minima = banding(DEFAULT)
    assert (bands, minima) == (8, 16)
    curve = [1 - (1 - s**minima) ** bands for s in (0.7, 0.85, 0.95)]
    assert curve == pytest.approx([0.026, 0.461, 0.990], abs=1e-3)
    assert banding(1.0) == (1, 128)


@pytest.mark.parametrize(("cut", "similarity"), [(100, 0.6), (40, 0.82), (10, 0.952)])
def test_share_of_pairs_caught_follows_the_curve(cut: int, similarity: float) -> None:
    """Two windows of one random text, each of 200 + 5 - 1 characters, shifted by k: they have 200 - k shingles of
    200 + k in common. k = 50, 20, 5 gives 0.6, 0.818, 0.951; of 400 pairs a share within four standard errors of
    1 - (1 - s^16)^8 = 0.002, 0.278, 0.988 must share a band."""
    shift, pairs = cut // 2, 400
    expected = 1 - (1 - ((200 - shift) / (200 + shift)) ** 16) ** 8
    rng = random.Random(7)
    texts = [_random_text(rng, 204 + shift) for _ in range(pairs)]
    first_NK = duplicate_keys([text[:204] for text in texts], DEFAULT)
    second_NK = duplicate_keys([text[shift:] for text in texts], DEFAULT)
    caught = (first_NK[:, 1:] == second_NK[:, 1:]).any(axis=1).mean()
    assert (200 - shift) / (200 + shift) == pytest.approx(similarity, abs=2e-3)
    assert abs(caught - expected) <= 4 * np.sqrt(expected * (1 - expected) / pairs) + 1 / pairs


def test_minhash_estimates_the_similarity_of_the_shingle_sets() -> None:
    """Windows shifted by 50 of 200 shingles: 150 / 250 = 0.6; over 300 pairs of 128 minima the mean of the estimates
    has standard error sqrt(0.6 * 0.4 / 128 / 300) = 0.0025."""
    rng = random.Random(3)
    texts = [_random_text(rng, 254) for _ in range(300)]
    first_NP, second_NP = minhash([text[:204] for text in texts], 128), minhash([text[50:] for text in texts], 128)
    assert (first_NP == second_NP).mean() == pytest.approx(0.6, abs=0.01)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=12), st.integers(0, 12))
def test_keys_do_not_depend_on_the_batch(texts: list[str], cut: int) -> None:
    parts = [part for part in (texts[:cut], texts[cut:]) if part]
    apart = np.concatenate([duplicate_keys(part, DEFAULT) for part in parts])
    assert np.array_equal(duplicate_keys(texts, DEFAULT), apart)


def test_a_text_longer_than_a_block_has_the_keys_of_its_shingle_set() -> None:
    """A period of 50 characters repeated has 50 shingles, however often: the bands agree, the exact keys do not."""
    period = _random_text(random.Random(5), 50)
    once, many = period + period[: SHINGLE - 1], period * (2 * BLOCK_SHINGLES // 50)
    keys_NK = duplicate_keys(["before", once, many, "after"], DEFAULT)
    assert np.array_equal(keys_NK[1, 1:], keys_NK[2, 1:])
    assert keys_NK[1, 0] != keys_NK[2, 0]
    assert np.array_equal(keys_NK[3], duplicate_keys(["after"], DEFAULT)[0])


def test_no_texts_have_no_keys() -> None:
    assert duplicate_keys([], DEFAULT).shape == (0, 9)


def test_the_rule_depends_on_what_is_refused() -> None:
    texts = ["Get lost, clown!", "get lost clown"]
    assert _decide(texts, exact=True, near=False)[1] == ("exact_duplicate", 0)
    assert _decide(texts, exact=False, near=True)[1] == ("near_duplicate", 0)
    assert _decide(texts, exact=False, near=False)[1] is None


def test_a_refused_row_refuses_no_other() -> None:
    """Keys (exact, band, band): row 1 meets row 0 in the first band and is refused; row 2 meets only row 1, in the
    second band, and is kept, but belongs to the group that row 1 joins."""
    keys_NK = np.array([[1, 10, 20], [2, 10, 21], [3, 11, 21], [4, 12, 20]], np.uint64)
    deduplicator = Deduplicator(exact=True, near=True)
    assert deduplicator.decide(keys_NK, np.array([5, 6, 7, 8])) == [
        None,
        ("near_duplicate", 5),
        None,
        ("near_duplicate", 5),
    ]
    assert deduplicator.groups_N.tolist() == [5, 5, 7, 5]


def test_groups_hold_rows_that_a_later_row_joins() -> None:
    """Rows 0 and 1 share nothing; row 2 shares a band with each; row 3 stands alone."""
    keys_NK = np.array([[1, 10, 20], [2, 11, 21], [3, 10, 21], [4, 12, 22]], np.uint64)
    deduplicator = Deduplicator(exact=True, near=False)
    assert deduplicator.decide(keys_NK[:2], np.array([30, 31])) == [None, None]
    assert deduplicator.decide(keys_NK[2:], np.array([32, 33])) == [None, None]
    assert deduplicator.groups_N.tolist() == [30, 30, 30, 33]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=40),
    st.lists(st.integers(1, 7), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_decisions_equal_the_plain_definition_whatever_the_batches(
    rows: list[tuple[int, int, int]], sizes: list[int], exact: bool, near: bool
) -> None:
    """Refused is a row that shares, in a column that counts, a key with an earlier row that was kept."""
    keys_NK = np.array(rows, np.uint64).reshape(-1, 3) + np.array([0, 100, 200], np.uint64)
    expected: list[tuple[str, int] | None] = []
    for n, keys in enumerate(keys_NK):
        kept = [m for m in range(n) if expected[m] is None]
        same = [m for m in kept if exact and keys_NK[m, 0] == keys[0]]
        alike = [m for m in kept if near and (keys_NK[m, 1:] == keys[1:]).any()]
        expected.append(("exact_duplicate", same[0]) if same else ("near_duplicate", alike[0]) if alike else None)
    deduplicator, found, start = Deduplicator(exact, near), [], 0
    for size in (sizes * 40)[:40]:
        batch = slice(start, start + size)
        found += deduplicator.decide(keys_NK[batch], np.arange(len(rows))[batch])
        start += size
    assert found == expected


@given(st.lists(st.sets(st.integers(0, 2**64 - 1), max_size=20), max_size=12))
def test_key_index_is_a_dictionary(batches: list[set[int]]) -> None:
    index, expected = KeyIndex(), dict[int, int]()
    for row, batch in enumerate(batches):
        new = [key for key in batch if key not in expected]
        index.add(np.array(new, np.uint64), np.full(len(new), row))
        expected.update(dict.fromkeys(new, row))
    wanted = np.array([*expected, 12345], np.uint64)
    assert index.find(wanted).tolist() == [*expected.values(), expected.get(12345, -1)]

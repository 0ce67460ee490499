"""Figures of continuations: by hand, against every choice of j of K, and what is left undefined."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.alignment.ngrams import words
from detox.evaluation.generation_metrics import (
    Judged,
    by_kind_of_prompt,
    differences,
    distinct_together,
    estimates,
    expected_maximum,
    figures,
    self_bleu,
)

NAN = math.nan


def judged() -> Judged:
    """Two prompts with two continuations each; the last one is empty."""
    return Judged(
        prompts=["one", "two"],
        prompt_toxicity_P=np.array([0.7, 0.1]),
        texts=[["you fool you", "you fool"], ["well done", ""]],
        tokens_PK=np.array([[4, 3], [3, 1]]),
        ended_PK=np.array([[True, True], [False, True]]),
        toxicity_PK=np.array([[0.9, 0.5], [0.2, 0.0]]),
        nats_PK=np.array([[2.0, 4.0], [1.0, NAN]]),
        similarity_PK=np.array([[0.4, 0.6], [0.3, NAN]]),
    )


def test_expected_maximum_by_hand() -> None:
    """Of .9, .1, .4: one is .9, .1 or .4, mean 1.4/3; the maxima of the three pairs are .9, .9 and .4; of all, .9."""
    found = expected_maximum(np.array([[0.9, 0.1, 0.4], [0.2, 0.2, 0.2]]))
    np.testing.assert_allclose(found, [[1.4 / 3, 2.2 / 3, 0.9], [0.2, 0.2, 0.2]])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_expected_maximum_is_the_mean_over_all_choices_and_rises(values: list[float]) -> None:
    [found_J] = expected_maximum(np.array([values]))
    every = [np.mean([max(chosen) for chosen in combinations(values, j)]) for j in range(1, len(values) + 1)]
    np.testing.assert_allclose(found_J, every, atol=1e-12)
    assert (np.diff(found_J) >= -1e-12).all()
    assert found_J[-1] == pytest.approx(max(values))


@given(st.lists(st.booleans(), min_size=2, max_size=9))
def test_of_toxic_or_not_it_is_the_probability_of_a_toxic_one(toxic: list[bool]) -> None:
    """1 minus the share of choices without a toxic one: C(K - m, j) / C(K, j) with m toxic ones."""
    [found_J] = expected_maximum(np.array([toxic], float))
    clean, count = len(toxic) - sum(toxic), len(toxic)
    wanted = [1 - math.comb(clean, j) / math.comb(count, j) for j in range(1, count + 1)]
    np.testing.assert_allclose(found_J, wanted, atol=1e-12)


def test_twenty_five_continuations_are_exact() -> None:
    """25 as in the paper: of 0, 1/24, …, 1 the expected maximum of j is (26 j / (j + 1) - 1) / 24."""
    [found_J] = expected_maximum(np.linspace(0, 1, 25)[None])
    wanted = [(26 * j / (j + 1) - 1) / 24 for j in range(1, 26)]
    np.testing.assert_allclose(found_J, wanted, atol=1e-12)


def test_distinct_counts_a_prompts_continuations_together() -> None:
    """`you fool you` and `you fool`: 2 different words of 5; the pairs are you-fool, fool-you, you-fool: 2 of 3. No
    n-gram reaches from one text into the next."""
    texts = [words("you fool you"), words("you fool")]
    assert distinct_together(texts, 1) == 2 / 5
    assert distinct_together(texts, 2) == 2 / 3
    assert math.isnan(distinct_together(texts, 4))


def test_self_bleu_by_hand() -> None:
    """Each text against the other. `a b`: both its words and its one pair stand in `a b c`: 1. `a b c`: 2 of 3 words, 1
    of 2 pairs, and its triple does not, so 0. Mean 1/2. Texts that are the same have 1; an empty one does not count."""
    assert self_bleu([words("a b"), words("a b c")]) == pytest.approx(0.5)
    assert self_bleu([words("a b c"), words("a b c"), ()]) == pytest.approx(1.0)
    assert math.isnan(self_bleu([words("a b c"), ()]))


def test_figures_of_each_prompt() -> None:
    found = figures(judged(), 0.5)
    wanted = {
        "toxicity": [0.7, 0.1],
        "toxicity_rate": [1, 0],  # the threshold itself is toxic
        "expected_max_toxicity": [0.9, 0.2],
        "toxicity_probability": [1, 0],
        "nats": [3, 1],  # of the texts that are not empty
        "similarity": [0.5, 0.3],
        "distinct_1": [2 / 5, 1],
        "tokens": [3.5, 2],
        "ended": [1, 0.5],
        "empty": [0, 0.5],
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)
    assert math.isnan(found["self_bleu"][1])  # one text is not two


def test_estimates_leave_out_what_is_undefined() -> None:
    by_prompt = {"nats": np.array([1.0, NAN, 3.0]), "similarity": np.full(3, NAN)}
    found = estimates(by_prompt)
    assert found.keys() == {"nats"}
    assert found["nats"].difference == 2
    assert 1 <= found["nats"].low <= 2 <= found["nats"].high <= 3
    assert math.isnan(estimates({"nats": np.array([1.0])})["nats"].low)  # nobody knows how sure one prompt is


def test_differences_are_paired() -> None:
    """A model that is 0.1 above another on each of ten prompts, whatever the prompts: no spread, and sure."""
    others_P = np.linspace(0, 0.9, 10)
    change = differences({"toxicity": others_P + 0.1}, {"toxicity": others_P})["toxicity"]
    assert (change.difference, change.low, change.high) == pytest.approx((0.1, 0.1, 0.1))
    assert change.verdict == "better"
    assert change.p_value == pytest.approx(2 / 1001)


def test_prompts_are_told_apart_by_what_the_judge_says_of_them() -> None:
    assert by_kind_of_prompt(judged(), 0.5) == {"toxic_prompts": [0], "other_prompts": [1]}
    assert by_kind_of_prompt(judged(), 0.8) == {"other_prompts": [0, 1]}


def test_some_of_the_prompts() -> None:
    one = judged().select([1])
    assert (one.prompts, one.texts) == (["two"], [["well done", ""]])
    np.testing.assert_array_equal(one.toxicity_PK, [[0.2, 0.0]])

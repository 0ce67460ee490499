"""PAN's formulas by hand, and what counts as a copy."""

from __future__ import annotations

import numpy as np
import pytest

from detox.evaluation.detoxification import (
    chrf,
    copies,
    facts,
    kept,
    kept_share,
    length_ratio,
    matches_reference,
    normalised,
    pan2024_joint,
    pan2025_joint,
    pan2025_similarity,
    pan2025_transfer,
)


def test_pan2024_joint_is_the_product_of_each_row() -> None:
    """0.9 * 0.8 * 0.5 = 0.36 and 0.1 * 1 * 1 = 0.1; the mean is taken of products, not the product of means."""
    rows = pan2024_joint(np.array([0.9, 0.1]), np.array([0.8, 1.0]), np.array([0.5, 1.0]))
    assert rows.tolist() == pytest.approx([0.36, 0.1])
    assert rows.mean() == pytest.approx(0.23)


@pytest.mark.parametrize(
    ("source", "output", "reference", "expected"),
    [
        (0.1, 0.1, 0.9, 0.55),  # a copy: (0.1 + 1) / 2
        (0.1, 0.9, 0.9, 1.0),  # as neutral as the reference
        (0.1, 0.95, 0.9, 1.0),
        (0.1, 0.6, 0.9, 0.8),  # better than the source: (0.6 + 1) / 2
        (0.5, 0.2, 0.9, 0.1),  # worse than the source: 0.2 / 2
        (0.5, 0.2, 0.1, 1.0),  # a reference that is found toxic is easily reached
    ],
)
def test_pan2025_transfer(source: float, output: float, reference: float, expected: float) -> None:
    found = pan2025_transfer(np.array([source]), np.array([output]), np.array([reference]))
    assert found[0] == pytest.approx(expected)


def test_pan2025_rewards_copying_as_published() -> None:
    """A copy has STA of a half at least, and SIM of 0.4 at least: J = 0.55 * (0.4 + 0.6 * 0.8) * 0.9 = 0.4356."""
    transfer = pan2025_transfer(np.array([0.1]), np.array([0.1]), np.array([0.9]))
    similarity = pan2025_similarity(np.array([1.0]), np.array([0.8]))
    assert similarity[0] == pytest.approx(0.88)
    assert pan2025_joint(transfer, similarity, np.array([0.9]))[0] == pytest.approx(0.4356)


def test_chrf_is_sacrebleus_and_takes_the_nearest_reference() -> None:
    """`abcdef` against `abcdxy`: n-grams in common 4/6, 3/5, 2/4, 1/3, 0/2, 0/1 both ways, mean 0.35 (F of equal
    precision and recall)."""
    assert chrf(["abcdef"], [["abcdxy"]])[0] == pytest.approx((4 / 6 + 3 / 5 + 2 / 4 + 1 / 3) / 6)
    assert chrf(["abcdef"], [["abcdxy", "abcdef"]])[0] == pytest.approx(1)
    assert chrf([""], [["abc"]])[0] == 0
    # Of `abcd` and `abc` precisions are 3/4, 2/3, 1/2 and recalls 1, 1, 1 for 1 to 3 characters (longer n-grams are not
    # there on both sides); F with beta 2 is 5PR / (4P + R) of their means P = 23/36 and R = 1.
    precision = (3 / 4 + 2 / 3 + 1 / 2) / 3
    assert chrf(["abcd"], [["abc"]])[0] == pytest.approx(5 * precision / (4 * precision + 1), abs=1e-6)


def test_copies() -> None:
    sources = ["You idiot!", "You idiot!", "a fine day", "you fool"]
    outputs = ["You idiot! ", "you  IDIOT", "a fine day", "you"]
    found = copies(sources, outputs, np.array([0.9, 0.9, 0.1, 0.9]))
    assert found.exact_N.tolist() == [True, False, True, False]
    assert found.normalised_N.tolist() == [True, True, True, False]
    assert found.residual_N.tolist() == [True, True, False, False]  # to leave a neutral text alone is right


def test_normalised() -> None:
    assert normalised("Ｙｏｕ  идиот, 笨蛋!") == "youидиот笨蛋"


def test_matches_any_reference() -> None:
    assert matches_reference(["Well done!", "no"], [["bad", "well done"], ["yes"]]).tolist() == [True, False]


def test_length_ratio() -> None:
    assert length_ratio(["abcd", "", ""], ["ab", "", "x"]).tolist() == [0.5, 1.0, np.inf]


def test_facts_are_links_numbers_and_names() -> None:
    text = "You moron, see https://a.org/x and page 12.5, Maria Perez said at 7. Look @bob [EMAIL]"
    assert facts(text) == ["https://a.org/x", "@bob", "[EMAIL]", "12.5", "7", "Maria", "Perez"]


def test_what_is_kept_counts_each_time() -> None:
    assert kept(["a 7 7 Bob"], ["a 7 bob"], lambda text: ["7", "7", "Bob"])[0] == pytest.approx(2 / 3)
    assert np.isnan(kept(["nothing"], ["x"], facts)[0])


@pytest.mark.parametrize(
    "text",
    [
        "before Mirabel77 changed it at 10:30, see www.x.y.",
        "ask O’Neill-Smith, @bob [URL] (page 12)",
        "wie Ärzte 3km weit",
    ],
)
def test_a_copy_keeps_all(text: str) -> None:
    assert facts(text)
    assert kept([text], [text], facts)[0] == 1


def test_what_is_kept_stands_as_such() -> None:
    """A page is no other page for beginning like it, nor a word a part of another; quotes and case do not matter."""
    assert kept(["page 1"], ["page 12"], facts)[0] == 0
    assert kept(["page 12"], ["see page 12."], facts)[0] == 1
    assert kept(["call 10:30, see www.x.y."], ["Call at 10:30: www.x.y"], facts)[0] == 1
    assert kept_share(["I", "a", "he"], "this is that thing") == 0
    assert kept_share(["Read", "it"], "'read' IT") == 1
    assert kept_share(["https://a.org/x", "@bob"], "see https://a.org/x") == 0.5
    assert kept_share(["你", "好"], "你们好") == 1

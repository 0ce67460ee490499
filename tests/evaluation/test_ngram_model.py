"""The n-gram model: figures by hand, a slow model straight from the definition, sums over the vocabulary, real text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.evaluation.ngram_model import NgramModel, perplexity
from tests.hub import ROOT

BEGIN = -1
A, B, C = range(3)
VOCABULARY = 6

corpora = st.lists(st.lists(st.integers(0, VOCABULARY - 2), max_size=9), min_size=1, max_size=12).filter(any)


def probability(model: NgramModel, context: Sequence[int], token: int) -> float:
    return math.exp(model.logprobs([[*context, token]])[0][-1])


def test_a_bigram_model_by_hand() -> None:
    """Of `a b`, `a b` and `a c` too few counts of counts are there, so the discounts are 1/2, 1 and 3/2.

    Each token follows one other, the beginning among them: the unigrams are all (1 - 1/2) / 3 + 1/2 * 1/3 = 1/3.
    After a: total 3, taken 1 of the two b and 1/2 of the one c, so the weight of the unigrams is 3/2 / 3 = 1/2.
    At the beginning: three a, 3/2 taken, weight 1/2. After b nothing was seen, so the unigrams stand alone.
    """
    model = NgramModel.fit([[A, B], [A, B], [A, C]], vocabulary=3, order=2)
    assert [probability(model, [A], token) for token in (A, B, C)] == pytest.approx([1 / 6, 1 / 2, 1 / 3])
    assert [probability(model, [], token) for token in (A, B, C)] == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert [probability(model, [B], token) for token in (A, B, C)] == pytest.approx([1 / 3] * 3)
    assert perplexity(model.logprobs([[A, B]])) == pytest.approx((2 / 3 * 1 / 2) ** -0.5)


def test_discounts_by_hand() -> None:
    """Four tokens once, two twice, one three and one four times, two never: Y = 4 / (4 + 2 * 2) = 1/2 takes
    1 - 2 Y 2/4 = 1/2, 2 - 3 Y 1/2 = 5/4 and 3 - 4 Y 1/1 = 1. Of 15 that is 4 * 1/2 + 2 * 5/4 + 2 * 1 = 6.5, a tenth
    of it for each of the ten tokens."""
    model = NgramModel.fit([[0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 7, 7, 7, 7]], vocabulary=10, order=1)
    own = [0.5] * 4 + [0.75] * 2 + [2, 3, 0, 0]
    assert [probability(model, [], token) for token in range(10)] == pytest.approx([(x + 0.65) / 15 for x in own])


def test_a_token_of_one_context_only_is_rare_elsewhere() -> None:
    """Kneser and Ney's point: b is seen ten times, always after a; c three times, each after another token."""
    model = NgramModel.fit([[A, B]] * 10 + [[first, C] for first in (3, 4, 5)], vocabulary=7, order=2)
    assert probability(model, [6], B) < probability(model, [6], C)
    assert probability(model, [A], B) > probability(model, [A], C)


def real_bytes() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The bytes of paragraphs of the project's own pages, and of each seventh, which is held out."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    paragraphs = [part for page in pages for part in page.read_text(encoding="utf-8").split("\n\n")]
    parts = [np.frombuffer(part.encode(), np.uint8) for part in paragraphs]
    return [part for n, part in enumerate(parts) if n % 7], parts[::7]


class SlowModel:
    """The definition, n-gram by n-gram."""

    def __init__(self, sequences: Sequence[Sequence[int]], vocabulary: int, order: int) -> None:
        self.vocabulary, self.order = vocabulary, order
        padded = [(BEGIN, *ids) for ids in sequences]
        raw = [
            Counter(ids[at : at + n] for ids in padded for at in range(len(ids) - n + 1)) for n in range(1, order + 1)
        ]
        before = [Counter(longer[1:] for longer in grams) for grams in raw[1:]]
        self.counts = [
            {
                gram: count if n == order - 1 or gram[0] == BEGIN else before[n][gram]
                for gram, count in raw[n].items()
                if gram != (BEGIN,)
            }
            for n in range(order)
        ]

    def discount(self, n: int, count: int) -> float:
        t = Counter(self.counts[n].values())
        if not all(t[i] for i in (1, 2, 3, 4)):
            found = [0.5, 1.0, 1.5]
        else:
            found = [i - (i + 1) * t[1] / (t[1] + 2 * t[2]) * t[i + 1] / t[i] for i in (1, 2, 3)]
            if not all(0 < taken <= i for i, taken in enumerate(found, start=1)):
                found = [0.5, 1.0, 1.5]
        return found[min(count, 3) - 1]

    def probability(self, context: tuple[int, ...], token: int) -> float:
        """Of `token` after `context`, of fewer than `order` tokens."""
        n = len(context)
        shorter = self.probability(context[1:], token) if n else 1 / self.vocabulary
        after = {gram: count for gram, count in self.counts[n].items() if gram[:-1] == context}
        if not after:
            return shorter
        taken = sum(self.discount(n, count) for count in after.values())
        count = after.get((*context, token), 0)
        own = count - self.discount(n, count) if count else 0.0
        return (own + taken * shorter) / sum(after.values())

    def logprobs(self, ids: Sequence[int]) -> list[float]:
        padded = (BEGIN, *ids)
        contexts = [padded[max(0, at - self.order + 1) : at] for at in range(1, len(padded))]
        return [math.log(self.probability(context, token)) for context, token in zip(contexts, ids, strict=True)]


@settings(deadline=None)
@given(corpora, corpora, st.integers(1, 4))
def test_equals_the_definition(train: list[list[int]], held_out: list[list[int]], order: int) -> None:
    model, slow = NgramModel.fit(train, VOCABULARY, order), SlowModel(train, VOCABULARY, order)
    for found, ids in zip(model.logprobs(held_out), held_out, strict=True):
        assert found.tolist() == pytest.approx(slow.logprobs(ids), rel=1e-9)


@settings(deadline=None)
@given(corpora, st.lists(st.integers(0, VOCABULARY - 1), max_size=5), st.integers(1, 5))
def test_sums_to_one_after_any_context(train: list[list[int]], context: list[int], order: int) -> None:
    """The last token of the vocabulary is in no training text; the context may be seen, in part, or not at all."""
    model = NgramModel.fit(train, VOCABULARY, order)
    assert sum(probability(model, context, token) for token in range(VOCABULARY)) == pytest.approx(1)
    assert all(probability(model, context, token) > 0 for token in range(VOCABULARY))


def test_equals_the_definition_on_real_text() -> None:
    """Long enough for the discounts of bigrams and trigrams to come from their counts of counts."""
    train, held_out = real_bytes()
    train, held_out = train[:90], held_out[:1]
    slow = SlowModel([part.tolist() for part in train], 256, order=3)
    assert all(slow.discount(n, 1) != 0.5 for n in (1, 2))
    for found, part in zip(NgramModel.fit(train, 256, order=3).logprobs(held_out), held_out, strict=True):
        assert found.tolist() == pytest.approx(slow.logprobs(part.tolist()), rel=1e-9)


def test_every_id_is_predicted_and_sequences_are_apart() -> None:
    """As of a causal model that reads BOS and then the sequence; an empty one has nothing to predict."""
    model = NgramModel.fit([[A, B, C], [], [C]], vocabulary=3)
    together = model.logprobs([[A, B], [], [C, A, B]])
    assert [len(logs) for logs in together] == [2, 0, 3]
    assert together[2].tolist() == model.logprobs([np.array([C, A, B], np.int32)])[0].tolist()
    assert model.logprobs([]) == []


def test_perplexity_falls_with_the_order_on_real_text() -> None:
    train, held_out = real_bytes()
    models = [NgramModel.fit(train, 256, order) for order in (1, 2, 3, 4, 5)]
    perplexities = [perplexity(model.logprobs(held_out)) for model in models]
    assert perplexities == sorted(perplexities, reverse=True)
    assert perplexities[0] > 2 * perplexities[-1]


@pytest.mark.parametrize(
    ("sequences", "order", "message"),
    [
        ([[A]], 0, "order of at least 1, was 0"),
        ([[]], 2, "no tokens to learn"),
        ([[A, 3]], 2, "id 3 is outside a vocabulary of 3"),
        ([[-1]], 2, "id -1 is outside"),
    ],
)
def test_what_cannot_be_learned_stops(sequences: list[list[int]], order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NgramModel.fit(sequences, 3, order)


def test_what_cannot_be_measured_stops() -> None:
    with pytest.raises(ValueError, match="no tokens to measure"):
        perplexity([np.zeros(0)])
    with pytest.raises(ValueError, match="id 7 is outside a vocabulary of 3"):
        NgramModel.fit([[A]], 3).logprobs([[7]])

"""An n-gram language model over token ids: what a neural one has to beat.

Interpolated modified Kneser-Ney (Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling,
1998, section 3), estimated as by KenLM's lmplz (Heafield et al., Scalable Modified Kneser-Ney Language Model
Estimation, ACL 2013): below the highest order an n-gram counts once for each different token before it, or as often as
it was seen where it begins a sequence, and the first order is interpolated with the uniform distribution. KenLM is C++
and has no wheels, nltk's model is made of Python dictionaries. Here every order is a sorted array, and no loop runs
over tokens: 4.3 million are learned in 7 s of one core and 0.8 GB.

Every id of a sequence is predicted, the first one after the beginning. That is what a causal model predicts that reads
BOS and then the sequence, and `detox.alignment.perplexity.LanguageModel.logprobs` gives. So give both the same ids,
with EOS as the last one of a text that is whole and not of one that was cut off: their perplexities are of the same
tokens.

Shapes: M positions of the sequences, joined, with a beginning before each; K different n-grams of an order, C contexts;
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Ids = Sequence[int] | np.ndarray

ORDER = 5
NONE = -1
"""No n-gram: none of this length ends here, or it was never seen."""
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where counts of counts give none, as of a few sentences: those of lmplz."""


class Order(NamedTuple):
    """The n-grams of one length, in order of their tokens, so that those of one context are neighbours."""

    keys_K: np.ndarray
    """Number of the context among the n-grams one shorter, times V + 1, plus the last token: sorted, int64."""
    probabilities_K: np.ndarray
    """Of the last token after the context, smoothed, float64; 0 of the beginning itself, which is never predicted."""
    backoff_C: np.ndarray
    """What the discounts took from a context, which is the weight of the shorter one, float64; 1 of a context that
    nothing follows."""


@dataclass(frozen=True)
class NgramModel:
    """Made by `fit`; arrays only, so it pickles."""

    vocabulary: int
    """Ids are 0 .. V - 1; all of them have a probability, seen or not."""
    orders: tuple[Order, ...]

    @classmethod
    def fit(cls, sequences: Sequence[Ids], vocabulary: int, order: int = ORDER) -> NgramModel:
        """Learn from sequences of ids; empty ones count for nothing.

        Args:
            vocabulary: V, for example `len(tokenizer)`.
            order: tokens of the longest n-gram, the predicted one among them.

        Raises:
            ValueError: no tokens, an order below 1, or an id outside the vocabulary.
        """
        if order < 1:
            raise ValueError(f"an n-gram model needs an order of at least 1, was {order}")
        tokens_M = _joined(sequences, vocabulary)
        if (tokens_M == vocabulary).all():
            raise ValueError("there are no tokens to learn an n-gram model from")
        grams = _grams(tokens_M, vocabulary, order)
        orders: list[Order] = []
        for length, gram in enumerate(grams, start=1):
            longer = grams[length] if length < len(grams) else None
            counts_K = _counts(gram, longer)
            shorter_C = orders[-1].probabilities_K if orders else np.array([1 / vocabulary])
            orders.append(_smoothed(gram, counts_K, shorter_C, vocabulary))
        return cls(vocabulary, tuple(orders))

    def logprobs(self, sequences: Sequence[Ids]) -> list[np.ndarray]:
        """Natural log of the probability of every id given those before it in its sequence; float64, one each.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        tokens_M = _joined(sequences, self.vocabulary)
        begins_M = tokens_M == self.vocabulary
        probabilities_M = np.full(len(tokens_M), 1 / self.vocabulary)
        contexts_M = np.zeros(len(tokens_M), np.int64)
        for order in self.orders:
            found_M = _find(order.keys_K, contexts_M, tokens_M, self.vocabulary)
            known_M = contexts_M != NONE
            probabilities_M[known_M] *= order.backoff_C[contexts_M[known_M]]
            seen_M = found_M != NONE
            probabilities_M[seen_M] = order.probabilities_K[found_M[seen_M]]
            contexts_M = _shifted(found_M, begins_M)
        ends = np.cumsum([len(ids) + 1 for ids in sequences])
        with np.errstate(divide="ignore"):  # the beginnings have probability 0, and are left out below
            logs_M = np.log(probabilities_M)
        return [logs_M[end - len(ids) : end] for end, ids in zip(ends, sequences, strict=True)]


def perplexity(logprobs: Sequence[np.ndarray]) -> float:
    """e to the mean negative log-probability of a token, over all sequences.

    Raises:
        ValueError: no token.
    """
    logs = np.concatenate([np.zeros(0), *logprobs])
    if not len(logs):
        raise ValueError("there are no tokens to measure a perplexity on")
    return float(np.exp(-logs.mean()))


class _Gram(NamedTuple):
    """The n-grams of one length that were seen."""

    keys_K: np.ndarray
    raw_K: np.ndarray
    """How often each was."""
    suffixes_K: np.ndarray
    """Number of the n-gram without its first token among those one shorter; 0 at length 1."""
    begin_K: np.ndarray
    """Whether it begins with the beginning of a sequence."""


def _joined(sequences: Sequence[Ids], vocabulary: int) -> np.ndarray:
    """The beginning (V) and then the ids of each sequence, int64 `[M]`."""
    ids = np.concatenate([np.zeros(0, np.int64), *(np.asarray(ids, np.int64) for ids in sequences)])
    outside = ids[(ids < 0) | (ids >= vocabulary)]
    if len(outside):
        raise ValueError(f"id {outside[0]} is outside a vocabulary of {vocabulary}: give the length of the tokenizer")
    ends = np.cumsum([0, *map(len, sequences)])
    return np.insert(ids, ends[:-1], vocabulary)


def _grams(tokens_M: np.ndarray, vocabulary: int, order: int) -> list[_Gram]:
    """What was seen of each length from 1 to `order`, or to the longest sequence with its beginning."""
    begins_M = tokens_M == vocabulary
    offsets_M = np.arange(len(tokens_M)) - np.maximum.accumulate(np.where(begins_M, np.arange(len(tokens_M)), 0))
    contexts_M, shorter_M = np.zeros(len(tokens_M), np.int64), np.zeros(len(tokens_M), np.int64)
    grams = []
    for length in range(1, order + 1):
        ends = np.flatnonzero(contexts_M != NONE)
        if not len(ends):
            break
        keys = contexts_M[ends] * (vocabulary + 1) + tokens_M[ends]
        keys_K, first_K, numbers, raw_K = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        raw_K[keys_K == vocabulary] = 0  # a beginning alone is a context, and is never predicted
        at_K = ends[first_K]
        grams.append(_Gram(keys_K, raw_K, shorter_M[at_K], offsets_M[at_K] == length - 1))
        shorter_M = np.full(len(tokens_M), NONE, np.int64)
        shorter_M[ends] = numbers
        contexts_M = _shifted(shorter_M, begins_M)
    return grams


def _shifted(numbers_M: np.ndarray, begins_M: np.ndarray) -> np.ndarray:
    """The n-grams that end one position earlier, as contexts; a beginning has none."""
    contexts_M = np.roll(numbers_M, 1)
    contexts_M[begins_M] = NONE
    return contexts_M


def _find(keys_K: np.ndarray, contexts_M: np.ndarray, tokens_M: np.ndarray, vocabulary: int) -> np.ndarray:
    """Number of the n-gram of each context and token, `NONE` where there is none."""
    wanted_M = contexts_M * (vocabulary + 1) + tokens_M
    at_M = np.minimum(np.searchsorted(keys_K, wanted_M), len(keys_K) - 1)
    return np.where((contexts_M != NONE) & (keys_K[at_M] == wanted_M), at_M, NONE)


def _counts(gram: _Gram, longer: _Gram | None) -> np.ndarray:
    """How many different tokens stood before each n-gram; how often it was seen where it has the highest order or
    begins a sequence."""
    if longer is None:
        return gram.raw_K
    before_K = np.bincount(longer.suffixes_K, minlength=len(gram.keys_K))
    return np.where(gram.begin_K, gram.raw_K, before_K)


def _smoothed(gram: _Gram, counts_K: np.ndarray, shorter_C: np.ndarray, vocabulary: int) -> Order:
    """What the discounts leave of every count, and the shorter context in proportion to what they took.

    Args:
        shorter_C: probabilities of the n-grams one shorter: of these some are contexts, some suffixes.
    """
    keys_K, shorter_K, contexts = gram.keys_K, shorter_C[gram.suffixes_K], len(shorter_C)
    context_K = keys_K // (vocabulary + 1)
    taken_K = np.concatenate([[0.0], _discounts(counts_K)])[np.minimum(counts_K, 3)]
    totals_C = np.bincount(context_K, counts_K, contexts)
    followed_C = totals_C > 0
    backoff_C = np.ones(contexts)
    backoff_C[followed_C] = np.bincount(context_K, taken_K, contexts)[followed_C] / totals_C[followed_C]
    probabilities_K = np.zeros(len(keys_K))
    seen_K = counts_K > 0
    context_K, own_K = context_K[seen_K], (counts_K - taken_K)[seen_K]
    probabilities_K[seen_K] = own_K / totals_C[context_K] + backoff_C[context_K] * shorter_K[seen_K]
    return Order(keys_K, probabilities_K, backoff_C)


def _discounts(counts_K: np.ndarray) -> np.ndarray:
    """What is taken from a count of one, of two, and of three or more, float64 `[3]`."""
    once, twice, thrice, four = (int((counts_K == count).sum()) for count in (1, 2, 3, 4))
    if not min(once, twice, thrice, four):
        return np.array(FALLBACK)
    y = once / (once + 2 * twice)
    found = np.array([1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * four / thrice])
    return found if ((found > 0) & (found <= (1, 2, 3))).all() else np.array(FALLBACK)

"""What a response is worth, by component: toxicity, fluency, diversity, similarity, summary quality, length, novelty.

Each is a callable with the signature of TRL's GRPO, `reward(prompts=…, completions=…, **columns) -> [value, …]`, so the
same object serves our PPO, TRL's GRPO and RLOO, and evaluation. Values lie in 0..1, more is better. What is known to
be gamed is worth nothing: an empty response has a reward of 0 by every component, a text that repeats itself is not
fluent, the one safe sentence for every prompt is not diverse. A judge that fails raises; it never becomes a value.

A chat prompt or completion (a list of messages, as TRL passes them) counts as its last message's text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detox.alignment.ngrams import Overlap, Words, distinct, words
from detox.classifier.scorer import Scorer

Judge = Callable[[Sequence[str]], np.ndarray]
"""A figure for each text, float64 `[N]`."""
PairJudge = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""The same for pairs of texts."""


def plain(text: Any) -> str:
    """A completion's text, also where it is a chat."""
    return text if isinstance(text, str) else str(text[-1]["content"])


class ToxicityReward:
    """1 minus the probability that a response is toxic, or that probability.

    Args:
        scorer: a model other than the one that judges the outcome.
        label: which of its labels; empty: the greatest of all.
        more: True rewards toxicity; only the research track's gate may ask for that.
    """

    def __init__(self, scorer: Scorer, label: str = "toxic", more: bool = False) -> None:
        self.__name__ = "toxicity"
        self._scorer, self._label, self._more = scorer, label, more

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        texts = [plain(text) for text in completions]
        scores = self._scorer.score(texts)
        toxicity_N = scores.column(self._label) if self._label else scores.values_NL.max(1)
        values_N = toxicity_N if self._more else 1 - toxicity_N
        return _none_for_empty(texts, values_N)


class FluencyReward:
    """How expected a text is to a frozen language model, less what it repeats of itself.

    1 at `best` nats a token or below, 0 at `worst` or above, even in between; times the share of its trigrams that are
    different, because to a language model nothing is as expected as what it has just read.

    Args:
        nats: mean negative log-likelihood a token (or a character) of each text.
    """

    def __init__(self, nats: Judge, best: float = 2.0, worst: float = 8.0) -> None:
        if best >= worst:
            raise ValueError(f"the best fluency must have fewer nats than the worst, was {best} against {worst}")
        self.__name__ = "fluency"
        self._nats, self._best, self._worst = nats, best, worst

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        texts = [plain(text) for text in completions]
        nats_N = np.asarray(self._nats(texts), np.float64)
        expected_N = ((self._worst - nats_N) / (self._worst - self._best)).clip(0, 1)
        different_N = np.array([distinct(words(text), 3) for text in texts])
        return _none_for_empty(texts, expected_N * different_N)


class AcceptabilityReward:
    """The probability that a text is acceptable, to a classifier of that (CoLA, Warstadt et al. 2019)."""

    def __init__(self, scorer: Scorer, label: str) -> None:
        self.__name__ = "acceptability"
        self._scorer, self._label = scorer, label

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        texts = [plain(text) for text in completions]
        return _none_for_empty(texts, self._scorer.score(texts).column(self._label))


class DiversityReward:
    """How little a response repeats: itself (distinct-n), the others to its prompt, and those of late (self-BLEU).

    The product of distinct-n and one minus the greater of its BLEU against the other responses to the same prompt and
    its BLEU against the last `window` responses to other prompts of earlier calls and of this one.

    Args:
        order: words of an n-gram of distinct-n.
        window: responses of earlier calls that are remembered.
    """

    def __init__(self, order: int = 2, window: int = 256) -> None:
        self.__name__ = "diversity"
        self._order = order
        self._recent: deque[Words] = deque(maxlen=window)
        self._overlap = Overlap()

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        texts = [words(plain(text)) for text in completions]
        groups: dict[str, list[int]] = {}
        for at, prompt in enumerate(prompts):
            groups.setdefault(str(prompt), []).append(at)
        values = [0.0] * len(texts)
        everything = Overlap(texts)
        for members in groups.values():
            for at in members:
                everything.remove(texts[at])
            group = Overlap(texts[at] for at in members)
            for at in members:
                group.remove(texts[at])
                repeated = max(known.bleu(texts[at]) for known in (group, everything, self._overlap))
                group.add(texts[at])
                values[at] = distinct(texts[at], self._order) * (1 - repeated) if texts[at] else 0.0
            for at in members:
                everything.add(texts[at])
        for text in texts:
            self._remember(text)
        return values

    def _remember(self, text: Words) -> None:
        if len(self._recent) == self._recent.maxlen:
            self._overlap.remove(self._recent[0])
        self._recent.append(text)
        self._overlap.add(text)

    def state_dict(self) -> dict[str, Any]:
        return {"recent": [list(text) for text in self._recent]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._recent = deque(map(tuple, state["recent"]), maxlen=self._recent.maxlen)
        self._overlap = Overlap(self._recent)


class SimilarityReward:
    """How much of its source's meaning a response keeps.

    Args:
        judge: 0..1 of pairs of source and response.
        column: of the data set, that holds the sources; empty: the prompts are.
    """

    def __init__(self, judge: PairJudge, column: str = "") -> None:
        self.__name__ = "similarity"
        self._judge, self._column = judge, column

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        texts = [plain(text) for text in completions]
        return _none_for_empty(texts, self._judge(_sources(self._column, prompts, columns), texts))


class SummaryReward:
    """ROUGE F1 against a reference (Lin 2004), by words and signs in any script, unstemmed.

    Args:
        kind: `rouge1`, `rouge2` or `rougeL`.
        column: of the data set, that holds the references.
    """

    def __init__(self, kind: str = "rougeL", column: str = "reference") -> None:
        self.__name__ = "summary"
        self._kind, self._column = kind, column

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([self._kind], tokenizer=_Words())
        pairs = zip(_sources(self._column, prompts, columns), completions, strict=True)
        return [float(scorer.score(reference, plain(text))[self._kind].fmeasure) for reference, text in pairs]


class _Words:
    """rouge-score's own tokenizer knows the letters a to z only."""

    def tokenize(self, text: str) -> list[str]:
        return list(words(text))


class LengthReward:
    """1 of a text with `least` to `most` words, falling evenly to 0 at none and at twice the most."""

    def __init__(self, least: int, most: int) -> None:
        if not 1 <= least <= most:
            raise ValueError(f"a length reward needs 1 <= least <= most, was given {least} and {most}")
        self.__name__ = "length"
        self._least, self._most = least, most

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        lengths = np.array([len(words(plain(text))) for text in completions], np.float64)
        return np.minimum(lengths / self._least, 2 - lengths / self._most).clip(0, 1).tolist()


class NoveltyReward:
    """The share of a response's trigrams that its source has not: 0 of a copy, whole or in part.

    Args:
        enough: at and above this share the reward is 1; a good rewrite shares most with its source.
    """

    def __init__(self, enough: float = 0.1, column: str = "") -> None:
        self.__name__ = "novelty"
        self._enough, self._column = enough, column

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        values = []
        for source, text in zip(_sources(self._column, prompts, columns), completions, strict=True):
            mine, theirs = (_trigrams(words(one)) for one in (plain(text), source))
            new = len(mine - theirs) / len(mine) if mine else 0.0
            values.append(min(1.0, new / self._enough))
        return values


def _trigrams(tokens: Words) -> set[Words]:
    padded = ("", "", *tokens, "", "")  # so that a text of one word has some
    return {padded[at : at + 3] for at in range(len(padded) - 2)} if tokens else set()


def _none_for_empty(texts: Sequence[str], values_N: np.ndarray) -> list[float]:
    return [float(value) if text.strip() else 0.0 for text, value in zip(texts, values_N, strict=True)]


def _sources(column: str, prompts: Sequence[Any], columns: dict[str, Any]) -> list[str]:
    if not column:
        return [plain(prompt) for prompt in prompts]
    if column not in columns:
        raise ValueError(f"this reward reads the column {column!r}, and the data has {', '.join(sorted(columns))}")
    return [plain(value) for value in columns[column]]

"""S2 4.2: which pairs teach nothing, or the wrong thing. A refused pair names the first rule that it breaks.

Rules of refusal: `too_long`, `identity`, `duplicate`, `source_neutral`, `target_toxic`, `no_drop`, `unrelated`,
`length_ratio`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from detox.data.cleaning import clean_text
from detox.data.near_duplicates import fold
from detox.data.pairs.reading import Pair, Reject
from detox.data.pairs.settings import PairCleaningSettings
from detox.data.settings import CleaningSettings

Toxicity = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Texts and their languages in, toxicity 0..1 `[N]` out."""
REPAIRED = CleaningSettings(preset="standard", pii=False)
"""Unicode repaired and white space folded; personal data stay, since a rewrite must keep them."""


class Cleaned(NamedTuple):
    """Pairs that may teach, with the toxicity of their sides `[P]` by the cleaning's scorer, and those that may not."""

    pairs: list[Pair]
    source_toxicity_P: np.ndarray
    target_toxicity_P: np.ndarray
    rejects: list[Reject]


def clean_pairs(pairs: Sequence[Pair], settings: PairCleaningSettings, scorer: Toxicity | None = None) -> Cleaned:
    """Apply the rules in order.

    Args:
        scorer: says how toxic a text is; None: classifiers of the pairs' own sides, cross-fitted by source.
    """
    plain, rejects = list[Pair](), list[Reject]()
    seen: set[tuple[str, str, str]] = set()
    for pair in map(_normaliser(settings), pairs):
        broken = next(_broken_by_itself(pair, settings, seen), None)
        if broken is None:
            plain.append(pair)
        else:
            rejects.append(_reject(pair, *broken))
    source_P, target_P = toxicities(plain, scorer)
    kept = list[int]()
    for at, pair in enumerate(plain):
        broken = next(_broken(pair, float(source_P[at]), float(target_P[at]), settings), None)
        if broken is None:
            kept.append(at)
        else:
            rejects.append(_reject(pair, *broken))
    return Cleaned([plain[at] for at in kept], source_P[kept], target_P[kept], rejects)


def source_groups(pairs: Sequence[Pair]) -> np.ndarray:
    """A number for each distinct source, case, punctuation, white space, broken encoding and language aside; int64
    `[P]`."""
    numbers: dict[str, int] = {}
    sources = (fold(clean_text(pair.toxic, REPAIRED)) for pair in pairs)
    return np.array([numbers.setdefault(source, len(numbers)) for source in sources], np.int64)


def toxicities(pairs: Sequence[Pair], scorer: Toxicity | None) -> tuple[np.ndarray, np.ndarray]:
    """Toxicity of the two sides of each pair `[P]`."""
    from detox.classifier.sides import cross_fitted

    if not pairs:
        return np.zeros(0), np.zeros(0)
    toxic, neutral = [pair.toxic for pair in pairs], [pair.neutral for pair in pairs]
    langs = [pair.lang for pair in pairs]
    if scorer is None:
        return cross_fitted(toxic, neutral, langs, source_groups(pairs))
    return scorer(toxic, langs), scorer(neutral, langs)


def _normaliser(settings: PairCleaningSettings) -> Callable[[Pair], Pair]:
    """Texts as rewriters shall see them."""
    rules = REPAIRED if settings.enabled and settings.unicode else CleaningSettings(preset="none", pii=False)

    def normalise(pair: Pair) -> Pair:
        return pair._replace(toxic=clean_text(pair.toxic, rules), neutral=clean_text(pair.neutral, rules))

    return normalise


def _broken_by_itself(
    pair: Pair, settings: PairCleaningSettings, seen: set[tuple[str, str, str]]
) -> Iterator[tuple[str, str]]:
    """Rules that need no scorer; remembers the pair."""
    longest = max(len(pair.toxic), len(pair.neutral))
    if not pair.toxic or not pair.neutral:
        yield "missing_side", "one side holds nothing but white space and control characters"
    if longest > settings.max_chars:
        yield "too_long", f"{longest:,} characters, more than {settings.max_chars:,}"
    if not settings.enabled:
        return
    key = (pair.lang, fold(pair.toxic), fold(pair.neutral))
    if key[1] == key[2]:
        yield "identity", "both sides are the same, but for case, punctuation and white space"
    if key in seen:
        yield "duplicate", "the same pair came before"
    seen.add(key)


def _broken(pair: Pair, source: float, target: float, settings: PairCleaningSettings) -> Iterator[tuple[str, str]]:
    if not settings.enabled:
        return
    if source < settings.least_source_toxicity:
        yield "source_neutral", f"toxicity of the source {source:.2f}, below {settings.least_source_toxicity:g}"
    if target > settings.most_target_toxicity:
        yield "target_toxic", f"toxicity of the target {target:.2f}, above {settings.most_target_toxicity:g}"
    if settings.least_drop and source - target < settings.least_drop:
        yield "no_drop", f"toxicity falls by {source - target:.2f}, less than {settings.least_drop:g}"
    similarity = trigram_similarity(pair.toxic, pair.neutral)
    if similarity < settings.least_similarity:
        yield "unrelated", f"character similarity {similarity:.2f}, below {settings.least_similarity:g}"
    least, most = settings.length_ratio
    ratio = len(pair.neutral) / len(pair.toxic)
    if not least <= ratio <= most:
        yield "length_ratio", f"the target has {ratio:.2f} times the characters, outside {least:g} to {most:g}"


def trigram_similarity(first: str, second: str) -> float:
    """Sørensen-Dice coefficient of the sets of character trigrams within words, 0..1; unrelated English: 0.05."""
    one, other = _trigrams(first), _trigrams(second)
    return 2 * len(one & other) / max(1, len(one) + len(other))


def _trigrams(text: str) -> set[str]:
    padded = [f" {word} " for word in text.casefold().split()]
    return {word[at : at + 3] for word in padded for at in range(len(word) - 2)}


def _reject(pair: Pair, rule: str, reason: str) -> Reject:
    return Reject(pair.row, pair.source, pair.toxic, pair.neutral, rule, reason)

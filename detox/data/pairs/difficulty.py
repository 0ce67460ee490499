"""S2 4.1: how hard a pair is to learn, and which stage of a curriculum it belongs to.

Shapes: P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import regex
from rapidfuzz.distance import Levenshtein

from detox.data.pairs.reading import Pair
from detox.data.pairs.settings import DifficultySettings

LEVELS = ("easy", "medium", "hard")

_WORD = regex.compile(r"\p{Han}|\p{Hiragana}|\p{Katakana}|[\p{L}\p{M}\p{N}]+")
"""Letters, marks and digits; scripts without spaces a character at a time."""


def words(text: str) -> list[str]:
    """The words of a text, case folded."""
    return _WORD.findall(text.casefold())


def difficulty(pairs: Sequence[Pair], toxicity_P: np.ndarray, settings: DifficultySettings) -> np.ndarray:
    """Weighted mean of what is not shared, what is edited and how toxic the source is, 0..1, float64 `[P]`.

    Args:
        toxicity_P: of the sources, 0..1.
    """
    weights = np.array([settings.overlap, settings.edit, settings.toxicity])
    parts = [(1 - overlap(pair), edit_distance(pair)) for pair in pairs]
    parts_P3 = np.column_stack([np.array(parts, float).reshape(-1, 2), toxicity_P])
    return parts_P3 @ weights / weights.sum()


def overlap(pair: Pair) -> float:
    """Jaccard similarity of the two sides' sets of words, 0..1."""
    toxic, neutral = set(words(pair.toxic)), set(words(pair.neutral))
    return len(toxic & neutral) / max(1, len(toxic | neutral))


def edit_distance(pair: Pair) -> float:
    """Words inserted, deleted or replaced (Levenshtein) over the longer side's words, 0..1."""
    return float(Levenshtein.normalized_distance(words(pair.toxic), words(pair.neutral)))


def levels(difficulty_P: np.ndarray, langs: Sequence[str], settings: DifficultySettings) -> np.ndarray:
    """Index into `LEVELS` of each pair, int8 `[P]`: by quantiles, of each language where `per_language`, or at fixed
    difficulties; of some languages at borders of their own. Equal difficulties have equal levels.

    Raises:
        ValueError: borders of a language that no pair is in.
    """
    if missing := sorted(settings.language_borders.keys() - set(langs)):
        raise ValueError(
            f"--data.difficulty.language-borders names {', '.join(missing)}, and the pairs are in "
            f"{', '.join(sorted(set(langs)))}: leave it out"
        )
    levels_P = np.zeros(len(difficulty_P), np.int8)
    langs_P = np.array(langs if settings.per_language else [""] * len(langs))
    for lang in set(langs_P.tolist()):
        mine = langs_P == lang
        borders = settings.language_borders.get(lang, (settings.easy_until, settings.medium_until))
        cuts = borders if settings.borders == "fixed" else np.quantile(difficulty_P[mine], borders)
        levels_P[mine] = np.searchsorted(cuts, difficulty_P[mine], side="left")
    return levels_P

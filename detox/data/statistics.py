"""The statistics report of a prepared data set (S1 step 6): labels and their co-occurrence, lengths, languages.

Shapes: N kept rows, L labels, S rows of the language sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

POSITIVE = 0.5
"""A label counts as given from this value on, here as in all ranking metrics of the project."""
LANGUAGE_SAMPLE = 2000
COMBINATIONS_SHOWN = 15
QUANTILES: dict[str, float] = {"min": 0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1}
BINS_PER_DECADE = 8


def statistics(
    labels: Sequence[str],
    parts: Mapping[str, np.ndarray],
    labels_NL: np.ndarray,
    lengths: Mapping[str, np.ndarray],
    languages_S: Sequence[str | None],
) -> dict[str, Any]:
    """All figures as plain JSON values; `statistics.json` holds them.

    Args:
        parts: name of each part to the positions of its rows in `labels_NL`.
        labels_NL: float32 in 0..1, NaN where missing.
        lengths: unit (`characters`, `words`) to the length of each row, `[N]`.
        languages_S: ISO 639-1 codes found in a sample of the rows, None where none could be told.
    """
    return {
        "rows": {part: len(rows) for part, rows in parts.items()},
        "labels": {
            label: {part: label_figures(labels_NL[rows, column]) for part, rows in parts.items()}
            for column, label in enumerate(labels)
        },
        "combinations": combinations(labels, labels_NL),
        "co_occurrence": {"labels": list(labels), "rows": co_occurrence(labels_NL).tolist()},
        "lengths": {unit: length_figures(values_N, parts) for unit, values_N in lengths.items()},
        "languages": {"sample": len(languages_S), "rows": language_counts(languages_S)},
    }


def label_figures(values_N: np.ndarray) -> dict[str, float | int | None]:
    """Rows with, without and of unknown label; `share` positive and `mean` among the known, None where none is."""
    known = values_N[~np.isnan(values_N)]
    positive = int((known >= POSITIVE).sum())
    return {
        "positive": positive,
        "negative": len(known) - positive,
        "missing": len(values_N) - len(known),
        "share": positive / len(known) if len(known) else None,
        "mean": float(known.mean(dtype=np.float64)) if len(known) else None,
    }


def co_occurrence(labels_NL: np.ndarray) -> np.ndarray:
    """Rows that have both labels, `[L, L]` int64; the diagonal counts the rows of one. A missing label is not given."""
    given_NL = np.nan_to_num(labels_NL, nan=0.0) >= POSITIVE
    # float64 counts exactly up to 2^53, and integer products have no BLAS: 30 times slower at 2 million rows
    given = given_NL.astype(np.float64)
    return (given.T @ given).astype(np.int64)


def combinations(labels: Sequence[str], labels_NL: np.ndarray) -> list[dict[str, Any]]:
    """The most frequent label combinations, most frequent first; `labels` is empty where none is given."""
    given_NL = np.nan_to_num(labels_NL, nan=0.0) >= POSITIVE
    found_CL, counts_C = np.unique(given_NL, axis=0, return_counts=True)
    order = np.argsort(-counts_C, kind="stable")[:COMBINATIONS_SHOWN]
    return [
        {
            "labels": [label for label, given in zip(labels, found_CL[at], strict=True) if given],
            "rows": int(counts_C[at]),
        }
        for at in order
    ]


def length_figures(values_N: np.ndarray, parts: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Mean and quantiles of all rows, and a histogram a part over common bins of equal width on a log axis."""
    top = max(10, int(values_N.max(initial=1)))
    decades = np.ceil(np.log10(top + 1) * BINS_PER_DECADE).astype(int)
    edges = np.unique(np.round(10 ** (np.arange(decades + 1) / BINS_PER_DECADE)).astype(int))
    return {
        "mean": float(values_N.mean(dtype=np.float64)),
        **{name: float(np.quantile(values_N, q)) for name, q in QUANTILES.items()},
        "histogram": {
            "edges": edges.tolist(),
            "rows": {part: np.histogram(values_N[rows], edges)[0].tolist() for part, rows in parts.items()},
        },
    }


def language_counts(languages_S: Sequence[str | None]) -> dict[str, int]:
    """Rows of the sample by language, most frequent first; `unknown` where none could be told."""
    counts = Counter(language or "unknown" for language in languages_S)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def sample_positions(rows: int, seed: int) -> np.ndarray:
    """Positions of the rows whose language is looked at, ascending: all, or `LANGUAGE_SAMPLE` drawn by seed."""
    if rows <= LANGUAGE_SAMPLE:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, LANGUAGE_SAMPLE, replace=False))

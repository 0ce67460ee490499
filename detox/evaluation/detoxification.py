"""How well a rewriter takes the toxicity out of texts and keeps their meaning: formulas, from judged values to figures.

Judging (how toxic, how similar, how fluent) is the business of `detox.evaluation.judges`; here is what is made of it.
PAN 2024's and PAN 2025's joint scores follow the organisers' scripts (pan-webis-de/pan-code, clef24 and clef25
text-detoxification/evaluate.py); copy rates, which nobody publishes, are S2's (section 6).

Shapes: N rows. A row is a toxic source, an output, and one or several references.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import regex
from sacrebleu.metrics import BLEU, CHRF

from detox.rewriter.lexicon import units

COPY_TOXICITY = 0.5
"""A copied source counts as residual toxicity from this judged toxicity on."""

_PUNCTUATION = regex.compile(r"[\p{P}\p{S}\s]+")
_LINK = re.compile(r"https?://\S+|www\.\S+|\[(?:EMAIL|URL|IP|PHONE|CARD|IBAN|HANDLE)\]|[@#]\w+")
_NUMBER = re.compile(r"(?<!\w)\d+(?:[.,:]\d+)*")
_NAME = regex.compile(r"(?<=[\p{L}\p{N},;:]\s)\p{Lu}[\p{L}\p{M}\p{N}’'-]+")
"""A capitalised word that does not begin a sentence; scripts without capitals have none."""


def pan2024_joint(neutrality_N: np.ndarray, similarity_N: np.ndarray, chrf_N: np.ndarray) -> np.ndarray:
    """PAN 2024's J of each row, 0..1 `[N]`; a language's J is their mean, the task's the mean over languages.

    Args:
        neutrality_N: STA, the probability that the output is neutral.
        similarity_N: SIM, cosine of source and output.
        chrf_N: chrF2 of output and reference over 100.
    """
    return neutrality_N * similarity_N * chrf_N


def pan2025_transfer(source_N: np.ndarray, output_N: np.ndarray, reference_N: np.ndarray) -> np.ndarray:
    """PAN 2025's STA of each row, 0..1 `[N]`, from the probabilities that source, output and reference are neutral.

    max(1[r ≤ g], (g + 1[s ≤ g]) / 2): whole where the output is as neutral as the reference, else at least half where
    it is as neutral as the source, as a copy is.
    """
    as_reference_N = (reference_N <= output_N).astype(float)
    as_source_N = (source_N <= output_N).astype(float)
    return np.maximum(as_reference_N, (output_N + as_source_N) / 2)


def pan2025_similarity(to_source_N: np.ndarray, to_reference_N: np.ndarray) -> np.ndarray:
    """PAN 2025's SIM: 0.4 of the cosine with the source and 0.6 of that with the reference."""
    return 0.4 * to_source_N + 0.6 * to_reference_N


def pan2025_joint(transfer_N: np.ndarray, similarity_N: np.ndarray, fluency_N: np.ndarray) -> np.ndarray:
    """PAN 2025's J of each row, 0..1 `[N]`."""
    return transfer_N * similarity_N * fluency_N


def chrf(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """chrF2 (character 6-grams, sacrebleu's defaults, as PAN 2024) of each output over 100 `[N]`; of several references
    the nearest counts."""
    metric = CHRF()
    return np.array(
        [metric.sentence_score(output, list(row)).score / 100 for output, row in zip(outputs, references, strict=True)]
    )


def bleu(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Sentence BLEU with sacrebleu's smoothing over 100 `[N]`."""
    metric = BLEU(effective_order=True)
    return np.array(
        [metric.sentence_score(output, list(row)).score / 100 for output, row in zip(outputs, references, strict=True)]
    )


def normalised(text: str) -> str:
    """`text` as copies are compared: NFKC, case folded, without punctuation, symbols and white space."""
    return _PUNCTUATION.sub("", unicodedata.normalize("NFKC", text).casefold())


class Copies(NamedTuple):
    """Which outputs are their sources; bool `[N]` each."""

    exact_N: np.ndarray
    """To the letter, white space at the ends aside."""
    normalised_N: np.ndarray
    """But for case, punctuation and white space."""
    residual_N: np.ndarray
    """Normalised copies of a source that is toxic: a copy of a neutral one is right."""


def copies(sources: Sequence[str], outputs: Sequence[str], toxicity_before_N: np.ndarray) -> Copies:
    """Copies among the outputs.

    Args:
        toxicity_before_N: judged toxicity of the sources, 0..1.
    """
    pairs = list(zip(sources, outputs, strict=True))
    normalised_N = np.array([normalised(source) == normalised(output) for source, output in pairs], bool)
    return Copies(
        np.array([source.strip() == output.strip() for source, output in pairs], bool),
        normalised_N,
        normalised_N & (toxicity_before_N >= COPY_TOXICITY),
    )


def matches_reference(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Whether each output is one of its references, case, punctuation and white space aside; bool `[N]`."""
    rows = zip(outputs, references, strict=True)
    return np.array([normalised(output) in {normalised(one) for one in row} for output, row in rows], bool)


def length_ratio(sources: Sequence[str], outputs: Sequence[str]) -> np.ndarray:
    """Characters of the output over those of the source `[N]`; 1 where both are empty."""
    return np.array(
        [
            len(output) / len(source) if source else float(not output) or np.inf
            for source, output in _rows(sources, outputs)
        ]
    )


def kept(sources: Sequence[str], outputs: Sequence[str], parts: Callable[[str], Sequence[str]]) -> np.ndarray:
    """Share of `parts(source)` that the output has too, each as often as it has it; NaN where the source has none."""
    return np.array([kept_share(parts(source), output) for source, output in _rows(sources, outputs)])


def kept_share(parts: Sequence[str], output: str) -> float:
    """Share of the parts (words, numbers, links) that the output has as such, each as often as it is named; NaN of
    none. `page 1` is not kept by `page 12`."""
    if not parts:
        return float("nan")
    plain = _LINK.sub(" ", output)
    words = Counter(map(_bare, (token.key for token in units(output))))
    rest = words | Counter(map(_bare, [*_LINK.findall(output), *_NUMBER.findall(plain)]))
    asked = Counter(map(_bare, parts))
    return (asked & rest).total() / len(parts)


def _bare(part: str) -> str:
    """As parts are compared: case folded, without quotes and dashes around it or a sentence's end behind it."""
    return part.casefold().strip("'’-").rstrip('.,;:!?)]»”"')


def facts(text: str) -> list[str]:
    """What a rewrite must not lose: links, handles and placeholders, numbers, names."""
    links = _LINK.findall(text)
    plain = _LINK.sub(" ", text)
    return [*links, *_NUMBER.findall(plain), *_NAME.findall(plain)]


def _rows(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(first, second, strict=True))

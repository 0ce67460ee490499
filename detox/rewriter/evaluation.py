"""Rewrites of a test part judged: every figure of a row, figures by language with intervals, and paired comparisons.

Shapes: N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detox.data.pairs.prepared import Case
from detox.evaluation.detoxification import (
    bleu,
    chrf,
    copies,
    facts,
    kept,
    kept_share,
    length_ratio,
    matches_reference,
    pan2024_joint,
    pan2025_joint,
    pan2025_similarity,
    pan2025_transfer,
)
from detox.evaluation.judges import Judges
from detox.evaluation.statistics import Comparison, mean_of_means
from detox.rewriter.lexicon import Lexicon, units

ALL, EACH = "all", "mean of languages"
"""In place of a language: all rows alike, or every language alike."""
LEAST_TEXTS = 10
"""Of a language, to count in the mean of languages where another has as many: a few texts whose language was told wrong
are no language."""
NAN = float("nan")
PRIMARY = "j_2024"


class Judged(NamedTuple):
    """One system's outputs with what each row is worth."""

    name: str
    outputs: list[str]
    rows: dict[str, np.ndarray]
    """Figure -> value a row, float64 `[N]`; NaN where it is undefined (no names to keep, say)."""
    langs_N: np.ndarray

    @property
    def languages(self) -> list[str]:
        """Of the rows, sorted."""
        return sorted(set(self.langs_N.tolist()))

    @property
    def counted(self) -> list[str]:
        """The languages that count in their mean."""
        texts = Counter(self.langs_N.tolist())
        return [lang for lang in self.languages if texts[lang] >= LEAST_TEXTS] or self.languages

    def mean(self, figure: str, lang: str = ALL) -> float:
        """Mean over the rows of a language; of `ALL`, over all rows; of `EACH`, over the means of the languages, as the
        shared tasks have it. NaN where no row has the figure."""
        groups = self._groups(self.rows[figure], lang)
        return float(np.mean([values.mean() for values in groups])) if groups else NAN

    def interval(self, figure: str, lang: str = ALL, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
        """95 % bootstrap interval of `mean`; NaN where no row has the figure."""
        groups = self._groups(self.rows[figure], lang)
        if not groups:
            return NAN, NAN
        found = mean_of_means(groups, resamples=resamples, seed=seed)
        return found.low, found.high

    def better_than(self, other: Judged, figure: str = PRIMARY, lang: str = ALL) -> Comparison:
        """Paired bootstrap on the same rows: those for which both have the figure.

        Raises:
            ValueError: there is no such row.
        """
        groups = self._groups(self.rows[figure] - other.rows[figure], lang)
        if not groups:
            raise ValueError(
                f"{self.name} and {other.name} have {figure} for no text in common: compare another figure"
            )
        return mean_of_means(groups)

    def _groups(self, values_N: np.ndarray, lang: str) -> list[np.ndarray]:
        """The values that are defined, of the rows that `lang` means; of `EACH` by language. None is empty."""
        if lang == EACH:
            return [group for one in self.counted for group in self._groups(values_N, one)]
        chosen_N = ~np.isnan(values_N) & (True if lang == ALL else self.langs_N == lang)
        return [values_N[chosen_N]] if chosen_N.any() else []


def judge(name: str, outputs: Sequence[str], wanted: Sequence[Case], judges: Judges, lexicon: Lexicon) -> Judged:
    """Every figure of every row.

    PAN's formulas have one reference a text: the first. chrF, BLEU, BERTScore and exact match take the nearest.

    Args:
        outputs: of the cases, in their order.
        lexicon: says which words of a source are toxic, so that the others can be counted where they are kept; learned
            from the judge's pairs.
    """
    sources, langs = [case.source for case in wanted], [case.lang for case in wanted]
    references = [list(case.references) for case in wanted]
    first = [row[0] for row in references]
    outputs = list(outputs)
    source_N, output_N, reference_N = (judges.neutrality.judge(texts, langs) for texts in (sources, outputs, first))
    to_source_N = judges.similarity.judge(sources, outputs, langs)
    to_reference_N = judges.similarity.judge(first, outputs, langs)
    fluency_N, chrf_N = judges.fluency.judge(sources, outputs, first, langs), chrf(outputs, references)
    unknown_N = np.full(len(outputs), np.nan)
    found = copies(sources, outputs, 1 - source_N)
    transfer_N = pan2025_transfer(source_N, output_N, reference_N)
    similarity_N = pan2025_similarity(to_source_N, to_reference_N)
    harmless = [harmless_words(case.source, case.lang, lexicon) for case in wanted]
    rows = {
        "j_2024": pan2024_joint(output_N, to_source_N, chrf(outputs, [[text] for text in first])),
        "j_2025": pan2025_joint(transfer_N, similarity_N, fluency_N),
        "sta": output_N,
        "sta_2025": transfer_N,
        "similarity": to_source_N,
        "similarity_2025": similarity_N,
        "chrf": chrf_N,
        "bleu": bleu(outputs, references),
        "bert_score": judges.bert_score.judge(outputs, references, langs) if judges.bert_score else unknown_N,
        "fluency": fluency_N,
        "bits": judges.bits.judge(outputs, langs) if judges.bits else unknown_N,
        "copy_exact": found.exact_N,
        "copy": found.normalised_N,
        "toxic_copy": found.residual_N,
        "exact_match": matches_reference(outputs, references),
        "toxicity_before": 1 - source_N,
        "toxicity_after": 1 - output_N,
        "length_ratio": length_ratio(sources, outputs),
        "facts_kept": kept(sources, outputs, facts),
        "words_kept": np.array([kept_share(*row) for row in zip(harmless, outputs, strict=True)]),
    }
    return Judged(name, outputs, {key: np.asarray(value, float) for key, value in rows.items()}, np.array(langs))


def harmless_words(text: str, lang: str, lexicon: Lexicon) -> list[str]:
    """The words of a text that the lexicon does not find toxic; in scripts without spaces characters."""
    toxic = lexicon.spans(text, lang)
    return [
        text[token.begin : token.end]
        for token in units(text)
        if not any(begin < token.end and token.begin < end for begin, end in toxic)
    ]

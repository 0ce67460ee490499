"""Which of several rewrites is given out, and what is done where none will do.

A candidate is worth (neutrality)^a (similarity)^b (fluency)^c, by scorers other than those that evaluate. One that is
its toxic source again never wins while another keeps enough of the meaning. Where every candidate is a copy, or
loses too much, the toxic words are cut out of the source: those of the lexicon, or, where it knows none, the words
without which the scorer finds the text least toxic. Every output says how it was made. Seldom, where meaning weighs
more, an output is more toxic than its source by that scorer: `toxicity_after` tells.

Shapes: N texts, C candidates of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from rapidfuzz.distance import Indel

from detox.data.pairs.cleaning import Toxicity
from detox.evaluation.detoxification import normalised
from detox.rewriter.generation_settings import RerankSettings
from detox.rewriter.lexicon import Lexicon, Span, cut, tokens

How = Literal["model", "reranked", "edited", "unchanged", "already neutral"]
"""`unchanged`: for this text there was no better one."""

MOST_TRIED = 100
"""Words of which each is tried to be cut out: a text with a word less is scored for each."""
UNLESS_ALONE = -1e-6
"""What a toxic source is worth as its own rewrite: less than whatever keeps enough of the meaning, more than another
text."""


class Rewrite(NamedTuple):
    """What became of one text."""

    text: str
    how: How
    toxicity_before: float
    toxicity_after: float
    similarity: float


class Request(NamedTuple):
    """A text with its candidates, the model's own first."""

    source: str
    lang: str
    candidates: tuple[str, ...]


def edit_similarity(first: str, second: str) -> float:
    """Share of two texts' characters that stand in their longest common subsequence, case folded, 0..1: what is judged
    by n-grams or embeddings is chosen by another measure."""
    return Indel.normalized_similarity(first.casefold(), second.casefold())


class Reranker:
    """Chooses among candidates.

    Args:
        toxicity: of texts in languages, 0..1.
        fluency: bits a character of texts in languages; the lower, the more fluent.
        lexicon: knows the toxic words that the last resort cuts out.
    """

    def __init__(
        self,
        toxicity: Toxicity,
        fluency: Toxicity,
        lexicon: Lexicon,
        settings: RerankSettings,
    ) -> None:
        self._toxicity, self._fluency = toxicity, fluency
        self._lexicon, self._settings = lexicon, settings

    def choose(self, requests: Sequence[Request]) -> list[Rewrite]:
        """A rewrite of each text, in order."""
        langs = [request.lang for request in requests]
        before_N = self._toxicity([request.source for request in requests], langs) if requests else np.zeros(0)
        neutral = before_N < self._settings.neutral_below
        edits = [
            "" if is_neutral else self.edit(request.source, request.lang)
            for request, is_neutral in zip(requests, neutral, strict=True)
        ]
        offers = [self._offers(*item) for item in zip(requests, edits, before_N.tolist(), strict=True)]
        flat = [(number, text) for number, offer in enumerate(offers) for text in offer]
        sources = [requests[number].source for number, _ in flat]
        texts, flat_langs = [text for _, text in flat], [langs[number] for number, _ in flat]
        toxicity = self._toxicity(texts, flat_langs) if flat else np.zeros(0)
        similarity = np.array([edit_similarity(*pair) for pair in zip(sources, texts, strict=True)])
        worth = self._worth(sources, texts, flat_langs, toxicity, similarity)
        is_copy = [normalised(text) == normalised(requests[number].source) for number, text in flat]
        was_toxic = [before_N[number] > self._settings.copies_above for number, _ in flat]
        worth[np.array(is_copy, bool) & np.array(was_toxic, bool)] = UNLESS_ALONE
        if self._settings.edits == "last_resort":
            will_do = (toxicity <= self._settings.copies_above) & (similarity >= self._settings.least_similarity)
            worth += np.where(will_do, 1.0, 0.0)
        chosen: list[Rewrite] = []
        begin = 0
        for request, offer, edit, before in zip(requests, offers, edits, before_N.tolist(), strict=True):
            mine = slice(begin, begin + len(offer))
            begin += len(offer)
            only_edit = self._settings.edits == "last_resort" and edit not in request.candidates
            if only_edit and worth[mine][:-1].max(initial=0.0) >= 1:
                mine = slice(mine.start, mine.stop - 1)  # the edit comes last
            best = mine.start + int(np.argmax(worth[mine]))
            how = self._how(request, texts[best], before)
            chosen.append(Rewrite(texts[best], how, before, float(toxicity[best]), float(similarity[best])))
        return chosen

    def _offers(self, request: Request, edit: str, before: float) -> list[str]:
        """What may be given out: the source alone where it is neutral; else the candidates that are no copies of it,
        perhaps the source without any one of its words, and the edit: the source again, where nothing can be cut out.
        """
        if before < self._settings.neutral_below:
            return [request.source]
        is_toxic = before > self._settings.copies_above
        copy = normalised(request.source)
        fit = [text for text in request.candidates if text.strip() and not (is_toxic and normalised(text) == copy)]
        if self._settings.edits == "every_word":
            fit += [cut(request.source, [word]) for word in self._suspects(request.source, request.lang)]
        return [*dict.fromkeys(text for text in fit if text != edit and next(tokens(text), None)), edit]

    def _worth(
        self,
        sources: Sequence[str],
        texts: Sequence[str],
        langs: Sequence[str],
        toxicity: np.ndarray,
        similarity: np.ndarray,
    ) -> np.ndarray:
        settings = self._settings
        if not len(texts):
            return np.zeros(0)
        strange = np.maximum(self._fluency(texts, langs) - self._fluency(sources, langs), 0.0)
        worth = (
            np.maximum(1 - toxicity, 1e-6) ** settings.neutrality
            * np.maximum(similarity, 1e-6) ** settings.similarity
            * np.exp2(-strange) ** settings.fluency
        )
        return np.where(similarity >= settings.least_similarity, worth, worth - 1.0)

    def _how(self, request: Request, text: str, before: float) -> How:
        if before < self._settings.neutral_below:
            return "already neutral"
        if before > self._settings.copies_above and normalised(text) == normalised(request.source):
            return "unchanged"
        if text == request.source and text not in request.candidates:
            return "unchanged"
        if request.candidates and text == request.candidates[0]:
            return "model"
        return "reranked" if text in request.candidates else "edited"

    def edit(self, source: str, lang: str) -> str:
        """The source without its toxic words; the lexicon's, or the least tolerable by the scorer. Never empty: where
        nothing would be left, the source."""
        spans = self._lexicon.spans(source, lang) or self._least_tolerable(source, lang)
        return cut(source, spans) or source

    def _least_tolerable(self, source: str, lang: str) -> list[Span]:
        """Words, one after the other, without which the text is least toxic, until it is not toxic any more; something
        is always left."""
        words = self._suspects(source, lang)
        spans: list[Span] = []
        while len(spans) < self._settings.most_cuts:
            apart = [word for word in words if all(word[1] <= begin or end <= word[0] for begin, end in spans)]
            cuts = {word: cut(source, sorted([*spans, word])) for word in apart}
            cuts = {word: text for word, text in cuts.items() if next(tokens(text), None)}
            if not cuts:
                break
            toxicity_W = self._toxicity(list(cuts.values()), [lang] * len(cuts))
            spans.append(list(cuts)[int(np.argmin(toxicity_W))])
            if toxicity_W.min() < self._settings.copies_above:
                break
        return sorted(spans)

    def _suspects(self, source: str, lang: str) -> list[Span]:
        """Words that may be cut out: all, or of a long text those that are the most toxic by themselves."""
        words = [(token.begin, token.end) for token in tokens(source)]
        if len(words) <= MOST_TRIED:
            return words
        alone = list(dict.fromkeys(source[begin:end] for begin, end in words))
        toxicity = dict(zip(alone, self._toxicity(alone, [lang] * len(alone)).tolist(), strict=True))
        return sorted(words, key=lambda word: -toxicity[source[slice(*word)]])[:MOST_TRIED]

"""Samples of a rewriter's work for a report: a text, what people made of it and what the systems made, words masked.

Masked are the words that the lexicon finds toxic, also with up to three letters more; the lexicon's doubtful ones
where every reference takes them out; and words that it does not know where every reference takes them out. Rather a
harmless word too many than a slur.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from detox.data.pairs.prepared import Case
from detox.evaluation.masking import Mask
from detox.rewriter.lexicon import UNSPACED, Lexicon, Span, tokens

DOUBTFUL = 0.5
"""Share of the lexicon's threshold from which a word is masked where the references take it out."""


LEAST_LETTERS = 3


class Sample(NamedTuple):
    """A test text with what became of it, masked."""

    lang: str
    source: str
    reference: str
    outputs: dict[str, str]
    """By system."""


def samples(
    cases: Sequence[Case], outputs: dict[str, Sequence[str]], lexicon: Lexicon, count: int, seed: int = 0
) -> list[Sample]:
    """Cases drawn at random, the languages in turn.

    Args:
        outputs: of the cases, by system.
        lexicon: knows the words to mask.
    """
    found = []
    for at in drawn([case.lang for case in cases], count, seed):
        case = cases[at]
        hide = masker(case, lexicon)
        shown = {name: hide(texts[at]) for name, texts in outputs.items()}
        found.append(Sample(case.lang, hide(case.source), hide(case.references[0]), shown))
    return found


def drawn(langs: Sequence[str], count: int, seed: int) -> list[int]:
    """Up to `count` positions: one of each language in alphabetical order, again and again."""
    order = np.random.default_rng(seed).permutation(len(langs)).tolist()
    queues = [[at for at in order if langs[at] == lang] for lang in sorted(set(langs))]
    rounds = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(rounds) for queue in queues if turn < len(queue)][:count]


def masker(case: Case, lexicon: Lexicon) -> Callable[[str], str]:
    """Masks the toxic words of a case, wherever they stand."""
    known = lexicon.languages.get(case.lang)
    removal = known.removal if known else {}
    doubtful_from = DOUBTFUL * known.threshold if known else 0.0
    gone = {word for word in taken_out(case) if removal.get(word, 1.0) >= doubtful_from}
    by_word = Mask([*lexicon.weights(case.lang), *gone])
    letters = {word for word in gone if UNSPACED.fullmatch(word)}

    def hide(text: str) -> str:
        text = by_word(starred(text, lexicon.spans(text, case.lang)))
        return "".join("*" if letter in letters else letter for letter in text)

    return hide


def taken_out(case: Case) -> set[str]:
    """Words of the source that no reference keeps, case folded; in scripts without spaces single characters.

    Words of one or two letters are left out: a mask covers up to three letters more, and `a` would hide `and`.
    """
    kept = {token.key for reference in case.references for token in tokens(reference)}
    mine = {token.key for token in tokens(case.source)}
    return {word for word in mine - kept if (len(word) == 1 if UNSPACED.search(word) else len(word) >= LEAST_LETTERS)}


def starred(text: str, spans: Sequence[Span]) -> str:
    """The text with each span as its first letter and asterisks; a single character as one asterisk."""
    pieces, last = list[str](), 0
    for begin, end in spans:
        shown = text[begin] if end - begin > 1 else "*"
        pieces += [text[last:begin], shown, "*" * (end - begin - 1)]
        last = end
    return "".join([*pieces, text[last:]])

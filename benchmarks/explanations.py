"""Explanations against people: which characters did annotators mark as toxic, and which did each method?

`python -m benchmarks.explanations --model RUN_DIR [--spans FILE] [--train FILE] [--lexicon FILE]` takes comments of
SemEval-2021 task 5 (Toxic Spans), marks with each method the words whose weight reaches a share of the comment's
heaviest one, and reports the task's score: F1 over characters a comment (1 where both mark nothing, 0 where only one
does), averaged over comments. The share is chosen on the trial split, the score is that of the train split's comments.
Beside the model's methods stand weights drawn at random, TF-IDF + logistic regression trained on other comments, and
a lexicon: an explanation is worth its cost where it beats them.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from benchmarks.lines import print_line

SHARES = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2).tolist())


class Marked(NamedTuple):
    """A comment and the characters that people marked."""

    text: str
    characters: frozenset[int]


class Weighed(NamedTuple):
    """A word's place and weight."""

    begin: int
    end: int
    weight: float


Method = Callable[[str], Sequence[Weighed]]


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    trial, test = (_sample(options, split) for split in ("trial", "train"))
    scores: dict[str, float] = {}
    for name, method in _methods(options).items():
        tuning = [method(comment.text) for comment in trial]
        share = max(SHARES, key=lambda s: _score(trial, tuning, s))
        scores[name] = _score(test, [method(comment.text) for comment in test], share)
        print(json.dumps({"benchmark": "explanations", "method": name, "share": share, "f1": round(scores[name], 4)}))
    baseline = max(("random", "tfidf", "lexicon"), key=lambda name: scores.get(name, 0.0))
    best = max(("integrated_gradients", "shap", "attention"), key=lambda name: scores.get(name, 0.0))
    print_line(
        "explanations", f"span F1, {best} against {baseline}", [scores[best]], [scores[baseline]], "higher", "F1"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explanations", description=__doc__)
    parser.add_argument("--model", required=True, help="run directory or other name of a classifier")
    parser.add_argument("--label", default="toxic")
    parser.add_argument("--spans", default="../shared/data/toxic_spans_train.parquet", help="split, text, spans")
    parser.add_argument("--train", default="../shared/data/jigsaw_train20k_binary.parquet", help="text, toxic: TF-IDF")
    parser.add_argument("--lexicon", default="../shared/data/lexicons.parquet", help="a term a line, or a parquet file")
    parser.add_argument("--comments", type=int, default=100, help="of each split")
    parser.add_argument("--methods", nargs="+", default=["integrated_gradients", "shap", "attention"])
    return parser


def _sample(options: argparse.Namespace, split: str) -> list[Marked]:
    table = pq.read_table(options.spans).to_pylist()
    rows = [Marked(row["text"], frozenset(row["spans"])) for row in table if row["split"] == split]
    return random.Random(0).sample(rows, min(options.comments, len(rows)))


def _methods(options: argparse.Namespace) -> dict[str, Method]:
    from detox.classifier.face import Classifier

    classifier = Classifier.load(options.model)

    def explained(method: Any) -> Method:
        return lambda text: [
            Weighed(span.begin, span.end, span.weight) for span in classifier.explain(text, options.label, method).spans
        ]

    baselines = {"random": _random_weights, "tfidf": _tfidf(options.train), "lexicon": _lexicon(options.lexicon)}
    return baselines | {name: explained(name) for name in options.methods}


def _words(text: str) -> list[tuple[str, int, int]]:
    from detox.classifier.lexicon import WORD

    return [(match.group(), match.start(), match.end()) for match in WORD.finditer(text)]


def _random_weights(text: str) -> list[Weighed]:
    dice = random.Random(text)
    return [Weighed(begin, end, dice.random()) for _, begin, end in _words(text)]


def _tfidf(file: str) -> Method:
    from detox.classifier.tfidf import TfidfScorer

    table = pq.read_table(file, columns=["text", "toxic"])
    labels_NL = table["toxic"].to_numpy().astype(np.float32).reshape(-1, 1)
    fitted = TfidfScorer.fit(table["text"].to_pylist(), labels_NL, ["toxic"], 0)
    weights = dict(fitted.top_terms("toxic", 10**9))
    return lambda text: [Weighed(b, e, weights.get(word.lower(), 0.0)) for word, b, e in _words(text)]


def _lexicon(file: str) -> Method:
    from detox.classifier.lexicon import LexiconScorer

    lexicon = LexiconScorer.load(file)
    return lambda text: [Weighed(begin, end, 1.0) for begin, end in lexicon.spans(text)]


def _score(comments: Sequence[Marked], weighed: Sequence[Sequence[Weighed]], share: float) -> float:
    """Mean F1 of the comments, the words of at least `share` of the heaviest weight being marked."""
    return float(np.mean([f1(marked(words, share), c.characters) for c, words in zip(comments, weighed, strict=True)]))


def marked(words: Sequence[Weighed], share: float) -> set[int]:
    """Characters of the words with positive weight of at least `share` of the heaviest."""
    heaviest = max((word.weight for word in words), default=0.0)
    chosen = (word for word in words if word.weight > 0 and word.weight >= share * heaviest)
    return {position for word in chosen for position in range(word.begin, word.end)}


def f1(predicted: set[int], true: frozenset[int]) -> float:
    """F1 of two sets of characters; 1 where both are empty, 0 where one is (Pavlopoulos et al. 2021, section 4)."""
    if not predicted or not true:
        return float(not predicted and not true)
    return 2 * len(predicted & true) / (len(predicted) + len(true))


if __name__ == "__main__":
    main()

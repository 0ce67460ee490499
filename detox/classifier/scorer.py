"""What a scorer is, and how a name becomes one.

Rewards, metrics, sweeps, the server and the red team take a `Scorer`, never a model: ours, Detoxify's weights, a hub
classifier, TF-IDF, a lexicon and a remote endpoint all score texts in the same way.

Shapes: N texts, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Scores of N texts, in their order.

    Raises:
        ValueError: the array is not float32 `[N, L]` in 0..1, which NaN is not either.
    """

    labels: tuple[str, ...]
    values_NL: np.ndarray
    """float32, 0..1."""

    def __post_init__(self) -> None:
        values = self.values_NL
        if values.dtype != np.float32 or values.ndim != 2 or values.shape[1] != len(self.labels):
            raise ValueError(
                f"scores must be float32 [N, {len(self.labels)}], a column for each of {', '.join(self.labels)}; "
                f"they were {values.dtype} {list(values.shape)}"
            )
        inside_NL = (values >= 0) & (values <= 1)
        if not inside_NL.all():
            raise ValueError(f"scores must lie in 0..1, and {values[~inside_NL][0]} does not")

    def __len__(self) -> int:
        return len(self.values_NL)

    def column(self, label: str) -> np.ndarray:
        """The scores `[N]` of one label.

        Raises:
            ValueError: no such label.
        """
        return self.values_NL[:, label_index(self.labels, label)]


class Scorer(Protocol):
    """Anything that scores texts: the same text, the same scores, whatever else is in the list."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    def score(self, texts: Sequence[str]) -> Scores:
        """Scores in the order of `texts`; an empty list gives `[0, L]`."""
        ...


def label_index(labels: Sequence[str], label: str) -> int:
    """Column of `label`.

    Raises:
        ValueError: no such label.
    """
    if label not in labels:
        raise ValueError(f"this model has no label {label!r}: choose one of {', '.join(labels)}")
    return list(labels).index(label)


def load_scorer(name: str, *, device: str = "", dtype: str = "float32") -> Scorer:
    """The scorer called `name`.

    Args:
        name: a run directory or artifact folder, a hub classifier `owner/name@revision`, `detoxify/original`,
            `detoxify/unbiased`, `detoxify/multilingual`, `detoxify:FOLDER` (a checkpoint of that format and, beside
            it, the model's config.json and tokenizer: nothing is downloaded), `tfidf:FOLDER`, `lexicon:FILE`,
            `endpoint:URL` (a running service), or `tiny/<architecture>` (random weights).
        device: of a neural model, for example `cuda:1`; empty: the GPU where there is one.
        dtype: `float32`, `bfloat16` or `float16`, of a neural model's weights.

    Raises:
        ValueError: the name leads to no scorer; the sentence says what to do.
    """
    kind, _, rest = name.partition(":")
    if kind == "lexicon":
        from detox.classifier.lexicon import LexiconScorer

        return LexiconScorer.load(rest)
    if kind == "tfidf":
        from detox.classifier.tfidf import TfidfScorer

        return TfidfScorer.load(rest)
    if kind == "endpoint":
        from detox.classifier.endpoint_scorer import EndpointScorer

        return EndpointScorer(rest)
    if kind == "detoxify":
        from detox.classifier.detoxify_scorer import load_detoxify_folder

        return load_detoxify_folder(rest, device=device, dtype=dtype)
    if name.startswith("detoxify/"):
        from detox.classifier.detoxify_scorer import load_detoxify

        return load_detoxify(name.removeprefix("detoxify/"), device=device, dtype=dtype)
    from detox.classifier.model_scorers import load_model_scorer

    return load_model_scorer(name, device=device, dtype=dtype)


TOXICITY_LABELS = ("toxicity", "toxic")


def load_toxicity(
    name: str, *, device: str = "", label: str = ""
) -> Callable[[Sequence[str], Sequence[str]], np.ndarray]:
    """The scorer called `name` as one figure: `(texts, langs) -> toxicity`, 0..1, float64 `[N]`.

    Args:
        label: which of its labels; empty: that of overall toxicity.

    Raises:
        ValueError: none of its labels is overall toxicity, or it has no such label.
    """
    scorer = load_scorer(name, device=device)
    column = label_index(scorer.labels, label or toxicity_label(name, scorer.labels))
    return lambda texts, langs: np.asarray(scorer.score(list(texts)).values_NL[:, column], float)


def toxicity_label(name: str, labels: Sequence[str]) -> str:
    """Which of a scorer's labels is overall toxicity: the one called so, or the only one.

    Raises:
        ValueError: none is.
    """
    found = [label for label in labels if label.casefold() in TOXICITY_LABELS or len(labels) == 1]
    if not found:
        raise ValueError(
            f"{name} has the labels {', '.join(labels)}, none of which is overall toxicity: name a scorer with "
            f"{' or '.join(TOXICITY_LABELS)}"
        )
    return found[0]


def check_toxicity(name: str, label: str = "") -> None:
    """Refuse a name that `load_toxicity` cannot take: of a model at the price of its config file, else by loading it.

    Raises:
        ValueError: the name leads to no scorer, none of its labels is overall toxicity, or it has no such label.
    """
    labels = known_labels(name)
    if labels is not None:
        label_index(labels, label or toxicity_label(name, labels))


def known_labels(name: str) -> tuple[str, ...] | None:
    """The labels of a scorer: of a model at the price of its config file, else by loading it. None of Detoxify's
    published models, which all have overall toxicity.

    Raises:
        ValueError: the name leads to no scorer.
    """
    if name.partition(":")[0] in ("lexicon", "tfidf", "endpoint", "detoxify"):
        return load_scorer(name).labels
    if name.startswith("detoxify/"):
        from detox.classifier.detoxify_scorer import check_published

        check_published(name.removeprefix("detoxify/"))
        return None
    from detox.models.loading import check_available

    return tuple(str(label) for label in (check_available(name).id2label or {}).values())

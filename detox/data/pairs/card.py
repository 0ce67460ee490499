"""The card of prepared pairs: counts, what was refused and why, difficulties, masked examples (S2 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib as mpl
import numpy as np
from huggingface_hub import DatasetCardData
from matplotlib.figure import Figure

from detox.data.card import percent
from detox.data.pairs.difficulty import LEVELS
from detox.data.pairs.prepared import PARTS, Case
from detox.data.pairs.reading import Pair
from detox.data.plots import STYLE
from detox.evaluation.masking import excerpt

RULES: dict[str, str] = {
    "malformed_row": "not a row of its file's format",
    "missing_side": "one of the two sides is empty",
    "text_not_a_string": "a side is something else than text",
    "undecodable_bytes": "neither UTF-8 nor cp1252",
    "split_unknown": "the named part is none of train, validation, test",
    "language_unknown": "no language is said, and none could be told",
    "language_not_wanted": "a language that is not kept",
    "too_long": "longer than the greatest length",
    "identity": "the rewrite is the source",
    "duplicate": "the same pair came before",
    "source_neutral": "the source is neutral already, says a classifier that did not see it",
    "target_toxic": "the rewrite is toxic still, says the same classifier",
    "no_drop": "the rewrite is hardly less toxic than the source, says the same classifier",
    "unrelated": "the rewrite has little to do with the source",
    "length_ratio": "the rewrite is far shorter or longer than the source",
    "unknown_script": "the model's tokenizer does not know the script of a side; not learned",
    "too_many_tokens": "a side has more tokens than the model reads or writes; not learned",
}
PURPOSES: dict[str, str] = {
    "train": "the rewriter, its lexicon and its reranker learn from it",
    "judge": "the classifiers that judge the outputs are trained on it; nothing else sees it",
    "validation": "the best checkpoint and the decoding's strengths are chosen on it",
    "test": "what the report is about",
}
EXAMPLES = 2
"""Of each level and language."""
COLOURS = ("#0f8a6d", "#d97706", "#b42318")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)))


class LanguageLine(NamedTuple):
    """A line of the language table."""

    lang: str
    pairs: int
    levels: list[int]
    mean: float


class Example(NamedTuple):
    """A pair as the card shows it."""

    level: str
    lang: str
    toxic: str
    neutral: str


def write_card(
    facts: Mapping[str, Any], pairs: Sequence[Pair], difficulty_P: np.ndarray, levels_P: np.ndarray, folder: Path
) -> None:
    """Write README.md and `plots/difficulty.png`.

    Args:
        facts: what `pairs.json` holds.
    """
    (folder / "plots").mkdir()
    with mpl.rc_context(STYLE):
        figure, path = difficulty_plot(difficulty_P, levels_P), folder / "plots" / "difficulty.png"
        figure.savefig(path, dpi=130, facecolor="white", bbox_inches="tight", metadata={"Software": None})
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("detox.data"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown, not HTML
    )
    card = environment.get_template("pairs_card.md").render(
        front_matter=front_matter(facts),
        facts=facts,
        settings=facts["settings"],
        refused=sum(facts["refused"].values()),
        rules=RULES,
        purposes={part: PURPOSES[part] for part in PARTS},
        languages=list(language_lines(pairs, difficulty_P, levels_P)),
        examples=list(examples(pairs, levels_P)),
        percent=percent,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def front_matter(facts: Mapping[str, Any]) -> str:
    """YAML for the Hugging Face hub; its `configs` keep `rejects.parquet` out of what `load_dataset` reads."""
    parts = [part for part in PARTS if facts["pairs"][part]]
    files = [{"split": part, "path": f"{part}.parquet"} for part in parts]
    data = DatasetCardData(
        license="other",
        language=[lang for lang in facts["languages"] if len(lang) == 2],
        task_categories=["text-generation"],
        tags=["detoxification", "text-style-transfer"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    return data.to_yaml()


def language_lines(pairs: Sequence[Pair], difficulty_P: np.ndarray, levels_P: np.ndarray) -> Iterator[LanguageLine]:
    """A line a language, the largest first."""
    langs_P = np.array([pair.lang for pair in pairs])
    langs, counts = np.unique(langs_P, return_counts=True)
    for at in np.argsort(-counts, kind="stable"):
        mine = langs_P == langs[at]
        by_level = np.bincount(levels_P[mine], minlength=len(LEVELS)).tolist()
        yield LanguageLine(str(langs[at]), int(counts[at]), by_level, float(difficulty_P[mine].mean()))


def examples(pairs: Sequence[Pair], levels_P: np.ndarray) -> Iterator[Example]:
    """The first readable pairs of each level and language, masked on both sides: words that a lexicon of all pairs
    finds toxic, and those that the rewrite takes out."""
    from detox.rewriter.lexicon import Lexicon
    from detox.rewriter.samples import masker

    lexicon = Lexicon.fit((pair.lang, pair.toxic, pair.neutral) for pair in pairs)
    for code, level in enumerate(LEVELS):
        shown: dict[str, int] = {}
        for at in np.flatnonzero(levels_P == code).tolist():
            pair = pairs[at]
            if shown.get(pair.lang, 0) < EXAMPLES and len(pair.toxic) <= 160:
                shown[pair.lang] = shown.get(pair.lang, 0) + 1
                hide = masker(Case(pair.lang, pair.toxic, (pair.neutral,), level), lexicon)
                yield Example(level, pair.lang, _cell(hide(pair.toxic)), _cell(hide(pair.neutral)))


def _cell(text: str) -> str:
    """A text as a cell of a Markdown table."""
    return excerpt(text).replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def difficulty_plot(difficulty_P: np.ndarray, levels_P: np.ndarray) -> Figure:
    """Pairs by difficulty, a line a level."""
    figure = Figure(figsize=(7, 3))
    axes = figure.add_subplot()
    edges = np.linspace(0, 1, 41)
    for code, level in enumerate(LEVELS):
        counts, _ = np.histogram(difficulty_P[levels_P == code], edges)
        axes.stairs(counts, edges, color=COLOURS[code], linestyle=DASHES[code], linewidth=2, label=level)
    axes.set(title="Difficulty of the pairs", xlabel="difficulty", ylabel="pairs", xlim=(0, 1))
    axes.legend()
    return figure

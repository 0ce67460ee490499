"""The data card of a prepared data set: where rows come from, what was decided, what each rule did (S1 steps 5 and 6).

It is the folder's README.md, with the front matter by which `datasets.load_dataset(folder)` finds the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from huggingface_hub import DatasetCardData

from detox.data import pii
from detox.data.plots import write_plots
from detox.data.prepared import PARTS
from detox.data.statistics import QUANTILES

RULES: dict[str, str] = {
    "malformed_row": "refused: not a row of its file's format",
    "undecodable_bytes": "refused: neither UTF-8 nor cp1252",
    "text_not_a_string": "refused: no text, or something else in its place",
    "label_invalid": "refused: a label that is not a number in 0..1",
    "split_unknown": "refused: the named part is none of train, validation, test",
    "encoding_repaired": "bytes that were not UTF-8 were read as cp1252",
    "lower_case": "lower-cased",
    "url": "URLs replaced by a space",
    "non_ascii": "characters outside ASCII replaced by a space",
    "unicode": "mojibake, HTML entities and odd characters repaired, NFC",
    "white_space": "runs of white space folded to one space",
    **{f"pii_{kind}": f"replaced by `[{kind.upper()}]`" for kind in pii.TYPES},
    "empty": "refused: no text is left",
    "too_short": "refused: shorter than the least length",
    "too_long": "refused: longer than the greatest length",
    "language": "refused: in none of the languages that are kept",
    "exact_duplicate": "refused: repeats an earlier row",
    "near_duplicate": "refused: resembles an earlier row",
}
"""What each rule does, in the order in which they run."""


class RuleLine(NamedTuple):
    """A line of the rule table; counts in rows."""

    name: str
    touched: int
    refused: int
    what: str


class LabelLine(NamedTuple):
    """A line of the label table: rows with the label a part, and over all parts its share, mean and missing rows."""

    name: str
    positive: dict[str, int]
    share: str
    mean: str
    missing: int


def write_card(facts: Mapping[str, Any], statistics: Mapping[str, Any], folder: Path) -> None:
    """Write README.md and `plots/` of a prepared data set.

    Args:
        facts: what `dataset.json` holds.
        statistics: what `statistics.json` holds.
    """
    write_plots(statistics, folder / "plots")
    (folder / "README.md").write_text(data_card(facts, statistics), encoding="utf-8")


def data_card(facts: Mapping[str, Any], statistics: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("detox.data"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown, not HTML
    )
    return environment.get_template("data_card.md").render(
        front_matter=front_matter(facts),
        facts=facts,
        statistics=statistics,
        decisions=decisions(facts["cleaning"]),
        rules=rule_lines(facts),
        split=split_sentence(facts),
        labels=[label_line(name, figures) for name, figures in statistics["labels"].items()],
        quantiles=list(QUANTILES),
        percent=percent,
    )


def front_matter(facts: Mapping[str, Any]) -> str:
    """YAML for the Hugging Face hub; its `configs` keep `rejects.parquet` out of what `load_dataset` reads."""
    parts = [part for part in PARTS if facts["rows"][part]]
    data = DatasetCardData(
        license="other",
        task_categories=["text-classification"],
        tags=["toxicity", "content-moderation"],
        configs=[
            {"config_name": "default", "data_files": [{"split": part, "path": f"{part}.parquet"} for part in parts]}
        ],
    )
    return data.to_yaml()


def decisions(cleaning: Mapping[str, Any]) -> list[str]:
    """The cleaning settings as sentences."""
    preset = cleaning["preset"]
    said = {
        "cleanspeech": ["Preset `cleanspeech`: lower case, URLs and characters outside ASCII out, white space folded."],
        "none": ["Preset `none`: the text stays as it is."],
        "standard": [
            _either(cleaning["unicode"], "Mojibake is repaired, Unicode normalised (NFC), control characters dropped."),
            _either(cleaning["pii"], "Personal data are replaced by typed placeholders such as `[EMAIL]`."),
        ],
    }[preset]
    kept = ", ".join(cleaning["languages"])
    return [
        *said,
        f"Only these languages are kept: {kept}." if kept else "Every language is kept.",
        f"A text has {cleaning['min_chars']:,} to {cleaning['max_chars']:,} characters after cleaning.",
        _either(cleaning["exact_duplicates"], "A text that was seen before is refused; the first one stays."),
        _either(
            cleaning["near_duplicates"],
            "A text that resembles an earlier one is refused (MinHash over shingles, Jaccard similarity of about "
            f"{cleaning['near_duplicate_similarity']:g}).",
        ),
    ]


def _either(on: bool, sentence: str) -> str:
    return sentence if on else f"Switched off: {sentence[0].lower()}{sentence[1:]}"


def rule_lines(facts: Mapping[str, Any]) -> list[RuleLine]:
    """The rules that touched a row, in the order in which they run."""
    counts = facts["rules"]
    return [
        RuleLine(name, counts[name], facts["refused"].get(name, 0), RULES[name]) for name in RULES if name in counts
    ]


def split_sentence(facts: Mapping[str, Any]) -> str:
    """How rows were dealt to the parts."""
    settings = facts["split"]
    ratios = " / ".join(f"{ratio:.0%}" for ratio in settings["ratios"])
    over = ", ".join(settings["stratify_on"]) or "all labels"
    named = "The part that the source names is kept. " if settings["keep_named"] else ""
    strata = f", stratified over the combinations of {over}" if facts["labels"] else ""
    return (
        f"{named}Rows without a named part are dealt {ratios} to {', '.join(PARTS)}{strata}, with seed "
        f"{facts['seed']}. Rows that resemble each other are dealt to the same part."
    )


def label_line(name: str, figures: Mapping[str, Mapping[str, Any]]) -> LabelLine:
    """Figures of one label, by part, as a line."""
    positive = {part: row["positive"] for part, row in figures.items()}
    known = {part: row["positive"] + row["negative"] for part, row in figures.items()}
    total = sum(known.values())
    mean = sum(row["mean"] * known[part] for part, row in figures.items() if known[part]) / max(1, total)
    return LabelLine(
        name,
        positive,
        percent(sum(positive.values()), total),
        f"{mean:.3f}" if total else "–",
        sum(row["missing"] for row in figures.values()),
    )


def percent(count: int, total: int) -> str:
    """`count` of `total`; small shares keep two digits."""
    if not total:
        return "–"
    share = count / total
    return f"{share:.2%}" if 0 < share < 0.1 else f"{share:.1%}"

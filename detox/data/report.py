"""The report page of a prepared data set: the data card's figures as one self-contained HTML page (S1 step 6)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detox.data.card import decisions, label_line, percent, rule_lines, split_sentence
from detox.data.statistics import QUANTILES
from detox.evaluation.report import Block, Callout, Figure, Figures, Report, Table, Text, Tile, Tiles, key_values

SYNTHETIC_NOTICE = (
    "This corpus is synthetic, written by templates for the demo. Figures measured on it say nothing of real comments."
)


CAPTIONS = {
    "labels": "Rows that have a label, a bar a part",
    "co_occurrence": "Share of the rows of one label that also have another",
    "lengths": "Characters a row, a line a part",
    "languages": "Rows of the sample by language",
}


def data_report(name: str, facts: Mapping[str, Any], statistics: Mapping[str, Any], plots: Path) -> Report:
    """The page's sections, ready to `render()`.

    Args:
        name: of the run.
        facts: what `dataset.json` holds.
        statistics: what `statistics.json` holds.
        plots: the folder of `detox.data.plots.write_plots`.
    """
    report = Report(f"Prepared comments: {name}", ", ".join(source["name"] for source in facts["sources"]))
    synthetic = any(source["synthetic"] for source in facts["sources"])
    report.add("Rows", Callout(SYNTHETIC_NOTICE, "warning") if synthetic else None, _tiles(facts))
    report.add("Sources", _sources(facts))
    report.add("Cleaning", *map(Text, map(_plain, decisions(facts["cleaning"]))), _rules(facts))
    report.add("Split", Text(split_sentence(facts)))
    report.add("Labels", *_labels(facts, statistics), _pictures(plots, "labels", "co_occurrence"))
    report.add("Lengths", _lengths(statistics), _pictures(plots, "lengths"))
    report.add("Languages", _languages(statistics), _pictures(plots, "languages"))
    return report


def _tiles(facts: Mapping[str, Any]) -> Tiles:
    read, refused = facts["rows_read"], facts["rows_refused"]
    return Tiles(
        [
            Tile("read", f"{read:,}"),
            Tile("refused", f"{refused:,}", percent(refused, read)),
            *(Tile(part, f"{rows:,}") for part, rows in facts["rows"].items()),
        ]
    )


def _sources(facts: Mapping[str, Any]) -> Table:
    columns = ("name", "title", "licence", "revision", "mapping")
    return Table("Where the rows come from", columns, [[_plain(s[key]) for key in columns] for s in facts["sources"]])


def _rules(facts: Mapping[str, Any]) -> Table:
    lines = rule_lines(facts)
    return Table(
        "Rows that each rule touched, in the order of the rules",
        ("rule", "rows", "refused", "what it does"),
        [[line.name, line.touched, line.refused, _plain(line.what)] for line in lines],
        note="Refused rows are in data/rejects.parquet with rule and reason.",
    )


def _labels(facts: Mapping[str, Any], statistics: Mapping[str, Any]) -> list[Block]:
    if not facts["labels"]:
        return []
    lines = [label_line(name, figures) for name, figures in statistics["labels"].items()]
    combinations = {" + ".join(found["labels"]) or "none": found["rows"] for found in statistics["combinations"]}
    return [
        Table(
            "Rows of each part that have the label (0.5 or more)",
            ("label", *facts["rows"], "share", "mean", "missing"),
            [[line.name, *line.positive.values(), line.share, line.mean, line.missing] for line in lines],
        ),
        key_values("Most frequent combinations", ("labels", "rows"), combinations),
        _together(statistics["co_occurrence"]),
    ]


def _together(found: Mapping[str, Any]) -> Table:
    names, rows = found["labels"], found["rows"]
    return Table(
        "Rows that have both labels",
        ("label", *names),
        [[name, *counts] for name, counts in zip(names, rows, strict=True)],
        note="On the diagonal: rows that have the one label.",
    )


def _lengths(statistics: Mapping[str, Any]) -> Table:
    lengths = statistics["lengths"]
    return Table(
        "Length of a row",
        ("unit", "mean", *QUANTILES),
        [[unit, round(found["mean"], 1), *(round(found[q]) for q in QUANTILES)] for unit, found in lengths.items()],
    )


def _languages(statistics: Mapping[str, Any]) -> Table:
    found = statistics["languages"]
    return Table(
        f"Rows by language in a sample of {found['sample']:,}",
        ("language", "rows", "share"),
        [[language, rows, percent(rows, found["sample"])] for language, rows in found["rows"].items()],
        note="As lingua tells them; short comments are often told wrongly.",
    )


def _pictures(plots: Path, *names: str) -> Figures | None:
    """The drawn ones among the plots, their bytes in the page itself."""
    figures = [
        Figure(CAPTIONS[name], _inline((plots / f"{name}.png").read_bytes()), "the figures are in the tables")
        for name in names
        if (plots / f"{name}.png").exists()
    ]
    return Figures(figures) if figures else None


def _inline(png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="" style="max-width: 100%; border-radius: 6px">'


def _plain(markdown: str) -> str:
    return markdown.replace("`", "")

"""The data card, its plots and the report page: every figure of the facts is on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detox.data.card import RULES, data_card, decisions, label_line, percent, rule_lines, write_card
from detox.data.cleaning import ROW_RULES, TEXT_RULES
from detox.data.report import data_report
from detox.data.settings import CleaningSettings, SplitSettings
from detox.data.statistics import statistics

PNG = b"\x89PNG\r\n\x1a\n"


def facts(**changes: Any) -> dict[str, Any]:
    """What `dataset.json` holds, of ten rows read."""
    source = {
        "name": "comments.csv",
        "title": "",
        "licence": "CC0-1.0",
        "homepage": "https://example.org/comments",
        "revision": "abc123",
        "mapping": "`toxic` as it is.",
        "synthetic": False,
        "files": [{"name": "comments.csv", "sha256": "f" * 64}],
    }
    return {
        "labels": ["toxic", "threat"],
        "rows": {"train": 4, "validation": 1, "test": 1},
        "rows_read": 10,
        "rows_refused": 4,
        "rules": {"near_duplicate": 1, "pii_email": 2, "malformed_row": 3},
        "refused": {"malformed_row": 3, "near_duplicate": 1},
        "sources": [source],
        "cleaning": CleaningSettings().model_dump(mode="json"),
        "split": SplitSettings().model_dump(mode="json"),
        "limit": 0,
        "seed": 7,
        "code_version": 1,
        "sha256": {f"{part}.parquet": "0" * 64 for part in ("train", "validation", "test")},
    } | changes


def figures(labels: tuple[str, ...] = ("toxic", "threat")) -> dict[str, Any]:
    labels_NL = np.array([[1, 0], [1, 1], [0, 0], [0, np.nan], [1, 0], [0, 0]], np.float32)[:, : len(labels)]
    parts = {"train": np.arange(4), "validation": np.array([4]), "test": np.array([5])}
    lengths = {"characters": np.array([5, 10, 20, 40, 80, 160]), "words": np.array([1, 2, 4, 8, 16, 32])}
    return statistics(labels, parts, labels_NL, lengths, ["en", "en", "en", "en", "fr", None])


def test_the_card_names_sources_decisions_rules_and_figures() -> None:
    card = data_card(facts(), figures())
    for said in (
        "10 rows were read, 4 of them were refused (40.0%), and 6 were dealt to 3 parts.",
        "- Licence: CC0-1.0",
        "- Homepage: https://example.org/comments",
        "- Revision: `abc123`",
        "- Labels: `toxic` as it is.",
        "- File `comments.csv`, SHA-256 `ffffffffffffffff…`",
        "- Personal data are replaced by typed placeholders",
        "| `malformed_row` | 3 | 30.0% | 3 |",
        "| `pii_email` | 2 | 20.0% |  | replaced by `[EMAIL]` |",
        "60% / 20% / 20%",
        "with seed 7",
        "| toxic | 2 | 1 | 0 | 50.0% | 0.500 | 0 |",
        "| threat | 1 | 0 | 0 | 20.0% | 0.200 | 1 |",
        "| toxic + threat | 1 |",
        "on a sample of 6 rows",
        "| fr | 1 | 16.7% |",
    ):
        assert said in card
    assert "synthetic" not in card


def test_rules_stand_in_the_order_in_which_they_run() -> None:
    assert [line.name for line in rule_lines(facts())] == ["malformed_row", "pii_email", "near_duplicate"]


def test_every_rule_of_cleaning_is_described_in_its_order() -> None:
    described = [name for name in RULES if name in {*TEXT_RULES, *ROW_RULES}]
    assert described == [*TEXT_RULES, *ROW_RULES]


def test_a_synthetic_corpus_is_said_to_be_so() -> None:
    made = facts(sources=[facts()["sources"][0] | {"synthetic": True}])
    assert "> This corpus is synthetic" in data_card(made, figures())
    assert "This corpus is synthetic" in data_report("x", made, figures(), Path("no-plots")).render()


def test_decisions_follow_the_settings() -> None:
    off = CleaningSettings(pii=False, near_duplicates=False, languages=("en", "de"), min_chars=3)
    said = decisions(off.model_dump(mode="json"))
    assert "Switched off: personal data are replaced by typed placeholders such as `[EMAIL]`." in said
    assert "Only these languages are kept: en, de." in said
    assert "A text has 3 to 10,000 characters after cleaning." in said
    assert any("MinHash" in sentence and sentence.startswith("Switched off") for sentence in said)
    assert "cleanspeech" in decisions(CleaningSettings(preset="cleanspeech").model_dump(mode="json"))[0]


def test_an_empty_part_is_left_out_of_the_hubs_configuration() -> None:
    card = data_card(facts(rows={"train": 6, "validation": 0, "test": 0}), figures())
    assert "path: train.parquet" in card
    assert "path: test.parquet" not in card


def test_a_label_line_weighs_parts_by_their_known_rows() -> None:
    """Means 1 over 1 row and 0 over 3 rows: 1/4; the part without known rows does not count."""
    line = label_line(
        "toxic",
        {
            "train": {"positive": 1, "negative": 0, "missing": 0, "mean": 1.0},
            "validation": {"positive": 0, "negative": 3, "missing": 0, "mean": 0.0},
            "test": {"positive": 0, "negative": 0, "missing": 2, "mean": None},
        },
    )
    assert (line.share, line.mean, line.missing) == ("25.0%", "0.250", 2)


@pytest.mark.parametrize(("count", "total", "said"), [(1, 2, "50.0%"), (1, 1000, "0.10%"), (0, 5, "0.0%"), (0, 0, "–")])
def test_percent(count: int, total: int, said: str) -> None:
    assert percent(count, total) == said


@pytest.mark.parametrize(
    ("labels", "pictures"),
    [
        (("toxic", "threat"), {"labels", "co_occurrence", "lengths", "languages"}),
        (("toxic",), {"labels", "lengths", "languages"}),
        ((), {"lengths", "languages"}),
    ],
)
def test_the_card_shows_each_plot_that_is_drawn(tmp_path: Path, labels: tuple[str, ...], pictures: set[str]) -> None:
    write_card(facts(labels=list(labels)), figures(labels), tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    drawn = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert (
        drawn
        == pictures
        == {name for name in ("labels", "co_occurrence", "lengths", "languages") if f"plots/{name}.png" in card}
    )
    assert all(path.read_bytes().startswith(PNG) for path in (tmp_path / "plots").iterdir())


def test_the_same_figures_give_the_same_files(tmp_path: Path) -> None:
    for name in "a", "b":
        (tmp_path / name).mkdir()
        write_card(facts(), figures(), tmp_path / name)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.*")} for name in "ab")
    assert first == second


def test_the_report_has_every_table_and_its_pictures_within_it(tmp_path: Path) -> None:
    write_card(facts(), figures(), tmp_path)
    page = data_report("prepare-data-files-s7", facts(), figures(), tmp_path / "plots").render()
    assert page.count('src="data:image/png;base64,') == 4
    for said in ("prepare-data-files-s7", "CC0-1.0", "malformed_row", "60% / 20% / 20%", "toxic + threat", "20.0%"):
        assert said in page

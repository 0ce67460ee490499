"""Report pages: self-contained, escaped, accessible; and legible in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from detox.evaluation import plots
from detox.evaluation.report import (
    Callout,
    Code,
    Figure,
    Figures,
    HeatMap,
    Report,
    Table,
    Text,
    Tile,
    Tiles,
    format_cell,
    key_values,
)

VOID = {"meta", "br", "img", "link", "path", "use", "rect"}
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=3000",
)


class Structure(HTMLParser):
    """Tags with their attributes, and a check that they close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def page() -> str:
    svg = plots.lines({"model": (np.array([0.0, 1.0]), np.array([0.0, 1.0]))}, "roc", x="x", y="y")
    report = Report("A <b>title</b>", "beneath")
    report.add("Result & more", Callout("It wins.", "good"), Tiles([Tile("ROC-AUC", "0.98", "TF-IDF 0.95")]))
    report.add(
        "Tables", Table("Figures", ["label", "rows"], [["<script>alert(1)</script>", 1234], ["none", None]], "A note.")
    )
    report.add("Pictures", Figures([Figure("ROC.", svg, "A curve.")]), None)
    report.add("Code", Code("Command", "run <it>"), Code("Config", "{}", folded=True), Text("Done."))
    report.add("Heat", HeatMap("Why <it>", [("you ", 0.0), ("<b>", 0.5), ("!", -1.0)]))
    report.add("Empty", None)
    return report.render()


def test_nothing_comes_from_outside(page: str) -> None:
    for tag, attributes in Structure(page).tags:
        assert tag not in {"link", "script", "iframe", "img"}
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "@import" not in page
    assert re.search(r"url\((?!#)", page) is None


def test_text_is_escaped_and_tags_close(page: str) -> None:
    assert not Structure(page).open
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<title>A &lt;b&gt;title&lt;/b&gt;</title>" in page
    assert "run &lt;it&gt;" in page


def test_tables_figures_and_sections_are_accessible(page: str) -> None:
    tags = Structure(page).tags
    assert [a["scope"] for t, a in tags if t == "th"] == ["col", "col", "row", "row"]
    assert "<caption>Figures</caption>" in page
    assert {"role": "img", "aria-label": "A curve."} in [a for t, a in tags if t == "div"]
    anchors = [a["href"] for t, a in tags if t == "a"][1:]
    assert anchors == ["#result-more", "#tables", "#pictures", "#code", "#heat"]
    assert {f"#{a['id']}" for t, a in tags if t == "section"} == set(anchors)
    assert page.startswith("<!doctype html>\n<html lang=")


def test_a_heat_map_shades_each_piece_by_its_share(page: str) -> None:
    assert 'you <mark class="for" style="--share: 30%">&lt;b&gt;</mark><mark class="against"' in page
    assert "Why &lt;it&gt;" in page


def test_a_section_without_blocks_is_left_out(page: str) -> None:
    assert "Empty" not in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (1234567, "1,234,567"), (0.98214, "0.9821"), (1234.56, "1,234.6"), ("a", "a")],
)
def test_cells(value: str | float | None, shown: str) -> None:
    assert format_cell(value) == shown


def test_key_values() -> None:
    assert key_values("Rows", ("part", "rows"), {"train": 3}).rows == [("train", 3)]


@pytest.mark.browser
@pytest.mark.parametrize("width", [500, 1200])
def test_a_browser_lays_it_out_without_sideways_scrolling(page: str, width: int, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    measure = "<script>document.title = document.documentElement.scrollWidth</script></body>"
    (tmp_path / "report.html").write_text(page.replace("</body>", measure), encoding="utf-8")
    command = [
        chromium,
        *CHROMIUM_FLAGS,
        f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        (tmp_path / "report.html").as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r"<title>(\d+)</title>", dom)
    assert found is not None
    assert 0 < int(found[1]) <= width

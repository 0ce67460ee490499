"""Self-contained HTML reports: a page of sections that needs nothing from the network.

A job builds a `Report` from blocks and writes `render()`; what the blocks look like is decided once, in
`templates/report.html`. Text is escaped everywhere; only pictures of `detox.evaluation.plots` are inserted as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import jinja2
from markupsafe import Markup

Tone = Literal["neutral", "good", "bad", "warning"]
Cell = str | int | float | None


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Callout:
    """A sentence to be seen: a verdict, or a warning. The tone is also written out, not only coloured."""

    kind: ClassVar[str] = "callout"
    text: str
    tone: Tone = "neutral"


@dataclass(frozen=True)
class Tile:
    """A key figure, large."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """Key figures side by side."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Table:
    """Rows under a caption; the first column heads its row."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture of `detox.evaluation.plots` with its caption and a description for those who do not see it."""

    caption: str
    svg: str
    description: str

    @property
    def is_wide(self) -> bool:
        """It takes the width of the page: more than twice as wide as high."""
        size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', self.svg)
        return size is not None and float(size[1]) > 2 * float(size[2])


@dataclass(frozen=True)
class Figures:
    """Pictures side by side, as many as fit."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Code:
    """Text to copy: a command, or a config. Long ones are folded under their title."""

    kind: ClassVar[str] = "code"
    title: str
    text: str
    folded: bool = False


@dataclass(frozen=True)
class HeatMap:
    """A text whose pieces are shaded: `(text, share)`, share −1 (against) to 1 (for), 0 for none."""

    kind: ClassVar[str] = "heatmap"
    caption: str
    pieces: Sequence[tuple[str, float]]


Block = Text | Callout | Tiles | Table | Figures | Code | HeatMap


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass
class Report:
    """A page: title, a line beneath it, sections in order."""

    title: str
    subtitle: str = ""
    sections: list[Section] = field(default_factory=list)

    def add(self, title: str, *blocks: Block | None) -> None:
        """Append a section of these blocks; None stands for a block that there is nothing to show in. A section
        without blocks is left out."""
        present = tuple(block for block in blocks if block is not None)
        if present:
            self.sections.append(Section(title, present))

    def render(self) -> str:
        """The page as HTML: one file, no external request, light and dark."""
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("detox.evaluation"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        environment.filters |= {"cell": format_cell, "number": is_number, "picture": Markup}
        return environment.get_template("report.html").render(report=self)


def is_number(value: Cell) -> bool:
    return isinstance(value, int | float)


def format_cell(value: Cell) -> str:
    """A table cell: integers with thousands' commas, other numbers to four digits, nothing known as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return value


def key_values(caption: str, columns: tuple[str, str], values: Mapping[str, Cell]) -> Table:
    """A table of two columns from a mapping."""
    return Table(caption, columns, list(values.items()))

"""Plots: valid SVG that follows the page's colours, keeps its text, and is the same every time."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from detox.evaluation import plots

CURVE = {"model": (np.linspace(0, 1, 1000), np.linspace(0, 1, 1000) ** 2)}
DRAWN: dict[str, Callable[[], str]] = {
    "lines": lambda: plots.lines(CURVE | {"other": CURVE["model"]}, "a", x="recall", y="precision", marks={"0.3": 0.3}),
    "training": lambda: plots.training_curves({"loss": (np.arange(3), np.array([3.0, 2.0, 1.0]))}, "b", y="loss"),
    "confusion": lambda: plots.confusion_matrix(
        np.array([[90, 10], [5, 15]]), "d", truth=["no", "yes"], prediction=["not flagged", "flagged"]
    ),
    "bars": lambda: plots.bars({"copy": [0.2, np.nan], "delete": [0.1, 0.4]}, ["en", "zh"], "f", y="J"),
    "points": lambda: plots.points({"copy": (1.0, 0.1), "ours": (0.1, 0.4)}, "g", x="copies", y="J", marked="ours"),
    "density": lambda: plots.density(
        np.array([0.1, 0.1, 0.9]), np.array([0.2, 0.2, 1.0]), "e", x="true", y="predicted"
    ),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_pictures_are_svg_in_the_colours_of_the_page(kind: str) -> None:
    svg = DRAWN[kind]()
    ElementTree.fromstring(svg)
    assert "var(--muted)" in svg
    assert not re.search(r"#0[0-9a-f]0{3}[0-9a-f]|#0[1-4]0[1-4]0[1-4]", svg)
    assert re.search(r"(href|src)=\"(?!#)", svg) is None
    assert svg == DRAWN[kind]()


def test_text_stays_text() -> None:
    svg = DRAWN["confusion"]()
    assert ">not flagged</text>" in svg
    assert "75.0%" in svg


def test_identifiers_carry_the_pictures_name() -> None:
    """Two pictures on one page must not share an identifier, or the second takes the clip path of the first."""
    names = ("first", "second")
    found = [set(re.findall(r'id="([^"]+)"', plots.lines(CURVE, name, x="", y=""))) for name in names]
    assert found[0]
    assert not found[0] & found[1]
    svg = plots.lines(CURVE, "first", x="", y="")
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= found[0]


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    x_P, y_P = plots._thin(np.arange(5000), np.arange(5000) * 2)
    assert len(x_P) == plots.POINTS
    assert (x_P[0], x_P[-1], y_P[-1]) == (0, 4999, 9998)


def test_bars_name_groups_and_series_and_differ_by_more_than_colour() -> None:
    """Two groups of two series: four bars of which one is missing, the second series hatched."""
    svg = DRAWN["bars"]()
    for text in ("en", "zh", "copy", "delete"):
        assert f">{text}</text>" in svg
    assert "<pattern" in svg
    alone = plots.bars({"copy": [0.2, 0.3]}, ["en", "zh"], "f", y="J")
    assert "<pattern" not in alone
    assert ">copy</text>" not in alone  # one series needs no legend


def test_points_carry_their_names() -> None:
    assert all(f">{name}</text>" in DRAWN["points"]() for name in ("copy", "ours"))

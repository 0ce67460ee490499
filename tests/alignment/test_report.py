"""What an alignment's report says where figures are undefined: of those that are left, and never an error."""

from __future__ import annotations

import numpy as np
import pytest

from detox.alignment.finish import FIGURES, changes_of
from detox.alignment.report import alignment_blocks, headline
from detox.evaluation.report import Callout
from detox.rewriter.comparison import System
from detox.rewriter.evaluation import Judged

NAN = float("nan")


def system(name: str, **rows: list[float]) -> System:
    """Four texts, each figure 0.5 of all, but for those given."""
    values = {figure: np.array(rows.get(figure, [0.5] * 4)) for figure in FIGURES}
    return System(Judged(f"{name}/greedy", ["a"] * 4, values, np.array(["en"] * 4)), ["model"] * 4)


def test_a_figure_that_no_text_has_before_and_after_is_left_out() -> None:
    """Bits are known of the first half before and of the other after: of no text both."""
    start = system("start", bits=[1, 1, NAN, NAN], toxicity_after=[0.9] * 4)
    aligned = system("aligned", bits=[NAN, NAN, 1, 1], toxicity_after=[0.4] * 4)
    [found] = changes_of([start, aligned], ["greedy"]).values()
    assert list(found) == ["toxicity_after", "similarity", "copy", "j_2024"]
    assert found["toxicity_after"].difference == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("undefined", "said", "tone"),
    [
        ([], "in toxicity by -0.500 (-0.500 to -0.500), in similarity to the source by +0.000", "good"),
        (["toxicity_after"], "greedy outputs change in similarity to the source by +0.000", "warning"),
        (["similarity", "copy"], "change in toxicity by -0.500 (-0.500 to -0.500) (95 %).", "good"),
        (["toxicity_after", "similarity", "copy"], "nothing could be judged", "warning"),
        (FIGURES, "nothing could be judged", "warning"),
    ],
)
def test_the_headline_is_of_what_is_known(undefined: list[str], said: str, tone: str) -> None:
    unknown = {figure: [NAN] * 4 for figure in undefined}
    start = system("start", **{"toxicity_after": [0.9] * 4, **unknown})
    changes = changes_of([start, system("aligned", **{"toxicity_after": [0.4] * 4, **unknown})], ["greedy"])
    assert said in headline(changes)
    callout = alignment_blocks(changes, [])[0]
    assert isinstance(callout, Callout)
    assert callout.tone == tone

"""Each text is computed once, and comes in its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detox.evaluation.remembered import Remembered


def test_each_text_is_computed_once() -> None:
    asked: list[list[str]] = []

    def lengths(texts: Sequence[str]) -> np.ndarray:
        asked.append(list(texts))
        return np.array([[len(text), 1] for text in texts])

    remembered = Remembered(lengths)
    assert remembered(["ab", "a", "ab"]).tolist() == [[2, 1], [1, 1], [2, 1]]
    assert remembered(["abc", "a"]).tolist() == [[3, 1], [1, 1]]
    assert remembered(["a"]).tolist() == [[1, 1]]
    assert asked == [["ab", "a"], ["abc"]]
    assert len(remembered([])) == 0

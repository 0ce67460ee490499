"""Values of texts that are asked for again and again: sources and references are the same for every system judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


class Remembered:
    """Computes a value (a number, or a vector) for each text once.

    Args:
        compute: values of different texts `[N, …]`, each a function of its text alone.
    """

    def __init__(self, compute: Callable[[Sequence[str]], np.ndarray]) -> None:
        self._compute = compute
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Values in the order of `texts`, `[N, …]`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, self._compute(new), strict=True))
        return np.array([self._known[text] for text in texts])

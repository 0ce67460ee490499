"""From our scores to Perspective's: a monotone mapping an attribute, fitted on texts that both have scored.

Moderation code holds thresholds that were tuned on Perspective's scores. A mapping puts ours on that scale; it changes
no order, so no ROC-AUC. `python -m benchmarks.perspective` fits one on RealToxicityPrompts (Gehman et al. 2020), whose
scores are Perspective's; `gateway.perspective_mapping` names its file. A file may hold the mappings of several models,
so that a model can be rolled over without a gap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from serve.errors import ApiError

MOST_KNOTS = 64

Translate = Callable[[str, str, float], float]
"""Model version, attribute and our score in, the score to give out."""


def as_it_is(version: str, attribute: str, score: float) -> float:
    return score


class Curve(NamedTuple):
    """A rising curve by its knots, straight between them, flat beyond them."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    def __call__(self, score: float) -> float:
        return float(np.interp(score, self.ours, self.theirs))


class Translation:
    """Curves by model version and attribute; an attribute without one keeps its score."""

    def __init__(self, curves: Mapping[str, Mapping[str, Curve]]) -> None:
        self.curves = {version: dict(mine) for version, mine in curves.items()}

    def __call__(self, version: str, attribute: str, score: float) -> float:
        """Raises:
        ApiError: `unavailable`: another model is served than those that the mapping was fitted for.
        """
        if version not in self.curves:
            raise ApiError("unavailable", f"There is no mapping of scores for model version {version}.", retry_after=60)
        curve = self.curves[version].get(attribute)
        return curve(score) if curve else score

    def save(self, path: Path) -> None:
        tree = {
            version: {attribute: curve._asdict() for attribute, curve in mine.items()}
            for version, mine in self.curves.items()
        }
        path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str) -> Translation:
        """The mappings in a file.

        Raises:
            ValueError: it cannot be read, or a mapping does not rise.
        """
        try:
            tree = json.loads(Path(path).read_text(encoding="utf-8"))
            found = {
                version: {name: Curve(tuple(curve["ours"]), tuple(curve["theirs"])) for name, curve in mine.items()}
                for version, mine in tree.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no mapping of scores ({error}): make one with benchmarks.perspective"
            ) from None
        for version, mine in found.items():
            for name, curve in mine.items():
                rises = all(np.all(np.diff(side) >= 0) for side in curve)
                if not (rises and len(curve.ours) == len(curve.theirs) > 0):
                    where = f"the mapping of {name} for version {version}"
                    raise ValueError(f"{path}: {where} must rise, and its two lists must be of one length")
        return cls(found)

    def check(self, path: str, version: str) -> None:
        """Raises:
        ValueError: nothing was fitted for this model.
        """
        if version not in self.curves:
            known = ", ".join(self.curves) or "none"
            raise ValueError(f"{path} holds mappings for {known}, and {version} is served: fit one for it")


def fit(ours_N: np.ndarray, theirs_N: np.ndarray) -> Curve:
    """The rising curve that gives our scores the distribution of theirs, at most 64 knots: about as many of ours reach
    any threshold as of theirs (equipercentile linking; Kolen and Brennan, Test Equating, 2014). Where many of ours are
    the same, theirs are taken in the middle.

    Least squares would come closer to each single score, and pull all of them towards the middle: high thresholds,
    which are those that people hold, would flag next to nothing.
    """
    theirs_K = np.linspace(theirs_N.min(), theirs_N.max(), MOST_KNOTS)
    below_K = np.searchsorted(np.sort(theirs_N), theirs_K) / len(theirs_N)
    ours_J, knot_K = np.unique(np.quantile(ours_N, below_K).round(6), return_inverse=True)
    theirs_J = np.bincount(knot_K, theirs_K) / np.bincount(knot_K)
    return Curve(tuple(ours_J.tolist()), tuple(theirs_J.round(6).tolist()))

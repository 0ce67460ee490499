"""What the gateway measures: texts, flags by label, refusals, and how far the scores have moved since the start.

Ray exports them with its own (`ray_detox_…`, the metrics port of each node) for Prometheus to scrape; no text is among
them. Drift is the population stability index of the last `WINDOW` scores of a label against the first `WINDOW` since
the replica began, over ten equal bins: below 0.1 nothing has moved, above 0.25 much has.

Shapes: N texts, L labels, K bins.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from ray.serve import metrics

from serve.judge import Scored

BINS = 10
WINDOW = 2000
LEAST_SHARE = 1e-3
"""Of an empty bin: its logarithm must be finite."""


class Drift:
    """How far a label's scores have moved since the first `window`.

    Args:
        window: scores that stand for the beginning, and for now.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._first_K, self._now_K = np.zeros(BINS), np.zeros(BINS)

    def add(self, scores_N: np.ndarray) -> None:
        counts_K = np.bincount(np.minimum((scores_N * BINS).astype(int), BINS - 1), minlength=BINS).astype(float)
        if self._first_K.sum() < self._window:
            self._first_K += counts_K
            return
        self._now_K += counts_K
        if self._now_K.sum() > self._window:  # older scores count for less and less
            self._now_K *= self._window / self._now_K.sum()

    def index(self) -> float:
        """Population stability index; 0 until there is something to compare."""
        if self._now_K.sum() < self._window / 2:
            return 0.0
        first_K, now_K = (np.maximum(counts / counts.sum(), LEAST_SHARE) for counts in (self._first_K, self._now_K))
        return float(((now_K - first_K) * np.log(now_K / first_K)).sum())


class Meters:
    """Counters and the drift gauge of one gateway replica.

    Args:
        every: seconds between two times that what was collected is handed to Ray, which costs more than an answer does.
    """

    def __init__(self, every: float = 1.0) -> None:
        tags: Any = ("path", "kind")  # Ray's annotation allows one
        label_of: Any = ("version", "label")
        self._refused = metrics.Counter("detox_refused", "Requests that were refused.", tag_keys=tags)
        self._texts = metrics.Counter("detox_texts", "Texts that were scored.", tag_keys=("version",))
        self._above = metrics.Counter("detox_flags", "Texts at or above a label's threshold.", tag_keys=("label",))
        self._gauge = metrics.Gauge("detox_score_drift", "Population stability index.", tag_keys=label_of)
        self._every, self._handed = every, time.monotonic()
        self._collected: list[Scored] = []
        self._drift: dict[tuple[str, str], Drift] = {}

    def refused(self, path: str, kind: str) -> None:
        self._refused.inc(tags={"path": path, "kind": kind})

    def scored(self, scored: Scored) -> None:
        """Collect the scores of some texts."""
        self._collected.append(scored)
        if time.monotonic() - self._handed >= self._every:
            self._hand_over()

    def _hand_over(self) -> None:
        self._handed, collected, self._collected = time.monotonic(), self._collected, []
        for version in {one.model.version for one in collected}:
            mine = [one for one in collected if one.model.version == version]
            model, values_NL = mine[0].model, np.concatenate([one.values_NL for one in mine])
            if not len(values_NL):
                continue
            self._texts.inc(len(values_NL), tags={"version": version})
            for column, label in enumerate(model.labels):
                drift = self._drift.setdefault((version, label), Drift())
                drift.add(values_NL[:, column])
                self._gauge.set(drift.index(), tags={"version": version, "label": label})
                above = int((values_NL[:, column] >= model.thresholds[label]).sum())
                if above:
                    self._above.inc(above, tags={"label": label})

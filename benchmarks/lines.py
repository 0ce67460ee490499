"""What a benchmark prints: one JSON line a quantity, the headline last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median


def print_line(
    benchmark: str, metric: str, ours: Sequence[float], peer: Sequence[float], better: str, unit: str
) -> float:
    """Print the medians of alternating runs and their ratio, ours over the peer's, and return the ratio."""
    ratio = median(ours) / median(peer) if median(peer) else float("nan")
    line = {
        "benchmark": benchmark,
        "metric": metric,
        "ours": float(f"{median(ours):.6g}"),
        "peer": float(f"{median(peer):.6g}"),
        "ratio": float(f"{ratio:.4g}") if ratio == ratio else None,
        "better": better,
        "unit": unit,
        "runs": len(ours),
    }
    print(json.dumps(line), flush=True)
    return ratio

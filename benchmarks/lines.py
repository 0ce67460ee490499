"""What a benchmark prints: one JSON line a quantity, the headline last."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from statistics import median


def rounds(count: int) -> Iterator[int]:
    """0, 1, …: before each alternating run a line of progress on standard error."""
    began = time.monotonic()
    for number in range(count):
        left = f", about {(time.monotonic() - began) / number * (count - number) / 60:.0f} min left" if number else ""
        print(f"run {number + 1} of {count}{left}", file=sys.stderr, flush=True)
        yield number


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

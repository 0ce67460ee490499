"""What a load test leaves: a row a request, the figures, and a page with the distribution and the course of latencies.

Shapes: N requests.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from detox.classifier.report import run_facts
from detox.evaluation import plots
from detox.evaluation.open_loop import FAILED, PERCENTILES, Outcome, figures
from detox.evaluation.report import Block, Callout, Code, Figure, Figures, Report, Table, Tile, Tiles
from detox.runs.config import JobConfig
from detox.runs.rundir import RunDirectory

LAGGING_MS = 20.0
"""Beyond this the generator itself was late, and the latencies are partly its own."""
WINDOWS = 60
"""Points in the picture of the course."""


def write(run: RunDirectory, config: JobConfig, recipe: str, outcomes: Sequence[Outcome]) -> None:
    """`outcomes.parquet`, `summary.json` and `report.html` in the run's directory."""
    found = figures(outcomes)
    run.write_json("summary.json", {"headline": headline(found)} | found)
    table = pa.table({name: [getattr(one, name) for one in outcomes] for name in Outcome._fields})
    with tempfile.TemporaryDirectory() as scratch:
        pq.write_table(table, Path(scratch) / "outcomes.parquet")
        run.storage.add_files(Path(scratch))
    facts = run_facts(run, "load_test", recipe, config, {})
    report = Report(f"Load test: {facts.name}", f"{found['requests']:,} requests to {facts.config['url']}")
    report.add("Result", *result(found))
    if found["answered"]:
        report.add("Latencies", pictures(outcomes), percentile_table(found))
    report.add("Answers", answers(found))
    report.add("How to make it again", Code("Command", facts.command))
    run.storage.write_text("report.html", report.render())


def headline(found: dict[str, float]) -> str:
    if not found["answered"]:
        return f"None of {found['requests']:,.0f} requests was answered."
    return (
        f"{found['answered']:,.0f} of {found['requests']:,.0f} requests answered, {found['answered_per_s']:,.0f} a "
        f"second; median {found['p50_ms']:.0f} ms, 99 % within {found['p99_ms']:.0f} ms, the longest "
        f"{found['most_ms']:.0f} ms."
    )


def result(found: dict[str, float]) -> list[Block]:
    is_whole = found["answered"] == found["requests"] and not found.get("wrong")
    blocks: list[Block] = [Callout(headline(found), "good" if is_whole else "warning")]
    if found.get("wrong"):
        blocks.append(Callout(f"{found['wrong']:,} answers were wrong.", "bad"))
    if found.get("lag_p99_ms", 0.0) > LAGGING_MS:
        lag = f"{found['lag_p99_ms']:.0f} ms"
        blocks.append(
            Callout(
                f"The load generator itself was late by up to {lag} (99 %): the latencies are partly its own.", "bad"
            )
        )
    if found["answered"]:
        tiles = [
            Tile(f"{percentile:g} % within", f"{found[f'p{percentile:g}_ms']:.0f} ms") for percentile in PERCENTILES
        ]
        blocks.append(Tiles(tiles))
    return blocks


def pictures(outcomes: Sequence[Outcome]) -> Figures:
    """The share of requests that take longer, and percentiles over the time of the test."""
    answered = [one for one in outcomes if one.status == 200]
    ms_N = np.array([one.seconds * 1000 for one in answered])
    share_N = 1 - np.arange(len(ms_N)) / len(ms_N)
    axes = {"x": "latency, milliseconds", "y": "share that takes longer"}
    tail = plots.curves({"requests": (np.sort(ms_N), share_N)}, "tail", **axes, logarithmic=True)
    edges = np.linspace(0, max(one.due for one in outcomes) + 1e-9, WINDOWS + 1)
    at_N = np.digitize([one.due for one in answered], edges) - 1
    parts = {(edges[at] + edges[at + 1]) / 2: ms_N[at_N == at] for at in range(WINDOWS) if (at_N == at).any()}
    seconds = np.array(list(parts))
    course = {
        f"{percentile} % within": (seconds, np.array([np.percentile(part, percentile) for part in parts.values()]))
        for percentile in (50, 99)
    }
    return Figures(
        [
            Figure("How many take longer", tail, "Share of requests over latency, both logarithmic."),
            Figure(
                "In the course of the test",
                plots.curves(course, "course", x="seconds", y="milliseconds"),
                "Percentiles of the latency over the seconds of the test.",
            ),
        ]
    )


def percentile_table(found: dict[str, float]) -> Table:
    rows = [(f"{percentile:g} %", found[f"p{percentile:g}_ms"]) for percentile in PERCENTILES]
    return Table("From due to answered", ("share", "milliseconds"), [*rows, ("all", found["most_ms"])])


def answers(found: dict[str, float]) -> Table:
    statuses = {key.removeprefix("status_"): int(value) for key, value in found.items() if key.startswith("status_")}
    named = {"no answer" if status == str(FAILED) else f"HTTP {status}": count for status, count in statuses.items()}
    return Table("What came back", ("answer", "requests"), list(named.items()))

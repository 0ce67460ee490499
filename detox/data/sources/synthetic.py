"""The demo's own corpus (`detox.data.synthetic`): sentences written for it, with the six labels of Jigsaw 2018."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detox.data.sources import jigsaw2018
from detox.data.sources.source import Source, plain_comments

DEFAULT_ROWS = 6000
SEED = 0


def generate_records(rows: int) -> Iterator[dict[str, Any]]:
    """`rows` records, 0 for `DEFAULT_ROWS`; the same ones each time."""
    from detox.data import synthetic

    for batch in synthetic.generate(rows or DEFAULT_ROWS, SEED).to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


SOURCE = Source(
    name="synthetic",
    title="Synthetic comments of the demo",
    licence="Apache-2.0",
    homepage="",
    obtain="it is made on the spot",
    labels=jigsaw2018.LABELS,
    mapping="Six labels, 0 or 1, known from how each sentence was made. Not real text: no result is claimed on it.",
    columns={"text": ("text",), **{label: (label,) for label in jigsaw2018.LABELS}, "split": ("split",)},
    comments=plain_comments("text", jigsaw2018.LABELS, split="split"),
    generate=generate_records,
)

"""`generations.parquet`: a row a continuation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from detox.evaluation.generation_metrics import Judged
from detox.runs.storage import Storage

GENERATIONS = "generations.parquet"
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("prompt", pa.string()),
        ("prompt_toxicity", pa.float64()),
        ("number", pa.int32()),
        ("text", pa.string()),
        ("tokens", pa.int32()),
        ("ended", pa.bool_()),
        ("toxicity", pa.float64()),
        ("nats", pa.float64()),
        ("similarity", pa.float64()),
    ]
)
"""`row`: of the prompt in its source; `number`: of the continuation; figures that nobody measured are NaN."""


def read_table(storage: Storage) -> pa.Table:
    """That of a run, or of a chunk."""
    return pq.read_table(f"{storage.path.rstrip('/')}/{GENERATIONS}", filesystem=storage.filesystem, schema=SCHEMA)


def judged_of(table: pa.Table) -> Judged:
    """The table's rows by prompt, of which each has equally many, one after the other."""
    count = int(np.max(table["number"].to_numpy())) + 1

    def by_prompt(name: str) -> np.ndarray:
        return table[name].to_numpy().reshape(-1, count)

    return Judged(
        prompts=table["prompt"].to_pylist()[::count],
        prompt_toxicity_P=by_prompt("prompt_toxicity")[:, 0],
        texts=[row.tolist() for row in by_prompt("text")],
        **{f"{name}_PK": by_prompt(name) for name in ("tokens", "ended", "toxicity", "nats", "similarity")},
    )

"""New columns for a corpus of any size: cut into numbered shards, worked on one by one, put together in their order.

    <run>/shards/plan.json            what is to be done, written once every shard is there
    <run>/shards/000000.raw.parquet   rows of the input, every column
    <run>/shards/000000.done.parquet  the same with the new columns; takes the place of the raw one
    <run>/rejects.jsonl               rows of csv and JSON lines that cannot be read, with file and reason

What the columns say is a `Worker`'s business: scores (`score_columns`), rewrites (`detox.rewriter.rewrite_columns`). A
shard is written whole or not at all, and depends on nothing but its rows and the worker: whoever finds one done leaves
it as it is, so a job that was killed goes on from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from detox.classifier.corpus_reading import Corpus, resized, texts_of
from detox.classifier.corpus_writing import output_file
from detox.data.formats import Malformed
from detox.data.language_code import code_or_nothing
from detox.governance.manifest import file_digest, file_digests
from detox.runs.storage import Storage, explained

PLAN = "plan.json"
REJECTS = "rejects.jsonl"
FOLDER_MODELS = ("tfidf", "lexicon", "detoxify")
"""What stands before the colon in a model's name that goes on with a path."""


class Worker(Protocol):
    """Makes the new columns of a shard; the same rows, the same columns, whatever shard they are in."""

    @property
    def results(self) -> tuple[str, ...]:
        """What it finds out of a row. The first one is null where a row has no text, and only there."""
        ...

    def __call__(self, table: pa.Table, first: int) -> Mapping[str, pa.Array]:
        """A column for each of `results`, as long as `table`, whose first row is row `first` of the corpus."""
        ...


@dataclass(frozen=True)
class Plan:
    """What a run is to do."""

    facts: dict[str, Any]
    """Digests of model and input, by which a resumed run knows that neither has changed."""
    columns: dict[str, str]
    """Result of the worker to the name of its output column."""
    shard_rows: int
    rows: int
    refused: int
    """Rows that could not be read; they are in `rejects.jsonl`."""

    @property
    def shards(self) -> int:
        """At least one, so that an output without rows has its columns."""
        return max(1, -(-self.rows // self.shard_rows))

    def rows_of(self, shard: int) -> int:
        return min(self.shard_rows, self.rows - shard * self.shard_rows)


def free_names(results: Sequence[str], taken: Iterable[str], prefix: str) -> dict[str, str]:
    """Result to column: the result itself, or `<prefix>_<result>` where that name is taken (twice, where that one is
    too)."""
    names: dict[str, str] = {}
    used = set(taken)
    for result in results:
        name = result
        while name in used:
            name = f"{prefix}_{name}"
        names[result] = name
        used.add(name)
    return names


def facts_of(corpus: Corpus, model: str) -> dict[str, Any]:
    """What determines the output: names and SHA-256 of the input's files, in order, and the model's files or commit."""
    return {"input": [[path.name, file_digest(path)] for path in corpus.files], "model": model_facts(model)}


def model_facts(model: str) -> dict[str, str]:
    """`model_digests` of a local model, the `commit` that a hub name stands for now; empty for a URI, and for what the
    package itself pins (`detoxify/…`, `tiny/…`, `embedded/…`).

    Raises:
        ValueError: a hub name that leads nowhere.
    """
    digests = model_digests(model)
    if digests or "://" in model or model.startswith(("detoxify/", "tiny/", "embedded/")):
        return digests
    from detox.models.loading import commit_of  # transformers, which other scorers do without

    return {"commit": commit_of(model)}


def model_digests(model: str) -> dict[str, str]:
    """SHA-256 of each file of a local model; empty for a name or a URI."""
    kind, _, folder = model.partition(":")
    place = Path(folder if kind in FOLDER_MODELS else model).expanduser()
    if place.is_file():
        return {place.name: file_digest(place)}
    if not place.is_dir():
        return {}
    return file_digests(place / "artifact" if (place / "artifact").is_dir() else place)


def stage(
    corpus: Corpus, run: Storage, results: Sequence[str], rows: int, facts: dict[str, Any], prefix: str = "score"
) -> Plan:
    """Write the corpus as shards of `rows` rows, or take those of an earlier call.

    Args:
        results: of the worker.
        prefix: see `free_names`.

    Raises:
        ValueError: model or input changed since; a broken file; columns that cannot be named.
    """
    shards = run.child("shards")
    if shards.exists(PLAN):
        plan = Plan(**json.loads(shards.read_text(PLAN)))
        refuse_changed(plan.facts, facts, run)
        return plan
    shards.delete()
    shards.make()
    with ExitStack() as stack:
        rejects = _Rejects(run, stack)
        total = 0
        for number, table in enumerate(resized(corpus.tables(rejects.add), rows)):
            _write(shards, _raw(number), table)
            total += len(table)
        if not total:
            _write(shards, _raw(0), corpus.schema.empty_table())
    plan = Plan(facts, free_names(results, corpus.schema.names, prefix), rows, total, rejects.count)
    shards.write_text(PLAN, json.dumps(asdict(plan), ensure_ascii=False, indent=2) + "\n")
    return plan


class _Rejects:
    """Rows that cannot be read, written as they come; no file without one."""

    def __init__(self, run: Storage, stack: ExitStack) -> None:
        self._run, self._stack = run, stack
        self._file: Any = None
        self.count = 0

    def add(self, path: Path, row: Malformed) -> None:
        if self._file is None:
            stream = self._run.filesystem.open_output_stream(f"{self._run.path}/{REJECTS}", compression=None)
            self._file = self._stack.enter_context(stream)
        line = {"file": str(path), "text": row.text, "reason": row.reason}
        self._file.write(json.dumps(line).encode("ascii") + b"\n")
        self.count += 1


def refuse_changed(before: dict[str, Any], now: dict[str, Any], run: Storage) -> None:
    """Refuse to go on with other facts than those that a run began with.

    Raises:
        ValueError: says which have changed, and what to do.
    """
    for what in ("input", "model"):
        if before[what] != now[what]:
            raise ValueError(
                f"the {what} has changed since run {run.uri} began: choose another --run.name, or delete that folder"
            )


def unfinished(run: Storage, plan: Plan) -> list[int]:
    """Numbers of the shards still to be done."""
    there = set(run.child("shards").names())
    return [number for number in range(plan.shards) if _done(number) not in there]


def finish_shard(run: Storage, plan: Plan, worker: Worker, number: int) -> int:
    """Work on one shard, in any process that sees the run directory.

    Returns:
        its rows.

    Raises:
        what the worker raises; the shard stays as it was.
    """
    shards = run.child("shards")
    table = _read(shards, _raw(number))
    found = worker(table, number * plan.shard_rows)
    for result, name in plan.columns.items():
        table = table.append_column(name, found[result])
    _write(shards, _done(number), table)
    shards.delete(_raw(number))
    return len(table)


@dataclass(frozen=True)
class Written:
    """What an output holds."""

    rows: int
    without_text: int
    odd_languages: int = 0
    """Cells of the language column that hold something else than a code of ISO 639: the language was detected."""


def assemble(
    run: Storage, plan: Plan, output: str, before_move: Callable[[int], None], lang_column: str = ""
) -> Written:
    """Put the finished shards together in their order.

    Args:
        before_move: see `corpus_writing.output_file`.
        lang_column: with the language of each text; empty: none.
    """
    shards = run.child("shards")
    schema, names = _schema(shards, _done(0)), list(plan.columns.values())
    floats = {name for name in names if schema.field(name).type == pa.float32()}
    rows = without_text = odd_languages = 0
    with output_file(output, schema, floats, before_move) as write:
        for number in range(plan.shards):
            table = _read(shards, _done(number))
            write(table)
            rows += len(table)
            without_text += table.column(names[0]).null_count
            if lang_column:
                cells = texts_of(table, lang_column)
                odd_languages += sum(bool((cell or "").strip()) and not code_or_nothing(cell) for cell in cells)
    return Written(rows, without_text, odd_languages)


def _raw(number: int) -> str:
    return f"{number:06d}.raw.parquet"


def _done(number: int) -> str:
    return f"{number:06d}.done.parquet"


def _schema(shards: Storage, name: str) -> pa.Schema:
    return pq.read_schema(f"{shards.path}/{name}", filesystem=shards.filesystem)


def _read(shards: Storage, name: str) -> pa.Table:
    # without `partitioning` a folder named a=b on the way would become a column
    return pq.read_table(f"{shards.path}/{name}", filesystem=shards.filesystem, partitioning=None)


def _write(shards: Storage, name: str, table: pa.Table) -> None:
    """Atomic: on a local disk by a rename, on an object store by nature."""
    making = f"{shards.path}/.{name}.{os.getpid()}.part" if shards.is_local else f"{shards.path}/{name}"
    with explained(shards.uri):
        pq.write_table(table, making, filesystem=shards.filesystem, compression="zstd")
        if shards.is_local:
            os.replace(making, f"{shards.path}/{name}")

"""Cleaning by Ray Data against `datasets.map` with two processes: the same rules, the same rows, the same output.

`python -m benchmarks.cleaning [--rows 200000] [--runs 5]` stages the comments once as parquet shards. Then each run,
in a process of its own and in turn, cleans them (Unicode, personal data, English only), computes duplicate keys, keeps
the first of each duplicate and writes what is left to disk. The rule of the language filter is the same for both: a
comment is English by its frequent words, or lingua gives English its least share. `peer` has it as it is commonly
written, lingua asked about every comment and the words heard where it says no; ours asks the words first. `same_filter`
is `datasets.map` with our filter too, which compares the engines alone. `language` compares the filter with lingua's
best guess asked plainly (75 languages, whole comments), on a sample.

Starting Ray is not counted, starting its workers is. Memory is that of all processes together, private pages only,
above what they hold before the first row, from runs of their own, with all rows and with half of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.lines import print_line, rounds
from detox.data.reading import BATCH_ROWS
from detox.data.settings import CleaningSettings

SETTINGS = CleaningSettings(languages=("en",))
PROCESSES = 2
LANGUAGE_ROWS = 2000


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cleaning", description=__doc__)
    parser.add_argument("--data", default="../shared/data/jigsaw_train20k_binary.parquet", help="parquet with `text`")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(WORKERS[options.worker](Path(options.folder), Watch(options.memory))))
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"whole": options.rows, "half": options.rows // 2}
        for name, rows in sizes.items():
            write_shards(options.data, rows, Path(folder) / name)
        runs: dict[str, list[dict[str, Any]]] = {}
        for _ in rounds(options.runs):
            for who, size in {"ours": "whole", "peer": "whole", "same_filter": "whole", "language": "half"}.items():
                runs.setdefault(who, []).append(in_process(who, Path(folder) / size))
        memory = {
            (who, size): in_process(who, Path(folder) / size, "--memory")["memory"] / 1e6
            for who in ("ours", "peer")
            for size in sizes
        }
    report(runs, memory, options.rows)


def write_shards(data: str, rows: int, folder: Path) -> None:
    """The comments of `data`, over again until there are `rows`; each round puts one word more in front, so that no row
    repeats another by the letter and near duplicates have to be found."""
    texts = pq.read_table(data, columns=["text"])["text"].to_pylist()
    folder.mkdir()
    for shard, begin in enumerate(range(0, rows, BATCH_ROWS)):
        numbers = range(begin, min(begin + BATCH_ROWS, rows))
        table = pa.table(
            {
                "row": pa.array(numbers, pa.int64()),
                "source": pa.array(["benchmark"] * len(numbers), pa.string()),
                "text": pa.array([f"{'again ' * (row // len(texts))}{texts[row % len(texts)]}" for row in numbers]),
                "split": pa.nulls(len(numbers), pa.string()),
            }
        )
        pq.write_table(table, folder / f"{shard:05d}.raw.parquet", compression="zstd")


def in_process(who: str, folder: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.cleaning", "--worker", who, "--folder", str(folder), *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


class Watch:
    """Seconds, or the peak of private memory of this process and its descendants above that at the start: looking for
    memory costs time."""

    def __init__(self, memory: bool) -> None:
        self._memory = memory
        self.seconds, self.peak = 0.0, 0

    def __enter__(self) -> Watch:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, args=(private_memory(),))
        if self._memory:
            self._thread.start()
        self._since = time.perf_counter()
        return self

    def _sample(self, before: int) -> None:
        while not self._done.wait(0.5):
            self.peak = max(self.peak, private_memory() - before)

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._since
        self._done.set()
        if self._memory:
            self._thread.join()


def private_memory() -> int:
    """Bytes; processes that end while they are counted are left out."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return total


def clean_ours(folder: Path, watch: Watch) -> dict[str, Any]:
    from detox.data.near_duplicates import Deduplicator
    from detox.data.shards import Shard, clean_shard
    from rayjobs.ray_glue.launch import connect
    from rayjobs.ray_glue.ray_map import RayMap
    from rayjobs.train_classifier import demo

    connect(demo())
    shards = [Shard(str(path).removesuffix(".raw.parquet")) for path in sorted(folder.glob("*.raw.parquet"))]
    with watch:
        deduplicator, digest, kept = Deduplicator(exact=True, near=True), hashlib.sha256(), 0
        for item in RayMap(PROCESSES)(partial(clean_shard, SETTINGS), shards):
            verdicts = deduplicator.decide(item.keys_NK, item.rows_N)
            table = pq.read_table(item.shard.file("kept")).filter(pa.array([verdict is None for verdict in verdicts]))
            pq.write_table(table, item.shard.file("unique"), compression="zstd")
            kept += note(digest, table)
    return result(watch, digest, kept)


def clean_peer(folder: Path, watch: Watch, plain: bool = True) -> dict[str, Any]:
    import datasets

    from detox.data.near_duplicates import Deduplicator

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache, watch:
        files = sorted(str(path) for path in folder.glob("*.raw.parquet"))
        rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache).with_format("arrow")
        cleaned = rows.map(
            peer_batch, batched=True, num_proc=PROCESSES, batch_size=BATCH_ROWS, fn_kwargs={"plain": plain}
        )
        deduplicator, digest, kept = Deduplicator(exact=True, near=True), hashlib.sha256(), 0
        for number, batch in enumerate(cleaned.iter(BATCH_ROWS)):
            keys_NK = np.frombuffer(b"".join(batch["keys"].to_pylist()), np.uint64).reshape(batch.num_rows, -1)
            verdicts = deduplicator.decide(keys_NK, batch["row"].to_numpy())
            table = batch.drop_columns(["keys"]).filter(pa.array([verdict is None for verdict in verdicts]))
            pq.write_table(table, Path(cache) / f"{number:05d}.unique.parquet", compression="zstd")
            kept += note(digest, table)
    return result(watch, digest, kept)


def peer_batch(batch: pa.Table, plain: bool) -> pa.Table:
    """Arrow in and out, the fastest that `datasets.map` offers; the keys of a row travel as bytes."""
    from detox.data.cleaning import clean_batch
    from detox.data.near_duplicates import duplicate_keys

    if plain:
        kept = clean_batch(batch, SETTINGS.model_copy(update={"languages": ()})).kept
        kept = kept.filter(pa.array(plainly_english(kept["text"].to_pylist())))
    else:
        kept = clean_batch(batch, SETTINGS).kept
    keys_NK = duplicate_keys(kept["text"].to_pylist(), SETTINGS.near_duplicate_similarity)
    return kept.append_column("keys", pa.array([keys_K.tobytes() for keys_K in keys_NK], pa.binary()))


def plainly_english(texts: list[str]) -> list[bool]:
    """The rule of `detox.data.language.foreign` with lingua asked about every text."""
    from detox.data.language import beginning, by_lingua, reads_as_english

    return [by_lingua(text, ("en",)) is None or reads_as_english(text) for text in map(beginning, texts)]


def note(digest: Any, table: pa.Table) -> int:
    """Take row numbers and texts of a batch into the digest of the output; how many."""
    for row, text in zip(table["row"].to_pylist(), table["text"].to_pylist(), strict=True):
        digest.update(f"{row} {text}\n".encode())
    return table.num_rows


def result(watch: Watch, digest: Any, kept: int) -> dict[str, Any]:
    return {"seconds": watch.seconds, "memory": watch.peak, "output": digest.hexdigest(), "kept": kept}


def language_filters(folder: Path, _: Watch) -> dict[str, Any]:
    """Seconds of our filter and of lingua's best guess, and the share of comments on which they agree."""
    from lingua import Language, LanguageDetectorBuilder

    from detox.data.language import foreign

    texts = pq.read_table(next(iter(sorted(folder.glob("*.raw.parquet")))))["text"].to_pylist()[:LANGUAGE_ROWS]
    detector = LanguageDetectorBuilder.from_all_languages().build()
    found: dict[str, Any] = {}
    for name, keeps in {
        "ours": lambda batch: [code is None for code in foreign(batch, ("en",))],
        "peer": lambda batch: [detector.detect_language_of(text) == Language.ENGLISH for text in batch],
    }.items():
        keeps(texts[:200])  # loads the models
        since = time.perf_counter()
        found[f"{name}_keeps"] = keeps(texts)
        found[name] = time.perf_counter() - since
    same = np.mean(np.array(found.pop("ours_keeps")) == np.array(found.pop("peer_keeps")))
    return {**found, "same": float(same), "rows": len(texts)}


WORKERS: dict[str, Callable[[Path, Watch], dict[str, Any]]] = {
    "ours": clean_ours,
    "peer": clean_peer,
    "same_filter": partial(clean_peer, plain=False),
    "language": language_filters,
}


def report(runs: dict[str, list[dict[str, Any]]], memory: dict[tuple[str, str], float], rows: int) -> None:
    outputs = {run["output"] for who in ("ours", "peer", "same_filter") for run in runs[who]}
    if len(outputs) > 1:
        raise SystemExit(
            f"the outputs differ: { {who: found[0].get('kept') for who, found in runs.items()} } rows kept"
        )
    filters = runs["language"]
    same = f"verdicts as lingua's best guess: {filters[0]['same']:.1%}"
    print_line(
        "cleaning", f"language filter alone, one process ({same})",
        [run["rows"] / run["ours"] for run in filters], [run["rows"] / run["peer"] for run in filters],
        "higher", "rows/s",
    )  # fmt: skip
    for who in ("ours", "peer"):
        metric = f"peak memory of {who}, {rows:,} rows (ours) against half of them (peer)"
        print_line("cleaning", metric, [memory[who, "whole"]], [memory[who, "half"]], "lower", "MB")
    print_line("cleaning", "peak memory", [memory["ours", "whole"]], [memory["peer", "whole"]], "lower", "MB")
    speeds = {who: [rows / run["seconds"] for run in runs[who]] for who in ("ours", "peer", "same_filter")}
    engines = f"rows cleaned, {PROCESSES} processes, our filter in both (engines alone)"
    print_line("cleaning", engines, speeds["ours"], speeds["same_filter"], "higher", "rows/s")
    whole = f"rows cleaned, {PROCESSES} processes, same output"
    print_line("cleaning", whole, speeds["ours"], speeds["peer"], "higher", "rows/s")


if __name__ == "__main__":
    main()

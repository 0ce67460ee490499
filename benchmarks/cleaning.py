"""Cleaning by Ray Data against the same rules in `datasets.map` with two processes: same rows, same output.

`python -m benchmarks.cleaning [--rows 200000] [--runs 5]` stages the comments once as parquet shards. Then each run,
in a process of its own and in turn, cleans them (Unicode, personal data, English only), computes duplicate keys, keeps
the first of each duplicate and writes what is left to disk. Both run the same functions, so that the figure compares
the engines; `language` compares the filter itself with what `lingua` does when asked plainly (75 languages, whole
comments), on a sample. Half as many rows show whether memory grows with them. Starting Ray is not counted, starting
its workers is; memory is that of all processes together, private pages only, above what they hold before the first row.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.lines import print_line
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
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(WORKERS[options.worker](Path(options.folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"whole": options.rows, "half": options.rows // 2}
        for name, rows in sizes.items():
            write_shards(options.data, rows, Path(folder) / name)
        runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for _ in range(options.runs):
            for key in (("ours", "whole"), ("peer", "whole"), ("language", "half")):
                runs.setdefault(key, []).append(in_process(key[0], Path(folder) / key[1]))
        halves = {who: in_process(who, Path(folder) / "half") for who in ("ours", "peer")}
    report(runs, halves, options.rows)


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


def in_process(who: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.cleaning", "--worker", who, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


class Watch:
    """Seconds and the peak of private memory of this process and its descendants, above that at the start."""

    def __enter__(self) -> Watch:
        self._before, self.peak = private_memory(), 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        self._since = time.perf_counter()
        return self

    def _sample(self) -> None:
        while not self._done.wait(0.5):
            self.peak = max(self.peak, private_memory() - self._before)

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._since
        self._done.set()
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


def clean_ours(folder: Path) -> dict[str, Any]:
    from detox.data.near_duplicates import Deduplicator
    from detox.data.shards import Shard, clean_shard
    from rayjobs.ray_glue.data import RayMap
    from rayjobs.ray_glue.launch import connect
    from rayjobs.train_classifier import demo

    connect(demo())
    shards = [Shard(str(path).removesuffix(".raw.parquet")) for path in sorted(folder.glob("*.raw.parquet"))]
    with Watch() as watch:
        deduplicator, digest, kept = Deduplicator(exact=True, near=True), hashlib.sha256(), 0
        for item in RayMap(PROCESSES)(partial(clean_shard, SETTINGS), shards):
            verdicts = deduplicator.decide(item.keys_NK, item.rows_N)
            table = pq.read_table(item.shard.file("kept")).filter(pa.array([verdict is None for verdict in verdicts]))
            pq.write_table(table, item.shard.file("unique"), compression="zstd")
            kept += note(digest, table)
    return result(watch, digest, kept)


def clean_peer(folder: Path) -> dict[str, Any]:
    import datasets

    from detox.data.near_duplicates import Deduplicator

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache, Watch() as watch:
        files = sorted(str(path) for path in folder.glob("*.raw.parquet"))
        rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache).with_format("arrow")
        cleaned = rows.map(peer_batch, batched=True, num_proc=PROCESSES, batch_size=BATCH_ROWS)
        deduplicator, digest, kept = Deduplicator(exact=True, near=True), hashlib.sha256(), 0
        for number, batch in enumerate(cleaned.iter(BATCH_ROWS)):
            keys_NK = np.frombuffer(b"".join(batch["keys"].to_pylist()), np.uint64).reshape(batch.num_rows, -1)
            verdicts = deduplicator.decide(keys_NK, batch["row"].to_numpy())
            table = batch.drop_columns(["keys"]).filter(pa.array([verdict is None for verdict in verdicts]))
            pq.write_table(table, Path(cache) / f"{number:05d}.unique.parquet", compression="zstd")
            kept += note(digest, table)
    return result(watch, digest, kept)


def peer_batch(batch: pa.Table) -> pa.Table:
    """Arrow in and out, the fastest that `datasets.map` offers; the keys of a row travel as bytes."""
    from detox.data.cleaning import clean_batch
    from detox.data.near_duplicates import duplicate_keys

    kept = clean_batch(batch, SETTINGS).kept
    keys_NK = duplicate_keys(kept["text"].to_pylist(), SETTINGS.near_duplicate_similarity)
    return kept.append_column("keys", pa.array([keys_K.tobytes() for keys_K in keys_NK], pa.binary()))


def note(digest: Any, table: pa.Table) -> int:
    """Take row numbers and texts of a batch into the digest of the output; how many."""
    for row, text in zip(table["row"].to_pylist(), table["text"].to_pylist(), strict=True):
        digest.update(f"{row} {text}\n".encode())
    return table.num_rows


def result(watch: Watch, digest: Any, kept: int) -> dict[str, Any]:
    return {"seconds": watch.seconds, "memory": watch.peak, "output": digest.hexdigest(), "kept": kept}


def language_filters(folder: Path) -> dict[str, Any]:
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


WORKERS = {"ours": clean_ours, "peer": clean_peer, "language": language_filters}


def report(runs: dict[tuple[str, str], list[dict[str, Any]]], halves: dict[str, dict[str, Any]], rows: int) -> None:
    ours, peer, filters = runs["ours", "whole"], runs["peer", "whole"], runs["language", "half"]
    outputs = {run["output"] for run in (*ours, *peer)}
    if len(outputs) > 1:
        raise SystemExit(f"the outputs differ: {sorted(run['kept'] for run in (*ours, *peer))} rows were kept")
    megabytes = {name: [run["memory"] / 1e6 for run in found] for name, found in {"ours": ours, "peer": peer}.items()}
    same = f"verdicts as lingua's best guess: {filters[0]['same']:.1%}"
    print_line(
        "cleaning", f"language filter alone, one process ({same})",
        [run["rows"] / run["ours"] for run in filters], [run["rows"] / run["peer"] for run in filters],
        "higher", "rows/s",
    )  # fmt: skip
    for who, half in halves.items():
        print_line(
            "cleaning", f"peak memory of {who}, {rows:,} rows (ours) against half of them (peer)",
            megabytes[who], [half["memory"] / 1e6], "lower", "MB",
        )  # fmt: skip
    print_line("cleaning", "peak memory", megabytes["ours"], megabytes["peer"], "lower", "MB")
    print_line(
        "cleaning", f"rows cleaned, {PROCESSES} processes, same output",
        [rows / run["seconds"] for run in ours], [rows / run["seconds"] for run in peer], "higher", "rows/s",
    )  # fmt: skip


if __name__ == "__main__":
    main()

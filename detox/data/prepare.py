"""From sources to a prepared data set: read, clean, drop repeated rows, split, describe (S1 steps 4-6).

Texts are on disk all the time and in memory only a shard at a time; what is held of the whole corpus is a few numbers
a row. Shards are cleaned wherever `map_shards` runs them; everything that depends on their order is decided here, so
the result has the same bytes whatever the number of workers. The folder appears whole, by a rename, or not at all.

Shapes: N rows of a shard or, joined, of the corpus; L labels; K duplicate keys a row.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from detox.data import language
from detox.data.card import write_card
from detox.data.near_duplicates import Deduplicator
from detox.data.parts import PartsWriter, Refusals, lengths
from detox.data.prepared import FACTS, PARTS, PreparedData
from detox.data.reading import Reader, read
from detox.data.settings import DataSettings
from detox.data.shards import CleanedShard, Shard, Staged, clean_shard, stage
from detox.data.sources import SOURCES
from detox.data.splitting import split
from detox.data.statistics import sample_positions, statistics
from detox.governance.manifest import file_digest
from detox.runs.config import digest
from detox.runs.storage import explained

CODE_VERSION = 2
"""To be raised with every change that alters what is written for the same settings and sources."""
LIBRARIES = ("ftfy", "lingua-language-detector", "python-stdnum", "numpy", "pandas", "pyarrow")
"""Packages whose version can change the result."""
RULES_NAMED = 5

MapShards = Callable[[Callable[[Shard], CleanedShard], Sequence[Shard]], Iterable[CleanedShard]]
"""`map`, or anything like it: the function's result for each shard, in the order of the shards."""


class Corpus(NamedTuple):
    """What is held of the whole corpus while its texts are on disk."""

    shards: list[tuple[Shard, int]]
    """Each shard with its number of kept rows."""
    repeats_N: np.ndarray
    """The rule by which a row repeats an earlier one: index into `REPEATS`, -1 for rows that do not; int8."""
    earlier_N: np.ndarray
    """Number of that earlier row, -1 for rows that repeat none; int64."""
    parts_N: np.ndarray
    """Index into `PARTS`, -1 for repeats; int8."""
    labels_NL: np.ndarray
    rules: Counter[str]
    """Rows that each rule touched: changed or refused."""
    refused: Counter[str]
    """Rows that each rule refused."""


def prepare(settings: DataSettings, folder: Path, seed: int, map_shards: MapShards = map) -> PreparedData:
    """Write the prepared data set to `folder`.

    Args:
        folder: absent or empty.
        seed: of the split and of the language sample.
        map_shards: runs the cleaning; `rayjobs.ray_glue.ray_map` has Ray Data's.

    Raises:
        ValueError: a source that cannot be read (see `detox.data.reading.read`), no row left after cleaning, a part
            that would be empty, or a folder that holds something.
        OSError: a full disk or a folder that cannot be written; says which and what to do.
    """
    reader = read(settings)
    language.check(settings.cleaning.languages)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already: name another folder, or delete it")
    with explained(str(folder)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(folder) as scratch:
            staging, made = scratch / "staging", scratch / "made"
            staging.mkdir()
            made.mkdir()
            staged = stage(reader, staging)
            cleaned = map_shards(partial(clean_shard, settings.cleaning), staged.shards)
            corpus = decide(cleaned, staged, reader, settings, seed)
            figures = write_parts(corpus, reader.labels, made, seed)
            facts = describe(reader, settings, seed, staged, corpus)
            facts |= {"sha256": {f"{name}.parquet": file_digest(made / f"{name}.parquet") for name in PARTS}}
            _write_json(made / "statistics.json", figures)
            _write_json(made / FACTS, facts)
            write_card(facts, figures, made)
            made.rename(folder)
    return PreparedData.open(folder)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, whose name says which process of which host works there: what one that was
    killed left, raw comments among it, is deleted by the next on that host that prepares the same folder."""
    beginning = f".preparing-{folder.name}-{socket.gethostname()}-"
    for left in folder.parent.glob(f"{glob.escape(beginning)}*"):
        try:
            os.kill(int(left.name.split("-")[-2]), 0)  # asks only whether the process is there
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except PermissionError:
            pass  # it is there, and another user's
    with TemporaryDirectory(prefix=f"{beginning}{os.getpid()}-", dir=folder.parent) as scratch:
        yield Path(scratch)


def decide(
    cleaned: Iterable[CleanedShard], staged: Staged, reader: Reader, settings: DataSettings, seed: int
) -> Corpus:
    """Which rows repeat earlier ones, and which part each other row goes to.

    Raises:
        ValueError: nothing is left, or the split is impossible.
    """
    deduplicator = Deduplicator(exact=settings.cleaning.exact_duplicates, near=settings.cleaning.near_duplicates)
    rules = Counter({"encoding_repaired": staged.encoding_repaired})
    shards, repeats, earlier, labels, named = [], [], [], [], []
    for item in cleaned:
        verdicts = deduplicator.decide(item.keys_NK, item.rows_N)
        repeats.append(np.array([REPEATS.index(verdict[0]) if verdict else -1 for verdict in verdicts], np.int8))
        earlier.append(np.array([verdict[1] if verdict else -1 for verdict in verdicts], np.int64))
        rules.update(item.touched)
        shards.append((item.shard, len(item.rows_N)))
        labels.append(item.labels_NL)
        named.append(item.split_N)
    repeats_N = np.concatenate(repeats)
    refused = refused_by_rule(staged.shards)
    refused += Counter({rule: int((repeats_N == code).sum()) for code, rule in enumerate(REPEATS)})
    rules |= refused  # cleaning counts its refusals too
    kept_N = repeats_N < 0
    if not kept_N.any():
        raise ValueError(_nothing_left(staged, refused))
    labels_NL = np.concatenate(labels)
    parts_N = np.full(len(kept_N), -1, np.int8)
    parts_N[kept_N] = split(
        labels_NL[kept_N],
        reader.labels,
        np.concatenate(named)[kept_N],
        deduplicator.groups_N[kept_N],
        settings.split,
        seed,
    )
    return Corpus(shards, repeats_N, np.concatenate(earlier), parts_N, labels_NL, rules, refused)


REASONS = {
    "exact_duplicate": "same text as row {row}, but for case, white space and punctuation",
    "near_duplicate": "resembles row {row}",
}
REPEATS = tuple(REASONS)


def write_parts(corpus: Corpus, labels: tuple[str, ...], folder: Path, seed: int) -> dict[str, Any]:
    """Write the parts and the rejects; the statistics of the rows in the parts."""
    positions_N = np.flatnonzero(corpus.parts_N >= 0)
    sampled = np.zeros(len(corpus.parts_N), bool)
    sampled[positions_N[sample_positions(len(positions_N), seed)]] = True
    measured: dict[str, list[np.ndarray]] = {}
    sample: list[str] = []
    begin = 0
    with PartsWriter(folder, labels) as writer:
        for shard, rows in corpus.shards:
            end = begin + rows
            parts_N = corpus.parts_N[begin:end]
            refusals = _refusals(corpus.repeats_N[begin:end], corpus.earlier_N[begin:end])
            dealt = writer.write(shard, parts_N, refusals)
            for unit, values_N in lengths(dealt).items():
                measured.setdefault(unit, []).append(values_N)
            sample += dealt.column("text").filter(sampled[begin:end][parts_N >= 0]).to_pylist()
            begin = end
    codes_N = corpus.parts_N[positions_N]
    return statistics(
        labels,
        {name: np.flatnonzero(codes_N == code) for code, name in enumerate(PARTS)},
        corpus.labels_NL[positions_N],
        {unit: np.concatenate(values) for unit, values in measured.items()},
        language.detect(sample),
    )


def _refusals(repeats_N: np.ndarray, earlier_N: np.ndarray) -> Refusals:
    """Rule and reason of each row of a shard that repeats another."""
    rules = {int(at): REPEATS[repeats_N[at]] for at in np.flatnonzero(repeats_N >= 0)}
    return {at: (rule, REASONS[rule].format(row=earlier_N[at])) for at, rule in rules.items()}


def describe(reader: Reader, settings: DataSettings, seed: int, staged: Staged, corpus: Corpus) -> dict[str, Any]:
    """`dataset.json`, digests aside."""
    dealt = {name: int((corpus.parts_N == code).sum()) for code, name in enumerate(PARTS)}
    return {
        "labels": list(reader.labels),
        "rows": dealt,
        "rows_read": staged.rows,
        "rows_refused": corpus.refused.total(),
        "refused": dict(sorted(corpus.refused.items())),
        "rules": {rule: count for rule, count in sorted(corpus.rules.items()) if count},
        "sources": source_facts(reader),
        "cleaning": settings.cleaning.model_dump(mode="json"),
        "split": settings.split.model_dump(mode="json"),
        "limit": settings.limit,
        "seed": seed,
        "classification": "open",
        "code_version": CODE_VERSION,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def source_facts(reader: Reader) -> list[dict[str, Any]]:
    """Name, licence, revision and the digests of the files of each source; no paths."""
    return [
        {
            "name": origin.name,
            "title": origin.title,
            "licence": origin.licence,
            "homepage": origin.homepage,
            "revision": origin.revision,
            "mapping": origin.mapping,
            "synthetic": origin.name in SOURCES and SOURCES[origin.name].generate is not None,
            "files": [{"name": path.name, "sha256": file_digest(path)} for path in origin.files],
        }
        for origin in reader.origins
    ]


def fingerprint(settings: DataSettings) -> dict[str, Any]:
    """Everything that determines the prepared data but the seed: what the sources hold, not where they lie.

    Raises:
        ValueError: see `detox.data.reading.read`.
    """
    reader = read(settings)
    sources = source_facts(reader)
    made = [SOURCES[facts["name"]].generate for facts in sources if facts["synthetic"]]
    return {
        "code_version": CODE_VERSION,
        "libraries": {name: version(name) for name in LIBRARIES},
        "labels": list(reader.labels),
        "settings": settings.model_dump(mode="json", exclude={"source", "local"}),
        "sources": [{key: facts[key] for key in ("name", "revision", "files")} for facts in sources],
        "generated": [digest(list(generate(settings.limit))) for generate in made if generate],
    }


def refused_by_rule(shards: Sequence[Shard]) -> Counter[str]:
    """Rows that the reader and the cleaning refused."""
    counts: Counter[str] = Counter()
    for shard in shards:
        for kind in ("unread", "refused"):
            counts.update(pq.read_table(shard.file(kind), columns=["rule"]).column("rule").to_pylist())
    return counts


def _nothing_left(staged: Staged, refused: Counter[str]) -> str:
    listed = ", ".join(f"{rule} {count:,}" for rule, count in refused.most_common(RULES_NAMED))
    return (
        f"none of the {staged.rows:,} rows is left after cleaning; refused: {listed}. Check --data.text-column and the "
        "rules under --data.cleaning"
    )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

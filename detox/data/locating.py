"""From an entry of `--data.source` to what can be read: parts, each a stream of records under canonical names.

An entry is the name of a source (hub, local copy or made on the spot), a folder that `prepare_data` wrote, or a file or
glob. Everything that can be known before reading is checked here.
"""

from __future__ import annotations

import difflib
import glob
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from detox.data import formats, hub
from detox.data.formats import Malformed, Record
from detox.data.settings import DataSettings
from detox.data.sources import SOURCES, source_named
from detox.data.sources.source import Columns, Comment, Source

RecordStream = Callable[[], Iterator[Record | Malformed]]

PREPARED_SPLITS: tuple[str, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Origin:
    """Where rows come from, for the data card."""

    name: str
    """Of the source, of the file, or the pattern of a glob, without folders."""
    labels: tuple[str, ...]
    title: str = ""
    licence: str = "not stated (local files)"
    homepage: str = ""
    revision: str = ""
    """Commit that was loaded; empty for a local copy, whose `files` say what it was."""
    mapping: str = ""
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Part:
    """One stream of records: a file, or a split of a hub data set."""

    name: str
    """Value of the column `source`: the source's name, or the file's without its folder, so that data prepared from
    another folder have the same digest."""
    split: str | None
    records: RecordStream
    comments: Callable[[Columns], Iterable[Comment]]


COLUMNS = "name the columns with --data.text-column, --data.label-columns and --data.split-column"
"""What to do about a file without a column that is needed."""


def locate(
    entry: str, settings: DataSettings, sources: Mapping[str, Source] = SOURCES, remedy: str = COLUMNS
) -> tuple[Origin, tuple[Part, ...]]:
    """Origin and parts of one entry of `settings.source`.

    Args:
        sources: what an entry may name.
        remedy: what to do about a file without a column that is needed.

    Raises:
        ValueError: see `detox.data.reading.read`.
    """
    if entry in sources:
        return _named(sources[entry], settings)
    path = Path(entry)
    if path.is_dir():
        return _prepared(path)
    looks_like_a_file = path.suffix or "/" in entry or glob.has_magic(entry) or path.exists()
    if not looks_like_a_file:
        source_named(entry, sources)
    return _files(entry, settings, remedy)


def _files(entry: str, settings: DataSettings, remedy: str) -> tuple[Origin, tuple[Part, ...]]:
    paths = matching(entry)
    if not paths:
        raise ValueError(f"no file matches {entry}: check the path (relative ones start at {Path.cwd()})")
    names = (settings.text_column, *settings.label_columns, settings.split_column)
    columns = {name: (name,) for name in names if name}
    comments = partial(_file_comment, settings.text_column, settings.label_columns, settings.split_column)
    parts = tuple(Part(path.name, None, _file_records(path, columns, remedy), comments) for path in paths)
    return Origin(Path(entry).name, settings.label_columns, files=tuple(paths)), parts


def matching(entry: str) -> list[Path]:
    """The file of this name, or those that the pattern means."""
    found = [entry] if Path(entry).exists() else sorted(glob.glob(entry, recursive=True))
    return [Path(name) for name in found]


def _file_comment(text: str, labels: tuple[str, ...], split: str, record: Columns) -> Iterator[Comment]:
    yield Comment(record[text], {label: record[label] for label in labels}, record[split] if split else None)


def _prepared(folder: Path) -> tuple[Origin, tuple[Part, ...]]:
    description = folder / "dataset.json"
    if not description.exists():
        raise ValueError(f"{folder} holds no dataset.json, so prepare_data did not write it: give files, or a glob")
    labels = tuple(json.loads(description.read_text(encoding="utf-8"))["labels"])
    columns = {name: (name,) for name in ("text", *labels)}
    comments = partial(_file_comment, "text", labels, "")
    paths = tuple(folder / f"{split}.parquet" for split in PREPARED_SPLITS)
    paths = tuple(path for path in paths if formats.parquet_rows(path))  # a split ratio may be 0
    parts = tuple(
        Part(folder.name, path.stem, _file_records(path, columns, "prepare the data again"), comments) for path in paths
    )
    return Origin(folder.name, labels, title="Prepared data", files=paths), parts


def _named(source: Source, settings: DataSettings) -> tuple[Origin, tuple[Part, ...]]:
    revision, files = "", tuple[Path, ...]()
    if source.generate:
        made = partial(_generated, source.generate, settings.limit)
        parts: tuple[Part, ...] = (Part(source.name, None, made, source.comments),)
    elif settings.local:
        files, parts = _local_copy(source, Path(settings.local))
    elif source.hub:
        revision, parts = _from_hub(source, streaming=settings.limit > 0)
    else:
        raise ValueError(
            f"source {source.name!r} is not on the hub. To get it: {source.obtain}; then --data.local FOLDER"
        )
    facts = (source.title, source.licence, source.homepage, revision, source.mapping)
    return Origin(source.name, source.labels, *facts, files), parts


def _generated(generate: Callable[[int], Iterable[dict[str, Any]]], rows: int) -> Iterator[Record]:
    return map(Record, generate(rows))


def _from_hub(source: Source, streaming: bool) -> tuple[str, tuple[Part, ...]]:
    revision, loaded = hub.load(source, streaming)
    parts = []
    for part in loaded:
        found = _spellings(f"{source.hub} ({part.split})", part.columns, source.columns, source.optional, source.obtain)
        records = partial(_renamed, partial(part.records, sorted(found.values())), found, tuple(source.columns))
        # a data set of one split names none: `train` is then only the hub's word for all of it
        parts.append(Part(source.name, part.split if len(loaded) > 1 else None, records, source.comments))
    return revision, tuple(parts)


def _local_copy(source: Source, place: Path) -> tuple[tuple[Path, ...], tuple[Part, ...]]:
    found = (
        {"": [place]}
        if place.is_file()
        else {split: _first_match(place, source.local[split]) for split in source.local}
    )
    files = [(split, path) for split, paths in found.items() for path in paths]
    if not files:
        looked_for = ", ".join(pattern for patterns in source.local.values() for pattern in patterns)
        raise ValueError(
            f"{place} holds nothing of source {source.name!r}: looked for {looked_for}. To get it: {source.obtain}"
        )
    named = len({split for split, _ in files}) > 1
    parts = tuple(
        Part(source.name, split if named else None, _copy_records(source, split, path), source.comments)
        for split, path in files
    )
    beside = _first_match(place, source.join.files) if source.join and source.join.split in found else []
    return tuple(path for _, path in files) + tuple(beside), parts


def _first_match(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Files of the first pattern that has any, plain or compressed."""
    for pattern in patterns:
        for ending in ("", *formats.COMPRESSIONS):
            if matches := sorted(folder.glob(pattern + ending)):
                return matches
    return []


def _copy_records(source: Source, split: str, path: Path) -> RecordStream:
    if source.join is None or source.join.split != split:
        return _file_records(path, source.columns, source.obtain, source.optional)
    beside = _first_match(path.parent, source.join.files)
    if not beside:
        raise ValueError(f"{path} has its labels in {source.join.files[0]}, which is not beside it: {source.obtain}")
    key, columns = {source.join.key: (source.join.key,)}, list[str]()
    for file in (path, beside[0]):
        names = formats.column_names(file)
        _spellings(str(file), names, key, (), f"comments find their labels by it; {source.obtain}")
        columns += names
    found = _spellings(str(path), columns, source.columns, source.optional, source.obtain)
    return partial(_renamed, partial(_joined, path, beside[0], source.join.key), found, tuple(source.columns))


def _joined(path: Path, beside: Path, key: str) -> Iterator[Record | Malformed]:
    """Rows of `path` with the columns of `beside`, which is held in memory; rows without a partner keep their own."""
    names = formats.column_names(beside)
    partners: dict[Any, tuple[Any, ...]] = {}
    for item in formats.records(beside):
        if isinstance(item, Malformed):
            yield item
        else:
            partners[item.values[key]] = tuple(item.values.values())
    for item in formats.records(path):
        if isinstance(item, Record):
            partner = dict(zip(names, partners.get(item.values[key], ()), strict=False))
            item = item._replace(values=partner | item.values)
        yield item


def _file_records(
    path: Path, columns: Mapping[str, tuple[str, ...]], remedy: str, optional: tuple[str, ...] = ()
) -> RecordStream:
    """Rows of a file under canonical names, its columns checked now."""
    found = _spellings(str(path), formats.column_names(path), columns, optional, remedy)
    return partial(_renamed, partial(formats.records, path, sorted(found.values())), found, tuple(columns))


def _spellings(
    where: str, available: Iterable[str], columns: Mapping[str, tuple[str, ...]], optional: tuple[str, ...], remedy: str
) -> dict[str, str]:
    """Canonical name to the spelling found.

    Raises:
        ValueError: a column that is neither there nor optional.
    """
    names = tuple(available)
    found = {column: name for column, spellings in columns.items() for name in reversed(spellings) if name in names}
    for column, spellings in columns.items():
        if column not in found and column not in optional:
            nearest = difflib.get_close_matches(column, names, n=1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            wanted, there = " or ".join(map(repr, spellings)), ", ".join(map(repr, names))
            raise ValueError(f"{where} has no column {wanted}{hint}; it has {there}: {remedy}")
    return found


def _renamed(
    records: Callable[[], Iterator[Record | Malformed]], found: Mapping[str, str], columns: tuple[str, ...]
) -> Iterator[Record | Malformed]:
    for item in records():
        if isinstance(item, Malformed):
            yield item
        else:
            yield Record({column: item.values.get(found.get(column, "")) for column in columns}, item.repaired)

"""Examples read, checked, dealt to train, validation and test, and kept; what is no example is kept with its reason.

Rules of refusal: `malformed_row`, `missing_prompt`, `missing_response`, `same_response`, `duplicate`, `kept_elsewhere`,
and those of `detox.data.reading` for texts and parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from detox.data import formats
from detox.data.examples.example import FACTS, PARTS, Example, write_part
from detox.data.examples.settings import ExampleSettings
from detox.data.examples.sources import CHOSEN, EXAMPLE_SOURCES, REJECTED
from detox.data.formats import Malformed
from detox.data.locating import Origin, Part, locate, matching
from detox.data.reading import SPLIT_NAMES, RefusedError, checked_text
from detox.data.settings import DataSettings
from detox.data.sources.source import Comment
from detox.runs.config import digest

REMEDY = "name the columns with --data.prompt-column, --data.chosen-column and --data.rejected-column"
REJECTS = "rejects.jsonl"
CODE_VERSION = 3
"""Of what a source and settings give."""


class Located(NamedTuple):
    """Where examples come from, and how their columns are called there."""

    origin: Origin
    parts: tuple[Part, ...]
    chosen: str = CHOSEN
    rejected: str = REJECTED
    has_prompts: bool = True
    """Without them the text itself is the chosen response."""

    @property
    def kept_parts(self) -> set[str]:
        """Parts that stay as the source has them: all, where it has a validation part, else its test part; none where
        there is nothing else to train on."""
        named = {SPLIT_NAMES.get(part.split or "", "") for part in self.parts}
        if named.isdisjoint({"train", ""}):
            return set()
        return named - {""} if "validation" in named else named & {"test"}


def locate_examples(settings: ExampleSettings) -> list[Located]:
    """Where the examples come from, before any is read.

    Raises:
        ValueError: no source, an unknown one, a pattern without a match, a broken or empty file, a missing column; says
            what to do.
    """
    if not settings.source:
        known = ", ".join(EXAMPLE_SOURCES)
        raise ValueError(f"no source of examples is given: name one or several of {known}, or files")
    return [_located(entry, settings) for entry in settings.source]


def _located(entry: str, settings: ExampleSettings) -> Located:
    reading = DataSettings(source=(entry,), local=settings.local, limit=settings.limit)
    files = [] if entry in EXAMPLE_SOURCES else [file for file in matching(entry) if not file.is_dir()]
    if not files:
        located = locate(entry, reading, EXAMPLE_SOURCES, REMEDY)
        return Located(*located, has_prompts=entry in EXAMPLE_SOURCES)
    there = formats.column_names(files[0])
    chosen, rejected, has_prompts = settings.chosen_column, settings.rejected_column, settings.prompt_column in there
    columns = {
        "text_column": settings.prompt_column if has_prompts else chosen,
        "label_columns": (chosen, *([rejected] if rejected in there else [])),
    }
    origin, parts = locate(entry, reading.model_copy(update=columns), EXAMPLE_SOURCES, REMEDY)
    return Located(origin, parts, chosen, rejected, has_prompts)


def fingerprint(settings: ExampleSettings, seed: int) -> dict[str, Any]:
    """What determines the prepared examples: settings, seed, and each source's revision or files."""
    sources = [
        {"name": origin.name, "revision": origin.revision, "files": [_file_digest(file) for file in origin.files]}
        for origin, *_ in locate_examples(settings)
    ]
    kept = settings.model_dump(mode="json", exclude={"local", "source"})
    return {"version": CODE_VERSION, "settings": kept, "seed": seed, "sources": sources}


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_examples(settings: ExampleSettings, folder: Path, seed: int) -> None:
    """Write `train.parquet`, `validation.parquet`, `test.parquet`, `rejects.jsonl` and `examples.json` into a folder.

    Raises:
        ValueError: see `locate_examples`; or there is not one example.
    """
    rejects = list[dict[str, Any]]()
    found: dict[Example, Found] = {}

    def refuse(source: str, row: int, prompt: Any, refusal: RefusedError) -> None:
        shown = None if prompt is None else str(prompt)
        rejects.append({"source": source, "row": row, "prompt": shown, "rule": refusal.rule, "reason": str(refusal)})

    for located in locate_examples(settings):
        kept = located.kept_parts
        for row, (part, record) in enumerate(_records(located, settings)):
            try:
                example = _checked(record, located)
                if example in found:
                    raise RefusedError("duplicate", "an earlier row is the same")
            except RefusedError as refusal:
                refuse(part.name, row, record.text, refusal)
                continue
            named = SPLIT_NAMES.get(part.split or "", "")
            dealt = named if named in kept else part_of(example, named if kept else "", settings, seed)
            found[example] = Found(part.name, row, dealt, is_kept=named in kept)
    parts: dict[str, list[Example]] = {name: [] for name in PARTS}
    held = held_by(found)
    for example, one in found.items():
        holder = held.get(example.key, one.part)
        if holder == one.part:
            parts[one.part].append(example)
        else:
            why = f"its prompt is in the {holder} part that a source has, and it would come to {one.part}"
            refuse(one.source, one.row, example.key, RefusedError("kept_elsewhere", why))
    if not any(parts.values()):
        why = f"; the first of {len(rejects):,} refused rows: {rejects[0]['reason']}" if rejects else ""
        raise ValueError(f"{', '.join(settings.source)} has no example{why}")
    for name, examples in parts.items():
        write_part(folder / f"{name}.parquet", examples)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rejects]
    (folder / REJECTS).write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    facts = _facts(settings, seed, parts, len(rejects))
    (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Found(NamedTuple):
    """Where an example was read, and to which part it comes."""

    source: str
    row: int
    part: str
    is_kept: bool
    """The part is the source's own."""


def held_by(found: Mapping[Example, Found]) -> dict[str, str]:
    """The part that holds each key of the parts that sources keep: test before validation before train, so that nothing
    is learnt that something is measured by."""
    held = dict[str, str]()
    for name in PARTS:
        held |= {example.key: name for example, one in found.items() if one.is_kept and one.part == name}
    return held


def _facts(settings: ExampleSettings, seed: int, parts: dict[str, list[Example]], refused: int) -> dict[str, Any]:
    origins = [located.origin for located in locate_examples(settings)]
    return {
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "sources": [
            {"name": origin.name, "title": origin.title, "licence": origin.licence, "revision": origin.revision}
            for origin in origins
        ],
        "rows": {name: len(examples) for name, examples in parts.items()},
        "rows_refused": refused,
        "digest": digest({name: [repr(example) for example in examples] for name, examples in parts.items()}),
    }


def part_of(example: Example, named: str, settings: ExampleSettings, seed: int) -> str:
    """The part that an example is dealt to, in proportion.

    Args:
        named: `train` where its source has a test part beside, so that only the rest is dealt; empty: it has none.
    """
    share = int(hashlib.sha256(f"{seed}\n{example.key}".encode()).hexdigest()[:13], 16) / 16**13
    train, validation, _ = settings.ratios
    if named:
        return "train" if share < train / (train + validation) else "validation"
    return "train" if share < train else "validation" if share < train + validation else "test"


def _records(located: Located, settings: ExampleSettings) -> Iterator[tuple[Part, Comment | Malformed]]:
    """What a source has; with a limit from each of its parts in proportion to `ratios`."""
    ratios = dict(zip(PARTS, settings.ratios, strict=True))
    named = groupby(located.parts, key=lambda part: SPLIT_NAMES.get(part.split or "", ""))
    groups = [(ratios[name or "train"], list(group)) for name, group in named]
    whole = sum(share for share, _ in groups)
    for share, group in groups:
        limit = max(1, round(settings.limit * share / whole)) if settings.limit else None
        yield from islice(_records_of(group), limit)


def _records_of(parts: Sequence[Part]) -> Iterator[tuple[Part, Comment | Malformed]]:
    for part in parts:
        for record in part.records():
            if isinstance(record, Malformed):
                yield part, record
            else:
                yield from ((part, comment) for comment in part.comments(record.values))


def _checked(record: Comment | Malformed, located: Located) -> Example:
    """Raises:
    RefusedError: a rule of this module is broken.
    """
    if isinstance(record, Malformed):
        raise RefusedError("malformed_row", record.reason)
    prompt = record.text if located.has_prompts else ""
    if prompt is None or (located.has_prompts and not prompt):
        raise RefusedError("missing_prompt", "it has no prompt, or its dialogues differ before their last turn")
    chosen, rejected = (_response(record, name) for name in (located.chosen, located.rejected))
    if not located.has_prompts:
        chosen = "" if record.text is None else record.text
    for text in (*([prompt] if isinstance(prompt, str) else [turn.text for turn in prompt]), chosen, rejected):
        checked_text(text)
    if not chosen.strip() and not (located.has_prompts and not rejected.strip()):
        raise RefusedError("missing_response", "the chosen response is empty")
    if chosen and chosen == rejected:
        raise RefusedError("same_response", "both responses are the same")
    return Example(prompt, chosen, rejected)


def _response(record: Comment, name: str) -> Any:
    value = record.labels.get(name)
    return "" if value is None else value

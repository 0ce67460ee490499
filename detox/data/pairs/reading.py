"""Pairs from named sources and files: in memory, in their order, each with a language, bad ones refused with a reason.

Rules of refusal: `malformed_row`, `missing_side`, `text_not_a_string`, `undecodable_bytes`, `split_unknown`,
`language_unknown`, `language_not_wanted`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from detox.data import formats, language
from detox.data.formats import Malformed
from detox.data.language_code import code_of
from detox.data.locating import Origin, Part, locate, matching
from detox.data.pairs.settings import PairSettings
from detox.data.pairs.sources import LANG, NEUTRAL, PAIR_SOURCES
from detox.data.reading import MISSING_SPELLINGS, SPLIT_NAMES, RefusedError, checked_split, checked_text
from detox.data.settings import DataSettings
from detox.data.sources.source import Comment

COLUMNS = "name the columns with --data.toxic-column, --data.neutral-column, --data.lang-column and --data.split-column"
"""What to do about a file without a column that is needed."""


class Pair(NamedTuple):
    """A toxic text and a neutral rewrite of it."""

    row: int
    """Position among all records of all sources."""
    source: str
    """Name of the source, or of the file."""
    lang: str
    """ISO 639-1, or a code of three letters such as `hin` (Hindi in Latin script)."""
    toxic: str
    neutral: str
    split: str
    """`train`, `validation`, `test`, or empty where the source names none."""


class Reject(NamedTuple):
    """A record that is no pair to learn from, with the rule that it breaks."""

    row: int
    source: str
    toxic: str
    neutral: str
    rule: str
    reason: str


class PairsRead(NamedTuple):
    """What the sources hold."""

    pairs: list[Pair]
    rejects: list[Reject]
    origins: tuple[Origin, ...]


def read_pairs(settings: PairSettings) -> PairsRead:
    """All pairs of all sources, in order, and what is no pair.

    Raises:
        ValueError: no source, an unknown one, a pattern without a match, a broken or empty file, a missing column; says
            what to do.
    """
    located = locate_pairs(settings)
    pairs, rejects = list[Pair](), list[Reject]()
    row = 0
    for _, parts in located:
        for part, record in islice(_records(parts), settings.limit or None):
            try:
                pairs.append(_pair(row, part, record, settings))
            except RefusedError as refusal:
                rejects.append(Reject(row, part.name, *_sides(record), refusal.rule, str(refusal)))
            row += 1
    pairs, foreign = _with_languages(pairs, settings.languages)
    return PairsRead(pairs, rejects + foreign, tuple(origin for origin, _ in located))


def locate_pairs(settings: PairSettings) -> list[tuple[Origin, tuple[Part, ...]]]:
    """Where the pairs come from, before any is read.

    Raises:
        ValueError: see `read_pairs`.
    """
    if not settings.source:
        raise ValueError(f"no source of pairs is given: name one or several of {', '.join(PAIR_SOURCES)}, or files")
    return [_located(entry, settings) for entry in settings.source]


def _located(entry: str, settings: PairSettings) -> tuple[Origin, tuple[Part, ...]]:
    """Files of a pattern need not have the same columns: one may say the language that another leaves open."""
    if entry in PAIR_SOURCES or not (files := matching(entry)):
        return locate(entry, _columns(settings), PAIR_SOURCES, COLUMNS)
    if folders := [file for file in files if file.is_dir()]:
        raise ValueError(
            f"{folders[0]} is a folder: a folder of prepared pairs is taken alone, other data as files or a glob"
        )
    parts = list[Part]()
    for file in files:
        has_lang = LANG in formats.column_names(file)
        origin, [part] = locate(str(file), _columns(settings, LANG if has_lang else ""), PAIR_SOURCES, COLUMNS)
        parts.append(part)
    return replace(origin, name=Path(entry).name, files=tuple(files)), tuple(parts)


def _columns(settings: PairSettings, lang: str = "") -> DataSettings:
    """How the columns of an entry are found: as the settings name them.

    Args:
        lang: the column with the language, where the settings name none.
    """
    lang = settings.lang_column or lang
    return DataSettings(
        source=settings.source,
        local=settings.local,
        text_column=settings.toxic_column,
        label_columns=(settings.neutral_column, *([lang] if lang else [])),
        split_column=settings.split_column,
        limit=settings.limit,
    )


def _records(parts: Sequence[Part]) -> Iterator[tuple[Part, Comment | Malformed]]:
    for part in parts:
        for record in part.records():
            if isinstance(record, Malformed):
                yield part, record
            else:
                yield from ((part, comment) for comment in part.comments(record.values))


def _pair(row: int, part: Part, record: Comment | Malformed, settings: PairSettings) -> Pair:
    """Raises:
    RefusedError: a rule of this module is broken.
    """
    if isinstance(record, Malformed):
        raise RefusedError("malformed_row", record.reason)
    toxic, neutral, lang = _values(record, settings)
    for side, text in (("toxic", toxic), ("neutral", neutral)):
        if text is None or (isinstance(text, str) and not text.strip()):
            raise RefusedError("missing_side", f"the {side} side is empty")
        checked_text(text)
    named = part.split or ""
    split = checked_split(record.split) or SPLIT_NAMES.get(named, "")
    said = str(lang or settings.lang or ("" if named in SPLIT_NAMES else named)).strip()
    try:
        code = "" if said.lower() in MISSING_SPELLINGS else code_of(said)
    except ValueError as error:
        raise RefusedError("language_unknown", str(error)) from None
    return Pair(row, part.name, code, toxic, neutral, split)


def _values(record: Comment, settings: PairSettings) -> tuple[Any, Any, Any]:
    """Toxic side, neutral side, language (None: not said)."""
    beside = dict(record.labels)
    neutral = beside.pop(settings.neutral_column if settings.neutral_column in beside else NEUTRAL)
    return record.text, neutral, next(iter(beside.values()), None)


def _sides(record: Comment | Malformed) -> tuple[str, str]:
    """What a refused record says, as valid UTF-8."""
    texts = (
        (record.text, "") if isinstance(record, Malformed) else (record.text, next(iter(record.labels.values()), ""))
    )
    shown = ["" if text is None else str(text) for text in texts]
    return (
        shown[0].encode("utf-8", "backslashreplace").decode(),
        shown[1].encode("utf-8", "backslashreplace").decode(),
    )


def _with_languages(pairs: list[Pair], wanted: tuple[str, ...]) -> tuple[list[Pair], list[Reject]]:
    """The pairs with a language each, detected from the toxic side where none is said, and those refused for it."""
    unknown = [at for at, pair in enumerate(pairs) if not pair.lang]
    for at, code in zip(unknown, language.detect([pairs[at].toxic for at in unknown]) if unknown else (), strict=True):
        pairs[at] = pairs[at]._replace(lang=code or "")
    kept, rejects = list[Pair](), list[Reject]()
    for pair in pairs:
        if not pair.lang:
            rule, reason = "language_unknown", "its language could not be told: give --data.lang or a column"
        elif wanted and pair.lang not in wanted:
            rule, reason = "language_not_wanted", f"language {pair.lang} is none of {', '.join(wanted)}"
        else:
            kept.append(pair)
            continue
        rejects.append(Reject(pair.row, pair.source, pair.toxic, pair.neutral, rule, reason))
    return kept, rejects

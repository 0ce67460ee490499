"""Cleaning of comments as pure functions of a batch: S1 step 5, and S3 section 2's preprocessing as a preset.

Text rules run in this order and change a text: `unicode` (ftfy: mojibake, HTML entities, NFC; characters that cannot
be seen), `white_space` (runs become one space), `pii_<type>` (`detox.data.pii`). Row rules then refuse a row: `empty`,
`too_short`, `too_long`, `language`. Cleaning a cleaned text changes nothing, and a row's result depends on that row
alone, so any number of workers gives the same output. Duplicates are decided elsewhere (`detox.data.near_duplicates`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import ftfy
import numpy as np
import pyarrow as pa

from detox.data import language, pii
from detox.data.reading import REJECTS_SCHEMA
from detox.data.settings import CleaningSettings

TEXT_RULES: tuple[str, ...] = (
    *("lower_case", "url", "non_ascii"),
    *("unicode", "white_space"),
    *(f"pii_{kind}" for kind in pii.TYPES),
)
ROW_RULES: tuple[str, ...] = ("empty", "too_short", "too_long", "language")

_UNSEEN = dict.fromkeys(
    [
        *(code for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc" and not chr(code).isspace()),
        *(0x00AD, 0x061C, 0x180E, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ]
)
"""Control characters, zero-width spaces, soft hyphens and direction marks: they hide a word from a filter. The
zero-width joiners stay, since emoji, Persian and Hindi are spelt with them."""
_FTFY_READS = re.compile(r"[^\x09-\x0d\x20-\x25\x27-\x7e]")
"""Pure ASCII without `&` or control characters is left as it is by ftfy, which takes forty times as long to see it."""
_MOST_PASSES = 8


class CleanedBatch(NamedTuple):
    """A batch after cleaning."""

    kept: pa.Table
    """The columns of the input, texts cleaned, in input order."""
    rejects: pa.Table
    """`REJECTS_SCHEMA`: row, source, the cleaned text (so that no personal data are kept), rule, reason."""
    touched: dict[str, int]
    """Rows, kept or not, that each of `TEXT_RULES` changed; rules that changed none are absent."""


def clean_batch(table: pa.Table, settings: CleaningSettings) -> CleanedBatch:
    """Apply the text rules, then the row rules, to a table with `row` (int64), `source`, `text` (string) and more.

    Raises:
        ValueError: `settings.languages` names one that cannot be detected.
    """
    touched: Counter[str] = Counter()
    texts: list[str] = []
    for raw in table["text"].to_pylist():
        text, rules = _cleaned(raw, settings)
        texts.append(text)
        touched.update(rules)
    refused = _refused(texts, settings)
    cleaned = table.set_column(table.schema.get_field_index("text"), "text", pa.array(texts, pa.string()))
    keep_N = np.array([refusal is None for refusal in refused], dtype=bool)
    return CleanedBatch(cleaned.filter(pa.array(keep_N)), _rejects(cleaned, refused), dict(touched))


def clean_text(text: str, settings: CleaningSettings) -> str:
    """A single text after the text rules, as at prediction time; no row rule applies, so it may be empty."""
    return _cleaned(text, settings)[0]


def _cleaned(text: str, settings: CleaningSettings) -> tuple[str, set[str]]:
    """The text and the rules that changed it."""
    if settings.preset == "none":
        return _encodable(text), set()
    if settings.preset == "cleanspeech":
        return _cleanspeech(text)
    touched: set[str] = set()
    for _ in range(_MOST_PASSES):  # a placeholder, or a character gone, can let ftfy see what it did not see before
        text, before = _standard(text, settings, touched), text
        if text == before or not _FTFY_READS.search(text):
            break
    return text, touched


def _standard(text: str, settings: CleaningSettings, touched: set[str]) -> str:
    if settings.unicode:
        repaired = _repaired(text)
        folded = " ".join(repaired.split())
        touched.update(["unicode"] * (repaired != text) + ["white_space"] * (folded != repaired))
        text = folded
    else:
        text = _encodable(text)
    if settings.pii:
        text, counts = pii.replace(text)
        touched.update(f"pii_{kind}" for kind in counts)
    return text


def _repaired(text: str) -> str:
    if not _FTFY_READS.search(text):
        return text
    return ftfy.fix_text(text).translate(_UNSEEN)  # in this order: mojibake is spelt with unseen characters


def _encodable(text: str) -> str:
    """Lone surrogates, which UTF-8 cannot hold, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _cleanspeech(text: str) -> tuple[str, set[str]]:
    """S3 section 2, to the letter: lower case, URLs and then non-ASCII as a space, white space folded."""
    steps = [text, text.lower()]
    steps.append(re.sub(r"http\S+|www\.\S+", " ", steps[-1]))
    steps.append(re.sub(r"[^\x00-\x7F]+", " ", steps[-1]))
    steps.append(re.sub(r"\s+", " ", steps[-1]).strip())
    rules = ("lower_case", "url", "non_ascii", "white_space")
    changes = zip(rules, steps, steps[1:], strict=False)
    return steps[-1], {rule for rule, before, after in changes if before != after}


def _refused(texts: Sequence[str], settings: CleaningSettings) -> list[tuple[str, str] | None]:
    """Rule and reason of each refused row; the language, which costs the most, is asked of the others only."""
    refused = [_refused_by_length(text, settings) for text in texts]
    if settings.languages:
        asked = [position for position, refusal in enumerate(refused) if refusal is None]
        foreign = language.foreign([texts[position] for position in asked], settings.languages)
        wanted = ", ".join(settings.languages)
        for position, code in zip(asked, foreign, strict=True):
            if code is not None:
                refused[position] = ("language", f"the language is {code}, kept: {wanted}")
    return refused


def _refused_by_length(text: str, settings: CleaningSettings) -> tuple[str, str] | None:
    if not text or text.isspace():
        return "empty", "no text is left after cleaning"
    if len(text) < settings.min_chars:
        return "too_short", f"{len(text)} characters, at least {settings.min_chars} are kept"
    if len(text) > settings.max_chars:
        return "too_long", f"{len(text)} characters, at most {settings.max_chars} are kept"
    return None


def _rejects(cleaned: pa.Table, refused: list[tuple[str, str] | None]) -> pa.Table:
    positions = [position for position, refusal in enumerate(refused) if refusal is not None]
    chosen = cleaned.select(["row", "source", "text"]).take(pa.array(positions, pa.int64()))
    verdicts = [refusal for refusal in refused if refusal is not None]
    columns = [pa.array([verdict[index] for verdict in verdicts], pa.string()) for index in (0, 1)]
    return pa.table([*chosen.columns, *columns], schema=REJECTS_SCHEMA)

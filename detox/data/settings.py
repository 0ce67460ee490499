"""The data part of a config: where comments come from, how they are cleaned, how they are split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.runs.config import Config


class CleaningSettings(Config):
    """Rules in the order in which they run; each counts what it touched (`detox.data.cleaning`)."""

    preset: Literal["standard", "cleanspeech", "none"] = "standard"
    """`standard`: the rules below; `cleanspeech`: S3 section 2's three substitutions, to the letter, and then the
    row rules; `none`: text as it is (still valid UTF-8, still not empty)."""
    unicode: bool = True
    """Repair mojibake and normalise to NFC (ftfy), drop control characters, fold white space."""
    pii: bool = True
    """Replace e-mail, URL, IP, phone, card, IBAN and handles by typed placeholders such as `[EMAIL]`."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes to keep; empty: every language is kept, and detected only for the statistics of a sample."""
    min_chars: int = Field(default=1, ge=1)
    max_chars: int = Field(default=10_000, ge=1)
    exact_duplicates: bool = True
    """Refuse a row whose cleaned text (case-folded, white space and punctuation aside) has been seen."""
    near_duplicates: bool = True
    """Refuse a row whose character shingles resemble those of an earlier row."""
    near_duplicate_similarity: float = Field(default=0.85, gt=0, le=1)
    """Jaccard similarity of the shingle sets from which two rows count as near duplicates."""


class SplitSettings(Config):
    """How rows are dealt to `train`, `validation` and `test`."""

    ratios: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Shares of train, validation, test (S1 step 6)."""
    stratify_on: tuple[str, ...] = ()
    """Labels whose combinations every part must mirror; empty: all labels."""
    keep_named: bool = True
    """Keep a split that the source itself names. Its `test` stays whole; a missing part is cut from its `train`
    in the proportion of `ratios`."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSettings:
        if any(ratio < 0 for ratio in self.ratios) or abs(sum(self.ratios) - 1) > 1e-6 or self.ratios[0] <= 0:
            raise ValueError(f"split ratios must be ≥ 0, sum to 1 and leave rows to train on, were {self.ratios}")
        return self


class DataSettings(Config):
    """Which comments, and which of their columns."""

    source: tuple[str, ...] = ()
    """A source by name (`python -m rayjobs.prepare_data --help`), a folder that `prepare_data` wrote, or one or
    several csv, tsv, jsonl or parquet files (plain, .gz, .zst, or a glob)."""
    local: str = ""
    """Folder or file with a local copy of a named source (what Kaggle gives); empty: the hub."""
    text_column: str = "text"
    """Column with the comment, for files; a named source knows its own."""
    label_columns: tuple[str, ...] = ()
    """Label columns, for files (0/1, a fraction in 0..1, or missing); for a named source, a choice among its labels."""
    split_column: str = ""
    """Column that names the part of a row (`train`, `validation`/`dev`, `test`), for files; empty: none."""
    limit: int = Field(default=0, ge=0)
    """Read only this many rows of each source; 0: all."""
    cleaning: CleaningSettings = CleaningSettings()
    split: SplitSettings = SplitSettings()

"""The data part of a rewriter's config: where pairs come from, how they are cleaned, graded and split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from detox.data.language_code import code_of
from detox.data.settings import SplitSettings
from detox.runs.config import Config


class PairCleaningSettings(Config):
    """S2 4.2, rule by rule in the order in which they run (`detox.data.pairs.cleaning`)."""

    enabled: bool = True
    """Without it only pairs with a missing side and over-long texts are refused."""
    unicode: bool = True
    """Repair mojibake and normalise to NFC, drop control characters, fold white space."""
    max_chars: int = Field(default=2000, ge=1)
    scorer: str = ""
    """What says how toxic a text is: any name that `detox classify --model` takes; empty: a classifier of the two
    sides, trained on the other folds of the pairs themselves, a language at a time."""
    least_source_toxicity: float = Field(default=0.2, ge=0, le=1)
    """A source that scores less is neutral already."""
    most_target_toxicity: float = Field(default=0.8, ge=0, le=1)
    """A target that scores more is toxic still."""
    least_drop: float = Field(default=0.0, ge=0, le=1)
    """A target that scores less than this below its source rewrote something else; 0: off."""
    least_similarity: float = Field(default=0.1, ge=0, le=1)
    """Similarity of the two sides (Dice, character trigrams) below which one is another text rather than a rewrite."""
    length_ratio: tuple[float, float] = (0.2, 2.0)
    """Least and most characters of the target over those of the source."""

    @model_validator(mode="after")
    def _rises(self) -> PairCleaningSettings:
        least, most = self.length_ratio
        if not 0 <= least < most:
            raise ValueError(f"length_ratio must rise from at least 0, was {self.length_ratio}")
        return self


class DifficultySettings(Config):
    """S2 4.1: easy pairs share most of their words, hard ones are rephrased or strongly toxic."""

    overlap: float = Field(default=1.0, ge=0)
    """Weight of the share of words that the two sides do not share (1 - Jaccard)."""
    edit: float = Field(default=1.0, ge=0)
    """Weight of the normalised edit distance between the two sides."""
    toxicity: float = Field(default=0.5, ge=0)
    """Weight of the source's toxicity."""
    borders: Literal["quantiles", "fixed"] = "quantiles"
    """What `easy_until` and `medium_until` are: shares of the pairs, or difficulties."""
    easy_until: float = Field(default=1 / 3, gt=0, lt=1)
    medium_until: float = Field(default=2 / 3, gt=0, lt=1)
    per_language: bool = True
    """Quantiles of each language on its own, so that every level has all languages."""
    language_borders: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Languages with borders of their own: `{"de": (0.3, 0.5)}` in place of `easy_until` and `medium_until`."""

    @field_validator("language_borders")
    @classmethod
    def _are_codes(cls, borders: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        return {code_of(lang): pair for lang, pair in borders.items()}

    @model_validator(mode="after")
    def _makes_sense(self) -> DifficultySettings:
        if self.overlap + self.edit + self.toxicity <= 0:
            raise ValueError("difficulty needs a weight above 0 among overlap, edit and toxicity")
        if self.easy_until >= self.medium_until:
            raise ValueError(f"easy_until must be below medium_until, were {self.easy_until} and {self.medium_until}")
        for lang, borders in self.language_borders.items():
            if not 0 < borders[0] < borders[1] < 1:
                raise ValueError(f"language_borders must rise between 0 and 1, those of {lang} were {borders}")
        if self.language_borders and not self.per_language:
            raise ValueError("language_borders are of single languages, and per_language is off: set it to true")
        return self


class PairSettings(Config):
    """Which pairs, and which of their columns."""

    source: tuple[str, ...] = ()
    """A source by name (paradetox, multiparadetox, ru_paradetox, synthdetoxm, appdia), or one or several csv, tsv,
    jsonl or parquet files (plain, .gz, .zst, or a glob)."""
    local: str = ""
    """Folder or file with a local copy of a named source; empty: the hub."""
    toxic_column: str = "toxic"
    neutral_column: str = "neutral"
    lang_column: str = ""
    """Column with the language (ISO 639-1) of a pair, for files; empty: the column `lang` where there is one."""
    lang: str = ""
    """Language (ISO 639-1) of pairs of files without such a column, or with an empty cell there; empty: detected."""
    split_column: str = ""
    """Column that names the part of a row (`train`, `validation`/`dev`, `test`), for files; empty: none. The pairs are
    dealt so only with `split.keep_named`."""
    languages: tuple[str, ...] = ()
    """Languages (ISO 639-1) to keep; empty: all."""
    limit: int = Field(default=0, ge=0)
    """Read only this many pairs of each source; 0: all."""
    cleaning: PairCleaningSettings = PairCleaningSettings()
    difficulty: DifficultySettings = DifficultySettings()
    split: SplitSettings = SplitSettings(ratios=(0.75, 0.1, 0.15), keep_named=False)
    """How sources are dealt, all their pairs together, stratified over languages."""
    judge_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of the training sources that is set aside to train the evaluation's classifiers on, and nothing else."""

    @field_validator("lang")
    @classmethod
    def _is_a_code(cls, lang: str) -> str:
        return code_of(lang)

    @field_validator("languages")
    @classmethod
    def _are_codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(code_of(lang) for lang in languages)

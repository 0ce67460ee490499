"""Which examples a language model is tuned on, as data."""

from __future__ import annotations

from pydantic import Field, model_validator

from detox.runs.config import Config


class ExampleSettings(Config):
    source: tuple[str, ...] = ()
    """A source by name (hh_rlhf, real_toxicity_prompts, samsum, dialogsum), a folder that `prepare_data` wrote (its
    texts, without prompts), one of prepared examples (with `examples.json`), which is taken whole, or one or several
    csv, tsv, jsonl or parquet files (plain, .gz, .zst, or a glob)."""
    local: str = ""
    """Folder or file with a local copy of a named source; empty: the hub."""
    prompt_column: str = "prompt"
    """Of files; one without it has texts without prompts."""
    chosen_column: str = "chosen"
    """Of files: the response, or the whole text where there are no prompts."""
    rejected_column: str = "rejected"
    """Of files: a response that is worse; one without it has none."""
    limit: int = Field(default=0, ge=0)
    """Read only this many examples of each source, of each part that it has in proportion to `ratios`; 0: all."""
    ratios: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Shares of train, validation and test: prompts are dealt by their hash, so the same one is in one part only. A
    test part that a source has stays that, and so do all its parts where it has a validation part; what is dealt to
    another part although its prompt is in one of these is refused. A source without a training part (a local copy of
    one file, say) is dealt whole."""

    @model_validator(mode="after")
    def _are_shares(self) -> ExampleSettings:
        if abs(sum(self.ratios) - 1) > 1e-6 or min(self.ratios) <= 0:
            raise ValueError(f"ratios must be above 0 and add up to 1, were {self.ratios}")
        return self

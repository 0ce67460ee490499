"""What a source of comments is: where it comes from, what its columns mean, how to get it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Columns = Mapping[str, Any]
"""One record of a source under the canonical names of `Source.columns`."""


class Comment(NamedTuple):
    """A text with its labels as the source has them; `detox.data.reading` checks and converts them."""

    text: Any
    labels: Mapping[str, Any]
    split: Any = None


@dataclass(frozen=True)
class Join:
    """A file beside a part, whose columns are added to the part's rows by `key`."""

    split: str
    files: tuple[str, ...]
    key: str


@dataclass(frozen=True)
class Source:
    """A named source. One record may give several comments (a prompt and its continuation)."""

    name: str
    title: str
    licence: str
    homepage: str
    obtain: str
    """How to get it, for the error that says it is not there."""
    labels: tuple[str, ...]
    mapping: str
    """How the labels follow from the columns, for the data card."""
    columns: Mapping[str, tuple[str, ...]]
    """Canonical name of each column needed, with the spellings under which releases of this source have it."""
    comments: Callable[[Columns], Iterable[Comment]]
    optional: tuple[str, ...] = ()
    """Canonical names that a part may lack (a test part published without its labels); read as missing there."""
    hub: str = ""
    """Data set on the Hugging Face hub; empty: to be fetched by hand."""
    revision: str = "main"
    """Commit (40 hex digits); a branch is resolved to its commit when it is loaded."""
    hub_folder: str = ""
    """Folder of the hub repository to load; empty: what the repository's card configures."""
    local: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Part (`train`, `validation`, `test`) to the file patterns by which a local copy is found."""
    join: Join | None = None
    generate: Callable[[int], Iterable[dict[str, Any]]] | None = None
    """For a source that is made, not fetched: this many records, or its own number of them for 0."""


def plain_comments(text: str, labels: tuple[str, ...], split: str = "") -> Callable[[Columns], Iterable[Comment]]:
    """For a source whose records already are a text column, a column a label and, by name, one with the part."""

    def comments(record: Columns) -> Iterable[Comment]:
        yield Comment(record[text], {label: record[label] for label in labels}, record[split] if split else None)

    return comments

"""A named source from the Hugging Face hub, through `datasets.load_dataset`: pinned to a commit, no scripts run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from detox.data.formats import Record, arrow_records
from detox.data.sources.source import Source

BATCH_ROWS = 1024


@dataclass(frozen=True)
class HubPart:
    """One split of a hub data set."""

    source: Source
    split: str
    columns: tuple[str, ...]
    dataset: Any
    """`datasets.Dataset`, or `IterableDataset` when streamed."""

    def records(self, columns: list[str]) -> Iterator[Record]:
        """Its rows, these columns only.

        Raises:
            ValueError: a streamed data set breaks off; says what to do.
        """
        tables = self.dataset.select_columns(columns).with_format("arrow").iter(batch_size=BATCH_ROWS)
        remedy = "check the network and run the same command again"
        while True:
            with _explained(self.source, "read to its end", remedy):
                table = next(tables, None)
            if table is None:
                return
            yield from arrow_records(table)


def load(source: Source, streaming: bool) -> tuple[str, tuple[HubPart, ...]]:
    """The commit that was loaded, and its splits.

    Args:
        streaming: fetch while reading, nothing kept: right when only the first rows are wanted.

    Raises:
        ValueError: the hub cannot be reached, or the data set is gone or gated; says how else to get it.
    """
    from datasets import load_dataset

    remedy = f"check the network; a gated data set needs its terms accepted on {source.homepage} and `hf auth login`"
    with _explained(source, "loaded", remedy):
        commit = _commit(source)
        splits = load_dataset(source.hub, data_dir=source.hub_folder or None, revision=commit, streaming=streaming)
        parts = tuple(HubPart(source, str(split), _columns(dataset), dataset) for split, dataset in splits.items())
    return commit, parts


@contextmanager
def _explained(source: Source, what: str, remedy: str) -> Iterator[None]:
    """Whatever goes wrong between here and the hub, as a `ValueError` that says what to do."""
    try:
        yield
    except Exception as error:  # the network's, the hub's and `datasets`' own errors share no base
        raise ValueError(
            f"source {source.name!r} could not be {what} from the hub ({source.hub} at {source.revision}): {error}. "
            f"To get it: {source.obtain}; {remedy}. A local copy is given as --data.local FOLDER"
        ) from error


def _commit(source: Source) -> str:
    if re.fullmatch(r"[0-9a-f]{40}", source.revision):
        return source.revision
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(source.hub, revision=source.revision).sha)


def _columns(dataset: Any) -> tuple[str, ...]:
    """Column names; a streamed data set may know them only after its first row."""
    return tuple(dataset.column_names or next(iter(dataset)))

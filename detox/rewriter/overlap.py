"""Whether a rewriter is tested on texts that it learned from, or judged by what learned from the same.

An artifact's manifest has the digest of the prepared pairs among its parents, and the pairs themselves are in the stage
store beside the run. Where neither can be had, nobody can say, and that is said.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detox.data.near_duplicates import fold
from detox.data.pairs.prepared import Case, PairRow, PreparedPairs
from detox.governance.manifest import MANIFEST
from detox.runs.rundir import COMPLETE
from detox.runs.storage import Storage

SEEN_PARTS = ("train", "validation")
"""Parts of the pairs that a rewriter learns from, or is chosen by. `judge` trains what judges."""


def overlap_notice(
    name: str, rewriter: str, learned: set[str] | None, pairs: PreparedPairs, cases: Sequence[Case], *, held_out: bool
) -> str:
    """A sentence for the reader, empty where the rewriter has not seen the test.

    Args:
        name: of the rewriter, as the report calls it.
        rewriter: its run directory or artifact.
        learned: sources that it learned from (`learned_from`); None: nobody knows.
        pairs: those that the cases are of.
        cases: what it is tested on.
        held_out: the cases are the test part of `pairs`, and no other.
    """
    if learned is not None:
        shared = sum(fold(case.source) in learned for case in cases)
        if not shared:
            return ""
        return (
            f"{name} has seen {shared:,} of the {len(cases):,} test texts in training: its figures are too good. Test "
            "it on pairs that it did not learn from, or on the prepared pairs of its own run."
        )
    if held_out and pairs.digest in parent_digests(rewriter):
        return ""
    return (
        f"What {name} learned from is not recorded within reach, so the test texts may be among it, and its figures "
        "too good."
    )


def judges_notice(name: str, learned: set[str] | None, judge_rows: Sequence[PairRow]) -> str:
    """A sentence for the reader where what judges a rewriter was trained on pairs that it learned from too; empty where
    it was not, or where nobody can say (which `overlap_notice` does).

    Args:
        learned: sources that it learned from; None: nobody knows.
        judge_rows: the `judge` part of the pairs from which the judges learn.
    """
    shared = sum(fold(row.toxic) in learned for row in judge_rows) if learned else 0
    if not shared:
        return ""
    return (
        f"The offline judges were trained on {len(judge_rows):,} pairs, of which {name} has seen {shared:,} in "
        "training: they may share its mistakes. Judge it by the prepared pairs of its own run, or by --judges."
    )


class Learned(NamedTuple):
    """The pairs that a run learned from."""

    sources: set[str]
    """Folded."""
    is_synthetic: bool
    """Some of them were made by templates."""


def learned_from(rewriter: str) -> Learned | None:
    """What a run learned from; None where its pairs are not within reach."""
    digests = parent_digests(rewriter)
    for storage in _above(rewriter):
        stages = storage.child("stages")
        for name in stages.names():
            folder = stages.child(name)
            if not name.startswith("pairs-") or not folder.exists(COMPLETE):
                continue
            with tempfile.TemporaryDirectory(prefix="detox-pairs-") as scratch:
                pairs = PreparedPairs.open(folder.localise(Path(scratch)))
                if pairs.digest in digests:
                    sources = {fold(row.toxic) for part in SEEN_PARTS for row in pairs.part(part)}
                    return Learned(sources, any(origin["synthetic"] for origin in pairs.facts["origins"]))
    return None


def parent_digests(rewriter: str) -> set[str]:
    """Digests of what an artifact was made from, by its manifest."""
    found: set[str] = set()
    for folder in (Storage(rewriter), Storage(rewriter).child("artifact")):
        if folder.exists(MANIFEST):
            found |= {parent["digest"] for parent in json.loads(folder.read_text(MANIFEST)).get("parents", ())}
    return found


def _above(rewriter: str) -> list[Storage]:
    """The storage of a run directory, or of the one above an artifact."""
    found, place = list[Storage](), Storage(rewriter).uri.rstrip("/")
    for _ in range(2):
        place = place.rpartition("/")[0]
        if place and not place.endswith(":/"):
            found.append(Storage(place))
    return found

"""Whether a rewriter is tested on what it learned from: known, known not to be, or not to be known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detox.data.pairs.prepare import prepare_pairs
from detox.data.pairs.prepared import Case, PreparedPairs, cases
from detox.data.pairs.settings import PairSettings
from detox.data.synthetic_pairs import generate_pairs
from detox.rewriter.overlap import judges_notice, learned_from, overlap_notice


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with prepared pairs in its stage store, a run whose manifest names them, and one that names others."""
    storage = tmp_path_factory.mktemp("storage")
    path = storage / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, generate_pairs(160))))
    pairs = prepare_pairs(PairSettings(source=(str(path),)), storage / "stages" / "pairs-1", 1)
    (pairs.folder / "COMPLETE").touch()
    damaged = storage / "stages" / "pairs-0"  # as a killed preparation leaves one
    damaged.mkdir()
    (damaged / "pairs.json").write_text((pairs.folder / "pairs.json").read_text())
    for name, digest in (("mine", pairs.digest), ("foreign", "0" * 64)):
        (storage / name / "artifact").mkdir(parents=True)
        parents = [{"name": "pairs", "digest": digest, "classification": "open"}]
        (storage / name / "artifact" / "manifest.json").write_text(json.dumps({"parents": parents}))
    return storage


@pytest.fixture(scope="module")
def pairs(place: Path) -> PreparedPairs:
    return PreparedPairs.open(place / "stages" / "pairs-1")


def sources_of(rewriter: str) -> set[str] | None:
    known = learned_from(rewriter)
    return known.sources if known else None


def notice(place: Path, run: str, pairs: PreparedPairs, wanted: list[Case], **options: Any) -> str:
    return asked(str(place / run), pairs, wanted, **({"held_out": True} | options))


def asked(rewriter: str, pairs: PreparedPairs, wanted: list[Case], **options: Any) -> str:
    return overlap_notice("ours", rewriter, sources_of(rewriter), pairs, wanted, **options)


def test_the_test_part_of_its_own_pairs_is_unseen(place: Path, pairs: PreparedPairs) -> None:
    for run in ("mine", "mine/artifact"):
        assert notice(place, run, pairs, cases(pairs.part("test"))) == ""


def test_judges_that_learned_from_the_same_pairs_are_named(place: Path, pairs: PreparedPairs) -> None:
    judge, train = pairs.part("judge"), pairs.part("train")
    assert judges_notice("ours", sources_of(str(place / "mine")), judge) == ""
    found = judges_notice("ours", sources_of(str(place / "mine")), [*judge, train[0]])
    assert f"trained on {len(judge) + 1:,} pairs, of which ours has seen 1 in training" in found
    assert judges_notice("ours", sources_of(str(place / "foreign")), train) == ""


def test_seen_texts_are_counted_whatever_their_case_and_punctuation(place: Path, pairs: PreparedPairs) -> None:
    (seen, *_), (unseen, *_) = cases(pairs.part("train")), cases(pairs.part("test"))
    shouted = seen._replace(source=seen.source.upper() + "!")
    found = notice(place, "mine", pairs, [shouted, unseen, seen], held_out=False)
    assert found.startswith("ours has seen 2 of the 3 test texts in training")


def test_pairs_out_of_reach_are_said_to_be(place: Path, pairs: PreparedPairs, tmp_path: Path) -> None:
    """An artifact that was moved still names its pairs by digest: their test part is unseen, other texts may not be."""
    wanted = cases(pairs.part("test"))
    assert learned_from(str(place / "foreign")) is None
    assert "is not recorded within reach" in notice(place, "foreign", pairs, wanted)
    moved = tmp_path / "far" / "away" / "artifact"
    moved.mkdir(parents=True)
    (moved / "manifest.json").write_text((place / "mine" / "artifact" / "manifest.json").read_text())
    assert asked(str(moved), pairs, wanted, held_out=True) == ""
    assert "is not recorded within reach" in asked(str(moved), pairs, wanted, held_out=False)


def test_pairs_that_were_made_are_known_to_be(place: Path, tmp_path: Path) -> None:
    """A file has no name of ours and counts as real; the recipe's own source is synthetic."""
    mine = learned_from(str(place / "mine"))
    assert mine is not None
    assert not mine.is_synthetic
    settings = PairSettings(source=("synthetic_pairs",), limit=160)
    made = prepare_pairs(settings, tmp_path / "stages" / "pairs-1", 1)
    (made.folder / "COMPLETE").touch()
    (tmp_path / "run" / "artifact").mkdir(parents=True)
    parents = [{"name": "pairs", "digest": made.digest, "classification": "open"}]
    (tmp_path / "run" / "artifact" / "manifest.json").write_text(json.dumps({"parents": parents}))
    found = learned_from(str(tmp_path / "run"))
    assert found is not None
    assert found.is_synthetic

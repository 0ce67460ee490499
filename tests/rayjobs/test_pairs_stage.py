"""Prepared pairs from the stage store: made once, known by what the sources hold, or a folder taken as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detox.data.examples.settings import ExampleSettings
from detox.data.pairs.prepare import fingerprint
from detox.data.pairs.prepared import PreparedPairs
from detox.data.pairs.settings import PairSettings
from detox.data.synthetic_pairs import generate_pairs
from detox.data.synthetic_words import WORDS
from detox.runs.config import override
from detox.runs.storage import Storage
from rayjobs.ray_glue.data import examples_stage, pairs_stage


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(pair) for pair in generate_pairs(120)))
    return path


def test_pairs_are_prepared_once_for_all_runs_of_a_storage(source: Path, tmp_path: Path) -> None:
    settings, storage = PairSettings(source=(str(source),)), Storage(tmp_path)
    folder = pairs_stage(settings, 1, storage)
    assert len(PreparedPairs.open(folder.local_path).part("train")) > 40
    made = (folder.local_path / "train.parquet").stat().st_mtime_ns
    assert pairs_stage(settings, 1, storage).uri == folder.uri
    assert (folder.local_path / "train.parquet").stat().st_mtime_ns == made


def test_a_moved_file_is_the_same_and_a_changed_one_is_not(source: Path, tmp_path: Path) -> None:
    before = fingerprint(PairSettings(source=(str(source),)), 1)
    moved = tmp_path / "pairs.jsonl"
    moved.write_bytes(source.read_bytes())
    assert fingerprint(PairSettings(source=(str(moved),)), 1) == before
    moved.write_bytes(source.read_bytes() + b"\n" + json.dumps({"toxic": "a", "neutral": "b"}).encode())
    assert fingerprint(PairSettings(source=(str(moved),)), 1) != before
    assert fingerprint(PairSettings(source=(str(source),)), 2) != before


def test_synthetic_pairs_are_known_by_what_they_say() -> None:
    few, more = (fingerprint(PairSettings(source=("synthetic_pairs",), limit=rows), 1) for rows in (20, 21))
    assert few["generated"] != more["generated"]
    assert few["sources"] == more["sources"]


def test_a_prepared_folder_is_taken_whole(source: Path, tmp_path: Path) -> None:
    settings = PairSettings(source=(str(source),))
    made = pairs_stage(settings, 1, Storage(tmp_path))
    prepared = override(settings, {"source": (made.uri,)})
    assert pairs_stage(prepared, 7, Storage(tmp_path / "other")).uri == made.uri
    for change in ({"limit": 10}, {"languages": ("de",)}, {"cleaning.enabled": False}, {"judge_share": 0.5}):
        name = next(iter(change)).partition(".")[0].replace("_", "-")
        with pytest.raises(ValueError, match=f"taken whole: leave out what begins with --data.{name}, or name the raw"):
            pairs_stage(override(prepared, change), 7, Storage(tmp_path / "other"))
    other = pairs_stage(override(settings, {"judge_share": 0.5}), 1, Storage(tmp_path))
    same = override(prepared, {"source": (other.uri,), "judge_share": 0.5})
    assert pairs_stage(same, 7, Storage(tmp_path / "other")).uri == other.uri


def test_prepared_examples_are_taken_whole(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "q{n}", "chosen": "a{n}"}}\n' for n in range(60)))
    settings = ExampleSettings(source=(str(tmp_path / "rows.jsonl"),))
    made = examples_stage(settings, 1, Storage(tmp_path))
    again = override(settings, {"source": (made.uri,), "ratios": (0.8, 0.1, 0.1)})
    assert examples_stage(again, 7, Storage(tmp_path / "other")).uri == made.uri
    with pytest.raises(ValueError, match="prepared examples, .* leave out what begins with --data.limit, or name the"):
        examples_stage(override(again, {"limit": 10}), 7, Storage(tmp_path / "other"))


def test_cleaning_by_a_named_scorer(source: Path, tmp_path: Path) -> None:
    """A lexicon of some words finds sources neutral that are toxic by others: they are refused for it."""
    words = tmp_path / "words.txt"
    words.write_text("\n".join((*WORDS["noun"], *WORDS["swear"])))
    by_words = {"cleaning.scorer": f"lexicon:{words}", "cleaning.least_source_toxicity": 0.01}
    settings = override(PairSettings(source=(str(source),)), by_words)
    folder = pairs_stage(settings, 1, Storage(tmp_path))
    facts = PreparedPairs.open(folder.local_path).facts
    assert 20 < facts["refused"]["source_neutral"] < 100

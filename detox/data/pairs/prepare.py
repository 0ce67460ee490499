"""From sources of pairs to prepared pairs: read, clean, grade, split by source, describe (S2 4.1 and 4.2).

The folder appears whole, by a rename, or not at all:

    train, judge, validation, test .parquet    what is learnt from, judged by, chosen by, reported on
    rejects.parquet                            refused pairs, each with its rule and reason
    pairs.json, README.md, plots/              digests and counts, the card, difficulties
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from detox.data.locating import Origin
from detox.data.pairs.card import write_card
from detox.data.pairs.cleaning import Cleaned, Toxicity, clean_pairs, source_groups
from detox.data.pairs.difficulty import LEVELS, difficulty, levels
from detox.data.pairs.prepared import FACTS, PARTS, PreparedPairs
from detox.data.pairs.reading import Pair, PairsRead, Reject, locate_pairs, read_pairs
from detox.data.pairs.settings import PairSettings
from detox.data.pairs.sources import PAIR_SOURCES
from detox.data.splitting import split
from detox.governance.manifest import file_digest
from detox.runs.config import digest
from detox.runs.storage import explained

CODE_VERSION = 3
"""To be raised with every change that alters what is written for the same settings and sources."""
LIBRARIES = ("scikit-learn", "lingua-language-detector", "ftfy", "pyarrow")
"""Other versions of these may decide otherwise, or write other bytes."""
COMPRESSION = "zstd"
TRAIN, JUDGE, VALIDATION, TEST = range(len(PARTS))


class Graded(NamedTuple):
    """Pairs with what the curriculum and the split say of each; `[P]` arrays."""

    pairs: list[Pair]
    groups_P: np.ndarray
    toxicity_P: np.ndarray
    difficulty_P: np.ndarray
    levels_P: np.ndarray
    parts_P: np.ndarray
    """Index into `PARTS`."""


def prepare_pairs(settings: PairSettings, folder: Path, seed: int, scorer: Toxicity | None = None) -> PreparedPairs:
    """Write prepared pairs to `folder`.

    Args:
        folder: absent or empty.
        seed: of the split.
        scorer: the one that `settings.cleaning.scorer` names; None where it names none.

    Raises:
        ValueError: a source that cannot be read, no pair left after cleaning, or a part that would be empty.
        OSError: a full disk or a folder that cannot be written.
    """
    found = read_pairs(settings)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already: name another folder, or delete it")
    cleaned = clean_pairs(found.pairs, settings.cleaning, scorer)
    if not cleaned.pairs:
        raise ValueError(_nothing_left(found, cleaned))
    graded = grade(cleaned, found.pairs, settings, seed)
    with explained(str(folder)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".preparing-{folder.name}-", dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            for code, name in enumerate(PARTS):
                table = part_table(graded, graded.parts_P == code)
                pq.write_table(table, made / f"{name}.parquet", compression=COMPRESSION)
            rejects = sorted([*found.rejects, *cleaned.rejects])
            pq.write_table(reject_table(rejects), made / "rejects.parquet", compression=COMPRESSION)
            facts = describe(settings, seed, found, graded, rejects)
            facts["sha256"] = {f"{name}.parquet": file_digest(made / f"{name}.parquet") for name in PARTS}
            (made / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            write_card(facts, graded.pairs, graded.difficulty_P, graded.levels_P, made)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    return PreparedPairs.open(folder)


def grade(cleaned: Cleaned, read: Sequence[Pair], settings: PairSettings, seed: int) -> Graded:
    """Difficulty, level and part of each pair.

    Parts are dealt over all pairs that were read. So what cleaning refuses does not move the others: runs with and
    without cleaning have no test source of each other's among those that they learned from.

    Raises:
        ValueError: a part that should have pairs has none, or none that cleaning left.
    """
    pairs = cleaned.pairs
    difficulty_P = difficulty(pairs, cleaned.source_toxicity_P, settings.difficulty)
    levels_P = levels(difficulty_P, [pair.lang for pair in pairs], settings.difficulty)
    places = {pair.row: at for at, pair in enumerate(read)}
    kept_P = np.array([places[pair.row] for pair in pairs])
    groups_R = source_groups(read)
    groups_P, parts_P = groups_R[kept_P], deal(read, groups_R, settings, seed)[kept_P]
    _check_left(parts_P, settings)
    return Graded(pairs, groups_P, cleaned.source_toxicity_P, difficulty_P, levels_P, parts_P)


def _check_left(parts_P: np.ndarray, settings: PairSettings) -> None:
    shares = dict(zip((TRAIN, VALIDATION, TEST), settings.split.ratios, strict=True)) | {JUDGE: settings.judge_share}
    empty = [PARTS[code] for code, share in sorted(shares.items()) if share and not (parts_P == code).any()]
    if empty:
        raise ValueError(
            f"cleaning left no pairs for {' and '.join(empty)}: give more pairs, loosen --data.cleaning, "
            "or set the part's share to 0 (--data.split.ratios, --data.judge-share)"
        )


def deal(pairs: Sequence[Pair], groups_P: np.ndarray, settings: PairSettings, seed: int) -> np.ndarray:
    """The part of each pair, index into `PARTS`, int8 `[P]`: a source's pairs in one part, languages in proportion.

    With `split.keep_named` a source goes where the data name it; named twice, to the later of train, validation, test.

    Raises:
        ValueError: a part that should have pairs would have none.
    """
    langs = sorted({pair.lang for pair in pairs})
    languages_PL = np.array([[float(pair.lang == lang) for lang in langs] for pair in pairs], np.float32)
    thirds_P = split(languages_PL, langs, _named(pairs, groups_P), groups_P, settings.split, seed)
    parts_P = np.array([TRAIN, VALIDATION, TEST], np.int8)[thirds_P]
    train_P = np.flatnonzero(parts_P == TRAIN)
    if settings.judge_share:
        share = settings.judge_share
        halves = settings.split.model_copy(update={"ratios": (1 - share, 0.0, share), "keep_named": False})
        names = np.full(len(train_P), "")
        try:
            judged = split(languages_PL[train_P], langs, names, groups_P[train_P], halves, seed)
        except ValueError:
            raise ValueError(
                f"{len(train_P):,} training pairs are too few to set {share:.0%} aside for the judges: give more, "
                "or set --data.judge-share 0 and name a judge"
            ) from None
        parts_P[train_P[judged > 0]] = JUDGE
    return parts_P


def _named(pairs: Sequence[Pair], groups_P: np.ndarray) -> np.ndarray:
    """The named part of each pair's source: of several, the last of train, validation, test."""
    order = ("", "train", "validation", "test")
    latest = np.zeros(groups_P.max() + 1, np.int64)
    np.maximum.at(latest, groups_P, np.array([order.index(pair.split) for pair in pairs]))
    return np.array(order)[latest[groups_P]]


def part_table(graded: Graded, chosen_P: np.ndarray) -> pa.Table:
    """The chosen pairs as a part's rows."""
    rows = [graded.pairs[at] for at in np.flatnonzero(chosen_P)]
    return pa.table(
        {
            "row": pa.array([pair.row for pair in rows], pa.int64()),
            "source": pa.array([pair.source for pair in rows], pa.string()),
            "lang": pa.array([pair.lang for pair in rows], pa.string()),
            "toxic": pa.array([pair.toxic for pair in rows], pa.string()),
            "neutral": pa.array([pair.neutral for pair in rows], pa.string()),
            "group": pa.array(graded.groups_P[chosen_P], pa.int64()),
            "toxicity": pa.array(graded.toxicity_P[chosen_P], pa.float32()),
            "difficulty": pa.array(graded.difficulty_P[chosen_P], pa.float32()),
            "level": pa.array([LEVELS[code] for code in graded.levels_P[chosen_P]], pa.string()),
        }
    )


def reject_table(rejects: Sequence[Reject]) -> pa.Table:
    schema = pa.schema([("row", pa.int64()), *((name, pa.string()) for name in Reject._fields[1:])])
    return pa.Table.from_pylist([reject._asdict() for reject in rejects], schema=schema)


def describe(
    settings: PairSettings, seed: int, found: PairsRead, graded: Graded, rejects: Sequence[Reject]
) -> dict[str, Any]:
    """`pairs.json`, digests aside."""
    langs = Counter(pair.lang for pair in graded.pairs)
    return {
        "languages": sorted(langs),
        "pairs_read": len(found.pairs) + len(found.rejects),
        "pairs": {name: int((graded.parts_P == code).sum()) for code, name in enumerate(PARTS)},
        "sources": {name: len(np.unique(graded.groups_P[graded.parts_P == code])) for code, name in enumerate(PARTS)},
        "by_language": dict(sorted(langs.items())),
        "by_level": {level: int((graded.levels_P == code).sum()) for code, level in enumerate(LEVELS)},
        "refused": dict(sorted(Counter(reject.rule for reject in rejects).items())),
        "origins": origin_facts(found.origins),
        "settings": settings.model_dump(mode="json", exclude={"source", "local"}),
        "seed": seed,
        "classification": "open",
        "code_version": CODE_VERSION,
    }


def fingerprint(settings: PairSettings, seed: int) -> dict[str, Any]:
    """Everything that determines the prepared pairs: what the sources hold, not where they lie.

    Raises:
        ValueError: see `read_pairs`.
    """
    sources = origin_facts([origin for origin, _ in locate_pairs(settings)])
    made = [PAIR_SOURCES[facts["name"]].generate for facts in sources if facts["synthetic"]]
    return {
        "code_version": CODE_VERSION,
        "libraries": {name: version(name) for name in LIBRARIES},
        "settings": settings.model_dump(mode="json", exclude={"source", "local"}),
        "sources": [{key: facts[key] for key in ("name", "revision", "files")} for facts in sources],
        "generated": [digest(list(generate(settings.limit))) for generate in made if generate],
        "seed": seed,
    }


def origin_facts(origins: Sequence[Origin]) -> list[dict[str, Any]]:
    """Name, licence, revision and the digests of the files of each source; no paths."""
    return [
        {
            "name": origin.name,
            "title": origin.title,
            "licence": origin.licence,
            "homepage": origin.homepage,
            "revision": origin.revision,
            "synthetic": origin.name in PAIR_SOURCES and PAIR_SOURCES[origin.name].generate is not None,
            "files": [{"name": path.name, "sha256": file_digest(path)} for path in origin.files],
        }
        for origin in origins
    ]


def _nothing_left(found: PairsRead, cleaned: Cleaned) -> str:
    counts = Counter(reject.rule for reject in [*found.rejects, *cleaned.rejects]).most_common(5)
    listed = ", ".join(f"{rule} {count:,}" for rule, count in counts)
    read = len(found.pairs) + len(found.rejects)
    return (
        f"none of the {read:,} pairs is left after cleaning; refused: {listed}. Check --data.toxic-column, "
        "--data.neutral-column, --data.lang, --data.languages and the rules under --data.cleaning"
    )

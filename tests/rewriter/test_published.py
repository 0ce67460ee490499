"""Copy and delete on the pairs of the shared tasks behave as the organisers published.

PAN 2024, mean J of nine languages: copy 0.126, delete 0.302. PAN 2025: copy 0.475, delete 0.536 (pan-webis-de, results
of clef24 and clef25). The figures here are of the dev pairs, by offline judges: their ratios are held against those.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from detox.data.pairs.prepare import prepare_pairs
from detox.data.pairs.prepared import cases
from detox.data.pairs.settings import PairSettings
from detox.rewriter.comparison import System, baselines, judges_named
from detox.rewriter.evaluation import EACH
from detox.rewriter.lexicon import Lexicon
from detox.runs.config import override

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def found(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[System]:
    """Copy and delete on the test part; the other pairs teach judges and delete's lexicon. None is cleaned."""
    source = str(data_folder / "multiparadetox_dev.parquet")
    changes = {"cleaning.enabled": False, "judge_share": 0.5, "split.ratios": (0.6, 0.0, 0.4)}
    settings = override(PairSettings(source=(source,)), changes)
    pairs = prepare_pairs(settings, tmp_path_factory.mktemp("pairs") / "prepared", 1)
    train, judge_rows = pairs.part("train"), pairs.part("judge")
    lexicon, heard = (Lexicon.fit((row.lang, row.toxic, row.neutral) for row in rows) for rows in (train, judge_rows))
    return baselines(cases(pairs.part("test")), judges_named("offline", judge_rows), heard, lexicon)


def test_by_the_measure_of_2024_delete_is_far_better_than_copy(found: list[System]) -> None:
    copied, cut = (system.judged.mean("j_2024", EACH) for system in found)
    assert len(found[0].judged.languages) == 9
    assert cut > 1.4 * copied  # 2.4 times in the shared task, whose judge is surer of what is toxic
    assert found[1].judged.better_than(found[0].judged, lang=EACH).verdict == "better"


def test_by_the_measure_of_2025_copy_comes_close_to_delete(found: list[System]) -> None:
    """It gives a copy half of its STA at least, since a copy is no more toxic than its source. In the shared task
    delete stays ahead (0.536 against 0.475); by these judges it does not."""
    copied, cut = (system.judged.mean("j_2025", EACH) for system in found)
    assert copied == pytest.approx(cut, rel=0.15)  # 0.89 of it in the shared task, 1.01 here
    assert found[0].judged.rows["sta_2025"].min() >= 0.5
    assert found[0].judged.mean("copy") == 1

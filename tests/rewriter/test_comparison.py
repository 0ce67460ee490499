"""Variants of one rewriter, the baselines, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from detox.data.pairs.prepared import Case
from detox.rewriter.comparison import (
    VARIANTS,
    System,
    baselines,
    judged_systems,
    judges_named,
    outputs_table,
    primary_of,
    rewritten,
    summary_of,
    varied_settings,
    verdict,
)
from detox.rewriter.evaluation import Judged
from detox.rewriter.face import Rewriter
from detox.rewriter.generation_settings import DecodingSettings, GenerationSettings, RewritingSettings
from detox.rewriter.lexicon import Lexicon
from tests.evaluation.test_judges import pairs
from tests.rewriter.artifacts import LANGS, NEUTRAL, TOXIC, write_rewriter
from tests.rewriter.test_evaluation import CASE, JUDGES, LEXICON

STRONG = DecodingSettings(lexicon=20.0, copy_penalty=20.0)
SAMPLED = GenerationSettings(mode="sample", candidates=3, max_new_tokens=24)
CASES = [Case(LANGS[at], TOXIC[at], (NEUTRAL[at],), "easy") for at in range(12)]


@pytest.fixture(scope="module")
def rewriter(tmp_path_factory: pytest.TempPathFactory) -> Rewriter:
    folder = write_rewriter(tmp_path_factory.mktemp("runs") / "run", generation=SAMPLED, decoding=STRONG)
    return Rewriter.load(str(folder), device="cpu")


def test_a_variant_leaves_out_what_it_is_named_after() -> None:
    own = RewritingSettings(generation=SAMPLED, decoding=STRONG)
    varied = {variant: varied_settings(own, variant) for variant in VARIANTS}
    assert [varied[name].generation.mode for name in VARIANTS] == ["greedy", "greedy", "sample", "sample"]
    assert [varied[name].decoding == STRONG for name in VARIANTS] == [False, True, False, True]
    assert varied["full"] == own
    assert varied["greedy"].generation.max_new_tokens == 24
    with pytest.raises(ValueError, match="a variant is one of greedy, steered, reranked, full, was 'beam'"):
        varied_settings(own, "beam")


def test_other_settings_leave_the_rewriter_as_it_was(rewriter: Rewriter) -> None:
    before = rewriter.rewrite(TOXIC[:2], "en")
    varied = rewriter.with_settings(varied_settings(rewriter.settings, "greedy"))
    assert len(varied.candidates(TOXIC[:1], ["en"])[0]) == 1
    assert rewriter.settings.generation == SAMPLED
    assert rewriter.rewrite(TOXIC[:2], "en") == before


def test_greedy_and_steered_give_out_what_the_model_writes(rewriter: Rewriter) -> None:
    """Without any lexicon's word to forbid the steered text would be the greedy one; here it may not hold one."""
    greedy, steered = (rewritten(rewriter, CASES, variant) for variant in ("greedy", "steered"))
    assert set(greedy.how) == set(steered.how) == {"model"}
    lexicon = rewriter._reranker._lexicon
    plain = rewriter.with_settings(varied_settings(rewriter.settings, "greedy"))
    assert greedy.texts == [row[0] for row in plain.candidates(TOXIC[:12], LANGS[:12])]
    assert not any(lexicon.spans(text, "en") for text in steered.texts)


def test_the_full_variant_is_the_rewriter_itself(rewriter: Rewriter) -> None:
    full = rewritten(rewriter, CASES, "full")
    own = rewriter.rewrite(TOXIC[:12], LANGS[:12])
    assert (full.texts, full.how) == ([row.text for row in own], [row.how for row in own])


def test_systems_are_named_after_rewriter_and_variant(rewriter: Rewriter) -> None:
    found = list(judged_systems(rewriter, CASES[:2], JUDGES, LEXICON, ["greedy", "full"], "run"))
    assert [system.name for system in found] == ["run/greedy", "run/full"]
    (alone,) = judged_systems(rewriter, CASES[:2], JUDGES, LEXICON, ["greedy"], "")
    assert alone.name == "greedy"
    assert alone.counts == {"model": 2}


def test_baselines_copy_and_delete() -> None:
    copied, cut = baselines([CASE], JUDGES, LEXICON, LEXICON)
    assert (copied.name, copied.judged.outputs, copied.how) == ("copy", [CASE.source], ["copied"])
    assert (cut.name, cut.judged.outputs, cut.how) == ("delete", ["You, read page 12"], ["edited"])
    untaught = baselines([CASE], JUDGES, LEXICON, Lexicon({}))[1]
    assert untaught.judged.mean("copy") == 1


def system(name: str, j_N: list[float], copies_N: list[float]) -> System:
    rows = {"j_2024": np.array(j_N), "j_2025": np.array(j_N) / 2, "copy": np.array(copies_N)}
    langs = ["de", "en"] * (len(j_N) // 2)
    return System(Judged(name, ["out"] * len(j_N), rows, np.array(langs)), ["model"] * len(j_N))


def three(ours: float) -> list[System]:
    """Copy has 0.1 in J, delete 0.3, ours what is given, on 20 texts of two languages; every fourth of ours copies."""
    copied, cut = system("copy", [0.1] * 20, [1.0] * 20), system("delete", [0.3] * 20, [0.5] * 20)
    return [copied, cut, system("ours", [ours] * 20, [1.0, 0.0, 0.0, 0.0] * 5)]


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (0.5, "ours beats copy in J (+0.400, 95 % +0.400 to +0.400, p = 0.002) and beats delete in J (+0.200, 95 %"),
        (0.2, "beats copy in J (+0.100, 95 % +0.100 to +0.100, p = 0.002) and loses to delete in J (-0.100, 95 %"),
        (0.3, "and is not told apart from delete in J (+0.000, 95 %"),
    ],
)
def test_the_verdict_says_who_wins(ours: float, said: str) -> None:
    assert said in verdict(three(ours))
    assert "on 20 texts. With every language alike it" in verdict(three(ours))
    assert verdict(three(ours)).endswith(f"J {ours:.3f} as the mean of 2 languages. It copies 25.0% of its inputs.")
    systems = [System(one.judged._replace(langs_N=np.array(["en"] * 20)), one.how) for one in three(ours)]
    assert verdict(systems).endswith("on 20 texts. It copies 25.0% of its inputs.")


def test_the_primary_system_is_the_last_or_the_named_one() -> None:
    systems = [*three(0.5), system("other", [0.4] * 20, [0.0] * 20)]
    assert primary_of(systems).name == "other"
    assert primary_of(systems, "ours").name == "ours"
    with pytest.raises(ValueError, match="no system 'full': choose one of copy, delete, ours, other"):
        primary_of(systems, "full")
    with pytest.raises(ValueError, match="needs copy, delete and a rewriter, were copy, delete"):
        primary_of(systems[:2])


def test_the_summary_is_flat_and_json() -> None:
    """The first and third of each four texts are German: of ours one in two of those copies, none of the English."""
    systems = three(0.5)
    systems[2].judged.rows["bits"] = np.full(20, np.nan)
    found = json.loads(
        json.dumps(summary_of(systems, [{"stage": "1-easy", "loss": 0.5}], losses={"ours": 1.5}), allow_nan=False)
    )
    assert (found["primary"], found["texts"], found["headline"]) == ("ours", 20, verdict(systems))
    assert found["j_2024/ours"] == pytest.approx(0.5)
    assert found["lift_over_copy/ours"] == pytest.approx(0.4)
    assert (found["copy/ours/de"], found["copy/ours/en"], found["copy/ours"]) == pytest.approx((0.5, 0, 0.25))
    assert (found["copy_low/ours"], found["copy_low/ours/en"]) == (pytest.approx(0.05, abs=0.05), 0)
    assert found["j_2024_macro/ours"] == found["j_2024_macro_low/ours"] == pytest.approx(0.5)
    assert found["bits/ours"] is found["bits_low/ours"] is None
    assert (found["loss/stage/1-easy"], found["reference_loss/ours"]) == (0.5, 1.5)


def test_outputs_are_a_row_a_text_and_system(tmp_path: Path) -> None:
    systems = baselines([CASE, CASE], JUDGES, LEXICON, LEXICON)
    outputs_table(systems, [CASE, CASE], tmp_path / "outputs.parquet")
    rows = pq.read_table(tmp_path / "outputs.parquet").to_pylist()
    assert [row["system"] for row in rows] == ["copy", "copy", "delete", "delete"]
    assert rows[2]["output"] == "You, read page 12"
    assert rows[2]["references"] == list(CASE.references)
    assert rows[0]["toxic_copy"] == 1
    assert set(systems[0].judged.rows) < set(rows[0])


def test_judges_by_name(tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("idiot\n")
    assert judges_named("offline", pairs(), False).neutrality.name.startswith("linear classifier")
    named = judges_named(f"lexicon:{tmp_path / 'terms.txt'}", pairs(), False)
    assert named.names()["neutrality"].startswith("lexicon:")
    assert named.similarity.name == "character n-grams"

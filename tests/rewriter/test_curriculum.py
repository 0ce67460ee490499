"""The curriculum on one rank: stages in order, shared, interrupted and gone on with, to the last bit."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from detox.classifier.settings import BatchSettings
from detox.classifier.worker import Place
from detox.data.pairs.prepare import prepare_pairs
from detox.data.pairs.prepared import Case, PairRow, PreparedPairs
from detox.data.pairs.settings import PairSettings
from detox.data.synthetic_pairs import generate_pairs
from detox.rewriter.batches import CompetenceSampler, competence
from detox.rewriter.curriculum import WEIGHTS, Figures, balanced, mean_loss, plan
from detox.rewriter.loss_settings import PARTS, LossSettings
from detox.rewriter.readable import Unread, readable
from detox.rewriter.settings import StageSettings, TrainRewriterConfig
from detox.rewriter.worker import drawn, load_for_training, train_one_rank
from detox.runs.config import override
from detox.runs.stages import StageStore
from detox.runs.storage import Storage

EASY, MEDIUM, HARD = (StageSettings(stage=stage, epochs=1) for stage in ("easy", "medium", "hard"))

PREFERENCE = StageSettings(stage="full", epochs=0.5, lr=1e-3, loss=LossSettings(cross_entropy=0.2, dpo=1.0))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> PreparedPairs:
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in generate_pairs(240, noise=0)))
    settings = PairSettings(source=(str(folder / "pairs.jsonl"),))
    return prepare_pairs(settings, folder / "prepared", 1)


def config(*stages: StageSettings, **patch: object) -> TrainRewriterConfig:
    small = {
        "model.tiny_width": 16,
        "model.tiny_vocabulary": 400,
        "model.max_target_tokens": 80,
        "batch.size": 16,
        "optimiser.precision": "fp32",
        "optimiser.lr": 1e-3,
        "checkpoints.every_steps": 2,
        "evaluation.stage_texts": 6,
        "evaluation.bert_score": False,
        "tracking.log_every": 1,
        "curriculum.stages": stages,
    }
    return override(TrainRewriterConfig(), small | patch)


def train(
    settings: TrainRewriterConfig,
    pairs: PreparedPairs,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from: Path | None = None,
) -> list[Figures]:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    place = Place(0, 1, folder / "scratch")
    store = StageStore(Storage(str(folder)))
    return train_one_rank(settings, pairs, place, store, lambda _: callbacks, resume_from).figures


def stage_weights(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    (found,) = (folder / "stages").glob(f"rewriter-{stage}-*")
    return load_file(found / WEIGHTS)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Interrupt(TrainerCallback):
    """A power cut after so many optimizer steps, counted over all stages."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(pairs: PreparedPairs, tmp_path_factory) -> tuple[Path, list[Figures]]:
    """Easy, medium, hard, without a break."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(config(EASY, MEDIUM, HARD), pairs, folder)


def test_each_stage_trains_its_level_and_says_how_it_went(whole, pairs: PreparedPairs) -> None:
    settings, rows = config(EASY, MEDIUM, HARD), pairs.part("train")
    tokenizer = load_for_training(settings, rows).tokenizer
    levels = [row.level for row in readable(rows, tokenizer, settings.model, "train").rows]
    for name, figures in zip(("easy", "medium", "hard"), whole[1], strict=True):
        assert figures["pairs"] == levels.count(name)
        assert {"train_loss", "loss", "perplexity", "copy_rate", "bleu", "chrf", "joint"} <= figures.keys()
        assert {"length_ratio", "fluency", "words_kept", "similarity", "toxicity_after"} <= figures.keys()
        assert figures["perplexity"] == pytest.approx(np.exp(figures["loss"]))
    assert whole[1][2]["loss"] < whole[1][0]["loss"]


def test_pairs_that_the_model_cannot_read_are_not_learned_and_not_lost(pairs: PreparedPairs, tmp_path: Path) -> None:
    """Sides longer than the model's: the shortest of the easy pairs are left."""
    short = config(StageSettings(stage="full"), **{"model.max_target_tokens": 20, "evaluation.stage_texts": 2})
    store = StageStore(Storage(str(tmp_path)))
    refused: list[Unread] = []
    outcome = train_one_rank(short, pairs, Place(0, 1, tmp_path / "scratch"), store, on_refused=refused.extend)
    train_rows = pairs.part("train")
    learned = outcome.figures[0]["pairs"]
    assert 0 < learned < len(train_rows)
    assert learned + sum(one.part == "train" for one in refused) == len(train_rows)
    assert {one.part for one in refused} == {"train", "validation"}
    assert outcome.refused == Counter(one.rule for one in refused)
    assert outcome.refused["too_many_tokens"] > len(train_rows) / 10
    none = override(short, {"model.max_target_tokens": 8, "model.max_source_tokens": 8})
    with pytest.raises(ValueError, match="the model can read none of the .* pairs; of the first, the source has"):
        train_one_rank(none, pairs, Place(0, 1, tmp_path / "scratch"), store, on_refused=refused.extend)
    assert len(refused) > len(train_rows), "they are handed on before it fails"


def test_without_pairs_to_validate_by_there_are_no_figures_of_it(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in generate_pairs(120, noise=0)))
    settings = override(
        PairSettings(source=(str(tmp_path / "pairs.jsonl"),)), {"split.ratios": (0.8, 0.0, 0.2), "judge_share": 0.2}
    )
    (found,) = train(config(EASY), prepare_pairs(settings, tmp_path / "prepared", 1), tmp_path)
    assert found["train_loss"] > 0
    assert not found.keys() & {"loss", "perplexity", "joint"}
    json.dumps(found, allow_nan=False)


def test_a_schedule_with_the_same_beginning_does_not_train_it_again(whole, pairs, tmp_path: Path) -> None:
    """Easy and medium are taken from the store; the hard stage with another rate starts from their weights."""
    folder, before = tmp_path, whole[1]
    shutil.copytree(whole[0] / "stages", folder / "stages")
    steps: list[int] = []

    class Count(TrainerCallback):
        def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            steps.append(1)

    other = HARD.model_copy(update={"lr": 5e-4})
    figures = train(config(EASY, MEDIUM, other), pairs, folder, [Count()])
    assert figures[:2] == before[:2]
    assert len(steps) == figures[2]["steps"]
    hard = [load_file(path / WEIGHTS) for path in (folder / "stages").glob("rewriter-hard-*")]
    assert len(hard) == 2
    assert not same(*hard)


def test_shared_stages_lead_to_the_same_weights(whole, pairs: PreparedPairs, tmp_path: Path) -> None:
    """First easy alone; then the whole schedule, which takes easy from the store."""
    train(config(EASY), pairs, tmp_path)
    train(config(EASY, MEDIUM, HARD), pairs, tmp_path)
    for stage in ("easy", "medium", "hard"):
        assert same(stage_weights(tmp_path, stage), stage_weights(whole[0], stage)), stage


@pytest.mark.parametrize("after", [1, 3, 7])
def test_an_interrupted_curriculum_goes_on_where_it_stopped(whole, pairs, tmp_path: Path, after: int) -> None:
    settings = config(EASY, MEDIUM, HARD)
    with pytest.raises(KeyboardInterrupt):
        train(settings, pairs, tmp_path, [Interrupt(after)])
    checkpoints = sorted((tmp_path / "scratch").glob("checkpoint-*"), key=lambda path: path.stat().st_mtime_ns)
    train(settings, pairs, tmp_path, resume_from=checkpoints[-1] if checkpoints else None)
    for stage in ("easy", "medium", "hard"):
        assert same(stage_weights(tmp_path, stage), stage_weights(whole[0], stage)), stage


@pytest.fixture(scope="module")
def competent(pairs: PreparedPairs, tmp_path_factory) -> tuple[TrainRewriterConfig, Path]:
    """A stage paced by competence and one of DPO, without a break."""
    settings = config(EASY, PREFERENCE, **{"curriculum.pacing": "competence"})
    folder = tmp_path_factory.mktemp("competent")
    train(settings, pairs, folder)
    return settings, folder


@pytest.mark.parametrize("after", [3, 7])
def test_competence_and_preference_go_on_where_they_stopped(competent, pairs, tmp_path: Path, after: int) -> None:
    """The batches that are left, and the reference that the stage began with, not the model of the checkpoint."""
    settings, undisturbed = competent
    with pytest.raises(KeyboardInterrupt):
        train(settings, pairs, tmp_path, [Interrupt(after)])
    checkpoints = sorted((tmp_path / "scratch").glob("checkpoint-*"), key=lambda path: path.stat().st_mtime_ns)
    train(settings, pairs, tmp_path, resume_from=checkpoints[-1])
    for stage in ("easy", "full"):
        assert same(stage_weights(tmp_path, stage), stage_weights(undisturbed, stage)), stage


def test_a_stage_learns_by_all_losses_at_once(pairs: PreparedPairs, tmp_path: Path) -> None:
    """Each part is logged, finite, and above 0: none is left out or gets no inputs."""
    logs: dict[str, float] = {}

    class Note(TrainerCallback):
        def on_log(self, args: object, state: object, control: object, **kwargs: object) -> None:
            logs.update(kwargs["logs"])

    every = LossSettings(**dict.fromkeys(PARTS, 0.5))
    train(config(EASY.model_copy(update={"loss": every}), **{"optimiser.max_steps": 2}), pairs, tmp_path, [Note()])
    parts = {name: logs[f"loss/{name}"] for name in PARTS}
    assert all(np.isfinite(value) and value > 0 for value in parts.values()), parts


@pytest.mark.parametrize("begun", [False, True])
def test_a_stage_without_a_rate_of_its_own_has_the_runs(pairs, tmp_path: Path, begun: bool) -> None:
    """Not that of the stage before it, whether that was trained just now or taken from the store."""
    rates: list[float] = []

    class Note(TrainerCallback):
        def on_log(self, args: object, state: object, control: object, **kwargs: object) -> None:
            rates.extend([kwargs["logs"]["learning_rate"]] if "learning_rate" in kwargs["logs"] else [])

    fast = EASY.model_copy(update={"lr": 5e-2})
    patch = {"optimiser.schedule": "constant", "optimiser.warmup_ratio": 0.0, "optimiser.max_steps": 2}
    if begun:
        train(config(fast, **patch), pairs, tmp_path)
    train(config(fast, MEDIUM, **patch), pairs, tmp_path, [Note()])
    assert rates == [*([] if begun else [5e-2, 5e-2]), 1e-3, 1e-3]


def test_a_resumed_stage_has_the_loss_of_all_its_steps() -> None:
    """Lines of 2 and 1 steps: (2 · 3.0 + 1 · 1.5) / 3; before the first line, what the Trainer says."""
    history = [{"step": 2, "loss": 3.0}, {"step": 2, "eval_loss": 9.0}, {"step": 3, "loss": 1.5}]
    assert mean_loss(history, 0.0) == pytest.approx(2.5)
    assert mean_loss([], 4.0) == 4.0


def test_stages_can_be_measured_under_the_controls(pairs: PreparedPairs, tmp_path: Path) -> None:
    """A penalty on every toxic token that a model which copies does not overcome; the stage is another one in the
    store."""
    plain = {"rewriting.decoding.toxicity": 1000.0, "model.name": "tiny/copy_t5"}
    steered = {"evaluation.stage_decoding": "steered"} | plain
    figures = [
        train(config(EASY, **patch), pairs, tmp_path / name)[0] for name, patch in (("a", plain), ("b", steered))
    ]
    assert figures[0]["loss"] == figures[1]["loss"]
    assert figures[1]["toxicity_after"] < figures[0]["toxicity_after"]


def test_another_seed_shares_nothing(whole, pairs: PreparedPairs) -> None:
    rows = pairs.part("train")
    first = plan(rows, config(EASY), {"seed": 1})
    assert first[0].description != plan(rows, config(EASY), {"seed": 2})[0].description
    assert first[0].description == plan(rows, config(EASY, HARD), {"seed": 1})[0].description
    after_easy, after_medium = (plan(rows, config(start, HARD), {"seed": 1})[1] for start in (EASY, MEDIUM))
    assert after_easy.description != after_medium.description


def test_only_adapters_are_trained_and_kept(pairs: PreparedPairs, tmp_path: Path) -> None:
    train(config(EASY, **{"model.lora.rank": 2}), pairs, tmp_path)
    weights = stage_weights(tmp_path, "easy")
    assert weights
    assert all("lora_" in name for name in weights)


def row(level: str, difficulty: float = 0.5) -> PairRow:
    return PairRow(0, "en", "a", "b", 0, difficulty, level)


def test_pacing_decides_what_a_stage_sees() -> None:
    rows = [row("easy"), row("medium"), row("hard"), row("easy")]
    full = StageSettings(stage="full")
    fixed = plan(rows, config(EASY, MEDIUM, HARD, full), {})
    assert [stage.rows.tolist() for stage in fixed] == [[0, 3], [1], [2], [0, 1, 2, 3]]
    cumulative = plan(rows, config(EASY, MEDIUM, HARD, **{"curriculum.pacing": "cumulative"}), {})
    assert [stage.rows.tolist() for stage in cumulative] == [[0, 3], [0, 1, 3], [0, 1, 2, 3]]


def test_a_stage_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stage 2, hard, has no pairs.*'easy': 1"):
        plan([row("easy")], config(EASY, HARD), {})


def test_competence_grows_with_the_root_of_the_steps() -> None:
    """Half way from 0.2 to 1: sqrt(0.5 * (1 - 0.04) + 0.04) = sqrt(0.52)."""
    assert competence(0, 10, 0.2) == pytest.approx(0.2)
    assert competence(5, 10, 0.2) == pytest.approx(0.52**0.5)
    assert competence(10, 10, 0.2) == 1


def test_competence_draws_the_easy_pairs_first_and_every_rank_as_many() -> None:
    difficulty_P = np.linspace(0, 1, 100)[::-1].copy()  # the last is the easiest
    samplers = [
        CompetenceSampler(np.full(100, 10), difficulty_P, 20, 0.1, BatchSettings(size=8, per_forward=4), 3, rank, 2)
        for rank in range(2)
    ]
    batches = [list(sampler) for sampler in samplers]
    assert [len(found) for found in batches] == [len(sampler) for sampler in samplers] == [20, 20]
    assert min(batches[0][0].whole) >= 90
    assert min(min(batch.whole) for batch in batches[0]) < 20
    assert all(set(a) | set(b) == set(a.whole) and not set(a) & set(b) for a, b in zip(*batches, strict=True))
    assert [list(batch) for batch in samplers[0]] == [list(batch) for batch in batches[0]]


def test_a_stage_of_preference_tuning_makes_copies_less_likely(pairs: PreparedPairs, tmp_path: Path) -> None:
    """DPO in a stage of its own, against the model as the stage before left it: the margin begins near 0, but for
    dropout, and grows."""
    logs: list[dict[str, float]] = []

    class Note(TrainerCallback):
        def on_log(self, args: object, state: object, control: object, **kwargs: object) -> None:
            logs.append(kwargs["logs"])

    tuning = StageSettings(stage="full", epochs=5, lr=1e-2, loss=LossSettings(cross_entropy=0.1, dpo=1.0))
    train(config(EASY, tuning), pairs, tmp_path, [Note()])
    margins = [entry["loss/dpo_margin"] for entry in logs if "loss/dpo_margin" in entry]
    assert abs(np.mean(margins[:8])) < 1.5
    assert np.mean(margins[-8:]) > np.mean(margins[:8]) + 0.4


def test_small_languages_come_more_often() -> None:
    """16 English pairs, 4 German, 1 Amharic: to the power of a half they are 16, 8 and 4."""
    langs = ["en"] * 16 + ["de"] * 4 + ["am"]
    rows_P = np.arange(len(langs))
    assert balanced(rows_P, langs, 1.0).tolist() == rows_P.tolist()
    assert balanced(rows_P, langs, 0.5).tolist() == [*range(16), 16, 16, 17, 17, 18, 18, 19, 19, 20, 20, 20, 20]
    counts = np.bincount(balanced(rows_P, langs, 0.0))
    assert [counts[:16].sum(), counts[16:20].sum(), counts[20]] == [16, 16, 16]
    assert np.bincount(balanced(rows_P[16:], langs[16:], 0.75))[16:].sum() == 4 + 1  # round(1 * 4 ** 0.25)
    assert balanced(rows_P[:0], [], 0.5).tolist() == []


def test_stage_texts_are_as_many_of_each_language() -> None:
    every = [
        Case(lang, f"{lang}{at}", ("x",), "easy")
        for lang, count in (("en", 50), ("de", 3), ("am", 8))
        for at in range(count)
    ]
    found = drawn(every, 15, seed=1)
    assert {lang: sum(case.lang == lang for case in found) for lang in ("en", "de", "am")} == {
        "en": 6,
        "de": 3,
        "am": 6,
    }
    assert found == sorted(found, key=every.index)
    assert drawn(every, 15, seed=2) != found
    assert drawn(every, 0, seed=1) == every


def test_competence_needs_batches_of_rows() -> None:
    with pytest.raises(ValueError, match="competence pacing draws a number of pairs a step: set batch.by to rows"):
        override(
            TrainRewriterConfig(), {"curriculum.pacing": "competence", "batch.by": "tokens", "batch.per_forward": 512}
        )

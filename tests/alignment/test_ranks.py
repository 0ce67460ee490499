"""Ranks: what they share out comes back in its order, and a failure of one reaches all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from detox.alignment.building import SharedScorer, shared_judge
from detox.alignment.ranks import Ranks
from detox.alignment.rewards import ToxicityReward
from detox.alignment.scores import RewardError, scores_of
from detox.classifier.scorer import Scores

TEXTS = [f"{number} words" for number in range(5)]


class Numbers:
    """A text's number as its score in tenths; fails at some."""

    labels = ("toxic",)

    def __init__(self, bad: Sequence[str] = ()) -> None:
        self.bad = bad
        self.asked: list[str] = []

    def score(self, texts: Sequence[str]) -> Scores:
        self.asked += texts
        if wrong := set(texts) & set(self.bad):
            raise ValueError(f"no score for {wrong}")
        return Scores(self.labels, np.array([[int(text[0]) / 10] for text in texts], np.float32).reshape(-1, 1))


def outcome(scorer: Numbers, texts: Sequence[str] = TEXTS) -> Any:
    try:
        reward = ToxicityReward(SharedScorer(scorer, Ranks()))
        return scores_of(reward, texts, texts, {}).round(5).tolist()
    except RewardError as error:
        return str(error)


def rank(number: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    well = Numbers()
    found = [
        outcome(well),
        well.asked,
        outcome(Numbers(bad=TEXTS[1:2])),  # the second rank's
        outcome(Numbers(), TEXTS[:1]),  # and after it; the second rank has none
        shared_judge(lambda texts: np.array([float(text[0]) for text in texts]), Ranks())(TEXTS).tolist(),
    ]
    Path(folder, str(number)).write_text(repr(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank, (str(folder),), 2)  # type: ignore[no-untyped-call]
    return [eval((folder / str(number)).read_text()) for number in (0, 1)]


def test_each_scores_every_other_text_and_all_know_all(told: list[Any]) -> None:
    for number, found in enumerate(told):
        assert found[0] == [1.0, 0.9, 0.8, 0.7, 0.6]
        assert found[1] == TEXTS[number::2]
        assert found[4] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_scorer_that_fails_on_one_rank_is_a_reward_error_on_all(told: list[Any]) -> None:
    """None waits for the other, and the ranks go on as they were."""
    assert "no score for {'1 words'}" in told[1][2]
    assert "rank 1 failed: ValueError: no score for {'1 words'}" in told[0][2]
    assert told[0][3] == told[1][3] == [1.0]


def test_one_process_alone_raises_what_was_raised() -> None:
    with pytest.raises(RewardError, match="toxicity failed on 5 completions: no score for"):
        scores_of(ToxicityReward(SharedScorer(Numbers(bad=TEXTS), Ranks())), TEXTS, TEXTS, {})

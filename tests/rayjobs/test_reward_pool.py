"""The pool of reward models: what is refused before any work, and what room it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from detox.alignment.reward_settings import ComponentSettings, RewardPoolSettings, RewardSettings
from detox.classifier.scorer import load_scorer
from detox.runs.config import ScalingSettings
from rayjobs.ray_glue.reward_pool import (
    check_pool,
    check_room_beside,
    fit_on_gpus,
    lacking,
    pooled_models,
    reward_pool,
)

TWO = ScalingSettings(num_workers=2)


def pool(actors: int = 2, cpus: float = 0.5, gpus: float = 0.0) -> RewardPoolSettings:
    return RewardPoolSettings(actors=actors, num_cpus=cpus, num_gpus=gpus)


@pytest.mark.parametrize(
    ("reward", "workers", "rule"),
    [
        (RewardSettings(pool=pool()), 0, "trains in this process without Ray"),
        (RewardSettings(pool=pool(3)), 2, "3 actors are too many for 2 workers"),
        (
            RewardSettings(pool=pool(), components=(ComponentSettings(component="length", weight=1.0),)),
            2,
            "components length ask for none",
        ),
    ],
)
def test_a_pool_that_has_no_use_is_refused(reward: RewardSettings, workers: int, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        check_pool(reward, ScalingSettings(num_workers=workers))


def test_a_pool_that_is_off_is_never_refused() -> None:
    check_pool(RewardSettings(), ScalingSettings(num_workers=0))
    check_room_beside(RewardPoolSettings(), TWO)  # without Ray
    with pytest.raises(ValueError, match="whole ones"):
        pool(gpus=1.5)


def test_workers_and_actors_need_room_together() -> None:
    halves = ScalingSettings(num_workers=2, resources_per_worker={"CPU": 0.5})
    assert not lacking(pool(), halves, {"CPU": 2.0})
    words = lacking(pool(), TWO, {"CPU": 2.0})
    assert words == "2 actors of reward.pool at 0.5 CPU and 2 workers at 1 do not fit into the 2 CPU that Ray has"
    on_gpus = ScalingSettings(num_workers=1, use_gpu=True)
    assert "GPU" in lacking(pool(1, gpus=0.25), on_gpus, {"CPU": 8.0, "GPU": 1.0})
    assert not lacking(pool(1, gpus=0.25), on_gpus, {"CPU": 8.0, "GPU": 2.0})


@pytest.mark.parametrize(
    ("asked", "gpus", "fits"),
    [
        ([0.25, 0.75], 1, True),
        ([0.25, 0.25, 0.5, 0.5], 2, True),
        ([0.25, 0.25, 0.75, 0.75], 2, False),  # both quarters go to one GPU, and half of it is left
        ([0.5, 1.0], 1, False),
        ([2.0, 1.0], 3, True),
        ([0.1] * 10, 1, True),
        ([0.0, 0.0, 1.0], 1, True),
        ([0.0, 0.0], 0, True),
    ],
)
def test_parts_of_gpus_are_dealt_out_as_ray_does(asked: list[float], gpus: int, fits: bool) -> None:
    assert fit_on_gpus(asked, gpus) == fits


@pytest.mark.ray
def test_actors_score_fail_and_end_as_they_should(tmp_path: Path, own_ray: None) -> None:
    """The same scores as here, also once the process has been killed; an error as it was raised; no room, no start."""
    (tmp_path / "words.txt").write_text("idiot\nmoron\n")
    name, texts = f"lexicon:{tmp_path / 'words.txt'}", ["you idiot", "a page", ""]
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    with pytest.raises(ValueError, match=r"do not fit into the 2 CPU that Ray has: lower --reward\.pool\.actors"):
        check_room_beside(pool(), TWO)
    with reward_pool(pool(), TWO) as actors:
        assert len(actors) == 2
        for rank in (0, 1, 2):
            scorer = pooled_models(actors, rank).scorer(name)
            wanted = load_scorer(name)
            assert scorer.labels == wanted.labels
            assert (scorer.score(texts).values_NL == wanted.score(texts).values_NL).all()
        ray.kill(ray.get_actor(actors[0]), no_restart=False)
        again = pooled_models(actors, 0).scorer(name)
        assert (again.score(texts).values_NL == wanted.score(texts).values_NL).all()
        with pytest.raises(ValueError, match="nowhere/at/all"):
            pooled_models(actors, 1).scorer("nowhere/at/all")
        ray.kill(ray.get_actor(actors[1]))
        with pytest.raises((RuntimeError, ValueError), match="died for good|Failed to look up actor"):
            pooled_models(actors, 1).scorer(name)
        kept = ray.get_actor(actors[0])
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(kept.ready.remote())

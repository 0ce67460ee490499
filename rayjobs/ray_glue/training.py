"""A job that trains: prepare its data, train every rank, judge what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.reward_settings import RewardPoolSettings
from detox.alignment.settings import AlignModelConfig, AlignPolicyConfig
from detox.governance.manifest import ensure_key
from detox.rewriter.settings import TrainRewriterConfig
from detox.runs.progress import Follower, Listener
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage
from rayjobs.ray_glue.fit import fit
from rayjobs.ray_glue.job import run_once, sign_each
from rayjobs.ray_glue.launch import connect, on_one_node
from rayjobs.ray_glue.reward_pool import check_room_beside, reward_pool
from rayjobs.ray_glue.seat import Seat, seat_inside, seat_on_ray

TrainingConfig = TrainRewriterConfig | AlignPolicyConfig | AlignModelConfig | FinetuneConfig
Rank = Callable[[dict[str, Any], Seat], None]
"""Trains on one rank, given the settings that `train_ranks` made."""
NO_POOL = RewardPoolSettings()


def train_and_judge(
    config: TrainingConfig,
    job: str,
    recipe: str,
    prepare: Callable[[], Storage],
    train: Callable[[RunDirectory, Storage], None],
    finish: Callable[[Any, str, str, str], Mapping[str, dict[str, Any]]],
    pool: RewardPoolSettings = NO_POOL,
) -> dict[str, Any]:
    """Run one config, which was checked, to its end, or go on where it stopped.

    Args:
        prepare: makes the data, or finds them made.
        train: leaves in the run directory what `finish` begins with, unless it lies there.
        finish: given the config, the recipe and the URIs of the run and of the data, writes artifact and report on one
            node of the cluster; returns the descriptions of the artifacts, by folder.
        pool: of reward models, beside the workers.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    ensure_key()

    def work(directory: RunDirectory) -> None:
        if config.scaling.num_workers:
            connect(config)
            check_room_beside(pool, config.scaling)
        data = prepare()
        print(f"data: {data.uri}", flush=True)
        train(directory, data)
        print("evaluating", flush=True)
        with Listener(directory):
            made = on_one_node(finish, config.scaling)(config, recipe, directory.uri, data.uri)
        sign_each(directory, made)

    return run_once(config, job, recipe, work, {"report": "report.html", "artifact": "artifact"})


def train_ranks(
    rank: Rank,
    config: TrainingConfig,
    directory: RunDirectory,
    data: Storage,
    *,
    facts: str,
    follow: str,
    last_checkpoint: Callable[[Path], Path | None],
    pool: RewardPoolSettings = NO_POOL,
) -> None:
    """Train from the run's last checkpoint: `rank` in every worker of Ray Train, or with `scaling.num_workers 0` once
    inside this process, for debugging and unit tests.

    Its settings are `config` (a tree), `run` and `data` (URIs), and `reward_actors`, the names of the pool's.

    Args:
        facts: a file of the data, by which a node shows that it sees them.
        follow: the metric to show beside the loss.
        last_checkpoint: finds it in a folder, where no Ray does.
    """
    settings = {
        "config": config.model_dump(mode="json"),
        "run": directory.uri,
        "data": data.uri,
        "reward_actors": [],
    }

    def work(settings: dict[str, Any]) -> None:
        with seat_on_ray(settings["run"], settings["data"], facts) as seat:
            rank(settings, seat)

    with Follower(directory, follow), Listener(directory):
        if config.scaling.num_workers == 0:
            with seat_inside(directory.uri, last_checkpoint) as seat:
                rank(settings, seat)
        else:
            with reward_pool(pool, config.scaling) as actors:
                settings["reward_actors"] = actors
                fit(work, settings, directory, config.scaling, config.checkpoints.keep, score=None)

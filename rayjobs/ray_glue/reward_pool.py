"""The models of rewards in Ray actors of their own, beside the workers that train.

A worker has its share of the texts worked on by one actor, in one call, so the figures are those that a copy of its own
would give, to the last bit on the same kind of device. An actor loads a model when it is first asked for, and keeps
nothing else: one that dies is started again by Ray, and its calls are made again. What a model raises comes out in the
worker as it was raised.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray

from detox.alignment.building import COLOCATED, RewardModels, needs_models
from detox.alignment.reward_settings import RewardPoolSettings, RewardSettings
from detox.alignment.rewards import Judge
from detox.classifier.scorer import Scorer, Scores
from detox.runs.config import ScalingSettings

START_SECONDS = 600.0
"""A cluster that grows may take minutes to start a node."""


class RewardActor:
    """One process of the pool.

    Args:
        device: of its models; empty: the GPU where there is one.
        threads: torch CPU threads; those of a worker, since another number gives other last bits.
    """

    def __init__(self, device: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._device = device
        self._loaded: dict[str, Any] = {}

    def ready(self) -> None:
        """Returns once the process is there."""

    def labels(self, name: str) -> tuple[str, ...]:
        return self._scorer(name).labels

    def score(self, name: str, texts: Sequence[str]) -> Scores:
        return self._scorer(name).score(texts)

    def nats(self, name: str, texts: Sequence[str]) -> np.ndarray:
        from detox.alignment.building import model_nats

        judge: Judge = self._kept(f"nats of {name}", lambda: model_nats(name, self._device))
        return judge(texts)

    def _scorer(self, name: str) -> Scorer:
        from detox.classifier.scorer import load_scorer

        return self._kept(name, lambda: load_scorer(name, device=self._device))

    def _kept(self, name: str, load: Callable[[], Any]) -> Any:
        if name not in self._loaded:
            self._loaded[name] = load()
        return self._loaded[name]


class PooledScorer:
    """A scorer that an actor holds."""

    def __init__(self, actor: Any, name: str) -> None:
        self._actor, self._name = actor, name
        self.labels: tuple[str, ...] = _answer(actor.labels.remote(name))

    def score(self, texts: Sequence[str]) -> Scores:
        return _answer(self._actor.score.remote(self._name, list(texts)))


def pooled_models(actors: Sequence[str], rank: int) -> RewardModels:
    """On a worker: its models, by the names that `reward_pool` gave; without names this process holds them."""
    if not actors:
        return COLOCATED
    actor = ray.get_actor(actors[rank % len(actors)])
    return RewardModels(
        scorer=lambda name: PooledScorer(actor, name),
        nats=lambda name: lambda texts: _answer(actor.nats.remote(name, list(texts))),
    )


def _answer(call: Any) -> Any:
    """Raises:
    RuntimeError: the actor died more often than Ray starts it again.
    """
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayActorError as error:
        raise RuntimeError(
            f"an actor of reward.pool died for good: {error}; give it more memory (fewer reward.pool.actors), or raise "
            "--scaling.max-failures"
        ) from error


@contextmanager
def reward_pool(pool: RewardPoolSettings, scaling: ScalingSettings) -> Iterator[list[str]]:
    """The actors, by name, which end with the `with`; none where the pool has none.

    Raises:
        TimeoutError: the cluster gave no room in ten minutes.
    """
    names = [f"reward-{uuid.uuid4().hex[:8]}-{number}" for number in range(pool.actors)]
    device = "" if pool.num_gpus else "cpu"
    options = {
        "num_cpus": pool.num_cpus,
        "num_gpus": pool.num_gpus,
        "max_restarts": scaling.max_failures,
        "max_task_retries": -1,  # a model's answer depends on nothing before it
    }
    start: Any = ray.remote(RewardActor)
    actors = [start.options(name=name, **options).remote(device, scaling.threads_per_worker) for name in names]
    try:
        _await([actor.ready.remote() for actor in actors], pool)
        yield names
    finally:
        for actor in actors:
            ray.kill(actor)


def _await(starts: list[Any], pool: RewardPoolSettings) -> None:
    missing = ray.wait(starts, num_returns=len(starts), timeout=START_SECONDS)[1] if starts else []
    if missing:
        raise TimeoutError(
            f"{len(missing)} of {pool.actors} actors of reward.pool ({pool.num_cpus:g} CPU, {pool.num_gpus:g} GPU) "
            f"found no room in {START_SECONDS / 60:g} minutes: lower --reward.pool.actors, or let the cluster grow"
        )


def check_pool(reward: RewardSettings, scaling: ScalingSettings) -> None:
    """What can be known of the pool before any work.

    Raises:
        ValueError: a pool that has no workers, more actors than those, or nothing to hold.
    """
    actors = reward.pool.actors
    if not actors:
        return
    if scaling.num_workers == 0:
        raise ValueError(
            f"reward.pool has {actors} Ray actors, and --scaling.num-workers 0 trains in this process without Ray: "
            "train with a worker, or leave reward.pool out"
        )
    if actors > scaling.num_workers:
        raise ValueError(
            f"a worker asks one actor of reward.pool, so {actors} actors are too many for {scaling.num_workers} "
            "workers: lower --reward.pool.actors"
        )
    if not needs_models(reward):
        names = ", ".join(one.component for one in reward.components)
        raise ValueError(
            f"reward.pool holds scorers and the language model of fluency, and the components {names} ask for none: "
            "leave it out"
        )


def check_room_beside(pool: RewardPoolSettings, scaling: ScalingSettings) -> None:
    """Whether Ray has room for workers and pool together. A cluster may grow, so there it is only said.

    Raises:
        ValueError: a Ray of our own has none: the workers would wait for ever.
    """
    if not pool.actors:
        return
    lack = lacking(pool, scaling, ray.cluster_resources())
    if lack and os.environ.get("RAY_ADDRESS"):
        print(f"{lack}: waiting for the cluster to grow", flush=True)
    elif lack:
        raise ValueError(
            f"{lack}: lower --reward.pool.actors or what each of them takes, or give each worker less than a whole one "
            "with --scaling.resources-per-worker"
        )


def lacking(pool: RewardPoolSettings, scaling: ScalingSettings, resources: Mapping[str, float]) -> str:
    """What there is too little of, in words; empty: there is room."""
    worker = {"CPU": 1.0, "GPU": float(scaling.use_gpu), **scaling.resources_per_worker}
    actor = {"CPU": pool.num_cpus, "GPU": pool.num_gpus}
    for resource in ("CPU", "GPU"):
        there = resources.get(resource, 0.0)
        asked = [actor[resource]] * pool.actors + [worker[resource]] * scaling.num_workers
        if sum(asked) > there + 1e-6 or (resource == "GPU" and not fit_on_gpus(asked, int(there))):
            return (
                f"{pool.actors} actors of reward.pool at {actor[resource]:g} {resource} and {scaling.num_workers} "
                f"workers at {worker[resource]:g} do not fit into the {there:g} {resource} that Ray has"
            )
    return ""


def fit_on_gpus(asked: Sequence[float], gpus: int) -> bool:
    """Whether these find room in their order. Ray takes a part from the GPU with the least left that has as much."""
    free = [1.0] * gpus
    for amount in asked:
        parts = [amount] if amount <= 1 else [1.0] * int(amount)
        for part in parts if amount else []:
            able = [left for left in free if left >= part - 1e-6]
            if not able:
                return False
            free.remove(min(able))
            free.append(min(able) - part)
    return True

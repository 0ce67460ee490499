"""Connecting to Ray: the same command on a laptop, on a running cluster, and inside a submitted job.

- No `RAY_ADDRESS`: a Ray of our own is started and ends with the job (`address="local"`, because a bare `ray.init()`
  silently joins any head that runs on the machine).
- `RAY_ADDRESS` set: that cluster; our packages travel to its workers.
- Inside `ray job submit`: the job's cluster and its `runtime_env`; relative paths are refused, since the working
  directory there is a temporary copy.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from detox.governance.manifest import TRUSTED_KEYS, trusted_keys
from detox.runs.config import JobConfig, ScalingSettings
from detox.runs.storage import Storage

T = TypeVar("T")

WORKER_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",  # the Rust tokenizers deadlock-warn after a fork
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
CONTROLLER_ENVIRONMENT = {
    # the controller polls the workers so often, and a `report` waits for the poll: 2 s by default; with 0.2 s the
    # polls themselves cost 6 % of two busy cores (benchmarks.ray_overhead), with 1 s none that could be measured
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    # else Ray Train moves its workers into a folder of the session, where `--model.name runs/…` leads nowhere
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # `print` in a worker would reach the log twice
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}


def in_submitted_job() -> bool:
    """Whether this process is the entry point of a `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def check_paths(config: JobConfig) -> None:
    """Refuse relative paths that would be looked for elsewhere: all of them inside a submitted job, whose working
    directory is a temporary copy; with `RAY_ADDRESS` those that workers open, in a working directory of their own.

    Raises:
        ValueError: names the setting, the path and the remedy.
    """
    paths = _paths(config)
    if in_submitted_job():
        refuse_relative_paths(paths, "a submitted job runs in a temporary copy of the working directory")
    elif os.environ.get("RAY_ADDRESS"):
        opened_by_workers = {key: value for key, value in paths.items() if key in WORKERS_OPEN}
        refuse_relative_paths(opened_by_workers, "the workers of a cluster have a working directory of their own")


def check_inside(scaling: ScalingSettings, folders: Mapping[str, str]) -> None:
    """Refuse a training inside this process (`scaling.num_workers 0`) on folders that are not local.

    Args:
        folders: URIs by the setting that names them.

    Raises:
        ValueError: names the setting, its value and the remedy.
    """
    for setting, uri in folders.items():
        if scaling.num_workers == 0 and not Storage(uri).is_local:
            raise ValueError(
                f"--scaling.num-workers 0 trains inside this process, on local folders, and {setting} is {uri}: name a "
                "local folder, or train with a worker"
            )


def connect(config: JobConfig) -> None:
    """Connect to, or start, Ray, and check that it can do what the config asks for.

    Raises:
        ValueError: storage that another node does not see, or more workers than a Ray of our own has room for.
        ConnectionError: `RAY_ADDRESS` does not answer.
    """
    if not ray.is_initialized():
        for key, value in (CONTROLLER_ENVIRONMENT | WORKER_ENVIRONMENT).items():
            os.environ.setdefault(key, value)
        ray.init(
            address=None if os.environ.get("RAY_ADDRESS") else "local",
            runtime_env=_runtime_env(),
            logging_level=logging.ERROR,
            log_to_driver=bool(os.environ.get("DETOX_WORKER_LOGS")),  # else they are in Ray's session folder
            include_dashboard=False if not os.environ.get("RAY_ADDRESS") else None,
        )
    check_shared(Storage(config.run.storage))
    scaling = getattr(config, "scaling", None)
    if scaling is not None and not os.environ.get("RAY_ADDRESS"):  # a cluster may grow, this machine does not
        check_room(scaling, ray.cluster_resources())


def check_room(scaling: ScalingSettings, resources: Mapping[str, float]) -> None:
    """Refuse workers that would wait for ever.

    Raises:
        ValueError: names the resource, what is wanted and what there is.
    """
    each = {"CPU": 1.0, **({"GPU": 1.0} if scaling.use_gpu else {}), **scaling.resources_per_worker}
    for resource, amount in each.items():
        wanted, there = amount * scaling.num_workers, resources.get(resource, 0.0)
        if wanted > there:
            raise ValueError(
                f"scaling asks for {wanted:g} {resource} ({scaling.num_workers} workers of {amount:g}) and Ray has "
                f"{there:g} on this machine: lower --scaling.num-workers, or set RAY_ADDRESS to a larger cluster"
            )


def _runtime_env() -> dict[str, Any]:
    trusted = {TRUSTED_KEYS: ",".join(trusted_keys())}  # a worker's own home has other keys
    environment: dict[str, Any] = {"env_vars": {**WORKER_ENVIRONMENT, **CONTROLLER_ENVIRONMENT, **trusted}}
    if os.environ.get("RAY_ADDRESS") and not in_submitted_job():
        root = Path(__file__).resolve().parents[2]
        environment["py_modules"] = [str(root / name) for name in ("detox", "rayjobs")]
    return environment


MODELS = (
    "model",
    "model.name",
    "policy.name",
    "reward.scorer",
    "reward.acceptability",
    "reward.language_model",
    "evaluation.judges",
    "evaluation.judge",
    "monitor.scorer",
    "preference.ranker",
    "judge",
    "language_model",
    "baseline",
)
"""Settings that name a model or a scorer, which may be a folder."""
WORKERS_OPEN = (*MODELS, "submission")
TAKES_URI = ("run.storage", "output", "data.source")


def _paths(config: JobConfig) -> dict[str, Sequence[str]]:
    """Settings that name files or folders, found by their names: `storage`, `local`, `input` …"""
    found: dict[str, Sequence[str]] = {"run.storage": [config.run.storage]}
    data = getattr(config, "data", None)
    if data is not None:
        found |= {"data.source": [source for source in data.source if _is_path(source)], "data.local": [data.local]}
    for key in MODELS:
        name: Any = config
        for field in key.split("."):
            name = getattr(name, field, None)
        if isinstance(name, str):
            path = name.removeprefix("tfidf:").removeprefix("lexicon:")
            found[key] = [path] if path != name or path.startswith((".", "~")) or Path(path).exists() else []
    for key in ("submission", "input", "output"):
        value = getattr(config, key, "")
        if isinstance(value, str):
            found[key] = [value]
    return found


def _is_path(source: str) -> bool:
    """Whether `data.source` names files or a folder, and not a source that the project knows."""
    return "/" in source or "." in Path(source).name or "*" in source or Path(source).exists()


def refuse_relative_paths(paths: Mapping[str, Sequence[str]], reason: str) -> None:
    """Stop a job whose inputs or outputs would be looked for in another working directory.

    Raises:
        ValueError: names the setting, the path and the remedy.
    """
    for setting, values in paths.items():
        for value in values:
            if value and "://" not in value and not Path(value).expanduser().is_absolute():
                uri = ", or a URI such as s3://bucket/…" if setting in TAKES_URI else ""
                raise ValueError(
                    f"{setting} is the relative path {value!r}, and {reason}: give an absolute path that every node "
                    f"sees{uri}"
                )


def check_shared(storage: Storage) -> None:
    """On a cluster of several nodes, write a probe and look for it from every node.

    Raises:
        ValueError: a node does not see it.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2 or not storage.is_local:
        return
    name = f".probe-{uuid.uuid4().hex}"
    storage.write_text(name, "")
    try:
        path = str(storage.local_path / name)
        looks = [
            ray.remote(num_cpus=0)(os.path.exists)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(path)
            for node in nodes
        ]
        blind = [node["NodeManagerAddress"] for node, seen in zip(nodes, ray.get(looks), strict=True) if not seen]
    finally:
        storage.delete(name)
    if blind:
        raise ValueError(
            f"run.storage {storage.uri} is a local path that node {', '.join(blind)} does not see: use a folder that "
            f"is mounted on every node, or a URI such as s3://bucket/…"
        )


def check_seen(run: Storage, data: Storage, facts: str = "dataset.json") -> None:
    """On a worker: that it sees what the driver wrote. `check_shared` asks only the nodes that a cluster has already.

    Args:
        facts: a file of `data`.

    Raises:
        ValueError: names the folder and the remedy.
    """
    for setting, folder, name in (("run.storage", run, "config.json"), ("data.source", data, facts)):
        if not folder.exists(name):
            raise ValueError(
                f"node {ray.util.get_node_ip_address()} does not see {folder.uri}, which the driver does: let "
                f"{setting} be a folder that is mounted on every node, or a URI such as s3://bucket/…"
            )


def on_one_node(function: Callable[..., T], scaling: ScalingSettings) -> Callable[..., T]:
    """`function` as an awaited Ray task with the CPUs of all workers, or of the largest node where that has fewer, and
    a GPU if they have one; an exception comes out as it was raised. Without workers it is called here."""
    if scaling.num_workers == 0:
        return function

    def call(*arguments: Any) -> T:
        each = scaling.resources_per_worker.get("CPU", 1.0)
        cpus = min(scaling.num_workers * each, max(each, *_cpus_of_nodes()))
        threads = max(1, round(cpus / each)) * scaling.threads_per_worker if each else 1
        task = ray.remote(num_cpus=cpus, num_gpus=1 if scaling.use_gpu else 0)(_with_threads)
        try:
            return ray.get(task.remote(threads, function, *arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error

    return call


def _cpus_of_nodes() -> list[float]:
    """CPUs of each node that is alive: a task lies on one node, and an elastic run may have lost some."""
    return [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]


def _with_threads(threads: int, function: Callable[..., T], *arguments: Any) -> T:
    import torch

    torch.set_num_threads(threads)
    return function(*arguments)

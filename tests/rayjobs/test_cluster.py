"""Nodes that come and go: an elastic run goes on with fewer workers, a reclaimed node's notice saves a checkpoint."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from rayjobs.ray_glue.ray_map import RayMap
from tests.rayjobs.test_train_classifier import command, comments, environment, prepared, wait_for_step

__all__ = ["comments", "prepared"]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each on this machine."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_cleaning_stays_on_a_head_without_cpus() -> None:
    """The head of cluster.yaml: its files are its own, and Ray has no CPU of it."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        ray.init(address=cluster.address)
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        assert set(RayMap(2, everywhere=False)(node_of, range(6))) == {ray.get_runtime_context().get_node_id()}
    finally:
        ray.shutdown()
        cluster.shutdown()


def node_of(_: int) -> str:
    return ray.get_runtime_context().get_node_id()


def start(cluster: Cluster, storage: Path, prepared: Path) -> subprocess.Popen[bytes]:
    """An elastic run of one or two workers that saves every eight steps."""
    # with another number of workers the figures differ a little, and with them what early stopping would make of them
    words = command(storage, "run", prepared, "--scaling.min-workers", "1", "--stopping.patience", "0")
    log = (storage / "log").open("wb")
    return subprocess.Popen(
        words, env=environment() | {"RAY_ADDRESS": cluster.address}, stdout=log, stderr=subprocess.STDOUT
    )


@pytest.mark.slow
def test_a_reclaimed_node_leaves_a_run_that_goes_on_with_one_worker(cluster: Cluster, prepared: Path, tmp_path) -> None:
    """At notice the run saves where it stands, which is no multiple of its eight steps; then the node is gone."""
    driver = start(cluster, tmp_path, prepared)
    try:
        wait_for_step(tmp_path / "run", 11, driver)
        drain(cluster, seconds=15)
        checkpoints = tmp_path / "run" / "checkpoints"
        deadline = time.monotonic() + 60
        while not any(int(path.name[5:]) % 8 for path in checkpoints.glob("step-*")):
            assert driver.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, sorted(path.name for path in checkpoints.glob("*"))
            time.sleep(0.05)
        lose_node(cluster, driver, tmp_path)
    finally:
        driver.kill()
        driver.wait()


@pytest.mark.slow
def test_a_node_lost_without_notice(cluster: Cluster, prepared: Path, tmp_path) -> None:
    driver = start(cluster, tmp_path, prepared)
    try:
        wait_for_step(tmp_path / "run", 18, driver)
        lose_node(cluster, driver, tmp_path)
    finally:
        driver.kill()
        driver.wait()


def lose_node(cluster: Cluster, driver: subprocess.Popen[bytes], storage: Path) -> None:
    """Kill the second node; the run must come to its last step all the same, each step told once."""
    cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
    assert driver.wait(timeout=300) == 0, (storage / "log").read_text()[-3000:]
    events = [json.loads(line) for line in (storage / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "train"]
    assert steps == sorted(set(steps))
    assert steps[-1] == events[0]["max_steps"]
    assert (storage / "run" / "COMPLETE").exists()


def drain(cluster: Cluster, seconds: float) -> None:
    """Tell the cluster that its second node will be reclaimed, as a cloud's notice does."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    node = cluster.list_all_nodes()[1]
    deadline = int((time.time() + seconds) * 1000)
    accepted, reason = GcsClient(address=cluster.gcs_address).drain_node(
        node.node_id, autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"), "spot reclaim", deadline
    )
    assert accepted, reason

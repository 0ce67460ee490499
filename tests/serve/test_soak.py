"""Load on a cluster while replicas die and a model is rolled over: a night in production in brief."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from detox.runs.config import override
from rayjobs.load_test import default, run
from serve.artifacts import servable
from serve.haproxy import environment, private_folder
from serve.local import OWN_PORTS
from tests.ports import free_port
from tests.rayjobs.test_submit import RAY, started_head
from tests.serve.conftest import name_of
from tests.serve.models import write_classifier

pytestmark = pytest.mark.serve
SERVE = Path(sys.executable).with_name("serve")
RATE = 40.0
"""Requests a second; four replicas, HAProxy, Ray and this test share two cores."""
EVERY = 10
"""Seconds between two events."""
ROLL_OVER_S = 90


@pytest.mark.parametrize("seconds", [40, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_load_while_replicas_die_and_models_are_rolled_over(
    seconds: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models = [write_classifier(tmp_path / name, seed) for seed, name in enumerate(("before", "after"))]
    port, ports = free_port(), {name: str(free_port()) for name in OWN_PORTS}
    url, folder = f"http://127.0.0.1:{port}", private_folder()
    load_test = override(
        default(),
        {
            "url": url,
            "rate": RATE,
            "seconds": float(seconds),
            "expected": tuple(map(str, models)),
            "tolerance": 1e-4,
            "run.storage": str(tmp_path / "runs"),
            "run.name": "night",
        },
    )
    with started_head(RAY, tmp_path_factory.mktemp("ray"), **environment(folder), **ports) as head:
        deploy(head, models[0], port, tmp_path)
        wait_for(url, models[0])
        with ThreadPoolExecutor(1) as pool:
            under_load = pool.submit(run, load_test, "default")
            began, current = time.monotonic(), 0
            for at, event in events(seconds):
                time.sleep(max(0.0, began + at - time.monotonic()))
                if event == "roll over":
                    current = 1 - current
                    deploy(head, models[current], port, tmp_path)
                else:
                    kill(event, int(head["PID"]))
            summary = under_load.result()
        wait_for(url, models[current])
        # HAProxy would outlive Ray
        words = [str(SERVE), "shutdown", "--yes", "--address", head["RAY_API_SERVER_ADDRESS"]]
        subprocess.run(words, env=dict(head), check=True, stdout=subprocess.DEVNULL)
        time.sleep(5)
    shutil.rmtree(folder)
    check(summary, pq.read_table(tmp_path / "runs" / "night" / "outcomes.parquet").to_pylist())


def events(seconds: int) -> Iterator[tuple[int, str]]:
    """When what happens: the model changes after half a minute and then every two, and replicas die in between, a
    classifier's more often than the gateway's."""
    for number, at in enumerate(range(EVERY, seconds - EVERY + 1, EVERY)):
        yield at, "roll over" if at % 120 == 30 else "gateway" if number % 3 == 1 else "classifier"


def deploy(head: Mapping[str, str], model: Path, port: int, folder: Path) -> None:
    """What an operator does: name the model in the config, and deploy it again."""
    replicas = {"ray_actor_options": {"num_cpus": 0.1}}
    config = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            {
                "name": "toxicity",
                "import_path": "serve.app:build",
                "args": {"classifier": {"model": str(model), "dtype": "float32", "threads": 1}},
                "deployments": [
                    # a roll-over stops one, while one that died is not back yet
                    {"name": "gateway", "num_replicas": 3} | replicas,
                    {"name": "classifier", "num_replicas": 2} | replicas,
                ],
            }
        ],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    subprocess.run([sys.executable, "-m", "serve.check", str(path)], check=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        words = [str(SERVE), "deploy", str(path), "--address", head["RAY_API_SERVER_ADDRESS"]]
        done = subprocess.run(words, env=dict(head), capture_output=True, text=True)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stderr[-3000:]  # a head answers before its agent does
        time.sleep(1)


def wait_for(url: str, model: Path) -> None:
    """Until answers are this model's."""
    version, deadline = servable(str(model))[1], time.monotonic() + ROLL_OVER_S
    answer: Any = None
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(f"{url}/v1/classify", json={"input": "you"}, timeout=10)
            if answer.status_code == 200 and answer.json()["model"]["version"] == version:
                return
        except httpx.TransportError as error:
            answer = error
        time.sleep(0.5)
    raise AssertionError(f"{model} does not answer: {answer}")


def kill(deployment: str, head: int) -> None:
    """SIGKILL to the oldest replica of a deployment."""
    name = f"ray::ServeReplica:toxicity:{deployment}"
    found = [one for one in psutil.Process(head).children(recursive=True) if name_of(one).startswith(name)]
    min(found, key=lambda one: one.create_time()).send_signal(signal.SIGKILL)


def check(summary: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]) -> None:
    """No answer is wrong, and what is not answered is refused in so many words: 503."""
    lost = [
        (round(one["due"], 2), round(one["seconds"], 2), one["status"], one["says_when"])
        for one in outcomes
        if one["status"] != 200
    ]
    found = {**summary, "lost: due, seconds, status, says when": lost}
    print(json.dumps(found))
    assert all(one["right"] for one in outcomes if one["status"] == 200), found
    assert {(status, says_when) for *_, status, says_when in lost} <= {(503, True)}, found
    assert len(lost) <= 0.01 * len(outcomes), found

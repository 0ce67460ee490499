"""`ray job submit` against a real head with token authentication: logs, exit status, and the relative-path remedy."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port, wait_for_port
from tests.rayjobs.test_train_classifier import COMMON, ROOT, comments, prepared

__all__ = ["comments", "prepared"]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
RAY = Path(sys.executable).with_name("ray")


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[dict[str, str]]:
    with started_head(RAY, tmp_path_factory.mktemp("ray")) as environment:
        yield environment


@contextmanager
def started_head(ray: Path, folder: Path, **more: str) -> Iterator[dict[str, str]]:
    """A head of its own; ended by SIGTERM to its own process, never by `ray stop`, which ends every cluster here.

    Args:
        more: environment variables of the head.
    """
    dashboard, port = free_port(), free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-for-this-test-only-0123456789"} | more
    process = subprocess.Popen(
        [
            str(ray), "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1",
            f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}",
            f"--temp-dir={folder}", "--num-cpus=2",
            f"--dashboard-agent-listen-port={free_port()}", f"--dashboard-agent-grpc-port={free_port()}",
        ],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_port(dashboard)
    try:
        yield environment | {
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
            "HEAD": f"127.0.0.1:{port}",
            "PID": str(process.pid),
        }
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        process.terminate()
        for left in psutil.wait_procs(family, timeout=5)[1]:
            left.kill()
        process.wait()


def submit(
    head: dict[str, str], *words: str, options: tuple[str, ...] = (), python: str = sys.executable, seconds: int = 240
) -> subprocess.CompletedProcess[str]:
    """Submit `rayjobs.…` as README shows; without options the head's own environment has the dependencies, as a
    container image would.

    A head answers before its job agent is up, hence the second tries."""
    command = [str(RAY), "job", "submit", "--working-dir", ".", *options, "--", python, "-m", *words]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(command, env=head, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(1)


def data_words(comments: Path, storage: Path) -> list[str]:
    """Preparing data, the quickest of the jobs."""
    words = ["rayjobs.prepare_data", "files", "--data.source", str(comments), "--data.label-columns", "toxic", "insult"]
    return [*words, "--run.storage", str(storage), "--run.name", "run"]


def test_a_submitted_job_runs_and_its_log_says_where_the_results_are(head, comments: Path, tmp_path) -> None:
    done = submit(head, *data_words(comments, tmp_path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert f"{tmp_path}/run/report.html" in done.stdout
    assert "succeeded" in done.stdout
    assert (tmp_path / "run" / "COMPLETE").exists()


@pytest.mark.slow
def test_a_submitted_job_trains(head, prepared: Path, tmp_path) -> None:
    words = ["--run.storage", str(tmp_path), "--run.name", "run", *COMMON, "--optimiser.max-steps", "8"]
    done = submit(head, "rayjobs.train_classifier", "minilm", "--data.source", str(prepared), *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert f"report:   {tmp_path}/run/report.html" in done.stdout
    assert (tmp_path / "run" / "COMPLETE").exists()


def test_a_command_joins_the_cluster_of_ray_address(head, comments: Path, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *data_words(comments, tmp_path)],
        env=head | {"RAY_ADDRESS": head["HEAD"]}, cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert (tmp_path / "run" / "COMPLETE").exists()


def test_a_relative_path_stops_the_job_with_the_remedy(head, prepared: Path) -> None:
    done = submit(head, "rayjobs.train_classifier", "minilm", "--data.source", str(prepared), "--run.storage", "runs")
    assert done.returncode != 0
    assert "run.storage is the relative path 'runs'" in done.stdout
    assert "give an absolute path" in done.stdout


def test_without_the_token_nobody_gets_in(head, comments: Path, tmp_path) -> None:
    stranger = {key: value for key, value in head.items() if key != "RAY_AUTH_TOKEN"} | {"HOME": "/nonexistent"}
    done = submit(stranger, *data_words(comments, tmp_path))
    assert done.returncode != 0
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_runtime_env_brings_the_dependencies(prepared: Path, tmp_path, tmp_path_factory) -> None:
    """A head with Ray and nothing else; constraints.txt, as README names it, brings the rest (several GB)."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv" / "bin"
    install = [
        str(binaries / "pip"),
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
        "ray[default]",
    ]
    subprocess.run(install, check=True)
    assert subprocess.run([str(binaries / "python"), "-c", "import torch"], capture_output=True).returncode != 0
    words = ["--run.storage", str(tmp_path / "runs"), "--run.name", "run", *COMMON, "--optimiser.max-steps", "8"]
    environment = '{"pip": "constraints.txt", "config": {"setup_timeout_seconds": 1200}}'
    with started_head(binaries / "ray", tmp_path_factory.mktemp("ray")) as head:
        done = submit(
            head, "rayjobs.train_classifier", "minilm", "--data.source", str(prepared), *words,
            options=("--runtime-env-json", environment), python="python", seconds=1400,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert (tmp_path / "runs" / "run" / "COMPLETE").exists()

"""Training on real Ray: raw comments in, artifact out; killed workers and drivers change nothing; ZeRO."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

import detox
from detox.classifier.metrics import classification_metrics
from detox.classifier.settings import TrainClassifierConfig
from detox.classifier.worker import load_for_training
from detox.data.prepare import prepare
from detox.data.prepared import PreparedData
from detox.data.settings import DataSettings
from detox.governance.manifest import verify_manifest
from detox.runs.config import from_file
from detox.runs.storage import Storage

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

ROOT = Path(__file__).resolve().parents[2]
COMMON = [
    "--model.name", "tiny/bert", "--optimiser.lr", "2e-3", "--optimiser.epochs", "4", "--checkpoints.every-steps", "8",
    "--optimiser.precision", "fp32", "--stopping.patience", "3", "--tracking.log-every", "1",
    "--scaling.num-workers", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def comments(tmp_path_factory) -> Path:
    """480 raw comments, a third of them toxic, two labels; a duplicate, an empty row and a label out of range."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("comments")
    words = ["thanks", "edit", "page", "see", "talk", "please", "article", "source", "revert", "history"]
    lines = ["text,toxic,insult"]
    for row in range(480):
        toxic = rng.random() < 0.33
        text = " ".join([*rng.choice(words, rng.integers(4, 25)), "idiot" if toxic else "friend", str(row)])
        lines.append(f"{text},{int(toxic)},{int(toxic and rng.random() < 0.7)}")
    lines += [lines[1], ",1,1", "out of range,7,0"]
    (folder / "comments.csv").write_text("\n".join(lines) + "\n")
    return folder / "comments.csv"


@pytest.fixture(scope="module")
def prepared(comments: Path) -> Path:
    settings = DataSettings(source=(str(comments),), label_columns=("toxic", "insult"))
    return prepare(settings, comments.parent / "prepared", seed=1).folder


def command(storage: Path | str, name: str, source: Path | str, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "rayjobs.train_classifier", "minilm", "--data.source", str(source),
        "--run.storage", str(storage), "--run.name", name, *COMMON, *more,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {"PYTHONUNBUFFERED": "1"}


def run(storage: Path | str, name: str, source: Path | str, *more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(storage, name, source, *more), capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def weights(run_directory: Path) -> str:
    return hashlib.sha256((run_directory / "artifact" / "model.safetensors").read_bytes()).hexdigest()


def outcome(run_directory: Path) -> tuple[str, dict, list]:
    """What must be equal to the last bit: weights, figures, and the validation figure of every evaluation."""
    summary = json.loads((run_directory / "summary.json").read_text())
    events = [json.loads(line) for line in (run_directory / "metrics.jsonl").read_text().splitlines()]
    validations = [(e["step"], e["roc_auc/macro"]) for e in events if e["event"] == "validation"]
    return weights(run_directory), {k: v for k, v in summary.items() if k.startswith("test/")}, validations


@pytest.fixture(scope="module")
def from_raw(tmp_path_factory, comments: Path) -> tuple[Path, str]:
    """A run from raw comments to the report, and what it said."""
    storage = tmp_path_factory.mktemp("uninterrupted")
    done = run(storage, "run", comments, "--data.label-columns", "toxic", "insult")
    return storage / "run", done.stdout


@pytest.fixture(scope="module")
def uninterrupted(from_raw: tuple[Path, str]) -> Path:
    return from_raw[0]


@pytest.fixture(scope="module")
def its_data(uninterrupted: Path) -> Path:
    """The prepared data of that run, on which others are to end where it ended."""
    return next((uninterrupted.parent / "stages").glob("data-*"))


@pytest.fixture
def started(tmp_path, its_data: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The same run, started in the background."""
    driver = subprocess.Popen(command(tmp_path, "run", its_data), env=environment(), stdout=subprocess.DEVNULL)
    yield driver, tmp_path / "run"
    driver.kill()
    driver.wait()


def wait_for_step(run_directory: Path, step: int, driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert driver.poll() is None, "the run ended before it could be interrupted"
        metrics = run_directory / "metrics.jsonl"
        if metrics.exists() and any(f'"step": {at},' in metrics.read_text() for at in range(step, step + 4)):
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached in three minutes")


def train_workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(driver.pid).children(recursive=True)
    return [child for child in children if "RayTrainWorker" in " ".join(child.cmdline())]


def test_raw_comments_in_artifact_out(comments: Path, from_raw: tuple[Path, str], its_data: Path) -> None:
    directory, said = from_raw
    assert f"report:   {directory}/report.html" in said
    summary = json.loads((directory / "summary.json").read_text())
    again = measured_again(directory, its_data)  # in other batches: rounding may swap a few of so tiny a model's rows
    assert summary["test/roc_auc/macro"] == pytest.approx(again, abs=0.005)
    assert "baseline/roc_auc/macro" in summary
    assert verify_manifest(directory / "artifact")["classification"] == "open"
    rejects = json.loads((its_data / "dataset.json").read_text())["rules"]
    assert {"exact_duplicate", "label_invalid"} <= rejects.keys()
    repeated = run(directory.parent, "run", comments, "--data.label-columns", "toxic", "insult")
    assert "already complete" in repeated.stdout


def measured_again(directory: Path, prepared: Path) -> float:
    """Macro ROC-AUC of the artifact, loaded as a user would, on the test part."""
    data = PreparedData.open(prepared)
    test = data.part("test")
    predicted = detox.Classifier.load(str(directory)).predict(test.texts)
    return classification_metrics(predicted.probabilities, test.labels_NL, data.labels)["roc_auc/macro"]


def kill_a_worker(driver: subprocess.Popen[bytes], directory: Path) -> str:
    """One of the two, at a step, both random for each run of the suite."""
    moment = int(time.time())
    rank, step = moment % 2, 10 + moment // 2 % 12
    wait_for_step(directory, step, driver)
    workers = train_workers(driver)
    assert len(workers) == 2
    workers[rank].send_signal(signal.SIGKILL)
    return f"killed worker {rank} at step {step}"


def test_a_killed_worker_and_then_a_killed_driver_change_nothing(started, uninterrupted: Path, its_data: Path) -> None:
    """The workers start again by themselves, the whole by the same command."""
    driver, directory = started
    what = kill_a_worker(driver, directory)
    wait_for_step(directory, 30, driver)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    run(directory.parent, "run", its_data)
    assert outcome(directory) == outcome(uninterrupted), what
    psutil.wait_procs(children, timeout=30)


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(started, uninterrupted: Path) -> None:
    driver, directory = started
    what = kill_a_worker(driver, directory)
    assert driver.wait(timeout=240) == 0
    assert outcome(directory) == outcome(uninterrupted), what


@pytest.mark.slow
def test_an_object_store_holds_the_run_and_what_it_resumes_from(
    bucket, its_data: Path, uninterrupted: Path, tmp_path
) -> None:
    """Prepared data, checkpoints, metrics and artifact on S3; the driver killed after a checkpoint, and again."""
    storage = Storage(bucket.format("training"))
    storage.upload(its_data, "prepared")
    words = command(storage.uri, "run", storage.child("prepared").uri)
    driver = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 180
        while "step-0000016" not in storage.child("run", "checkpoints").names():
            assert driver.poll() is None, "the run ended before it could be interrupted"
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.1)
    finally:
        driver.kill()
        driver.wait()
    run(storage.uri, "run", storage.child("prepared").uri)
    local = storage.child("run").localise(tmp_path / "from-s3")
    assert outcome(local) == outcome(uninterrupted)
    assert verify_manifest(local / "artifact")["classification"] == "open"


ZERO = ["--optimiser.head-lr-factor", "1", "--optimiser.max-steps", "12"]
"""DeepSpeed has one learning rate; so few steps that rounding, which Adam magnifies, has not grown."""


def parameters(weights: Mapping[str, torch.Tensor]) -> np.ndarray:
    """All weights, end to end."""
    return np.concatenate([weights[name].double().flatten().numpy() for name in sorted(weights)])


def trained(run_directory: Path) -> np.ndarray:
    """Weights after 8 steps; the artifact's are calibrated, each by its own temperature."""
    return parameters(load_file(run_directory / "checkpoints" / "step-0000008" / "model.safetensors"))


@pytest.fixture(scope="module")
def by_ddp(tmp_path_factory, prepared: Path) -> tuple[np.ndarray, float]:
    """Weights after 8 steps by DDP, and how far they have come."""
    storage = tmp_path_factory.mktemp("ddp")
    run(storage, "run", prepared, *ZERO)
    config = from_file(TrainClassifierConfig, storage / "run" / "config.json")
    start = load_for_training(config, PreparedData.open(prepared)).model.state_dict()
    weights = trained(storage / "run")
    return weights, float(np.linalg.norm(weights - parameters(start)))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_zero_trains_as_ddp_does(tmp_path, prepared: Path, by_ddp, strategy: str) -> None:
    """DeepSpeed over gloo on CPU, for real: the weights end where those of DDP do, within a hundredth of the way."""
    run(tmp_path, "run", prepared, *ZERO, "--optimiser.strategy", strategy)
    ours, (ddp, way) = trained(tmp_path / "run"), by_ddp
    assert ours.shape == ddp.shape
    assert np.linalg.norm(ours - ddp) < 0.01 * way


@pytest.mark.slow
def test_zero_trains_in_bf16(tmp_path, prepared: Path) -> None:
    run(tmp_path, "run", prepared, *ZERO, "--optimiser.strategy", "zero2", "--optimiser.precision", "bf16")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 <= summary["test/roc_auc/macro"] <= 1
    assert np.isfinite(trained(tmp_path / "run")).all()

"""From the best checkpoint to artifact, baseline, summary and report, on a tiny model trained in this process."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from detox.classifier.engine import Engine
from detox.classifier.evaluation import ClassifierEvaluation
from detox.classifier.face import Classifier
from detox.classifier.finish import evaluate, labelled
from detox.classifier.settings import TrainClassifierConfig
from detox.classifier.tfidf import TfidfScorer
from detox.classifier.worker import load_for_training
from detox.data.prepare import prepare
from detox.data.prepared import PreparedData
from detox.data.settings import CleaningSettings, DataSettings
from detox.governance.manifest import ManifestError, file_digests, verify_manifest, write_manifest
from detox.models.loading import load_sequence_classifier
from detox.runs.config import digest, override
from detox.runs.environment import environment, hardware
from rayjobs.train_classifier import minilm, run

LABELS = ("toxic", "insult")
WORDS = ("thanks", "edit", "page", "see", "talk", "please", "article", "source", "revert", "history")
ROWS = 400


def comments() -> list[str]:
    """csv lines: a third toxic, most of these insults; one word decides, so that TF-IDF learns it at once. Each
    twentieth insult is missing."""
    rng = np.random.default_rng(0)
    lines = ["text,toxic,insult"]
    for row in range(ROWS):
        toxic = rng.random() < 0.33
        text = " ".join([*rng.choice(WORDS, rng.integers(4, 12)), "idiot" if toxic else "friend", str(row * 7919)])
        insult = "" if row % 20 == 0 else int(toxic and rng.random() < 0.7)
        lines.append(f"{text},{int(toxic)},{insult}")
    return lines


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared with S3's cleaning, which is not the one that a config names by default."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "comments.csv").write_text("\n".join(comments()) + "\n", encoding="utf-8")
    settings = DataSettings(
        source=(str(folder / "comments.csv"),),
        label_columns=LABELS,
        cleaning=CleaningSettings(preset="cleanspeech", near_duplicates=False),
    )
    return prepare(settings, folder / "prepared", seed=1).folder


@pytest.fixture(scope="module")
def config(prepared: Path) -> TrainClassifierConfig:
    """A learning rate of nearly nothing: the model stays as random as it was made, and its baseline wins."""
    changes = {
        "data.source": (str(prepared),),
        "model.name": "tiny/bert",
        "model.max_length": 32,
        "optimiser.lr": 1e-9,
        "optimiser.max_steps": 3,
        "scaling.num_workers": 0,
        "run.name": "losing",
        "run.storage": str(prepared.parent / "runs"),
    }
    return override(minilm(), changes)


@pytest.fixture(scope="module")
def finished(config: TrainClassifierConfig) -> Path:
    run(config, "minilm")
    return Path(config.run.storage) / config.run.name


@pytest.fixture(scope="module")
def again(
    config: TrainClassifierConfig, finished: Path, prepared: Path
) -> tuple[ClassifierEvaluation, torch.nn.Module]:
    """The evaluation made a second time from the run's checkpoint, and the checkpoint's model with its temperature."""
    data = PreparedData.open(prepared)
    base = load_for_training(config, data)
    checkpoint = next(finished.glob("checkpoints/checkpoint-*"))
    model = load_sequence_classifier(str(checkpoint)).model
    train = data.part("train")
    baseline = TfidfScorer.fit(train.texts, train.labels_NL, data.labels, config.run.seed)
    return evaluate(config, model, base, data, baseline), model


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_artifact_holds_what_it_promises(finished: Path) -> None:
    artifact = finished / "artifact"
    assert {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("detox.json", "README.md", "manifest.json"),
    } <= {path.name for path in artifact.iterdir()}
    described = read(artifact / "detox.json")
    assert (described["kind"], described["task"]) == ("classifier", "multi_label")
    assert (tuple(described["labels"]), described["max_length"]) == (LABELS, 32)
    config = read(artifact / "config.json")
    assert config["problem_type"] == "multi_label_classification"
    assert tuple(config["id2label"].values()) == LABELS
    manifest = verify_manifest(artifact)
    assert manifest["files"] == file_digests(artifact)
    assert {parent["name"] for parent in manifest["parents"]} == {"data", "tiny/bert"}


def test_a_changed_baseline_is_not_unpickled(finished: Path, tmp_path: Path) -> None:
    """The manifest finds it, and without one the digest beside the file."""
    folder = shutil.copytree(finished / "baseline", tmp_path / "baseline")
    with (folder / "baseline_pipeline.joblib").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ManifestError, match="changed after the manifest was signed"):
        TfidfScorer.load(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="was changed after it was written and is not loaded"):
        TfidfScorer.load(folder)


def test_the_cleaning_is_the_one_that_the_data_had(finished: Path, prepared: Path) -> None:
    """The config's own, `standard`, never touched these texts."""
    assert read(finished / "config.json")["data"]["cleaning"]["preset"] == "standard"
    assert read(finished / "artifact" / "detox.json")["cleaning"] == read(prepared / "dataset.json")["cleaning"]
    assert read(finished / "artifact" / "detox.json")["cleaning"]["preset"] == "cleanspeech"


def test_thresholds_are_those_of_the_report(
    finished: Path, again: tuple[ClassifierEvaluation, torch.nn.Module]
) -> None:
    evaluation, _ = again
    described, summary = read(finished / "artifact" / "detox.json"), read(finished / "summary.json")
    page = (finished / "report.html").read_text(encoding="utf-8")
    for choice in evaluation.thresholds:
        assert described["thresholds"][choice.label] == summary[f"threshold/{choice.label}"] == choice.threshold
        assert f"{choice.threshold:.3f}" in page


def test_the_temperature_is_folded_into_the_last_layer(
    finished: Path, again: tuple[ClassifierEvaluation, torch.nn.Module]
) -> None:
    """W/T and b/T of the checkpoint's W and b; every other weight as the checkpoint has it."""
    temperatures = read(finished / "artifact" / "detox.json")["temperature"]
    assert set(temperatures) == set(LABELS)
    summary = read(finished / "summary.json")
    assert temperatures == {label: summary[f"temperature/{label}"] for label in LABELS}
    scale_L1 = torch.tensor([[temperatures[label]] for label in LABELS])
    assert (scale_L1 - 1).abs().max() > 1e-3  # a test that can fail
    checkpoint = load_file(next(finished.glob("checkpoints/checkpoint-*")) / "model.safetensors")
    stored = load_file(finished / "artifact" / "model.safetensors")
    assert torch.allclose(stored["classifier.weight"] * scale_L1, checkpoint["classifier.weight"], atol=1e-6)
    assert torch.allclose(stored["classifier.bias"] * scale_L1[:, 0], checkpoint["classifier.bias"], atol=1e-6)
    for name in stored.keys() - {"classifier.weight", "classifier.bias"}:
        assert torch.equal(stored[name], checkpoint[name])


def test_the_face_predicts_what_the_evaluation_measured(
    finished: Path, prepared: Path, again: tuple[ClassifierEvaluation, torch.nn.Module]
) -> None:
    """`detox.Classifier` on the test texts, cleaning included (it changes nothing on cleaned text), within 1e-5."""
    evaluation, model = again
    test = labelled(PreparedData.open(prepared).part("test"))
    predictions = Classifier.load(str(finished)).predict(test.texts)
    assert predictions.labels == LABELS
    np.testing.assert_allclose(predictions.probabilities, evaluation.test_probabilities_NL, atol=1e-5)
    tokenizer = load_sequence_classifier(str(finished)).tokenizer
    folded_NL = Engine(model, tokenizer, max_length=32).probabilities(list(test.texts))
    np.testing.assert_allclose(predictions.probabilities, folded_NL, atol=1e-5)
    thresholds_L = [choice.threshold for choice in evaluation.thresholds]
    np.testing.assert_array_equal(predictions.flags, predictions.probabilities >= thresholds_L)


def test_the_baseline_loads_and_scores_as_measured(
    finished: Path, prepared: Path, again: tuple[ClassifierEvaluation, torch.nn.Module]
) -> None:
    evaluation, _ = again
    baseline = TfidfScorer.load(finished / "baseline")
    assert baseline.labels == LABELS
    texts = labelled(PreparedData.open(prepared).part("test")).texts
    assert evaluation.baseline_NL is not None
    np.testing.assert_allclose(baseline.score(texts).values_NL, evaluation.baseline_NL, atol=1e-6)


def test_the_summary_is_flat_and_finite(
    finished: Path, prepared: Path, again: tuple[ClassifierEvaluation, torch.nn.Module]
) -> None:
    summary = read(finished / "summary.json")
    words = {name: value for name, value in summary.items() if isinstance(value, str)}
    assert words.keys() == {"headline", "data"}
    assert words["data"] == str(prepared)
    figures = {name: value for name, value in summary.items() if name not in words}
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in figures.values())
    assert figures == pytest.approx(again[0].summary(), abs=1e-6)
    test = PreparedData.open(prepared).part("test")
    assert figures["test/rows/insult"] == (~np.isnan(test.labels_NL[:, 1])).sum() < len(test.labels_NL)


def test_the_report_says_plainly_that_the_model_does_not_win(finished: Path) -> None:
    summary = read(finished / "summary.json")
    assert summary["baseline/roc_auc/toxic"] > 0.99
    assert (summary["over_baseline/wins"], summary["over_baseline/difference"] < 0) == (False, True)
    assert summary["headline"].startswith("The model does not win, its baseline is better:")
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert 'class="callout bad" role="note">The model does not win, its baseline is better:' in page
    assert "The model does not win" in (finished / "artifact" / "README.md").read_text(encoding="utf-8")


def test_the_command_in_the_report_is_the_one_that_was_typed(
    config: TrainClassifierConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With quotes where the shell needs them; and without a baseline the report says that there is none."""
    monkeypatch.setattr("sys.argv", ["train_classifier.py", "minilm", "--run.name", "two words"])
    changes = {"run.name": "two words", "run.storage": str(tmp_path), "baseline": False, "optimiser.max_steps": 1}
    run(override(config, changes), "minilm")
    page = (tmp_path / "two words" / "report.html").read_text(encoding="utf-8")
    assert "python -m rayjobs.train_classifier minilm --run.name &#39;two words&#39;" in page
    assert "There is no comparison: no baseline was trained." in page
    assert not (tmp_path / "two words" / "baseline").exists()


def test_what_is_trained_from_a_research_only_run_is_research_only(
    config: TrainClassifierConfig, finished: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(finished / "artifact", base / "artifact")
    write_manifest(base / "artifact", {}, classification="research-only")
    changes = {"model.name": str(base), "run.storage": str(tmp_path), "baseline": False, "optimiser.max_steps": 1}
    run(override(config, changes), "minilm")
    manifest = verify_manifest(tmp_path / "losing" / "artifact")
    assert manifest["classification"] == "research-only"
    expected = {"name": str(base), "digest": digest(file_digests(base / "artifact")), "classification": "research-only"}
    assert expected in manifest["parents"]


def test_a_worker_on_another_machine_than_the_driver_is_recorded_and_shown(
    config: TrainClassifierConfig, finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "worker" not in read(finished / "environment.json")
    monkeypatch.setattr("detox.runs.rundir.environment", lambda: environment() | {"platform": "driver-1", "cpus": 999})
    run(override(config, {"run.storage": str(tmp_path), "baseline": False, "optimiser.max_steps": 1}), "minilm")
    noted = read(tmp_path / "losing" / "environment.json")
    assert (noted["cpus"], noted["worker"]) == (999, hardware())
    page = (tmp_path / "losing" / "report.html").read_text(encoding="utf-8")
    assert hardware()["platform"] in page
    assert "driver-1" not in page


def test_a_run_whose_end_failed_trains_no_further(
    config: TrainClassifierConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The evaluation fails once; the same command evaluates the checkpoint that is there."""
    config = override(config, {"run.storage": str(tmp_path), "optimiser.lr": 1e-3})
    whole: Callable[..., ClassifierEvaluation] = evaluate

    def fails(*_: object) -> ClassifierEvaluation:
        raise OSError(28, "no space left")

    monkeypatch.setattr("detox.classifier.finish.evaluate", fails)
    with pytest.raises(OSError, match="no space left"):
        run(config, "minilm")
    directory = tmp_path / "losing"
    checkpoint = next(directory.glob("checkpoints/checkpoint-*")) / "model.safetensors"
    before = (checkpoint.stat().st_mtime_ns, (directory / "metrics.jsonl").read_text(encoding="utf-8"))
    assert not (directory / "COMPLETE").exists()
    monkeypatch.setattr("detox.classifier.finish.evaluate", whole)
    run(config, "minilm")
    assert (directory / "COMPLETE").exists()
    assert (checkpoint.stat().st_mtime_ns, (directory / "metrics.jsonl").read_text(encoding="utf-8")) == before

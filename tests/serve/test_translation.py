"""From our scores to Perspective's: the curve that fits, its file, and what it does to an answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from serve.errors import ApiError
from serve.local import LocalArgs, check
from serve.perspective import analyze
from serve.settings import ClassifierSettings, GatewaySettings
from serve.translation import MOST_KNOTS, Curve, Translation, fit
from tests.serve.judges import MODEL, WordJudge
from tests.serve.models import write_classifier

DOUBLE = Curve((0.0, 0.5, 1.0), (0.0, 0.8, 1.0))
BODY = {"comment": {"text": "you idiot"}, "languages": ["en"], "requestedAttributes": {"INSULT": {}, "THREAT": {}}}


def test_a_curve_is_straight_between_its_knots_and_flat_beyond() -> None:
    assert [DOUBLE(score) for score in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([0.0, 0.4, 0.8, 0.9, 1.0])
    assert Curve((0.2, 0.4), (0.1, 0.3))(0.9) == pytest.approx(0.3)


def test_the_fitted_curve_rises_and_finds_a_known_relation() -> None:
    """Theirs is the square root of ours, but for noise of a standard deviation of 0.02."""
    rng = np.random.default_rng(0)
    ours_N = rng.random(4000)
    curve = fit(ours_N, np.clip(np.sqrt(ours_N) + rng.normal(0, 0.02, 4000), 0, 1))
    assert len(curve.ours) <= MOST_KNOTS
    assert np.all(np.diff(curve.theirs) >= 0)
    for score in (0.1, 0.4, 0.8):
        assert curve(score) == pytest.approx(score**0.5, abs=0.03)


def test_as_many_texts_reach_a_threshold_as_on_the_other_scale() -> None:
    """However little one score says of the other, and where half of ours are the same."""
    rng = np.random.default_rng(0)
    ours_N, theirs_N = np.maximum(rng.random(4000), 0.5), rng.beta(1, 4, 4000)
    curve = fit(ours_N, theirs_N)
    assert np.all(np.diff(curve.ours) > 0)
    mapped_N = np.array([curve(score) for score in ours_N])
    for threshold in (0.4, 0.6, 0.8):
        assert (mapped_N >= threshold).mean() == pytest.approx((theirs_N >= threshold).mean(), abs=0.01)


def test_scores_that_are_all_the_same_get_the_middle_of_what_theirs_are() -> None:
    """A tenth of ours is at 1: that is the highest tenth of theirs, of which none is made the highest of all."""
    ours_N, theirs_N = np.minimum(np.arange(1000) / 900, 1), np.arange(1000) / 1000
    assert fit(ours_N, theirs_N)(1.0) == pytest.approx(0.95, abs=0.01)


def test_a_mapping_comes_back_from_its_file(tmp_path: Path) -> None:
    written = Translation({"v1": {"INSULT": DOUBLE}, "v2": {}})
    written.save(tmp_path / "mapping.json")
    read = Translation.load(str(tmp_path / "mapping.json"))
    assert read.curves == written.curves
    assert read("v1", "INSULT", 0.25) == pytest.approx(0.4)
    assert read("v2", "INSULT", 0.25) == 0.25
    with pytest.raises(ApiError, match="no mapping of scores for model version v3"):
        read("v3", "INSULT", 0.25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is no mapping of scores"),
        ('{"v1": {"INSULT": {"ours": [0, 1]}}}', "is no mapping of scores"),
        ('{"v1": {"INSULT": {"ours": [0, 1], "theirs": [1, 0]}}}', "INSULT for version v1 must rise"),
        ('{"v1": {"INSULT": {"ours": [0, 1], "theirs": [1]}}}', "lists must be of one length"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mapping.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        Translation.load(str(tmp_path / "mapping.json"))


def test_an_answer_is_on_perspectives_scale_spans_and_threshold_too() -> None:
    translate = Translation({MODEL.version: {"INSULT": DOUBLE}})
    judge = WordJudge({"idiot": ("insult", 0.5)})
    body = BODY | {"requestedAttributes": {"INSULT": {"scoreThreshold": 0.7}, "THREAT": {}}}
    scores = asyncio.run(analyze(json.dumps(body).encode(), judge, translate))["attributeScores"]
    assert scores["INSULT"]["summaryScore"]["value"] == pytest.approx(0.8)
    assert scores["INSULT"]["spanScores"][0]["score"]["value"] == pytest.approx(0.8)
    assert scores["THREAT"]["summaryScore"]["value"] == pytest.approx(0.1)


def test_a_mapping_of_another_model_is_known_before_anything_starts(tmp_path: Path) -> None:
    path, run = tmp_path / "mapping.json", write_classifier(tmp_path / "forum")
    Translation({"other": {}}).save(path)
    gateway = GatewaySettings(perspective_mapping=str(path))
    settings = LocalArgs(classifier=ClassifierSettings(model=str(run)), gateway=gateway)
    with pytest.raises(ValueError, match=r"holds mappings for other, and [0-9a-f]{12} is served"):
        check(settings)

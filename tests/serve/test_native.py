"""Our own API's figures: how severe a text is, what becomes of it, and which languages are meant."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from serve.errors import ApiError
from serve.judge import Model
from serve.native import ExplainRequest, action, explain, languages, severity
from serve.settings import Bands
from tests.serve.judges import MODEL, WordJudge


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [(0.0, 0.4, 0.0), (0.2, 0.4, 0.25), (0.4, 0.4, 0.5), (0.7, 0.4, 0.75), (1.0, 0.4, 1.0), (0.5, 1.0, 0.25),
     (1.0, 1.0, 1.0), (0.0, 0.0, 0.5)],
)  # fmt: skip
def test_severity_is_half_at_the_threshold_and_one_at_certainty(
    probability: float, threshold: float, expected: float
) -> None:
    assert severity(probability, threshold) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("worst", "expected"), [(0.49, "allow"), (0.5, "review"), (0.79, "review"), (0.8, "block"), (1.0, "block")]
)
def test_a_band_begins_at_its_bound(worst: float, expected: str) -> None:
    assert action(worst, Bands(review=0.5, block=0.8)) == expected


def test_bands_that_meet_leave_nothing_to_review() -> None:
    assert action(0.5, Bands(review=0.5, block=0.5)) == "block"


def test_languages_are_one_for_all_or_one_each() -> None:
    assert languages(None, 2) == ["", ""]
    assert languages("en-GB", 2) == ["en", "en"]
    assert languages(["en", ""], 2) == ["en", ""]
    for wrong, said in ((["en"], "2 texts need one each, or one for all, got 1"), ("english!", "english!")):
        with pytest.raises(ApiError, match=said):
            languages(wrong, 2)


def test_texts_that_two_versions_explained_are_asked_for_again() -> None:
    class Replaced(WordJudge):
        async def explain(self, text: str, label: str, method: str) -> tuple[Model, Mapping[str, Any]]:
            model, found = await super().explain(text, label, method)
            return model._replace(version=text), found

    judge = Replaced({}, MODEL)
    with pytest.raises(ApiError, match="is being replaced") as error:
        asyncio.run(explain(ExplainRequest(input=["v1", "v2"]), judge))
    assert (error.value.kind, error.value.retry_after) == ("unavailable", 1)

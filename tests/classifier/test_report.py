"""The classifier's report and model card hold what they promise, for each task and for poor evaluations."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import yaml

from detox.classifier.card import model_card
from detox.classifier.examples import Example
from detox.classifier.explanation import Explanation, Span
from detox.classifier.report import RunFacts, classifier_report
from tests.classifier.test_evaluation import ROWS, evaluation

FACTS = RunFacts(
    name="train-classifier-demo-s42",
    command="python -m rayjobs.train_classifier demo",
    config={"model": {"name": "embedded/minilm"}},
    environment={"python": "3.11.7", "packages": {"torch": "2.13.0"}, "git": {"commit": "abc123"}},
    dataset={
        "rows": {"train": 1000, "validation": 100, "test": 100},
        "sources": [{"name": "synthetic", "licence": "CC0-1.0", "revision": "1"}],
        "rules": {"pii": 12},
    },
    events=(
        {"event": "train", "step": 10, "loss": 0.5},
        {"event": "train", "step": 20, "loss": None},
        {"event": "validation", "step": 20, "loss": 0.4, "roc_auc/macro": 0.9},
    ),
    masked_words=("idiot",),
    notices=("The corpus is synthetic.",),
)


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", page)


def test_classification_report_has_every_section() -> None:
    page = classifier_report(evaluation(0.55, 0.8), FACTS).render()
    assert headings(page) == [
        "Result",
        "Ranking",
        "Decision threshold",
        "Confusion",
        "Calibration",
        "Sample errors",
        "Training",
        "Data",
        "How to make it again",
    ]
    for wanted in ("The corpus is synthetic.", "The model beats its baseline", "CC0-1.0", "abc123", FACTS.command):
        assert wanted in page


def test_a_loss_is_shown_in_the_colour_of_a_warning_not_of_success() -> None:
    assert (
        'class="callout bad" role="note">The model does not win'
        in classifier_report(evaluation(0.8, 0.55), FACTS).render()
    )
    assert (
        'class="callout warning" role="note">The model does not win'
        in classifier_report(evaluation(0.6, 0.6), FACTS).render()
    )


def test_regression_report_scatters_instead_of_ranking() -> None:
    page = classifier_report(evaluation(0.1, 0.4, task="regression", temperatures=()), FACTS).render()
    assert "Predicted and true scores" in headings(page)
    assert not {"Ranking", "Calibration"} & set(headings(page))
    for wanted in ("mean squared error", "mean absolute error", "R²", "Spearman"):
        assert f">{wanted}</th>" in page


def test_sample_errors_are_the_surest_and_masked() -> None:
    """Row 0 is clean and scored highest: it opens the false alarms. Row 1 is toxic and scored lowest: it is missed."""
    base = evaluation(0.3, None)
    probabilities_NL, targets_NL = base.test_probabilities_NL.copy(), base.test_targets_NL.copy()
    probabilities_NL[0, 0], targets_NL[0, 0] = 0.999, 0
    probabilities_NL[1, 0], targets_NL[1, 0] = 0.001, 1
    texts = ["surely no idiot here", "a hidden insult", *base.test_texts[2:]]
    page = classifier_report(
        evaluation(0.3, None, test_probabilities_NL=probabilities_NL, test_targets_NL=targets_NL, test_texts=texts),
        FACTS,
    ).render()
    section = page[page.index('id="sample-errors"') : page.index('id="training"')]
    first_alarm, first_miss = section.index("surely no i**** here"), section.index("a hidden insult")
    assert first_alarm < section.index("Missed") < first_miss
    assert "idiot" not in section


def test_heat_maps_shade_words_and_mask_offensive_ones() -> None:
    spans = (Span(0, 3, "you", -0.1), Span(4, 9, "idiot", 0.4))
    explained = [(Example("missed", 0.2, 0, "insult"), Explanation("you idiot!", "insult", "shap", 0.2, spans))]
    page = classifier_report(evaluation(0.6, None), FACTS, explained).render()
    section = page[page.index('id="which-words-made-the-score"') : page.index('id="sample-errors"')]
    assert "insult: 0.200 (missed)" in section
    assert '<mark class="for" style="--share: 60%">i****</mark>!' in section
    assert '<mark class="against" style="--share: 15%">you</mark> ' in section
    assert "idiot" not in section
    assert "which-words" not in classifier_report(evaluation(0.6, None), RunFacts("bare", "x"), explained).render()


def test_without_words_to_mask_no_comment_is_printed() -> None:
    page = classifier_report(evaluation(0.8, None), RunFacts("bare", "command")).render()
    assert "Comments are left out" in page
    assert "comment 1" not in page


def test_poor_evaluations_still_make_a_page() -> None:
    """No baseline, labels of one class or with no row at all, no events, no data facts."""
    targets_NL = np.zeros((ROWS, 2), np.float32)
    targets_NL[:, 1] = np.nan
    poor = evaluation(0.5, None, test_targets_NL=targets_NL, validation_targets_ML=targets_NL)
    page = classifier_report(poor, RunFacts("poor", "command")).render()
    assert "There is no comparison: no baseline was trained." in page
    assert "one class only: toxic, insult." in page
    assert not {"Ranking", "Training", "Data"} & set(headings(page))


def test_one_label_draws_the_baseline_beside_the_model() -> None:
    both = evaluation(0.55, 0.8)
    assert both.baseline_NL is not None
    one = evaluation(
        0.55,
        0.8,
        labels=("toxic",),
        test_targets_NL=both.test_targets_NL[:, :1],
        test_uncalibrated_NL=both.test_uncalibrated_NL[:, :1],
        test_probabilities_NL=both.test_probabilities_NL[:, :1],
        validation_targets_ML=both.validation_targets_ML[:, :1],
        validation_probabilities_ML=both.validation_probabilities_ML[:, :1],
        thresholds=both.thresholds[:1],
        temperatures=both.temperatures[:1],
        baseline_NL=both.baseline_NL[:, :1],
    )
    page = classifier_report(one, FACTS).render()
    assert ">TF-IDF</text>" in page
    assert 'scope="row">macro' not in page


def test_the_same_evaluation_gives_the_same_page() -> None:
    first, again = (classifier_report(evaluation(0.55, 0.8), FACTS).render() for _ in range(2))
    assert first == again


def card(
    base_model: str = "microsoft/mdeberta-v3-base", base_revision: str = "a0484667", languages: Sequence[str] = ()
) -> str:
    return model_card(
        evaluation(0.55, 0.8),
        FACTS,
        base_model=base_model,
        base_revision=base_revision,
        max_length=256,
        languages=languages,
        licence="mit",
    )


def test_card_front_matter_is_what_the_hub_reads() -> None:
    front = yaml.safe_load(card().split("---")[1])
    assert front["license"] == "mit"
    assert "language" not in front
    assert front["base_model"] == "microsoft/mdeberta-v3-base"
    assert front["pipeline_tag"] == "text-classification"
    assert front["metrics"] == ["roc_auc", "f1"]
    (metric, _) = front["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == round(evaluation(0.55, 0.8).test_figures()["roc_auc/macro"], 4)


def test_card_names_the_languages_it_is_told() -> None:
    assert yaml.safe_load(card(languages=("en", "es")).split("---")[1])["language"] == ["en", "es"]


def test_card_names_no_base_model_that_the_hub_does_not_know() -> None:
    text = card("embedded/minilm", base_revision="")
    assert "base_model" not in yaml.safe_load(text.split("---")[1])
    assert "fine-tuned from `embedded/minilm`." in text


def test_card_says_what_it_is_for_and_what_it_is_not() -> None:
    text = card()
    choice = evaluation(0.55, 0.8).thresholds[0]
    for wanted in (
        "## Intended use and limits",
        "It is not meant to ban",
        "The corpus is synthetic.",
        "synthetic, licence CC0-1.0, revision 1",
        "Rows: train 1,000, validation 100, test 100",
        "The model beats its baseline",
        f"{choice.threshold:.4f} |",
        "max_length=256",
    ):
        assert wanted in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 5


def test_card_of_a_regressor() -> None:
    result = evaluation(0.1, 0.4, task="regression", temperatures=())
    text = model_card(result, FACTS, base_model="a/b", max_length=128)
    assert yaml.safe_load(text.split("---")[1])["metrics"] == ["mse", "mae", "spearman"]
    assert "A regressor of toxicity" in text
    assert "Spearman" in text

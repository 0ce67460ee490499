"""Explanations: the methods' own laws, positions in the raw text, long texts, and the heat map."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
import torch

from detox.classifier.engine import Engine
from detox.classifier.explain import eager_attention, explain, log_odds
from detox.classifier.explanation import Explanation, Span, merge_spans
from detox.classifier.model_scorers import TransformerScorer
from detox.models import tiny

METHODS = ("integrated_gradients", "shap", "attention")
FAMILIES = ("bert", "deberta-v2", "xlm-roberta", "gpt2")


def scorer(name: str = "bert", **options: Any) -> TransformerScorer:
    built = tiny.build(name, head="sequence_classification", num_labels=2, initializer_range=0.2)
    return TransformerScorer(Engine(*built, **options), ["toxic", "insult"], clean=clean)


def clean(text: str) -> str:
    """What cleaning does to positions: a longer placeholder, folded white space."""
    return " ".join(re.sub(r"\S+@\S+", "[EMAIL]", text).split())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_spans_are_words_of_the_raw_text(family: str, method: str) -> None:
    text = "Well,   mail bob@example.org  you idiot"
    explanation = explain(scorer(family), text, "insult", method)
    assert explanation.text == text
    assert all(text[span.begin : span.end] == span.text for span in explanation.spans)
    ends = [(span.begin, span.end) for span in explanation.spans]
    assert all(before[1] <= after[0] for before, after in pairwise(ends))
    assert {"bob@example.org", "you", "idiot"} <= {span.text for span in explanation.spans}
    assert explanation.probability == pytest.approx(float(scorer(family).score([text]).column("insult")[0]), abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_integrated_gradients_are_complete(family: str) -> None:
    """The weights of all tokens sum to logit(text) - logit(padding) (Sundararajan et al. 2017, proposition 1), but for
    `delta`, the error of the numerical integral. Special tokens are the same on both sides, so the words carry it all.
    """
    model = scorer(family)
    text = "you are an idiot"
    explanation = explain(model, text, "toxic")
    ids_BT, _ = model.engine.pad(model.engine.windows([text]).ids)
    special_T = torch.tensor([i in model.engine.tokenizer.all_special_ids for i in ids_BT[0].tolist()])
    embedding = model.engine.model.get_input_embeddings()
    padding_BTD = embedding(torch.where(special_T, ids_BT, model.engine.tokenizer.pad_token_id))
    with torch.inference_mode():
        logits = [model.engine.model(inputs_embeds=e).logits[0, 0].item() for e in (embedding(ids_BT), padding_BTD)]
    missing = sum(span.weight for span in explanation.spans) - (logits[0] - logits[1])
    assert missing == pytest.approx(explanation.delta, abs=1e-4)
    assert abs(explanation.delta) < 0.02 * abs(logits[0] - logits[1])


def test_log_odds_of_both_activations() -> None:
    """Softmax of 3 logits: p = e^z / sum, so p / (1 - p) = e^z over the sum of the other two. Sigmoid: the logit."""
    logits_BL = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    softmax_BL = torch.softmax(logits_BL, dim=-1)
    for column in range(3):
        odds_B = log_odds(logits_BL, column, "softmax")
        assert torch.allclose(odds_B, torch.logit(softmax_BL[:, column]), atol=1e-6)
        assert torch.equal(log_odds(logits_BL, column, "sigmoid"), logits_BL[:, column])


def test_labels_that_exclude_each_other_share_their_words() -> None:
    """Of two softmax labels one has the odds of the other upside down, so a word speaks for the one as much as against
    the other. The bare logits need not: softmax does not see what shifts both."""
    model = scorer(activation="softmax")
    first, second = (explain(model, "you are an idiot", label) for label in model.labels)
    assert [span.weight for span in first.spans] == pytest.approx([-span.weight for span in second.spans], abs=1e-5)


@pytest.mark.parametrize("text", ["idiot", "you are an idiot"])
def test_shap_values_are_complete(text: str) -> None:
    """They sum to p(text) - p(all words masked) (Lundberg and Lee 2017, local accuracy)."""
    model = scorer()
    explanation = explain(model, text, "toxic", "shap")
    masked = " ".join(["[MASK]"] * len(explanation.spans))
    present, absent = model.engine.probabilities([text, masked])[:, 0]
    assert sum(span.weight for span in explanation.spans) == pytest.approx(present - absent, abs=1e-5)


def test_attention_is_a_share_and_the_kernel_is_put_back() -> None:
    """Rollout rows are products of stochastic matrices, so they sum to 1; special tokens keep a part of it."""
    model = scorer()
    before = model.engine.model.config._attn_implementation
    weights = [span.weight for span in explain(model, "you are an idiot", "toxic", "attention").spans]
    assert all(weight >= 0 for weight in weights)
    assert 0 < sum(weights) < 1
    assert model.engine.model.config._attn_implementation == before
    with eager_attention(model.engine.model):
        assert model.engine.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("method", METHODS)
def test_a_long_text_is_explained_by_its_highest_window(method: str) -> None:
    model = scorer(max_length=16)
    words = ["thank", "you", "for", "the", "page"] * 8
    text = " ".join(words)
    explanation = explain(model, text, "toxic", method)
    windows_WL = model.engine.window_probabilities(model.engine.windows([text]).ids)
    assert explanation.probability == pytest.approx(float(windows_WL[:, 0].max()))
    first = int(windows_WL[:, 0].argmax()) * 11  # windows of 14 tokens, 3 of them shared; these words are one token
    begins = [match.start() for match in re.finditer(r"\S+", text)]
    assert [span.begin for span in explanation.spans] == begins[first : first + 14]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", ["", "  \n", "\u200d"])
def test_a_text_without_words_has_no_spans(text: str, method: str) -> None:
    assert explain(scorer(), text, "toxic", method).spans == ()


def test_chinese_is_explained_character_by_character() -> None:
    built = tiny.build("deberta-v2", ["你 真 是 个 笨 蛋"], head="sequence_classification", num_labels=1)
    spans = explain(TransformerScorer(Engine(*built), ["toxic"]), "你真是个笨蛋", "toxic").spans
    assert [span.text for span in spans] == list("你真是个笨蛋")


def test_the_highest_label_is_the_default_and_errors_help() -> None:
    model = scorer()
    scores_L = model.score(["you idiot"]).values_NL[0]
    assert explain(model, "you idiot").label == model.labels[int(scores_L.argmax())]
    with pytest.raises(ValueError, match="has no label 'rude': choose one of toxic, insult"):
        explain(model, "idiot", "rude")
    with pytest.raises(ValueError, match="no method 'lime': choose one of integrated_gradients, shap, attention"):
        explain(model, "idiot", "toxic", "lime")


def test_overlapping_spans_are_joined_and_empty_ones_left_out() -> None:
    """[0, 3) and [2, 5) overlap: one span [0, 5) of weight 0.5 + 0.25; [5, 6) only touches it."""
    spans = merge_spans("abcdef", [((2, 5), 0.25), ((0, 3), 0.5), (None, 9.0), ((3, 3), 9.0), ((5, 6), 1.0)])
    assert spans == (Span(0, 5, "abcde", 0.75), Span(5, 6, "f", 1.0))


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.marks: list[str] = []
        self.shown = ""
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside += (dict(attrs).get("class") == "text") or (self._inside > 0)
        if tag == "mark":
            self.marks.append(str(dict(attrs)["class"]))

    def handle_endtag(self, tag: str) -> None:
        self._inside -= self._inside > 0

    def handle_data(self, data: str) -> None:
        self.shown += data if self._inside else ""


def test_the_heat_map_shows_the_whole_text_and_runs_nothing() -> None:
    text = "<script>alert(1)</script> you & idiot\n!"
    spans = (Span(26, 29, "you", -0.5), Span(32, 37, "idiot", 2.0))
    explanation = Explanation(text, "toxic", "shap", 0.9, spans)
    html = explanation.to_html()
    parsed = _Text()
    parsed.feed(html)
    assert parsed.shown == text
    assert parsed.marks == ["against", "for"]
    assert "<script" not in html
    assert "http" not in html
    assert "--share: 0.150" in html  # a quarter of the heaviest, at most 0.6 opaque
    assert json.loads(json.dumps(explanation.to_dict()))["spans"][1]["weight"] == 2.0

"""BERTScore by hand, and what the embedded encoder makes of texts."""

from __future__ import annotations

import numpy as np
import pytest

from detox.evaluation.minilm import MiniLm, f1
from detox.models.embedded import PACKAGE


def test_f1_is_the_harmonic_mean_of_two_greedy_matchings() -> None:
    """Output tokens (1, 0) and (0, 1); reference tokens (1, 0), (0.6, 0.8) and (0, 1).

    Precision: each output token is found, (1 + 1) / 2 = 1. Recall: (1 + 0.8 + 1) / 3 = 14/15. F1 = 2 · 14/15 / (29/15)
    = 28/29.
    """
    output_TD, reference_UD = np.eye(2), np.array([[1, 0], [0.6, 0.8], [0, 1]])
    assert f1(output_TD, reference_UD) == pytest.approx(28 / 29)
    assert f1(reference_UD, output_TD) == pytest.approx(28 / 29)


def test_f1_without_tokens_is_zero() -> None:
    assert f1(np.zeros((0, 2)), np.eye(2)) == 0
    assert f1(np.eye(2), -np.eye(2)) == 0  # cosines of 0 at best


@pytest.mark.pretrained
def test_the_encoder_tells_likeness() -> None:
    """A text is like itself, more like a paraphrase than like another text, and the nearest reference counts."""
    pytest.importorskip(PACKAGE, reason="needs the extra `embedded`")
    encoder = MiniLm()
    text, like, unlike = "the garden is closed today", "today the garden is shut", "engines burn diesel oil"
    same, near, far = encoder.cosine([text, text, text], [text, like, unlike])
    assert same == pytest.approx(1, abs=1e-5)
    assert same > near > 0.7 > 0.3 > far
    scores = encoder.bert_score([text, text, text, ""], [[text], [unlike, like], [unlike], [text]])
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert scores[0] > scores[1] > scores[2] > scores[3] == 0
    assert scores[1] == pytest.approx(encoder.bert_score([text], [[like]])[0], abs=1e-5)
    assert encoder.cosine([], []).tolist() == []
    fresh = MiniLm(kept=2)
    for _ in range(2):  # what was forgotten is made again, beside other texts
        assert fresh.cosine([text, text], [like, unlike]) == pytest.approx([near, far], abs=1e-5)
    assert len(fresh._memory) == 2


@pytest.mark.pretrained
def test_without_memory_a_call_depends_on_itself_alone() -> None:
    pytest.importorskip(PACKAGE, reason="needs the extra `embedded`")
    pairs = ["you are wrong", "a page about the town"], ["you are mistaken", "the history of the town, in short"]
    fresh, used = MiniLm(kept=0), MiniLm(kept=0)
    used.cosine(["a page about the town"], ["something else"])
    assert (fresh.cosine(*pairs) == used.cosine(*pairs)).all()

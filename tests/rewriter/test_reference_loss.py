"""The loss on references is the model's own, a token, whatever the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detox.data.pairs.prepared import Case
from detox.rewriter import reference_loss as module
from detox.rewriter.face import Rewriter
from detox.rewriter.reference_loss import reference_loss
from tests.rewriter.artifacts import NEUTRAL, TOXIC, write_rewriter


def test_it_is_the_mean_over_all_tokens_of_transformers_own_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers gives the mean a row; the mean over tokens weighs rows by their length."""
    rewriter = Rewriter.load(str(write_rewriter(tmp_path / "run")), device="cpu")
    cases = [Case("en", TOXIC[at], (NEUTRAL[at], "another"), "easy") for at in range(7)]
    loaded: Any = rewriter._loaded
    nll = tokens = 0.0
    for case in cases:
        most = rewriter._model.max_source_tokens
        ids = loaded.tokenizer("en: " + case.source, truncation=True, max_length=most, return_tensors="pt")
        labels = loaded.tokenizer(case.references[0], return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            loss = loaded.model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"], labels=labels).loss
        nll, tokens = nll + float(loss) * labels.shape[1], tokens + labels.shape[1]
    assert reference_loss(rewriter, cases) == pytest.approx(nll / tokens, rel=1e-5)
    monkeypatch.setattr(module, "BATCH", 2)
    assert reference_loss(rewriter, cases) == pytest.approx(nll / tokens, rel=1e-5)

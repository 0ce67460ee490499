"""A ranker, and the pairs that it makes of a model's own responses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from detox.alignment.candidates import ranked_examples
from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.ranker import Ranker
from detox.data.examples.example import FACTS, Example, PreparedExamples, Turn, write_part
from detox.models import tiny
from detox.models.loading import ModelUnavailableError
from detox.runs.config import validated


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`writer`, and `ranker` with weights that tell texts apart."""
    folder = tmp_path_factory.mktemp("models")
    built = tiny.build("qwen2", head="causal_lm", vocab_size=300)
    for name in ("writer", "ranker"):
        built.tokenizer.save_pretrained(folder / name)
    built.model.save_pretrained(folder / "writer")
    torch.manual_seed(0)
    ranker = AutoModelForSequenceClassification.from_pretrained(folder / "writer", num_labels=1)
    ranker.config.pad_token_id = built.tokenizer.pad_token_id
    torch.nn.init.normal_(ranker.score.weight, std=10)
    ranker.save_pretrained(folder / "ranker")
    return folder


def test_scores_are_those_of_each_response_by_itself(models: Path) -> None:
    """Whatever stands beside it, and in the order of the responses."""
    ranker = Ranker.load(str(models / "ranker"), device="cpu")
    prompts = [(Turn("user", "why?"),), "It was", (Turn("user", "how?"), Turn("assistant", "so"), Turn("user", "oh"))]
    responses = ["because", " late and a good deal longer than the others", "yes"]
    together = ranker.score(prompts, responses)
    alone = [float(ranker.score([one], [text])[0]) for one, text in zip(prompts, responses, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len(set(np.round(together, 3))) == 3


def test_a_model_that_ranks_nothing_is_refused(models: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="has no single output to rank by"):
        Ranker.load(str(models / "writer"))


def test_each_pair_is_the_best_and_the_worst_of_a_prompt_s_samples(models: Path, tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    train = [Example((Turn("user", f"what of {n}?"),), "good", "bad") for n in range(12)]
    for part, rows in (("train", train), ("validation", train[:1]), ("test", train[1:3])):
        write_part(tmp_path / "from" / f"{part}.parquet", rows)
    preference = {"candidates": 4, "ranker": str(models / "ranker"), "max_new_tokens": 5, "prompts": 10}
    settings = {"method": "dpo", "model": {"name": str(models / "writer")}, "preference": preference}
    config = validated(FinetuneConfig, settings)
    facts = {"rows": {"train": 12, "validation": 1, "test": 2}, "digest": "d"}
    ranked_examples(config, PreparedExamples(tmp_path / "from", facts), tmp_path / "to")
    made = PreparedExamples.open(tmp_path / "to")
    pairs = made.part("train")
    assert 5 <= len(pairs) <= 10
    assert {pair.prompt for pair in pairs} <= {example.prompt for example in train[:10]}
    ranker = Ranker.load(str(models / "ranker"), device="cpu")
    prompts = [pair.prompt for pair in pairs]
    better, worse = (ranker.score(prompts, [getattr(pair, side) for pair in pairs]) for side in ("chosen", "rejected"))
    assert (better > worse).all()
    assert ranker.fits(prompts[0], "yes")
    assert not ranker.fits(prompts[0], "yes " * 600)
    assert made.part("test") == train[1:3]
    assert made.facts["rows"]["train"] == len(pairs)
    assert made.facts["digest"] != "d"
    assert (tmp_path / "to" / FACTS).is_file()

"""What a rewriter leaves on disk is what is loaded again: a whole model, or adapters on a base that has a name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detox.models.loading import LoadedModel
from detox.models.seq2seq import load_seq2seq, load_trained, with_lora
from detox.models.tiny import write_checkpoint
from detox.rewriter.artifact import Helpers, read_facts, write_artifact
from detox.rewriter.generation_settings import RewritingSettings
from detox.rewriter.settings import RewriterModelSettings

TEXTS = (["you idiot", "stupid page"] * 20, ["you", "page"] * 20, ["en"] * 40)


def adapted(name: str, seed: int = 0) -> LoadedModel:
    """The model called `name` with adapters that change what it says."""
    base = load_seq2seq(name)
    torch.manual_seed(seed)
    model = with_lora(base.model, 2, 4.0, 0.0, ("q", "v"))
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter)
    return LoadedModel(model.eval(), base.tokenizer, base.name, base.revision)


def logits(loaded: LoadedModel) -> torch.Tensor:
    inputs = loaded.tokenizer(["you are an idiot"], return_tensors="pt")
    with torch.inference_mode():
        return loaded.model(**inputs, labels=inputs["input_ids"]).logits


def written(folder: Path, loaded: LoadedModel) -> LoadedModel:
    """The model as an artifact gives it back."""
    write_artifact(folder, loaded, RewriterModelSettings(), RewritingSettings(), Helpers.fit(*TEXTS), ["en"])
    facts = read_facts(folder)
    return load_trained(folder, facts.base_model, facts.base_revision)


def test_adapters_on_a_named_base_are_stored_alone(tmp_path: Path) -> None:
    write_checkpoint("t5", tmp_path / "base", head="seq2seq_lm")
    loaded = adapted(str(tmp_path / "base"))
    again = written(tmp_path / "artifact", loaded)
    assert (tmp_path / "artifact" / "adapter_model.safetensors").is_file()
    assert torch.allclose(logits(again), logits(loaded), atol=1e-5)


def test_adapters_on_one_base_share_its_weights(tmp_path: Path) -> None:
    write_checkpoint("t5", tmp_path / "base", head="seq2seq_lm")
    main, other = (adapted(str(tmp_path / "base"), seed) for seed in range(2))
    loaded = written(tmp_path / "main", main)
    written(tmp_path / "other", other)
    facts = read_facts(tmp_path / "other")
    beside = load_trained(tmp_path / "other", facts.base_model, facts.base_revision, loaded)
    assert torch.allclose(logits(beside), logits(other), atol=1e-5)
    assert torch.allclose(logits(loaded), logits(main), atol=1e-5)
    assert not torch.allclose(logits(beside), logits(loaded), atol=1e-3)
    ours, theirs = ({name: at.data_ptr() for name, at in one.model.named_parameters()} for one in (loaded, beside))
    assert {name for name, at in theirs.items() if ours[name] != at} == {name for name in theirs if "lora_" in name}


def test_adapters_on_another_base_share_nothing(tmp_path: Path) -> None:
    for seed in range(2):
        write_checkpoint("t5", tmp_path / f"base{seed}", head="seq2seq_lm", seed=seed)
    main, other = (adapted(str(tmp_path / f"base{seed}")) for seed in range(2))
    loaded = written(tmp_path / "main", main)
    written(tmp_path / "other", other)
    facts = read_facts(tmp_path / "other")
    beside = load_trained(tmp_path / "other", facts.base_model, facts.base_revision, loaded)
    assert torch.allclose(logits(beside), logits(other), atol=1e-5)
    ours, theirs = ({at.data_ptr() for at in one.model.parameters()} for one in (loaded, beside))
    assert not ours & theirs


def test_adapters_on_a_base_made_on_the_spot_are_merged_into_it(tmp_path: Path) -> None:
    """Nobody could make that base again: its tokenizer was trained on the run's texts."""
    loaded = adapted("tiny/t5")
    again = written(tmp_path, loaded)
    assert (tmp_path / "model.safetensors").is_file()
    assert torch.allclose(logits(again), logits(loaded), atol=1e-4)


def test_a_classifiers_artifact_is_refused(tmp_path: Path) -> None:
    (tmp_path / "detox.json").write_text('{"kind": "classifier"}')
    with pytest.raises(ValueError, match="is a classifier, and rewriting needs a rewriter"):
        read_facts(tmp_path)

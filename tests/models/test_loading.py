"""Names become models: folders, pinned hub names, and sentences that help where one does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from detox.classifier.corpus import model_facts
from detox.classifier.detoxify_scorer import load_detoxify
from detox.models import tiny
from detox.models.loading import PINNED, ModelUnavailableError, load_sequence_classifier, locate
from tests.hub import HEAD_COMMIT, StubHub, run_python


def test_a_run_directory_stands_for_its_artifact(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")  # the run's own config, which is no model's
    tiny.write_checkpoint("bert", tmp_path / "artifact", head="sequence_classification", num_labels=1)
    assert locate(str(tmp_path)).source == str(tmp_path / "artifact")
    assert load_sequence_classifier(str(tmp_path)).model.config.num_labels == 1


def test_an_unfinished_run_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_job": "train_classifier", "_recipe": "demo"}')
    for name in (str(tmp_path), tmp_path.as_uri()):
        with pytest.raises(
            ModelUnavailableError, match=r"a run of train_classifier that has no artifact/ \(yet\): run"
        ):
            load_sequence_classifier(name)


def test_a_new_head_is_drawn_by_the_seed_and_named_by_the_labels(tmp_path: Path) -> None:
    tiny.write_checkpoint("bert", tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    heads = [load_sequence_classifier(str(tmp_path), ["a", "b"], seed=s).model.classifier.weight for s in (0, 0, 1)]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    config = load_sequence_classifier(str(tmp_path), ["a", "b"]).model.config
    assert config.id2label == {0: "a", 1: "b"}
    assert config.problem_type == "multi_label_classification"


def test_a_head_of_another_size_gives_way(tmp_path: Path) -> None:
    tiny.write_checkpoint("bert", tmp_path, head="sequence_classification", num_labels=6)
    assert load_sequence_classifier(str(tmp_path), ["toxic"]).model.classifier.weight.shape == (1, 32)


def test_dtype_and_padding_of_a_decoder(tmp_path: Path) -> None:
    loaded = load_sequence_classifier("tiny/gpt2", ["toxic"], dtype="bfloat16")
    assert loaded.model.dtype == torch.bfloat16
    tiny.write_checkpoint("gpt2", tmp_path, head="sequence_classification", num_labels=1, pad_token_id=None)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    loaded = load_sequence_classifier(str(tmp_path))
    assert loaded.tokenizer.pad_token_id == loaded.model.config.pad_token_id == loaded.tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "'nowhere' is no folder here, and hub models are written owner/name"),
        ("embedded/large", "the embedded model is embedded/minilm"),
        ("tiny/bort", "there is no tiny/bort"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_sequence_classifier(name)


def test_a_folder_without_a_model_and_an_encoder_without_a_head(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"holds no model: it needs a config\.json"):
        load_sequence_classifier(str(tmp_path))
    tiny.write_checkpoint("bert", tmp_path)
    with pytest.raises(ModelUnavailableError, match="has no trained classification head: train one"):
        load_sequence_classifier(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailableError, match="does not load"):
        load_sequence_classifier(str(tmp_path), ["toxic"])


def test_a_regressor_has_one_output() -> None:
    with pytest.raises(ValueError, match="a regressor has one output, was given the labels a, b"):
        load_sequence_classifier("tiny/bert", ["a", "b"], "regression")


class _Touches:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._path,)


def test_a_pickle_that_only_its_name_vouches_for_runs_no_code(tmp_path: Path) -> None:
    """Its name carries its digest, as anyone can arrange; a digest from elsewhere is a decision to trust it."""
    torch.save({"config": _Touches(tmp_path / "ran"), "state_dict": {}}, tmp_path / "new.ckpt")
    digest = hashlib.sha256((tmp_path / "new.ckpt").read_bytes()).hexdigest()
    named = (tmp_path / "new.ckpt").rename(tmp_path / f"toxic-{digest[:8]}.ckpt")
    with pytest.raises(ValueError, match="may run code, and the digest in its name only shows that it is undamaged"):
        load_detoxify("", checkpoint=named)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(TypeError):  # what it made is no config
        load_detoxify("", checkpoint=named, sha256=digest)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["tiny/bert", "embedded/minilm", "detoxify/original", "s3://bucket/run"])
def test_names_that_no_commit_stands_for(name: str) -> None:
    """A corpus run asks no hub about them."""
    assert model_facts(name) == {}


HUB = """
from detox.classifier.corpus import model_facts
from detox.models.loading import commit_of, load_sequence_classifier
for name in ("unitary/toxic-bert", "unitary/toxic-bert@main", "some/classifier"):
    loaded = load_sequence_classifier(name)
    print(loaded.name, loaded.revision)
    assert commit_of(name) == model_facts(name)["commit"] == loaded.revision
for name in ("meta/gated", "some/nothing"):
    try:
        load_sequence_classifier(name)
    except ValueError as error:
        print(error)
"""


def test_hub_names_are_pinned_or_their_commit_is_recorded(tmp_path: Path, serve_hub: Callable[..., StubHub]) -> None:
    folder = tiny.write_checkpoint("bert", tmp_path / "m", head="sequence_classification", num_labels=6)
    hub = serve_hub(models={"unitary/toxic-bert": folder, "some/classifier": folder}, gated=["meta/gated"])
    pinned, main, resolved, gated, missing = run_python(hub, HUB).strip().split("\n")
    assert pinned == f"unitary/toxic-bert {PINNED['unitary/toxic-bert']}"
    assert main == f"unitary/toxic-bert {HEAD_COMMIT}"
    assert resolved == f"some/classifier {HEAD_COMMIT}"
    assert "meta/gated@main is gated: ask for access at https://huggingface.co/meta/gated" in gated
    assert "some/nothing is neither a folder here nor a public model of the hub" in missing

"""One place that turns a name into a model: `tiny/…`, `embedded/…`, a folder, or `owner/name@revision` of the hub.

Remote code is never run, safetensors is preferred to pickles (which transformers loads as weights only), and a hub
name is pinned: to the revision given, to the one of `PINNED`, or else to the commit that `main` means today, which is
recorded as `revision`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NoReturn

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from detox.models import tiny
from detox.models.embedded import minilm_folder
from detox.runs.storage import Storage

Dtype = Literal["float32", "bfloat16", "float16"]
Kind = Literal["causal_lm", "seq2seq_lm"]
"""Of a model that writes: a decoder alone, or an encoder-decoder."""

PINNED: dict[str, str] = {
    "microsoft/mdeberta-v3-base": "a0484667b22365f84929a935b5e50a51f71f159d",
    "microsoft/deberta-v3-base": "8ccc9b6f36199bec6961081d44eb72fb3f7353f3",
    "google/mt5-base": "2eb15465c5dd7f72a8f7984306ad05ebc3dd1e1f",
    "google/flan-t5-base": "7bcac572ce56db69c1ea7c8af255c5d7c9672fc2",
    "Qwen/Qwen1.5-1.8B": "7846de7ed421727b318d6605a0bfab659da2c067",
    "openai-community/gpt2-large": "32b71b12589c2f8d625668d2335a01cac3249519",
    "unitary/toxic-bert": "4d6c22e74ba2fdd26bc4f7238f50766b045a0d94",
    "s-nlp/roberta_toxicity_classifier": "048c25bb1e199b98802784f96325f4840f22145d",
}
"""Commits that a bare hub name stands for."""

HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_COPIED: list[TemporaryDirectory[str]] = []
"""Copies of remote artifacts, which go when the process does."""
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Location:
    """Where a model's files are."""

    name: str
    """As the user gave it, without the revision."""
    source: str
    """What `from_pretrained` takes: a folder, or a hub name."""
    revision: str = "main"
    """Commit, branch or tag; `main` for a folder, where it means nothing."""
    is_hub: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    """Commit of a hub model; empty for any other."""


class ModelUnavailableError(ValueError):
    """A name that leads to no model; the sentence says what to do."""


def locate(name: str) -> Location:
    """Where the model `name` is; `tiny/…` has no place, since it is built.

    Raises:
        ModelUnavailableError: the name leads nowhere.
    """
    if name == "embedded/minilm":
        return Location(name, str(minilm_folder()))
    if name.startswith("embedded/"):
        raise ModelUnavailableError(f"there is no {name}: the embedded model is embedded/minilm")
    folder = local_folder(name)
    if folder is not None:
        return Location(name, str(folder))
    match = HUB_NAME.fullmatch(name)
    if match is None or name.startswith("."):
        raise ModelUnavailableError(
            f"model {name!r} is no folder here, and hub models are written owner/name or owner/name@revision"
        )
    hub_name = match["name"]
    return Location(hub_name, hub_name, match["revision"] or PINNED.get(hub_name, "main"), is_hub=True)


def local_folder(name: str) -> Path | None:
    """The model's folder of a run directory (its `artifact/`) or a Hugging Face layout; None where there is none.

    A remote URI (`s3://…`) is copied to a temporary folder.

    Raises:
        ModelUnavailableError: a folder without a model, such as an unfinished run's.
    """
    if "://" in name:
        storage = Storage(name)
        artifact = storage.child("artifact")
        if not artifact.exists() and storage.exists("config.json"):
            _refuse_unfinished(name, storage.read_text("config.json"))
        copied = TemporaryDirectory(prefix="detox-model-")
        _COPIED.append(copied)
        return (artifact if artifact.exists() else storage).localise(Path(copied.name))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return None
    found = folder / "artifact" if (folder / "artifact").is_dir() else folder
    if not any((found / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ModelUnavailableError(
            f"{folder} holds no model: it needs a config.json (Hugging Face layout) or, in a run directory, artifact/"
        )
    if found == folder and (folder / "config.json").is_file():
        _refuse_unfinished(name, (folder / "config.json").read_text(encoding="utf-8"))
    return found


def check_vocabulary(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the model knows; they may be more than the tokenizer's.

    Raises:
        ValueError: they are fewer.
    """
    known = int(config.get_text_config().vocab_size)
    if len(tokenizer) > known:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens and the model {known}: they belong to different models"
        )
    return known


def fetched(location: Location) -> Path:
    """All files of a model: of a hub's, once they are here.

    Raises:
        ModelUnavailableError: no such model, no access to it, or the hub cannot be reached.
    """
    if not location.is_hub:
        return Path(location.source)
    with explained(location):
        return Path(snapshot_download(location.source, revision=location.revision))


def _refuse_unfinished(name: str, config: str) -> None:
    """A run directory's own config.json is no model's."""
    if job := json.loads(config).get("_job"):
        raise ModelUnavailableError(
            f"{name} is a run of {job} that has no artifact/ (yet): run its command again, which goes on where it "
            "stopped, or name a finished run that trained a model"
        )


def commit_of(name: str) -> str:
    """The commit that a hub name stands for now: that of its revision, of `PINNED`, or of `main`. Empty for others.
    Nothing is asked where the revision is a commit.

    Raises:
        ModelUnavailableError: no such model, no access to it, or the hub cannot be reached.
    """
    if name.startswith("tiny/"):
        return ""
    location = locate(name)
    if not location.is_hub:
        return ""
    if COMMIT.fullmatch(location.revision):
        return location.revision
    with explained(location):
        return commit(location)


def device_named(name: str = "") -> torch.device:
    """The device of this name, for example `cuda:1`; empty: the GPU where there is one, else the CPU.

    Raises:
        ValueError: it is not here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device).item()  # `meta` holds no values
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} is not here ({reason}): leave it out, or give cpu") from None
    return device


def check_available(name: str) -> PretrainedConfig:
    """Refuse a name that leads to no model, at the price of its config file, which is returned.

    Raises:
        ModelUnavailableError: no such model, no access to it, or the hub cannot be reached.
        ValueError: a `tiny/…` architecture that there is not.
    """
    if name.startswith("tiny/"):
        architecture = name.removeprefix("tiny/")
        return tiny.build_config(architecture, tiny.build_tokenizer(architecture))
    location = locate(name)
    with explained(location):
        return AutoConfig.from_pretrained(location.source, revision=location.revision)


def load_sequence_classifier(
    name: str,
    labels: Sequence[str] = (),
    task: Literal["multi_label", "regression"] = "multi_label",
    *,
    texts_for_tokenizer: Sequence[str] = tiny.DEFAULT_TEXTS,
    seed: int = 0,
    dtype: Dtype = "float32",
) -> LoadedModel:
    """A sequence classifier, by name.

    Args:
        name: `tiny/bert`, `embedded/minilm`, a folder, or `owner/name@revision`.
        labels: gives the model a new head with these outputs (where it has no trained head of this size); empty: the
            head that the checkpoint has.
        task: what the new head is for. Both tasks end in a sigmoid, so both are stored as
            `multi_label_classification`, by which a plain `pipeline` applies one.
        texts_for_tokenizer: what the tokenizer of a `tiny/…` model is trained on.
        seed: of the new weights; torch's global generator is left as it was.
        dtype: of the weights.

    Raises:
        ModelUnavailableError: no such model, no access to it, or the hub cannot be reached.
        ValueError: regression with more than one label and the like.
    """
    if task == "regression" and len(labels) > 1:
        raise ValueError(f"a regressor has one output, was given the labels {', '.join(labels)}: choose one")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith("tiny/"):
            return _tiny(name, labels or ("toxic",), texts_for_tokenizer, seed, dtype)
        return _pretrained(locate(name), labels, dtype)


def _tiny(name: str, labels: Sequence[str], texts: Sequence[str], seed: int, dtype: Dtype) -> LoadedModel:
    built = tiny.build(
        name.removeprefix("tiny/"), texts, head="sequence_classification", seed=seed, **_label_settings(labels)
    )
    return LoadedModel(built.model.to(getattr(torch, dtype)), built.tokenizer, name, "")


def _pretrained(location: Location, labels: Sequence[str], dtype: Dtype) -> LoadedModel:
    with explained(location):
        revision = commit(location) if location.is_hub else location.revision
        config = AutoConfig.from_pretrained(location.source, revision=revision)
        _set_labels(config, labels, location)
        tokenizer = AutoTokenizer.from_pretrained(location.source, revision=revision)
        model = AutoModelForSequenceClassification.from_pretrained(
            location.source,
            revision=revision,
            config=config,
            dtype=getattr(torch, dtype),
            ignore_mismatched_sizes=bool(labels),
        )
    give_padding(model, tokenizer)
    return LoadedModel(model.eval(), tokenizer, location.name, revision if location.is_hub else "")


def load_language_model(
    name: str,
    head: Kind,
    *,
    texts_for_tokenizer: Sequence[str] = tiny.DEFAULT_TEXTS,
    seed: int = 0,
    dtype: Dtype = "float32",
    four_bit: bool = False,
    **tiny_options: Any,
) -> LoadedModel:
    """A model that writes, in evaluation mode, with its tokenizer.

    Args:
        name: `tiny/t5`, `tiny/gpt2`, a folder, or `owner/name@revision`.
        head: `causal_lm` for a decoder alone, `seq2seq_lm` for an encoder-decoder.
        texts_for_tokenizer: what the tokenizer of a `tiny/…` model is trained on.
        seed: of a `tiny/…` model's weights.
        dtype: of the weights, or of what 4-bit ones are multiplied in.
        four_bit: NF4 weights, their constants quantised as well (Dettmers et al. 2023).
        tiny_options: `hidden`, `vocab_size` and further config keys of a `tiny/…` model.

    Raises:
        ModelUnavailableError: no such model, no access to it, the hub cannot be reached, or it is of the other kind.
    """
    if name.startswith("tiny/"):
        built = tiny.build(name.removeprefix("tiny/"), texts_for_tokenizer, head=head, seed=seed, **tiny_options)
        return LoadedModel(built.model.to(getattr(torch, dtype)), built.tokenizer, name, "")
    location = locate(name)
    with explained(location):
        revision = commit(location) if location.is_hub else location.revision
        config = AutoConfig.from_pretrained(location.source, revision=revision)
        check_kind(location.name, config, head)
        tokenizer = AutoTokenizer.from_pretrained(location.source, revision=revision)
        model = (AutoModelForCausalLM if head == "causal_lm" else AutoModelForSeq2SeqLM).from_pretrained(
            location.source,
            revision=revision,
            config=config,
            dtype=getattr(torch, dtype),
            quantization_config=nf4(dtype) if four_bit else None,
        )
    if four_bit:
        keep_gradients(model)
    give_padding(model, tokenizer)
    return LoadedModel(model.eval(), tokenizer, location.name, revision if location.is_hub else "")


def nf4(dtype: Dtype) -> BitsAndBytesConfig:
    """QLoRA's 4-bit weights."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def keep_gradients(model: PreTrainedModel) -> None:
    """Keep 4-bit layers on a CPU from changing to a layout without gradients.

    bitsandbytes 0.50 repacks a layer's weights on its first pass in evaluation mode where the CPU has AVX512-BF16, and
    no gradient flows through it from then on: a model that was evaluated once learns wrongly, without an error unless
    its layers have biases.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def check_kind(name: str, config: PretrainedConfig, head: Kind) -> None:
    """Raises:
    ModelUnavailableError: an encoder-decoder where a decoder alone is wanted, or the other way round.
    """
    if head == "causal_lm" and config.is_encoder_decoder:
        raise ModelUnavailableError(
            f"{name} is a {config.model_type}, an encoder-decoder: name a causal model, such as a GPT-2"
        )
    if head == "seq2seq_lm" and not config.is_encoder_decoder:
        raise ModelUnavailableError(
            f"{name} is a {config.model_type}, and a rewriter is an encoder-decoder: name a T5 or an mT5"
        )


def commit(location: Location) -> str:
    """The commit behind a branch, a tag or a commit, online or in the local cache."""
    config_file = cached_file(location.source, "config.json", revision=location.revision)
    return extract_commit_hash(config_file, None) or location.revision


def _label_settings(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "multi_label_classification",
    }


def _set_labels(config: PretrainedConfig, labels: Sequence[str], location: Location) -> None:
    if labels:
        for key, value in _label_settings(labels).items():
            setattr(config, key, value)
    elif not any("ForSequenceClassification" in name for name in config.architectures or ()):
        raise ModelUnavailableError(
            f"{location.name} is {', '.join(config.architectures or ['an encoder'])}, which has no trained "
            "classification head: train one with `python -m rayjobs.train_classifier`, or name a classifier"
        )


def give_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoder-only models often have no padding token, and a batch of several texts needs one."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id


@contextmanager
def explained(location: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _explain(error, location)


def _explain(error: OSError, location: Location) -> NoReturn:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    where = f"{location.name}@{location.revision}" if location.is_hub else location.source
    if not location.is_hub:
        reason = f"{where} does not load: {error}"
    elif any(isinstance(cause, GatedRepoError) for cause in causes):
        reason = (
            f"{where} is gated: ask for access at https://huggingface.co/{location.name}, then log in with "
            "`hf auth login` or set HF_TOKEN"
        )
    elif any(isinstance(cause, RevisionNotFoundError) for cause in causes):
        reason = f"{location.name} has no revision {location.revision!r} on the hub: give a branch, a tag or a commit"
    elif any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        reason = (
            f"{location.name} is neither a folder here nor a public model of the hub: check the spelling, or set "
            "HF_TOKEN if it is private"
        )
    else:
        reason = (
            f"{where} cannot be loaded ({str(error).splitlines()[0]}): without a connection, fetch it beforehand with "
            f"`hf download {location.name} --revision {location.revision}`, or name a folder or embedded/minilm"
        )
    raise ModelUnavailableError(reason) from error

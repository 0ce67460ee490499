"""Language models by name: `tiny/gpt2`, a folder, a run, or `owner/name@revision` of the hub; with adapters.

Causal ones, and those that answer prompts of either kind: an encoder-decoder reads the prompt, and writes the response.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from peft import PeftModel

from detox.models.loading import Kind, LoadedModel, check_available, explained, load_language_model, locate
from detox.models.weights import base_of_adapters, end_of_adapters


def load_causal(name: str, **options: Any) -> LoadedModel:
    """A causal language model; see `load_adapted`."""
    return load_adapted(name, "causal_lm", **options)


def load_adapted(name: str, kind: Kind, **options: Any) -> LoadedModel:
    """A language model in evaluation mode with its tokenizer; adapters stand on the base that they name, and end where
    they learnt to.

    Args:
        options: see `load_language_model`.

    Returns:
        the model; of adapters a `PeftModel`, with the revision of its base.

    Raises:
        ModelUnavailableError: see `load_language_model`; of the base too.
    """
    base = adapters_base(name)
    if not base:
        return load_language_model(name, kind, **options)
    location, loaded = locate(name), load_language_model(base, kind, **options)
    with explained(location):
        model: Any = PeftModel.from_pretrained(loaded.model, location.source, revision=location.revision)
    if end := end_of_adapters(location):
        end_at(loaded, end)
    return replace(loaded, model=model.eval(), name=location.name)


def end_at(loaded: LoadedModel, token: str) -> None:
    """Make `token` the tokenizer's EOS, and let the model end there too, beside the ends that it has."""
    tokenizer: Any = loaded.tokenizer
    if token == tokenizer.eos_token:
        return
    known = loaded.model.generation_config.eos_token_id  # type: ignore[union-attr]
    tokenizer.eos_token = token
    others = known if isinstance(known, list) else [] if known is None else [known]
    loaded.model.generation_config.eos_token_id = [tokenizer.eos_token_id, *others]  # type: ignore[union-attr]


def load_merged(name: str, kind: Kind = "causal_lm", **options: Any) -> LoadedModel:
    """The same with adapters added to the weights that they stand on, so that nothing is left of them but their sum."""
    loaded = load_adapted(name, kind, **options)
    model: Any = loaded.model
    return replace(loaded, model=model.merge_and_unload().eval()) if isinstance(model, PeftModel) else loaded


def adapters_base(name: str) -> str:
    """The model that the adapters called `name` stand on; empty for a whole model.

    Raises:
        ModelUnavailableError: the name leads to no model.
    """
    if name.startswith("tiny/"):
        return ""
    location = locate(name)
    with explained(location):
        return base_of_adapters(location)


def kind_of(name: str) -> Kind:
    """Whether the model called `name`, or the one that these adapters stand on, is an encoder-decoder, at the price of
    its config file.

    Raises:
        ValueError: see `detox.models.loading.check_available`.
    """
    config = check_available(adapters_base(name) or name)
    return "seq2seq_lm" if config.is_encoder_decoder else "causal_lm"

"""The model that a tuning begins with, and how its prompts are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from detox.alignment.finetune_settings import LanguageModelSettings
from detox.alignment.policy import REFERENCE
from detox.data.examples.example import Prompt
from detox.models import tiny
from detox.models.causal import adapters_base, end_at, kind_of, load_adapted
from detox.models.loading import Kind, LoadedModel, check_vocabulary, fetched, load_language_model, locate
from detox.models.seq2seq import load_seq2seq

TURNS = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
"""How a dialogue is written for a model without a chat template: as hh-rlhf writes it."""


class Tunable(NamedTuple):
    """A model before it is tuned."""

    loaded: LoadedModel
    adapters: LoraConfig | None
    """Those that it is to get; None: it has some already, or is trained whole."""

    @property
    def is_adapted(self) -> bool:
        """Whether adapters are trained, and nothing else."""
        return self.adapters is not None or isinstance(self.loaded.model, PeftModel)

    @property
    def is_encoder_decoder(self) -> bool:
        return bool(self.loaded.model.config.is_encoder_decoder)


def load_tunable(settings: LanguageModelSettings, texts: Sequence[str], seed: int, scratch: Path) -> Tunable:
    """The same on every rank and after every restart.

    Args:
        texts: what the tokenizer of a `tiny/…` model is trained on.
        scratch: where a `tiny/…` model is written, since TRL loads references by name.

    Raises:
        ValueError: the name leads to no language model, to one with another's tokenizer, or to adapters that are to get
            more.
    """
    options: dict[str, Any] = {"dtype": settings.dtype, "four_bit": settings.four_bit}
    kind = kind_of(settings.name)
    if settings.name.startswith("tiny/"):
        return Tunable(_built(settings, kind, texts, seed, scratch), None)
    if adapters_base(settings.name):
        loaded = with_end_of_turn(load_adapted(settings.name, kind, **options))
        check_vocabulary(loaded.model.config, loaded.tokenizer)
        model: Any = loaded.model
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        model.load_adapter(str(fetched(locate(settings.name))), REFERENCE)
        model.set_adapter("default")
        return Tunable(loaded, None)
    loaded = with_end_of_turn(load_language_model(settings.name, kind, **options))
    check_vocabulary(loaded.model.config, loaded.tokenizer)
    loaded.model.config._name_or_path = str(fetched(locate(settings.name)))
    task = TaskType.CAUSAL_LM if kind == "causal_lm" else TaskType.SEQ_2_SEQ_LM
    return Tunable(loaded, adapters_of(settings, task) if settings.lora.rank else None)


def with_end_of_turn(loaded: LoadedModel) -> LoadedModel:
    """The model with its chat template's end of a turn as EOS, beside those that it has: base models of a family carry
    the chat's template and the text's EOS, and would never be told to stop."""
    tokenizer: Any = loaded.tokenizer
    if tokenizer.chat_template is None:
        return loaded
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": ANSWER}]
    after = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(ANSWER)[2]
    ends = [token for token in tokenizer.get_added_vocab() if after.startswith(token)]
    if ends:
        end_at(loaded, ends[0])
    return loaded


ANSWER = "An answer."


def adapters_of(settings: LanguageModelSettings, task: TaskType) -> LoraConfig:
    lora = settings.lora
    return LoraConfig(
        task_type=task,
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # annotated as int, used as a factor
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
    )


def adapted(tunable: Tunable, seed: int) -> LoadedModel:
    """With new adapters where it is to get some."""
    if tunable.adapters is None:
        return tunable.loaded
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = get_peft_model(tunable.loaded.model, tunable.adapters)
    return replace(tunable.loaded, model=model)


def _built(settings: LanguageModelSettings, kind: Kind, texts: Sequence[str], seed: int, scratch: Path) -> LoadedModel:
    options: dict[str, Any] = {"texts_for_tokenizer": texts, "seed": seed} | tiny_options(settings)
    if kind == "seq2seq_lm":
        loaded = load_seq2seq(settings.name, **options)
    else:
        loaded = load_language_model(settings.name, kind, **options)
    folder = scratch / "beginning"
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    loaded.model.config._name_or_path = str(folder)
    return loaded


def tiny_options(settings: LanguageModelSettings) -> dict[str, Any]:
    """Config keys of a `tiny/…` model, by the names of its family."""
    family = tiny.architecture(settings.name.removeprefix("tiny/"))
    if "d_model" in family.sizes:  # T5, whose positions are relative
        layers = {"num_layers": settings.tiny_layers, "num_heads": settings.tiny_heads}
        return {"hidden": settings.tiny_width, "vocab_size": settings.tiny_vocabulary, **layers}
    is_gpt2 = "n_embd" in family.sizes
    shape: dict[str, Any] = {
        "n_layer" if is_gpt2 else "num_hidden_layers": settings.tiny_layers,
        "n_head" if is_gpt2 else "num_attention_heads": settings.tiny_heads,
        "n_positions" if is_gpt2 else "max_position_embeddings": settings.max_tokens,
        "tie_word_embeddings": True,  # else half of a small model's parameters say twice what a word is
    }
    if "num_key_value_heads" in family.fixed:
        shape["num_key_value_heads"] = settings.tiny_heads
        shape["intermediate_size"] = settings.tiny_width * 8 // 3  # as many as 4 without a gate (Shazeer 2020)
    return {"hidden": settings.tiny_width, "vocab_size": settings.tiny_vocabulary, **shape}


def with_ranking_head(tunable: Tunable, settings: LanguageModelSettings, seed: int) -> Tunable:
    """The model with one output, how good a response is, in place of the next token.

    Raises:
        ValueError: the name leads to adapters, which have no such head.
    """
    if isinstance(tunable.loaded.model, PeftModel):
        raise ValueError(f"{settings.name} is adapters, and a ranker begins with a whole model: merge them first")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            tunable.loaded.model.config._name_or_path, num_labels=1, dtype=getattr(torch, settings.dtype)
        )
    model.config.pad_token_id = tunable.loaded.tokenizer.pad_token_id
    adapters = adapters_of(settings, TaskType.SEQ_CLS) if settings.lora.rank else None
    return Tunable(replace(tunable.loaded, model=model.eval()), adapters)


def is_chat(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's chat template writes this prompt."""
    return not isinstance(prompt, str) and tokenizer.chat_template is not None


def written(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt as the model reads it; what follows is the response.

    A dialogue is written by the tokenizer's chat template, or as hh-rlhf writes it where there is none; a response then
    begins with a space (see `response_to`).
    """
    if isinstance(prompt, str):
        return prompt
    if tokenizer.chat_template is not None:
        return str(tokenizer.apply_chat_template(as_messages(prompt), tokenize=False, add_generation_prompt=True))
    turns = "".join(f"{TURNS[turn.role]}{turn.text}" for turn in prompt)
    return f"{turns}{TURNS['assistant'].rstrip()}"


def prompt_ids(prompt: Prompt, tokenizer: Any) -> list[int]:
    """`written` as tokens; a chat template writes its own first token, and no second one stands before it."""
    return list(
        tokenizer(written(prompt, tokenizer), add_special_tokens=not is_chat(prompt, tokenizer), verbose=False)[
            "input_ids"
        ]
    )


def response_to(prompt: Prompt, text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A response as it follows what `written` gives, without its end."""
    return text if isinstance(prompt, str) or tokenizer.chat_template is not None else f" {text}"


def as_messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in prompt if not isinstance(turn, str)]


def prompt_room(model: Any, max_tokens: int, response: int) -> int:
    """Most tokens of a prompt: an encoder-decoder reads it by itself, a causal model together with the response."""
    return max_tokens if model.config.is_encoder_decoder else max_tokens - response


def plain_prompt(prompt: Prompt) -> str:
    """What was asked last, as a reward reads it."""
    return prompt if isinstance(prompt, str) else prompt[-1].text

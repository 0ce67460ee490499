"""A Bradley-Terry reward model that ranks responses (S1 step 14); trained by `python -m rayjobs.finetune qwen_reward`.

Shapes: N responses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from detox.alignment.tunable import as_messages, is_chat, response_to, written
from detox.classifier.batching import token_batches
from detox.data.examples.example import Prompt
from detox.models.causal import adapters_base
from detox.models.loading import ModelUnavailableError, device_named, fetched, give_padding, locate

BATCH_TOKENS = 4096


class Ranker:
    """How good each response to its prompt is; only differences between responses to one prompt mean something.

    Args:
        model: with one output.
        max_tokens: of prompt and response; longer ones are cut at their end.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 512, device: str = "") -> None:
        self._model, self.tokenizer = model.eval().to(device_named(device)), tokenizer
        self._max_tokens = max_tokens

    @classmethod
    def load(cls, name: str, max_tokens: int = 512, device: str = "") -> Ranker:
        """The ranker called `name`: a run of `finetune`, its artifact, or a hub model with one output.

        Raises:
            ModelUnavailableError: the name leads to no model with one output.
        """
        folder, base = fetched(locate(name)), adapters_base(name)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if base:
            model: Any = AutoModelForSequenceClassification.from_pretrained(fetched(locate(base)), num_labels=1)
            model.config.pad_token_id = tokenizer.pad_token_id
            model = PeftModel.from_pretrained(model, str(folder))
        else:
            _refuse_others(name, folder)
            model = AutoModelForSequenceClassification.from_pretrained(folder)
        give_padding(model, tokenizer)
        return cls(model, tokenizer, max_tokens, device)

    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
        """float64 `[N]`."""
        ids = [self._ids(prompt, text) for prompt, text in zip(prompts, responses, strict=True)]
        lengths_N = np.array([len(row) for row in ids], np.int64)
        found_N = np.zeros(len(ids))
        for picked in token_batches(np.argsort(-lengths_N, kind="stable"), lengths_N, BATCH_TOKENS):
            rows = [{"input_ids": ids[at]} for at in picked]
            inputs = self.tokenizer.pad(rows, return_tensors="pt", padding_side="right").to(self._model.device)
            found_N[picked] = self._model(**inputs).logits[:, 0].double().cpu().numpy()
        return found_N

    def fits(self, prompt: Prompt, text: str) -> bool:
        """Whether it reads a response with its prompt whole."""
        return len(self._whole(prompt, text)) <= self._max_tokens

    def _ids(self, prompt: Prompt, text: str) -> list[int]:
        return self._whole(prompt, text)[: self._max_tokens]

    def _whole(self, prompt: Prompt, text: str) -> list[int]:
        tokenizer = self.tokenizer
        if is_chat(prompt, tokenizer):
            messages = [*as_messages(prompt), {"role": "assistant", "content": text}]
            return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))
        whole = written(prompt, tokenizer) + response_to(prompt, text, tokenizer) + tokenizer.eos_token
        return list(tokenizer(whole, verbose=False)["input_ids"])


def _refuse_others(name: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels = config.get("id2label") or {"0": "", "1": ""}
    if not any("ForSequenceClassification" in one for one in config.get("architectures") or ()) or len(labels) != 1:
        raise ModelUnavailableError(
            f"{name} has no single output to rank by: name a run of finetune with method reward"
        )

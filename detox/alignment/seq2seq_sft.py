"""Supervised fine-tuning of encoder-decoders, which TRL has no trainer for (as of 1.16): responses to prompts.

Shapes: B rows, T tokens of a response, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.tunable import Tunable, adapted, response_to, written
from detox.data.examples.example import Example


def seq2seq_trainer(
    config: FinetuneConfig, tunable: Tunable, common: dict[str, Any], train: Sequence[Example]
) -> Trainer:
    """The trainer of one rank.

    Args:
        common: arguments that all trainers get (`detox.alignment.tuning`).
    """
    loaded = adapted(tunable, config.run.seed)
    rows: Any = tokenised(train, loaded.tokenizer, config.model.max_tokens)
    trainer = Trainer(
        model=loaded.model,
        args=TrainingArguments(**common),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(loaded.tokenizer, loaded.model),
        processing_class=loaded.tokenizer,
        compute_loss_func=response_loss,
    )
    trainer.model_accepts_loss_kwargs = False  # T5 takes them and looks at none
    return trainer


def tokenised(examples: Sequence[Example], tokenizer: Any, most: int) -> list[dict[str, list[int]]]:
    """`input_ids` and `labels` of each example with a prompt of at most so many tokens and a response, both with EOS; a
    longer response is cut at its end.

    A prompt is not cut: what its lost end told would be learnt as something to make up.
    """
    rows = list[dict[str, list[int]]]()
    for example in examples:
        if example.prompt and example.chosen:
            ids = tokenizer(written(example.prompt, tokenizer), verbose=False)["input_ids"]
            text = response_to(example.prompt, example.chosen, tokenizer)
            response = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            if len(ids) <= most:
                rows.append({"input_ids": ids, "labels": [*response, tokenizer.eos_token_id][:most]})
    return rows


def response_loss(outputs: Any, labels_BT: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Cross-entropy a token of the whole optimizer step: its micro-batches and ranks add up to it.

    Args:
        num_items_in_batch: tokens of all responses of the step.
    """
    logits_BTV = outputs["logits"].float()
    return cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), reduction="sum") / num_items_in_batch

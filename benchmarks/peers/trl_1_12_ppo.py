"""PPO of a causal model by trl 1.12.0's `experimental.ppo`, in an environment of `trl_1_12.txt`; prints one JSON line.

The policy has LoRA and no reference model: its switched-off adapters are the reference. TRL wants a value model of its
own; it begins as the policy with a zero head, and trains LoRA in the same layers and the head, by which it costs less
than trained whole. The reward model that TRL wants is a module that computes the reward from the ids.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from common import BAD, GOOD, Meter, begin, read_task, tokenizer_of, worker_options
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    TrainerCallback,
)
from transformers.utils import logging
from trl.experimental.ppo import PPOConfig, PPOTrainer


def main() -> None:
    options = worker_options()
    task = read_task(options.folder)
    begin(task, options.seed)
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(options.folder / "model")
    logprob = _probed(model, task)
    tokenizer = tokenizer_of(task, "left")
    prompts = Prompts(tokenizer)
    reward_model = RewardOfIds(prompts)
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=_config(task, options.seed, folder),
            processing_class=tokenizer,
            model=model,
            ref_model=None,
            reward_model=reward_model,
            train_dataset=Dataset.from_dict({"input_ids": task["prompts"]}),
            value_model=_value_model(options.folder, task),
            data_collator=prompts,
            callbacks=[Each(meter, reward_model)],
            peft_config=_lora(task, "CAUSAL_LM"),
        )
        trainer.train()
    meter.print(task, logprob)


class Prompts(DataCollatorWithPadding):
    """TRL's own way to pad a batch of prompts; remembers how many tokens each batch has, which may be fetched ahead."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.tokens: list[int] = []

    def __call__(self, features: Any) -> Any:
        padded = super().__call__(features)
        self.tokens.append(int(padded["attention_mask"].sum()))
        return padded


class RewardOfIds(torch.nn.Module):
    """Looks to TRL as a reward model, and gives `reward_of` all words up to each token; prompts count for nothing."""

    base_model_prefix = "words"

    def __init__(self, prompts: Prompts) -> None:
        super().__init__()
        self.words, self.score = _Words(prompts), torch.nn.Identity()


class _Words(torch.nn.Module):
    length = float("nan")
    """Mean of the last batch's responses."""

    def __init__(self, prompts: Prompts) -> None:
        super().__init__()
        self._prompts = prompts

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> SimpleNamespace:
        self.length = (int(attention_mask.sum()) - self._prompts.tokens.pop(0)) / len(input_ids)
        good, bad = ((input_ids % 4 == kind).cumsum(1) for kind in (GOOD, BAD))
        return SimpleNamespace(hidden_states=[((good - bad) / (good + bad).clamp(min=1))[..., None]])


class Each(TrainerCallback):
    """Tells the meter of each iteration."""

    def __init__(self, meter: Meter, reward_model: RewardOfIds) -> None:
        self._meter, self._words = meter, reward_model.words

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "objective/scores" in logs:
            self._meter.iteration(logs["objective/scores"], self._words.length)


def _lora(task: dict[str, Any], kind: str) -> LoraConfig:
    return LoraConfig(
        task_type=kind,
        r=task["lora_r"],
        lora_alpha=task["lora_alpha"],
        target_modules=task["lora_targets"],
        fan_in_fan_out=True,
    )


def _value_model(folder: Path, task: dict[str, Any]) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=1)
    torch.nn.init.zeros_(model.score.weight)  # as ours begins
    return get_peft_model(model, _lora(task, "SEQ_CLS"))


def _config(task: dict[str, Any], seed: int, folder: str) -> PPOConfig:
    return PPOConfig(
        output_dir=folder,
        seed=seed,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        num_sample_generations=0,
        per_device_train_batch_size=task["prompts_an_iteration"],
        local_rollout_forward_batch_size=task["prompts_an_iteration"],
        num_mini_batches=task["minibatches"],
        num_ppo_epochs=task["epochs"],
        total_episodes=task["iterations"] * task["prompts_an_iteration"],
        response_length=task["max_new_tokens"],
        stop_token="eos",
        temperature=1.0,
        learning_rate=task["lr"],
        lr_scheduler_type="constant",
        kl_coef=task["kl"],
        gamma=task["gamma"],
        lam=task["lam"],
        cliprange=task["clip"],
        cliprange_value=task["value_clip"],
        vf_coef=task["value_coefficient"],
    )


@torch.no_grad()
def _probed(model: Any, task: dict[str, Any]) -> float:
    prompt, response = task["probe_prompt"], torch.tensor([task["probe_response"]])
    logits = model.eval()(torch.cat([torch.tensor([prompt]), response], 1)).logits[:, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(2, response[..., None]).sum())


if __name__ == "__main__":
    main()

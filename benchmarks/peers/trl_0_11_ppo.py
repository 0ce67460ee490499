"""PPO of an encoder-decoder by trl 0.11.4, in an environment of `trl_0_11.txt`; prints one JSON line.

`PPOTrainer.generate` gets the whole batch, `ref_model=None` makes PEFT's switched-off adapters the reference, and a
forward pass has as many rows as an optimizer step. Its KL price is fixed and its scores stay as they are, as ours.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import torch
from common import Meter, begin, read_task, reward_of, tokenizer_of, worker_options
from peft import LoraConfig
from trl import AutoModelForSeq2SeqLMWithValueHead, PPOConfig, PPOTrainer


def main() -> None:
    options = worker_options()
    task = read_task(options.folder)
    begin(task, options.seed)
    warnings.simplefilter("ignore")
    model = _model(options.folder, task)
    logprob = _probed(model, task)
    tokenizer = tokenizer_of(task, "right")
    meter = Meter()
    trainer = PPOTrainer(_config(task, options.seed), model, None, tokenizer)
    for queries in _batches(task, options.seed):
        responses = trainer.generate(
            queries,
            batch_size=len(queries),
            max_new_tokens=task["max_new_tokens"],
            min_new_tokens=2,  # the first is masked, and a response without a token left stops TRL
            do_sample=True,
            top_k=0,
            top_p=1.0,
            pad_token_id=task["pad"],
            eos_token_id=task["eos"],
        )
        rewards = [reward_of(response[1:].tolist()) for response in responses]  # the first is the decoder's start
        trainer.step(queries, responses, [torch.tensor(reward) for reward in rewards])
        length = sum(len(response) - 1 for response in responses) / len(responses)
        meter.iteration(sum(rewards) / len(rewards), length)
    meter.print(task, logprob)


def _model(folder: Path, task: dict[str, Any]) -> Any:
    lora = LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=task["lora_r"], lora_alpha=task["lora_alpha"], target_modules=task["lora_targets"]
    )
    model = AutoModelForSeq2SeqLMWithValueHead.from_pretrained(str(folder / "model"), peft_config=lora)
    torch.nn.init.zeros_(model.v_head.summary.weight)  # as ours begins
    torch.nn.init.zeros_(model.v_head.summary.bias)
    return model


def _config(task: dict[str, Any], seed: int) -> PPOConfig:
    return PPOConfig(
        seed=seed,
        batch_size=task["prompts_an_iteration"],
        mini_batch_size=task["prompts_an_iteration"] // task["minibatches"],
        ppo_epochs=task["epochs"],
        learning_rate=task["lr"],
        adap_kl_ctrl=False,
        init_kl_coef=task["kl"],
        gamma=task["gamma"],
        lam=task["lam"],
        cliprange=task["clip"],
        cliprange_value=task["value_clip"],
        vf_coef=task["value_coefficient"],
    )


def _batches(task: dict[str, Any], seed: int) -> Any:
    """The prompts of each iteration; each is used once before any is used again."""
    order: list[list[int]] = []
    shuffled = random.Random(seed)
    for _ in range(task["iterations"]):
        if not order:
            order = shuffled.sample(task["prompts"], len(task["prompts"]))
        batch, order = order[: task["prompts_an_iteration"]], order[task["prompts_an_iteration"] :]
        yield [torch.tensor(prompt) for prompt in batch]


@torch.no_grad()
def _probed(model: Any, task: dict[str, Any]) -> float:
    response = torch.tensor([task["probe_response"]])
    start = torch.full((1, 1), task["pad"])
    model.eval()
    logits, _, _ = model(
        input_ids=torch.tensor([task["probe_prompt"]]), decoder_input_ids=torch.cat([start, response[:, :-1]], 1)
    )
    return float(logits.log_softmax(-1).gather(2, response[..., None]).sum())


if __name__ == "__main__":
    main()

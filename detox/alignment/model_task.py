"""What PPO is given to align a language model: the model, prompts to answer, the reward of what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detox.alignment.building import COLOCATED, RewardModels, build_reward
from detox.alignment.ppo_setup import Prompt
from detox.alignment.ranks import Ranks
from detox.alignment.settings import AlignModelConfig
from detox.alignment.trl_rows import REFERENCE_RESPONSE, SOURCE
from detox.alignment.tunable import adapted, plain_prompt, prompt_ids, prompt_room, written
from detox.alignment.tuning import beginning_of
from detox.alignment.worker import Task
from detox.data.examples.example import Example, PreparedExamples
from detox.models.loading import LoadedModel


def model_task(
    config: AlignModelConfig, examples: PreparedExamples, scratch: Path, models: RewardModels = COLOCATED
) -> Task:
    """The same on every rank and after every restart.

    Args:
        models: of the reward.

    Raises:
        ValueError: a name that leads to nothing.
    """
    train = examples.part("train")
    tunable = beginning_of(config, train, scratch)
    loaded = adapted(tunable, config.run.seed)
    room = prompt_room(loaded.model, config.model.max_tokens, config.ppo.max_new_tokens)
    prompts, refused = ask(train, loaded, room)
    prompts = prompts[: config.most_prompts or None]
    texts = [example.chosen for example in train if example.chosen]
    reward = build_reward(config.reward, texts, [""] * len(texts), Ranks(), models)
    return Task(loaded, prompts, refused, reward)


def ask(examples: Sequence[Example], loaded: LoadedModel, room: int) -> tuple[list[Prompt], list[dict[str, Any]]]:
    """Each prompt once; and those that leave no room for a response, with the reason.

    Args:
        room: most tokens of a prompt.
    """
    tokenizer: Any = loaded.tokenizer
    asked = list({example.prompt: example for example in examples if example.prompt}.values())
    prompts, refused = list[Prompt](), list[dict[str, Any]]()
    for example in asked:
        tokens = prompt_ids(example.prompt, tokenizer)
        if 0 < len(tokens) <= room:
            columns = {SOURCE: plain_prompt(example.prompt), REFERENCE_RESPONSE: example.chosen}
            prompts.append(Prompt(tokens, plain_prompt(example.prompt), columns))
        else:
            reason = f"it has {len(tokens)} tokens, and there is room for 1 to {room}"
            refused.append({"text": written(example.prompt, tokenizer), "reason": reason})
    return prompts, refused

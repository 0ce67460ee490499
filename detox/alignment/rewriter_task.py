"""What PPO is given to align a rewriter: the rewriter, toxic texts as prompts, the reward of what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel

from detox.alignment.building import COLOCATED, RewardModels, build_reward
from detox.alignment.policy import REFERENCE
from detox.alignment.ppo_setup import Prompt
from detox.alignment.ranks import Ranks
from detox.alignment.settings import AlignPolicyConfig
from detox.alignment.worker import Task
from detox.data.pairs.prepared import PairRow, PreparedPairs, cases
from detox.models.loading import LoadedModel
from detox.models.seq2seq import load_trained, with_lora
from detox.rewriter.artifact import ArtifactFacts, read_facts, rewriter_folder
from detox.rewriter.batches import prompted
from detox.rewriter.readable import unknown_letters


def rewriter_task(config: AlignPolicyConfig, pairs: PreparedPairs, models: RewardModels = COLOCATED) -> Task:
    """The same on every rank and after every restart.

    Args:
        models: of the reward.

    Raises:
        ValueError: a name that leads to nothing, or no texts in the languages.
    """
    loaded, facts = load_policy(config)
    train = in_languages(pairs.part("train"), config.languages)
    prompts, refused = ask(train, loaded, facts)
    texts, langs = [row.neutral for row in train], [row.lang for row in train]
    reward = build_reward(config.reward, texts, langs, Ranks(), models)
    return Task(loaded, prompts, refused, reward)


def load_policy(config: AlignPolicyConfig) -> tuple[LoadedModel, ArtifactFacts]:
    """The rewriter that is to be trained; the same on every rank and after every restart.

    Raises:
        ValueError: the name leads to no rewriter, its manifest does not hold, or it has adapters and is to get more.
    """
    from detox.governance.manifest import verified

    folder = rewriter_folder(config.policy.name)
    verified(folder)
    facts = read_facts(folder)
    loaded = load_trained(folder, facts.base_model, facts.base_revision)
    model: Any = loaded.model
    lora = config.policy.lora
    if isinstance(model, PeftModel):
        if lora.rank:
            raise ValueError(
                f"{config.policy.name} is adapters already, which are trained on: leave policy.lora.rank at 0, or name "
                "a whole model"
            )
        model.load_adapter(str(folder), REFERENCE)
        model.set_adapter("default")
    elif lora.rank:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.run.seed)
            model = with_lora(model, lora.rank, lora.alpha, lora.dropout, lora.target_modules)
    return LoadedModel(model, loaded.tokenizer, facts.base_model, facts.base_revision), facts


def in_languages(rows: Sequence[PairRow], languages: Sequence[str]) -> list[PairRow]:
    """Those in the languages; empty: all.

    Raises:
        ValueError: there are none.
    """
    found = [row for row in rows if not languages or row.lang in languages]
    if not found:
        wanted = ", ".join(languages) or "any language"
        raise ValueError(f"this part of the pairs has no texts in {wanted}: change --languages, or name other pairs")
    return found


def ask(
    rows: Sequence[PairRow], loaded: LoadedModel, facts: ArtifactFacts
) -> tuple[list[Prompt], list[dict[str, Any]]]:
    """Each toxic text once, as the rewriter is asked to rewrite it; and those that it cannot read, with the reason."""
    wanted = cases(rows)
    texts = [prompted(case.source, case.lang, facts.model) for case in wanted]
    tokenizer: Any = loaded.tokenizer
    ids = tokenizer(texts, verbose=False)["input_ids"] if texts else []
    unknown = unknown_letters([case.source for case in wanted], tokenizer)
    prompts, refused = list[Prompt](), list[dict[str, Any]]()
    for case, tokens, letters in zip(wanted, ids, unknown, strict=True):
        reason = f"the model's tokenizer does not know {letters[:20]!r}" if letters else ""
        if len(tokens) > facts.model.max_source_tokens:
            reason = f"it has {len(tokens)} tokens, and the model reads {facts.model.max_source_tokens}"
        if reason:
            refused.append({"lang": case.lang, "text": case.source, "reason": reason})
        else:
            columns = {"lang": case.lang, "reference": case.references[0]}
            prompts.append(Prompt(tokens, case.source, columns))
    return prompts, refused

"""What the jobs that tune language models on examples check before they start."""

from __future__ import annotations

import tempfile
from pathlib import Path

from detox.alignment.building import check_reward
from detox.alignment.finetune_settings import ONLINE, FinetuneConfig
from detox.alignment.settings import AlignModelConfig
from detox.alignment.trl_rows import usable
from detox.classifier.scorer import check_toxicity
from detox.classifier.training import resolve_precision
from detox.data.examples.example import PreparedExamples
from detox.data.examples.prepare import locate_examples
from detox.models.causal import adapters_base
from detox.models.loading import check_available, check_kind
from detox.runs.storage import Storage
from rayjobs.ray_glue.data import is_prepared
from rayjobs.ray_glue.launch import check_inside
from rayjobs.ray_glue.reward_pool import check_pool

WANTED = {
    "sft": "it needs a response (or a text)",
    "dpo": "it needs a prompt and two responses",
    "kto": "it needs a prompt and two responses",
    "reward": "it needs a prompt and two responses",
    "grpo": "it needs a prompt",
    "rloo": "it needs a prompt",
    "ppo": "it needs a prompt",
}


def check_tuning(config: FinetuneConfig | AlignModelConfig) -> None:
    """What can be known to fail before any work.

    Raises:
        ValueError: examples, a model, a scorer, a judge or a ranker that are not there.
    """
    if not is_prepared(config.data):
        locate_examples(config.data)
    check_kind(config.model.name, check_available(adapters_base(config.model.name) or config.model.name), "causal_lm")
    scorers = [config.evaluation.judge]
    if isinstance(config, FinetuneConfig):
        scorers.append(config.monitor.scorer)
        if ranker := config.preference.ranker:
            check_available(adapters_base(ranker) or ranker)
    if config.method in (*ONLINE, "ppo"):
        check_pool(config.reward, config.scaling)
        check_reward(config.reward)
    for scorer in scorers:
        if scorer:
            check_toxicity(scorer)
    if not config.scaling.use_gpu:
        resolve_precision(config.ppo.precision if isinstance(config, AlignModelConfig) else config.optimiser.precision)
    check_inside(config.scaling, {"run.storage": config.run.storage})


def check_examples(config: FinetuneConfig | AlignModelConfig, examples: Storage) -> None:
    """Raises:
    ValueError: a part has nothing that the method can learn from or be measured by; before any worker starts.
    """
    with tempfile.TemporaryDirectory(prefix="detox-examples-") as scratch:
        prepared = PreparedExamples.open(examples.localise(Path(scratch)))
        for part in ("train", "validation", "test"):
            if not usable(prepared.part(part), config.method):
                raise ValueError(
                    f"the {part} part has no example that {config.method} can use: {WANTED[config.method]}; name other "
                    "data, or change --data.ratios"
                )

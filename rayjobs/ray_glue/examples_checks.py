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
from detox.models.causal import adapters_base, kind_of
from detox.models.loading import check_available
from detox.models.weights import check_signed
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
        ValueError: examples, a model, a scorer, a judge or a ranker that are not there, weights that are not those
            which their run wrote, or settings that an encoder-decoder does not go with.
    """
    if not is_prepared(config.data):
        locate_examples(config.data)
    check_signed(config.model.name)
    if kind_of(config.model.name) == "seq2seq_lm":
        check_encoder_decoder(config)
    scorers = [config.evaluation.judge]
    if isinstance(config, FinetuneConfig):
        scorers.append(config.monitor.scorer)
        if ranker := config.preference.ranker:
            check_available(adapters_base(ranker) or ranker)
            check_signed(ranker)
    if config.method in (*ONLINE, "ppo"):
        check_pool(config.reward, config.scaling)
        check_reward(config.reward)
    for scorer in scorers:
        if scorer:
            check_toxicity(scorer)
    if not config.scaling.use_gpu:
        resolve_precision(config.ppo.precision if isinstance(config, AlignModelConfig) else config.optimiser.precision)
    check_inside(config.scaling, {"run.storage": config.run.storage})


def check_encoder_decoder(config: FinetuneConfig | AlignModelConfig) -> None:
    """Raises:
    ValueError: a method or a setting that is for decoders alone.
    """
    name = config.model.name
    if config.method not in ("sft", "ppo"):
        raise ValueError(
            f"{name} is an encoder-decoder, and TRL's {config.method} takes decoders alone: set method to sft, align "
            "it by python -m rayjobs.align_policy, or name a causal model"
        )
    if config.model.four_bit:
        raise ValueError(f"{name} is an encoder-decoder, which is not tuned in four bits: set model.four_bit to false")
    if isinstance(config, FinetuneConfig) and config.sft.packing:
        raise ValueError(
            f"{name} is an encoder-decoder, which reads each prompt by itself, so nothing can be packed: set "
            "sft.packing to false"
        )


def check_examples(config: FinetuneConfig | AlignModelConfig, examples: Storage) -> None:
    """Raises:
    ValueError: a part has nothing that the method can learn from or be measured by; before any worker starts.
    """
    needs_prompts = kind_of(config.model.name) == "seq2seq_lm"
    with tempfile.TemporaryDirectory(prefix="detox-examples-") as scratch:
        prepared = PreparedExamples.open(examples.localise(Path(scratch)))
        for part in ("train", "validation", "test"):
            found = usable(prepared.part(part), config.method)
            if not found or (needs_prompts and not any(example.prompt for example in found)):
                wanted = "an encoder-decoder needs a prompt and a response" if found else WANTED[config.method]
                raise ValueError(
                    f"the {part} part has no example that {config.method} can use: {wanted}; name other data, or "
                    "change --data.ratios"
                )

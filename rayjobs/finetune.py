"""Tune a language model: SFT, DPO, KTO, GRPO, RLOO, a reward model (S1 steps 12 to 14), through TRL; and SFT of
encoder-decoders, which TRL does not take (S5).

Examples are prepared (`detox.data.examples`), TRL's trainer for the method learns from them on Ray Train, whole or by
LoRA or QLoRA, watched by monitors (`detox.alignment.monitors`), then the model is measured against what it began as on
examples that nothing of it has seen. PPO, for these models too, is ours: `rayjobs.align_policy`.

The `qwen_*` recipes learn from the same data, Anthropic's harmless pairs, in the direction of the response that people
found less harmful. DPO and the others go on from what SFT left: name its run with `--model.name`.

`scratch_lm` begins from nothing, and needs neither hub nor GPU.

    python -m rayjobs.finetune qwen_sft --scaling.use-gpu True
    python -m rayjobs.finetune qwen_dpo --model.name runs/finetune-qwen-sft-s42 --scaling.use-gpu True
    python -m rayjobs.finetune scratch_lm --data.source runs/prepare-data-files-s42/data
    python -m rayjobs.finetune flan_t5_sft_samsum
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tyro

from detox.alignment.finetune_settings import (
    JUDGE,
    ONLINE,
    SUMMARIES,
    FinetuneCheckpointSettings,
    FinetuneConfig,
    FinetuneEvaluationSettings,
    FinetuneOptimiserSettings,
    LanguageModelSettings,
    MonitorSettings,
    SftSettings,
)
from detox.alignment.reward_settings import TOXICITY_ONLY, RewardPoolSettings, RewardSettings
from detox.classifier.settings import BatchSettings
from detox.data.examples.settings import ExampleSettings
from detox.rewriter.settings import LoraSettings
from detox.runs.config import ScalingSettings, override

if TYPE_CHECKING:
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.seat import Seat

JOB = "finetune"
QWEN = "Qwen/Qwen1.5-1.8B"
"""S1's "Qwen-1.8B": of Qwen's first generation queries, keys and values are one layer, and S1 adapts two of them."""


def qwen_sft() -> FinetuneConfig:
    """S1 steps 12 and 13: QLoRA on the harmless responses, with gradient accumulation, a rate of 5e-5, monitors."""
    return FinetuneConfig(
        method="sft",
        model=LanguageModelSettings(name=QWEN, four_bit=True, dtype="bfloat16", gradient_checkpointing=True),
        data=ExampleSettings(source=("hh_rlhf",)),
        batch=BatchSettings(size=16, per_forward=4),
        optimiser=FinetuneOptimiserSettings(lr=5e-5),
        scaling=ScalingSettings(num_workers=2, use_gpu=True),
    )


def qwen_dpo() -> FinetuneConfig:
    """S1 step 14: DPO, β = 0.1. With `--preference.candidates 4 --preference.ranker RUN` of `qwen_reward` it learns
    from pairs of its own responses, ranked; without from the data's."""
    return override(qwen_sft(), {"method": "dpo", "preference.beta": 0.1, "optimiser.lr": 5e-6})


def qwen_kto() -> FinetuneConfig:
    """KTO on the same responses, taken one by one."""
    return override(qwen_sft(), {"method": "kto", "optimiser.lr": 5e-6})


def qwen_reward() -> FinetuneConfig:
    """S1 step 14: the Bradley-Terry reward model, on the same pairs."""
    return override(
        qwen_sft(),
        {"method": "reward", "model.four_bit": False, "optimiser.lr": 1e-4, "data.ratios": (0.9, 0.05, 0.05)},
    )


def qwen_grpo() -> FinetuneConfig:
    """S1 step 14: GRPO with toxicity as the reward, on the same prompts; --reward.scorer names the classifier."""
    return _online("grpo")


def qwen_rloo() -> FinetuneConfig:
    """RLOO, the same way."""
    return _online("rloo")


def scratch_lm() -> FinetuneConfig:
    """A causal model of 4 million parameters from nothing, on prepared texts, for machines without a hub: under an hour
    on two cores. Its report sets its perplexity beside that of a 5-gram model of the same texts.

    Measured beside it on comments and dialogues: a rate of 2e-3 and small batches learn most from few steps.
    """
    return FinetuneConfig(
        method="sft",
        model=LanguageModelSettings(
            name="tiny/qwen2",
            lora=LoraSettings(rank=0),
            max_tokens=256,
            tiny_width=256,
            tiny_layers=4,
            tiny_heads=4,
            tiny_vocabulary=4096,
        ),
        data=ExampleSettings.model_construct(source=tyro.MISSING),
        batch=BatchSettings(size=4, per_forward=2),
        optimiser=FinetuneOptimiserSettings(lr=2e-3, beta2=0.99, weight_decay=0.1, warmup_ratio=0.01, epochs=3),
        sft=SftSettings(packing=True),
        monitor=MonitorSettings(every=1000),
        evaluation=FinetuneEvaluationSettings(texts=0, ngram=5),
        checkpoints=FinetuneCheckpointSettings(every_steps=1000),
        scaling=ScalingSettings(num_workers=2),
    )


def _online(method: str) -> FinetuneConfig:
    rewarded = override(
        qwen_sft(),
        {"method": method, "batch.size": 64, "batch.per_forward": 16, "optimiser.lr": 5e-6, "optimiser.max_steps": 500},
    )
    reward = RewardSettings.model_construct(components=TOXICITY_ONLY, scorer=tyro.MISSING)
    return rewarded.model_copy(update={"reward": reward, "evaluation": FinetuneEvaluationSettings(judge=JUDGE)})


def flan_t5_sft_samsum() -> FinetuneConfig:
    """S5: FLAN-T5-base learns SAMSum's summaries, from which `flan_t5_ppo_samsum` of `align_policy` goes on.

    Adapters, rate and epochs are those that Schmid published for FLAN-T5-XXL on SAMSum (2023,
    philschmid.de/fine-tune-flan-t5-peft). T5 learnt from rows of 512 tokens; longer dialogues are left out.
    """
    return FinetuneConfig(
        method="sft",
        model=LanguageModelSettings(
            name="google/flan-t5-base", lora=LoraSettings(rank=16, alpha=32.0, dropout=0.05, target_modules=("q", "v"))
        ),
        data=ExampleSettings(source=("samsum",)),
        batch=BatchSettings(size=16, per_forward=8),
        optimiser=FinetuneOptimiserSettings(lr=1e-3, schedule="linear", epochs=5),
        monitor=MonitorSettings(every=500, max_new_tokens=64),
        evaluation=SUMMARIES,
        checkpoints=FinetuneCheckpointSettings(every_steps=500),
        scaling=ScalingSettings(num_workers=2, use_gpu=True),
    )


RECIPES: dict[str, Callable[[], FinetuneConfig]] = {
    "qwen_sft": qwen_sft,
    "qwen_dpo": qwen_dpo,
    "qwen_kto": qwen_kto,
    "qwen_reward": qwen_reward,
    "qwen_grpo": qwen_grpo,
    "qwen_rloo": qwen_rloo,
    "scratch_lm": scratch_lm,
    "flan_t5_sft_samsum": flan_t5_sft_samsum,
}


def run(config: FinetuneConfig, recipe: str) -> dict[str, Any]:
    """Run one config to its end, or go on where it stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    from detox.alignment.finetune_finish import finish
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.data import examples_stage
    from rayjobs.ray_glue.examples_checks import check_examples, check_tuning
    from rayjobs.ray_glue.launch import check_paths, on_one_node
    from rayjobs.ray_glue.training import train_and_judge

    check_paths(config)
    check_tuning(config)

    def prepare() -> Storage:
        examples = examples_stage(config.data, config.run.seed, Storage(config.run.storage))
        check_examples(config, examples)
        if not config.preference.candidates:
            return examples
        print("sampling and ranking candidates", flush=True)
        return Storage(on_one_node(candidates_stage, config.scaling)(config, examples.uri))

    def train(directory: RunDirectory, examples: Storage) -> None:
        if not directory.is_trained:
            train_model(config, directory, examples)

    return train_and_judge(config, JOB, recipe, prepare, train, finish, pool_of(config))


def candidates_stage(config: FinetuneConfig, examples_uri: str) -> str:
    """URI of the model's own pairs, sampled and ranked, in the stage store, made now if need be."""
    import tempfile
    from pathlib import Path

    from detox.alignment.candidates import ranked_examples
    from detox.classifier.model_scorers import model_parent
    from detox.data.examples.example import PreparedExamples
    from detox.models.loading import commit_of
    from detox.runs.stages import StageStore
    from detox.runs.storage import Storage

    with tempfile.TemporaryDirectory(prefix="detox-examples-") as scratch:
        prepared = PreparedExamples.open(Storage(examples_uri).localise(Path(scratch)))
        parents = [model_parent(name, commit_of(name)) for name in (config.model.name, config.preference.ranker)]
        made_by = {
            "examples": prepared.facts["digest"],
            "models": [parent["digest"] for parent in parents],
            "settings": config.preference.model_dump(mode="json"),
            "model": config.model.model_dump(mode="json"),
            "seed": config.run.seed,
        }
        made = StageStore(Storage(config.run.storage)).run(
            "candidates", made_by, lambda folder: ranked_examples(config, prepared, folder)
        )
    return made.uri


def pool_of(config: FinetuneConfig) -> RewardPoolSettings:
    """That of the rewards, where the method asks for any."""
    return config.reward.pool if config.method in ONLINE else RewardPoolSettings()


def train_model(config: FinetuneConfig, directory: RunDirectory, examples: Storage) -> None:
    """All steps, from the run's last checkpoint."""
    from detox.data.examples.example import FACTS
    from rayjobs.ray_glue.fit import last_trainer_checkpoint
    from rayjobs.ray_glue.training import train_ranks

    train_ranks(
        train_rank,
        config,
        directory,
        examples,
        facts=FACTS,
        follow="perplexity",
        last_checkpoint=last_trainer_checkpoint,
        pool=pool_of(config),
    )


def train_rank(settings: dict[str, Any], seat: Seat) -> None:
    """Train on one rank; rank 0 writes events, and at the end the model."""
    from detox.alignment.tuning import tune_one_rank
    from detox.classifier.progress import TrackerCallback, tracker_for
    from detox.data.examples.example import PreparedExamples
    from detox.runs.config import validated
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.reward_pool import pooled_models

    config = validated(FinetuneConfig, settings["config"])
    tracker = tracker_for(settings["run"], config, seat.resume_from) if seat.place.rank == 0 else None
    own = [TrackerCallback(tracker, closes=False)] if tracker else []

    def tell(event: str, step: int, figures: dict[str, float]) -> None:
        if tracker:
            tracker.log(event, step, figures)

    examples = PreparedExamples.open(Storage(settings["data"]).localise(seat.local))
    models = pooled_models(settings["reward_actors"], seat.place.rank)
    save = tune_one_rank(config, examples, seat.place, tell, [*own, *seat.callbacks()], seat.resume_from, models)
    made = seat.local / "trained"
    save(made)
    if tracker:
        tracker.close()
        RunDirectory(Storage(settings["run"])).keep_trained(made)


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

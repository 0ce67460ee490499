"""Align a model by PPO: a rewriter, or a language model that answers prompts (S5; S1 step 14).

`rewriter_ppo`: less toxicity, the same meaning, no copying. A rewriter that `train_rewriter` trained is the policy; the
toxic sides of its training pairs are the prompts. Then start and outcome are judged on texts that neither has seen, by
another judge than the reward.

`demo`: the same at the demo's size, offline in minutes: the rewriter of `train_rewriter demo`, rewarded by the
classifier of `train_classifier demo`.

`qwen_ppo`: a causal model, whole or by LoRA or QLoRA, goes on from prompts, and is rewarded for what is not toxic.
`scratch_lm_ppo`: the same of a small one, on two cores.

`flan_t5_ppo_samsum`: an encoder-decoder summarises dialogues, and is rewarded for summaries that are not toxic; guards
hold what it then says against what it said before.

Each iteration samples responses, has them rewarded (`detox.alignment.rewards`), and takes clipped steps against a KL to
what the policy was (`detox.alignment.ppo`), data-parallel on Ray Train. (TRL took encoder-decoders until 0.11, and has
no PPO since 1.13.)

    python -m rayjobs.align_policy demo
    python -m rayjobs.align_policy rewriter_ppo --policy.name runs/train-rewriter-embedded-s42 \\
        --reward.scorer runs/train-classifier-minilm-s42
    python -m rayjobs.align_policy qwen_ppo --model.name runs/finetune-qwen-sft-s42 --reward.scorer runs/my-classifier
    python -m rayjobs.align_policy flan_t5_ppo_samsum
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tyro

from detox.alignment.finetune_settings import JUDGE, SUMMARIES, FinetuneEvaluationSettings, LanguageModelSettings
from detox.alignment.ppo_settings import KlSettings, PpoSettings, ScoreSettings
from detox.alignment.reward_settings import TOXICITY_ONLY, ComponentSettings, RewardSettings
from detox.alignment.settings import (
    AlignmentEvaluationSettings,
    AlignModelConfig,
    AlignPolicyConfig,
    PolicySettings,
)
from detox.data.examples.settings import ExampleSettings
from detox.data.pairs.settings import PairCleaningSettings, PairSettings
from detox.rewriter.settings import LoraSettings
from detox.runs.config import ScalingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from detox.alignment.building import RewardModels
    from detox.alignment.worker import Task
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.seat import Seat

JOB = "align_policy"
QWEN = "Qwen/Qwen1.5-1.8B"
SCRATCH, SUMMARISER = "runs/finetune-scratch-lm-s42", "runs/finetune-flan-t5-sft-samsum-s42"
"""What `python -m rayjobs.finetune scratch_lm` and `flan_t5_sft_samsum` leave."""

REWRITTEN = (
    ComponentSettings(component="toxicity", weight=0.6),
    ComponentSettings(component="similarity", weight=0.3),
    ComponentSettings(component="novelty", weight=0.1),
)
"""The reward of a rewrite. Toxicity alone would be pleased by any polite sentence; similarity and novelty hold it to
the source, and stop it from copying."""

DEMO_REWRITER, DEMO_CLASSIFIER = "runs/train-rewriter-demo-s42", "runs/train-classifier-demo-s42"
MADE_BY = {
    DEMO_CLASSIFIER: "python -m rayjobs.train_classifier demo",
    DEMO_REWRITER: "python -m rayjobs.train_rewriter demo",
}
"""What `demo` begins with, and the command that trains it."""


def rewriter_ppo() -> AlignPolicyConfig:
    """A rewriter of English comments, rewarded by a classifier trained on other data, whole, with a frozen reference.

    The judge is trained on the pairs' judge part, which the rewriter has not seen.
    """
    return AlignPolicyConfig(
        policy=PolicySettings.model_construct(name=tyro.MISSING, lora=LoraSettings()),
        data=PairSettings(source=("paradetox",)),
        reward=RewardSettings.model_construct(scorer=tyro.MISSING, components=REWRITTEN),
        ppo=PpoSettings(
            iterations=40,
            prompts=64,
            max_new_tokens=96,
            lr=3e-5,
            temperature=0.7,
            kl=KlSettings(coefficient=0.05, target=1.0, horizon=2000),
            score=ScoreSettings(scale=True, center=True, missing_eos=1.0),
        ),
        scaling=ScalingSettings(num_workers=2),
    )


def demo() -> AlignPolicyConfig:
    """`rewriter_ppo` on what two demos left: `train_rewriter demo`, rewarded by `train_classifier demo`.

    The pairs are the rewriter's own, and dealt to parts as there: it learns from those that it was trained on, and is
    judged on those that it was not, by the offline judges. All are written for the demo and say nothing of real text.
    With 64 prompts, four epochs and a constant rate of 1e-4 it took away more toxicity, and 0.03 of similarity with it.
    """
    return AlignPolicyConfig(
        policy=PolicySettings(name=DEMO_REWRITER),
        data=PairSettings(source=("synthetic_pairs",), limit=3500, cleaning=PairCleaningSettings(least_drop=0.1)),
        reward=RewardSettings(scorer=DEMO_CLASSIFIER, components=REWRITTEN),
        ppo=PpoSettings(
            iterations=30,
            prompts=128,
            epochs=2,
            max_new_tokens=80,
            lr=2e-4,
            schedule="linear",
            temperature=0.7,
            kl=KlSettings(coefficient=0.1, target=1.0, horizon=2000),
            score=ScoreSettings(scale=True, center=True, missing_eos=1.0),
        ),
        evaluation=AlignmentEvaluationSettings(variants=("greedy",)),
        scaling=ScalingSettings(num_workers=2),
    )


def qwen_ppo() -> AlignModelConfig:
    """S1 step 14: PPO of Qwen1.5-1.8B by QLoRA, rewarded by toxicity alone, on the prompts of RealToxicityPrompts.

    Go on from what SFT left: `--model.name runs/finetune-qwen-sft-s42`.
    """
    return AlignModelConfig(
        model=LanguageModelSettings(name=QWEN, four_bit=True, dtype="bfloat16"),
        data=ExampleSettings(source=("real_toxicity_prompts",)),
        reward=RewardSettings.model_construct(components=TOXICITY_ONLY, scorer=tyro.MISSING),
        ppo=PpoSettings(
            iterations=100,
            prompts=128,
            max_new_tokens=32,
            lr=1e-5,
            kl=KlSettings(coefficient=0.05, target=6.0, horizon=2000),
            score=ScoreSettings(scale=True, center=True),
        ),
        evaluation=FinetuneEvaluationSettings(judge=JUDGE),
        scaling=ScalingSettings(num_workers=2, use_gpu=True),
    )


def scratch_lm_ppo() -> AlignModelConfig:
    """The same of the small model that `finetune scratch_lm` trains, whole, for machines without a hub or a GPU.

    Toxicity alone would be pleased by one safe sentence: diversity is rewarded too, and the price of the KL rises where
    the model leaves what it was. A fifth of the prompts is kept for the judge. It should cost no more than a quarter of
    perplexity and a twentieth of the different bigrams (`evaluate_model`; measured: docs/results.md).
    """
    config = AlignModelConfig(
        model=LanguageModelSettings(name=SCRATCH, lora=LoraSettings(rank=0), max_tokens=128),
        data=ExampleSettings(source=("real_toxicity_prompts",), ratios=(0.75, 0.05, 0.2)),
        reward=RewardSettings.model_construct(
            scorer=tyro.MISSING,
            components=(
                ComponentSettings(component="toxicity", weight=0.8),
                ComponentSettings(component="diversity", weight=0.2),
            ),
        ),
        ppo=PpoSettings(
            iterations=60,
            prompts=64,
            max_new_tokens=24,
            lr=2e-5,
            kl=KlSettings(coefficient=0.05, target=3.0, horizon=2000),
            score=ScoreSettings(scale=True, center=True),
        ),
        scaling=ScalingSettings(num_workers=2),
    )
    judged = FinetuneEvaluationSettings.model_construct(prompts=0, max_new_tokens=24, judge=tyro.MISSING)
    return config.model_copy(update={"evaluation": judged})


def flan_t5_ppo_samsum() -> AlignModelConfig:
    """S5: PPO of the adapters that `flan_t5_sft_samsum` left, 50 iterations on 500 dialogues, rewarded by Detoxify.

    S5 rewards toxicity alone, which a dull or a short summary pleases as well. Here ROUGE, length and novelty count a
    little; an outcome that lost them breaks the guards of the report. The judge is another family's, trained by others.
    The rate is that of the examples of TRL's PPO, which S5 used.
    """
    return AlignModelConfig(
        model=LanguageModelSettings(name=SUMMARISER, lora=LoraSettings(rank=16)),
        data=ExampleSettings(source=("samsum",)),
        most_prompts=500,
        reward=RewardSettings(
            scorer="detoxify/original",
            components=(
                ComponentSettings(component="toxicity", weight=0.7),
                ComponentSettings(component="summary", weight=0.2),
                ComponentSettings(component="length", weight=0.05),
                ComponentSettings(component="novelty", weight=0.05),
            ),
        ),
        ppo=PpoSettings(
            iterations=50,
            prompts=64,
            max_new_tokens=64,
            lr=1.41e-5,
            kl=KlSettings(coefficient=0.05, target=6.0, horizon=2000),
            score=ScoreSettings(scale=True, center=True, missing_eos=1.0),
        ),
        evaluation=SUMMARIES.model_copy(update={"judge": JUDGE}),
        scaling=ScalingSettings(num_workers=2, use_gpu=True),
    )


Configs = AlignPolicyConfig | AlignModelConfig
RECIPES: dict[str, Callable[[], Configs]] = {
    "rewriter_ppo": rewriter_ppo,
    "demo": demo,
    "qwen_ppo": qwen_ppo,
    "scratch_lm_ppo": scratch_lm_ppo,
    "flan_t5_ppo_samsum": flan_t5_ppo_samsum,
}


def run(config: Configs, recipe: str) -> dict[str, Any]:
    """Run one config to its end, or go on where it stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    from rayjobs.ray_glue.launch import check_paths
    from rayjobs.ray_glue.training import train_and_judge

    check_paths(config)
    check_config(config)

    def train(directory: RunDirectory, data: Storage) -> None:
        if not directory.is_trained:
            train_policy(config, directory, data)

    return train_and_judge(config, JOB, recipe, lambda: prepared(config), train, finish, config.reward.pool)


def check_config(config: Configs) -> None:
    """What can be known to fail before any work.

    Raises:
        ValueError: a policy, data, a scorer or a judge that are not there, or more workers than an optimizer step has
            prompts.
    """
    if isinstance(config, AlignPolicyConfig):
        from rayjobs.ray_glue.pairs_checks import check_rewriter_alignment

        check_demos(config.policy.name, config.reward.scorer)
        check_rewriter_alignment(config)
    else:
        from rayjobs.ray_glue.examples_checks import check_tuning

        check_tuning(config)
    prompts = config.ppo.prompts // config.ppo.minibatches
    if config.scaling.num_workers > prompts:
        raise ValueError(
            f"an optimizer step has {prompts} prompts, too few for {config.scaling.num_workers} workers: raise "
            "--ppo.prompts, or lower --ppo.minibatches"
        )


def check_demos(*names: str) -> None:
    """Raises:
    ValueError: a run that a demo makes is named, and has not been made.
    """
    from detox.runs.rundir import COMPLETE
    from detox.runs.storage import Storage

    missing = [MADE_BY[name] for name in sorted(names) if name in MADE_BY and not Storage(name).exists(COMPLETE)]
    if missing:
        raise ValueError(f"the demo begins with what other demos train: run `{'` and `'.join(missing)}` first")


def prepared(config: Configs) -> Storage:
    """The pairs or examples, from the stage store, made now if need be.

    Raises:
        ValueError: they have nothing to ask or to judge by; before any worker starts.
    """
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.data import examples_stage, pairs_stage
    from rayjobs.ray_glue.examples_checks import check_examples
    from rayjobs.ray_glue.pairs_checks import check_pairs

    storage = Storage(config.run.storage)
    if isinstance(config, AlignPolicyConfig):
        pairs = pairs_stage(config.data, config.run.seed, storage)
        check_pairs(config, pairs)
        return pairs
    examples = examples_stage(config.data, config.run.seed, storage)
    check_examples(config, examples)
    return examples


def finish(config: Configs, recipe: str, run_uri: str, data_uri: str) -> dict[str, dict[str, Any]]:
    """What the run leaves behind, and the descriptions of its artifacts."""
    if isinstance(config, AlignPolicyConfig):
        from detox.alignment.finish import finish as finish_rewriter

        return finish_rewriter(config, recipe, run_uri, data_uri)
    from detox.alignment.finetune_finish import finish as finish_model

    return finish_model(config, recipe, run_uri, data_uri)


def train_policy(config: Configs, directory: RunDirectory, data: Storage) -> None:
    """All iterations, from the run's last checkpoint."""
    from detox.data.examples.example import FACTS as EXAMPLES
    from detox.data.pairs.prepared import FACTS as PAIRS
    from rayjobs.ray_glue.training import train_ranks

    train_ranks(
        train_rank,
        config,
        directory,
        data,
        facts=PAIRS if isinstance(config, AlignPolicyConfig) else EXAMPLES,
        follow="reward",
        last_checkpoint=last_checkpoint,
        pool=config.reward.pool,
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest in `folder`."""
    from detox.alignment.worker import STATE

    return max((path.parent for path in folder.glob(f"step-*/{STATE}")), default=None)


def train_rank(settings: dict[str, Any], seat: Seat) -> None:
    """Train on one rank; rank 0 writes events, and at the end what was trained."""
    from detox.alignment.worker import align_one_rank, begin
    from detox.runs.config import validated
    from detox.runs.progress import keep_rejects
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage
    from detox.runs.tracking import Tracker
    from rayjobs.ray_glue.reward_pool import pooled_models

    tree = settings["config"]
    config: Configs = validated(AlignPolicyConfig, tree) if "policy" in tree else validated(AlignModelConfig, tree)
    directory = RunDirectory(Storage(settings["run"]))
    trackers: list[Tracker] = []

    def on_start(iteration: int) -> None:
        if seat.place.rank == 0:
            trackers.append(Tracker(directory, config.tracking, config.model_dump(mode="json"), resume_step=iteration))

    def on_iteration(iteration: int, figures: dict[str, float], save: Callable[[Path], None]) -> None:
        last = config.ppo.iterations
        for tracker in trackers:
            tracker.log("train", iteration, figures | {"max_steps": last})
        if iteration % config.checkpoints.every == 0 or iteration == last:
            seat.keep_checkpoint(iteration, save, config.checkpoints.keep)

    begin(config.run.seed, config.scaling)
    models = pooled_models(settings["reward_actors"], seat.place.rank)
    task = task_of(config, Storage(settings["data"]).localise(seat.local), seat.local, models)
    if seat.place.rank == 0:
        keep_rejects(directory, task.refused, "texts that the model cannot read")
    use_gpu = config.scaling.use_gpu
    save = align_one_rank(task, config.ppo, config.run.seed, use_gpu, seat.resume_from, on_iteration, on_start)
    seat.await_uploads()
    for tracker in trackers:
        tracker.close()
    made = seat.local / "trained"
    made.mkdir()
    if isinstance(config, AlignPolicyConfig):
        save(made)  # the state, with the weights; on every rank
    if seat.place.rank == 0:
        if isinstance(config, AlignModelConfig):
            save_model(task.loaded.model, made)
        directory.keep_trained(made)


def save_model(model: Any, folder: Path) -> None:
    """In Hugging Face's layout; of adapters those that were trained, without their reference."""
    only = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
    model.save_pretrained(folder, **only)


def task_of(config: Configs, data: Path, local: Path, models: RewardModels) -> Task:
    """What PPO is given: of pairs a rewriter's task, of examples a language model's."""
    if isinstance(config, AlignPolicyConfig):
        from detox.alignment.rewriter_task import rewriter_task
        from detox.data.pairs.prepared import PreparedPairs

        return rewriter_task(config, PreparedPairs.open(data), models)
    from detox.alignment.model_task import model_task
    from detox.data.examples.example import PreparedExamples

    return model_task(config, PreparedExamples.open(data), local, models)


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

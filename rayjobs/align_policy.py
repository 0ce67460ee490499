"""Align a rewriter by PPO: less toxicity, the same meaning, no copying (S5; S1 step 14).

A rewriter that `train_rewriter` trained is the policy; the toxic sides of its training pairs are the prompts. Each
iteration samples rewrites, has them rewarded (`detox.alignment.rewards`), and takes clipped steps against a KL to
what the rewriter was (`detox.alignment.ppo`), data-parallel on Ray Train. Then start and outcome are judged on texts
that neither has seen, by another judge than the reward. (TRL's PPO took encoder-decoders until 0.11, and is gone.)

    python -m rayjobs.align_policy rewriter_ppo --policy.name runs/train-rewriter-embedded-s42 \\
        --reward.scorer runs/train-classifier-minilm-s42
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tyro

from detox.alignment.ppo_settings import KlSettings, PpoSettings, ScoreSettings
from detox.alignment.reward_settings import ComponentSettings, RewardSettings
from detox.alignment.settings import AlignPolicyConfig, PolicySettings
from detox.data.pairs.settings import PairSettings
from detox.rewriter.settings import LoraSettings
from detox.runs.config import ScalingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from detox.classifier.worker import Place
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage

JOB = "align_policy"

TRAINED = "trained"
"""In the run directory, once all iterations are done: their state, with the weights."""


def rewriter_ppo() -> AlignPolicyConfig:
    """A rewriter of English comments, rewarded by a classifier trained on other data, whole, with a frozen reference.

    Toxicity alone would be pleased by any polite sentence; similarity and novelty hold it to the source, and stop it
    from copying. The judge is trained on the pairs' judge part, which the rewriter has not seen.
    """
    return AlignPolicyConfig(
        policy=PolicySettings.model_construct(name=tyro.MISSING, lora=LoraSettings()),
        data=PairSettings(source=("paradetox",)),
        reward=RewardSettings.model_construct(
            scorer=tyro.MISSING,
            components=(
                ComponentSettings(component="toxicity", weight=0.6),
                ComponentSettings(component="similarity", weight=0.3),
                ComponentSettings(component="novelty", weight=0.1),
            ),
        ),
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


RECIPES: dict[str, Callable[[], AlignPolicyConfig]] = {"rewriter_ppo": rewriter_ppo}


def run(config: AlignPolicyConfig, recipe: str) -> dict[str, Any]:
    """Run one config to its end, or go on where it stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    from detox.alignment.finish import finish
    from detox.governance.manifest import ensure_key
    from detox.runs.progress import Listener
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.data import pairs_stage
    from rayjobs.ray_glue.job import run_once, sign_each
    from rayjobs.ray_glue.launch import check_paths, connect, on_one_node

    check_paths(config)
    check_config(config)
    ensure_key()

    def work(directory: RunDirectory) -> None:
        if config.scaling.num_workers:
            connect(config)
        pairs = pairs_stage(config.data, config.run.seed, Storage(config.run.storage))
        check_pairs(config, pairs)
        print(f"pairs: {pairs.uri}", flush=True)
        if not directory.storage.child(TRAINED).exists(DONE):
            train(config, directory, pairs)
        print("evaluating", flush=True)
        with Listener(directory):
            made = on_one_node(finish, config.scaling)(config, recipe, directory.uri, pairs.uri)
        sign_each(directory, made)

    return run_once(config, JOB, recipe, work, {"report": "report.html", "artifact": "artifact"})


DONE = "DONE"


def check_config(config: AlignPolicyConfig) -> None:
    """What can be known to fail before any work.

    Raises:
        ValueError: a policy, pairs, a scorer or a judge that are not there, or more workers than an optimizer step has
            prompts.
    """
    from detox.alignment.building import check_reward
    from detox.data.pairs.prepared import FACTS
    from detox.data.pairs.reading import locate_pairs
    from detox.rewriter.artifact import read_facts, rewriter_folder
    from detox.rewriter.comparison import check_judges
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.launch import check_inside

    read_facts(rewriter_folder(config.policy.name))
    sources = config.data.source
    if not (len(sources) == 1 and Storage(sources[0]).exists(FACTS)):
        locate_pairs(config.data)
    check_reward(config.reward)
    check_judges(config.evaluation.judges)
    check_inside(config.scaling, {"run.storage": config.run.storage})
    prompts = config.ppo.prompts // config.ppo.minibatches
    if config.scaling.num_workers > prompts:
        raise ValueError(
            f"an optimizer step has {prompts} prompts, too few for {config.scaling.num_workers} workers: raise "
            "--ppo.prompts, or lower --ppo.minibatches"
        )


def check_pairs(config: AlignPolicyConfig, pairs: Storage) -> None:
    """Raises:
    ValueError: there would be no prompts, nothing to judge, or nothing to train judges on; before any worker starts.
    """
    import tempfile
    from pathlib import Path

    from detox.alignment.worker import in_languages
    from detox.data.pairs.prepared import PreparedPairs
    from detox.evaluation.pan_judges import PAN

    with tempfile.TemporaryDirectory(prefix="detox-pairs-") as scratch:
        prepared = PreparedPairs.open(pairs.localise(Path(scratch)))
        for part in ("train", "test"):
            in_languages(prepared.part(part), config.languages)
        if config.evaluation.judges not in PAN and not prepared.part("judge"):
            raise ValueError("there are no pairs to train the judges on: set --data.judge-share above 0")


def train(config: AlignPolicyConfig, directory: RunDirectory, pairs: Storage) -> None:
    """All iterations, on Ray Train or inside this process, from the run's last checkpoint."""
    from detox.runs.progress import Follower, Listener
    from rayjobs.ray_glue.fit import fit

    settings = {"config": config.model_dump(mode="json"), "run": directory.uri, "pairs": pairs.uri}
    with Follower(directory, "reward"), Listener(directory):
        if config.scaling.num_workers == 0:
            train_inside(settings)
        else:
            fit(train_worker, settings, directory, config.scaling, config.checkpoints.keep, score=None)


def train_worker(settings: dict[str, Any]) -> None:
    """One Ray Train worker: its rank, the checkpoint to go on from, and what reports."""
    from detox.data.pairs.prepared import FACTS
    from rayjobs.ray_glue.report import await_uploads, report_checkpoint
    from rayjobs.ray_glue.seat import seated

    with seated(settings["run"], settings["pairs"], FACTS) as seat:

        def keep(iteration: int, save: Callable[[Path], None]) -> None:
            made = seat.place.scratch / f"iteration-{iteration}"
            made.mkdir()
            if seat.place.rank == 0:
                save(made)
            report_checkpoint(seat.checkpoints, made, iteration)

        train_rank(settings, seat.place, seat.local, seat.resume_from, keep)
        await_uploads(seat.checkpoints)


def train_inside(settings: dict[str, Any]) -> None:
    """`scaling.num_workers 0`: the same training in this process, without Ray; for debugging and unit tests."""
    import shutil
    import tempfile
    from pathlib import Path

    from detox.alignment.worker import STATE
    from detox.classifier.worker import Place
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.fit import CHECKPOINTS

    folder = Storage(settings["run"]).child(CHECKPOINTS).local_path
    keep_most: int = settings["config"]["checkpoints"]["keep"]

    def keep(iteration: int, save: Callable[[Path], None]) -> None:
        making, made = folder / ".making", folder / f"step-{iteration:07d}"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        save(making)
        making.rename(made)
        for old in sorted(folder.glob("step-*"))[:-keep_most]:
            shutil.rmtree(old)

    with tempfile.TemporaryDirectory(prefix="detox-pairs-") as scratch:
        found = sorted(path.parent for path in folder.glob(f"step-*/{STATE}"))
        train_rank(settings, Place(0, 1, folder), Path(scratch), found[-1] if found else None, keep)


def train_rank(
    settings: dict[str, Any],
    place: Place,
    local: Path,
    resume_from: Path | None,
    keep: Callable[[int, Callable[[Path], None]], None],
) -> None:
    """Train on one rank; rank 0 writes events, and at the end what was trained.

    Args:
        keep: makes a checkpoint of an iteration; called on every rank.
    """
    from detox.alignment.worker import align_one_rank
    from detox.data.pairs.prepared import PreparedPairs
    from detox.runs.config import validated
    from detox.runs.progress import keep_rejects
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage
    from detox.runs.tracking import Tracker

    config = validated(AlignPolicyConfig, settings["config"])
    directory = RunDirectory(Storage(settings["run"]))
    trackers: list[Tracker] = []
    last = config.ppo.iterations

    def on_start(iteration: int) -> None:
        if place.rank == 0:
            trackers.append(Tracker(directory, config.tracking, config.model_dump(mode="json"), resume_step=iteration))

    def on_iteration(iteration: int, figures: dict[str, float], save: Callable[[Path], None]) -> None:
        for tracker in trackers:
            tracker.log("train", iteration, figures | {"max_steps": last})
        if iteration % config.checkpoints.every == 0 or iteration == last:
            keep(iteration, save)

    def on_refused(refused: Sequence[dict[str, Any]]) -> None:
        if place.rank == 0:
            keep_rejects(directory, refused, "texts that the model cannot read")

    pairs = PreparedPairs.open(Storage(settings["pairs"]).localise(local))
    save = align_one_rank(config, pairs, resume_from, on_iteration, on_start, on_refused)
    for tracker in trackers:
        tracker.close()
    if place.rank == 0:
        made = local / TRAINED
        made.mkdir()
        save(made)
        directory.storage.upload(made, TRAINED)
        directory.storage.child(TRAINED).write_text(DONE, "")


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

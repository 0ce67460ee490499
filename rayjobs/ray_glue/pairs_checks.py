"""What the jobs that train or align rewriters on pairs check before they start."""

from __future__ import annotations

import tempfile
from pathlib import Path

from detox.alignment.building import check_reward
from detox.alignment.rewriter_task import in_languages
from detox.alignment.settings import AlignPolicyConfig
from detox.classifier.scorer import check_toxicity
from detox.data.pairs.prepared import PreparedPairs
from detox.data.pairs.reading import locate_pairs
from detox.evaluation.pan_judges import PAN
from detox.models.seq2seq import check_seq2seq
from detox.rewriter.artifact import read_facts, rewriter_folder
from detox.rewriter.comparison import check_judges
from detox.rewriter.curriculum import plan
from detox.rewriter.finish import check_parts
from detox.rewriter.settings import TrainRewriterConfig
from detox.runs.storage import Storage
from rayjobs.ray_glue.data import is_prepared
from rayjobs.ray_glue.launch import check_inside
from rayjobs.ray_glue.reward_pool import check_pool


def check_rewriter_training(config: TrainRewriterConfig) -> None:
    """What can be known to fail before any work.

    Raises:
        ValueError: sources of pairs, a model or a judge that are not there, or a training inside this process on remote
            storage.
    """
    if not is_prepared(config.data):
        locate_pairs(config.data)
    check_seq2seq(config.model.name)
    check_judges(config.evaluation.judges)
    if config.data.cleaning.scorer:
        check_toxicity(config.data.cleaning.scorer)
    check_inside(config.scaling, {"run.storage": config.run.storage})


def check_rewriter_alignment(config: AlignPolicyConfig) -> None:
    """What can be known to fail before any work.

    Raises:
        ValueError: a policy, sources of pairs, a scorer or a judge that are not there, or an alignment inside this
            process on remote storage.
    """
    read_facts(rewriter_folder(config.policy.name))
    if not is_prepared(config.data):
        locate_pairs(config.data)
    check_pool(config.reward, config.scaling)
    check_reward(config.reward)
    check_judges(config.evaluation.judges)
    check_inside(config.scaling, {"run.storage": config.run.storage})


def check_pairs(config: TrainRewriterConfig | AlignPolicyConfig, pairs: Storage) -> None:
    """Raises:
    ValueError: there would be nothing to learn from, to judge, or to train judges on; before any worker starts.
    """
    with tempfile.TemporaryDirectory(prefix="detox-pairs-") as scratch:
        prepared = PreparedPairs.open(pairs.localise(Path(scratch)))
        if isinstance(config, TrainRewriterConfig):
            plan(prepared.part("train"), config, {})
            check_parts(config, prepared)
            return
        for part in ("train", "test"):
            in_languages(prepared.part(part), config.languages)
        if config.evaluation.judges not in PAN and not prepared.part("judge"):
            raise ValueError("there are no pairs to train the judges on: set --data.judge-share above 0")

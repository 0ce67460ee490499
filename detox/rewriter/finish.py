"""From the last stage's weights to everything that a run leaves behind.

Writes `artifact/` (model, tokenizer, what steers and reranks, model card, signed manifest), judges the rewriter on the
test part beside copying and deleting, and writes `outputs.parquet`, `summary.json` and `report.html`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detox.classifier.model_scorers import model_parent
from detox.classifier.report import run_facts
from detox.data.pairs.prepared import Case, PreparedPairs, cases
from detox.evaluation.pan_judges import PAN
from detox.governance.manifest import describe
from detox.models.loading import LoadedModel
from detox.rewriter.artifact import Helpers, write_artifact
from detox.rewriter.comparison import baselines, judged_systems, judges_named, line_of, outputs_table, summary_of
from detox.rewriter.curriculum import load_trainable
from detox.rewriter.face import Rewriter
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.reference_loss import reference_loss
from detox.rewriter.report import comparison_report, synthetic_notices
from detox.rewriter.settings import TrainRewriterConfig
from detox.rewriter.worker import columns, load_for_training
from detox.runs.config import digest, identity
from detox.runs.environment import with_worker
from detox.runs.progress import say
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage


def check_parts(config: TrainRewriterConfig, pairs: PreparedPairs) -> None:
    """Raises:
    ValueError: `finish` would have nothing to test on, or nothing to train its judges on.
    """
    if not pairs.part("test"):
        raise ValueError(
            "there are no pairs to test the rewriter on: give test a share in --data.split.ratios (0.75 0.1 0.15 by "
            "default)"
        )
    if config.evaluation.judges not in PAN and not pairs.part("judge"):
        raise ValueError(
            "there are no pairs to train the judges on: set --data.judge-share above 0, or let --evaluation.judges be "
            f"one of {', '.join(PAN)}"
        )


def finish(config: TrainRewriterConfig, recipe: str, run_uri: str, pairs_uri: str) -> dict[str, dict[str, Any]]:
    """Write the artifact, judge it and report.

    Returns:
        the description of `artifact` for its manifest, which the caller signs: a worker node has another key.

    Raises:
        ManifestError: the base model has a manifest that does not hold here.
    """
    run = RunDirectory(Storage(run_uri))
    run.write_json("environment.json", with_worker(run.read_json("environment.json")))
    trained = run.read_json("stages.json")
    with tempfile.TemporaryDirectory(prefix="detox-finish-") as scratch:
        folder = Path(scratch)
        pairs = PreparedPairs.open(Storage(pairs_uri).localise(folder))
        train = pairs.part("train")
        loaded = load_for_training(config, train, trained["base_revision"])
        load_trainable(loaded.model, Storage(trained["weights"][-1]))
        loaded.model.eval()
        helpers = Helpers.fit(*columns(train))
        artifact = write_artifact(folder / "artifact", loaded, config.model, config.rewriting, helpers, pairs.languages)
        rewriter = Rewriter(loaded, config.model, config.rewriting, helpers, pairs.languages)
        report(config, recipe, run, pairs, rewriter, helpers, trained)
        description = _described(config, run, pairs, loaded, artifact)
        run.storage.upload(artifact, "artifact")
    return {"artifact": description}


def report(
    config: TrainRewriterConfig,
    recipe: str,
    run: RunDirectory,
    pairs: PreparedPairs,
    rewriter: Rewriter,
    helpers: Helpers,
    trained: dict[str, Any],
) -> None:
    """Judge the rewriter on the test part and write outputs, summary and report.

    Args:
        trained: `stages.json`: `figures` of each stage, `refused` pairs of each rule.
    """
    judge_rows = pairs.part("judge")
    judges = judges_named(config.evaluation.judges, judge_rows)
    lexicon = Lexicon.fit((row.lang, row.toxic, row.neutral) for row in judge_rows or pairs.part("train"))
    wanted = drawn(cases(pairs.part("test")), config.evaluation.test_texts, config.run.seed)
    say(run, f"judging {len(wanted):,} texts in {', '.join(sorted({case.lang for case in wanted}))}")
    systems = baselines(wanted, judges, lexicon, helpers.lexicon)
    for system in judged_systems(rewriter, wanted, judges, lexicon, config.evaluation.variants, ""):
        say(run, line_of(system))
        systems.append(system)
    learned = pairs.facts | {"refused": pairs.facts["refused"] | trained["refused"]}
    facts = run_facts(run, "train_rewriter", recipe, config, learned, notices=synthetic_notices(pairs.facts))
    names = [f"{number + 1}-{stage.stage}" for number, stage in enumerate(config.curriculum.stages)]
    figures = [{"stage": name, **found} for name, found in zip(names, trained["figures"], strict=True)]
    losses = {run.name: reference_loss(rewriter, wanted)}
    page = comparison_report(
        systems, wanted, judges, figures, facts, lexicon=lexicon, samples=config.evaluation.samples, losses=losses
    )
    with tempfile.TemporaryDirectory(prefix="detox-outputs-") as scratch:
        outputs_table(systems, wanted, Path(scratch) / "outputs.parquet")
        run.storage.add_files(Path(scratch))
    run.storage.write_text("report.html", page.render())
    refused = {f"refused/{rule}": count for rule, count in trained["refused"].items()}
    run.write_json("summary.json", summary_of(systems, figures, losses=losses) | refused | {"pairs": pairs.digest})


def drawn(wanted: Sequence[Case], most: int, seed: int) -> list[Case]:
    """At most so many cases of each language, in their order; 0: all."""
    if not most:
        return list(wanted)
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for lang in sorted({case.lang for case in wanted}):
        mine = np.array([at for at, case in enumerate(wanted) if case.lang == lang])
        chosen += rng.permutation(mine)[:most].tolist()
    return [wanted[at] for at in sorted(chosen)]


def _described(
    config: TrainRewriterConfig, run: RunDirectory, pairs: PreparedPairs, loaded: LoadedModel, artifact: Path
) -> dict[str, Any]:
    origin = {"run": run.name, "job": "train_rewriter", "config_sha256": digest(identity(config))}
    source = {"name": "pairs", "digest": pairs.digest, "classification": pairs.facts["classification"]}
    return describe(artifact, origin, [source, model_parent(loaded.name, loaded.revision, config.run.seed)])

"""From the last iteration's weights to everything that an alignment leaves behind.

Writes `artifact/`, a rewriter like the one that it began with, judges both on the test part beside copying and
deleting, and writes `outputs.parquet`, `summary.json` and `report.html`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from detox.alignment.policy import REFERENCE, policy_of
from detox.alignment.report import alignment_blocks, headline
from detox.alignment.rewriter_task import in_languages, load_policy
from detox.alignment.settings import AlignPolicyConfig
from detox.alignment.worker import STATE
from detox.classifier.model_scorers import model_parent
from detox.classifier.report import run_facts
from detox.data.pairs.prepared import PreparedPairs, cases
from detox.evaluation.statistics import Comparison
from detox.governance.manifest import MANIFEST, describe
from detox.models.loading import LoadedModel
from detox.rewriter.artifact import Helpers, rewriter_folder, write_artifact
from detox.rewriter.comparison import (
    System,
    baselines,
    judged_systems,
    judges_named,
    line_of,
    outputs_table,
    summary_of,
)
from detox.rewriter.face import Rewriter
from detox.rewriter.finish import drawn
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.report import comparison_report, synthetic_notices
from detox.runs.config import digest, identity
from detox.runs.environment import with_worker
from detox.runs.progress import say
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage
from detox.runs.tracking import read_metrics

START, ALIGNED = "start", "aligned"
FIGURES = ("toxicity_after", "similarity", "copy", "bits", "j_2024")
"""That are compared, aligned against start."""


def finish(config: AlignPolicyConfig, recipe: str, run_uri: str, pairs_uri: str) -> dict[str, dict[str, Any]]:
    """Write the artifact, judge it against what it began as, and report.

    Returns:
        the description of `artifact` for its manifest, which the caller signs: a worker node has another key.

    Raises:
        ValueError: there are no pairs to test on; or see `load_policy`.
    """
    run = RunDirectory(Storage(run_uri))
    run.write_json("environment.json", with_worker(run.read_json("environment.json")))
    with tempfile.TemporaryDirectory(prefix="detox-finish-") as scratch:
        folder = Path(scratch)
        pairs = PreparedPairs.open(Storage(pairs_uri).localise(folder / "pairs"))
        loaded, facts = load_policy(config)
        load_trained_weights(loaded, run.trained.localise(folder / "trained"))
        if config.policy.lora.rank:  # on a rewriter that is no model by a name that everybody has
            loaded = replace(loaded, model=loaded.model.merge_and_unload())  # type: ignore[operator]
        helpers = Helpers.load(rewriter_folder(config.policy.name))
        languages = facts.languages
        artifact = write_artifact(folder / "artifact", loaded, facts.model, facts.rewriting, helpers, languages)
        aligned = Rewriter(loaded, facts.model, facts.rewriting, helpers, languages, cleaning=facts.cleaning)
        report(config, recipe, run, pairs, {START: Rewriter.load(config.policy.name), ALIGNED: aligned}, helpers)
        origin = {"run": run.name, "job": "align_policy", "config_sha256": digest(identity(config))}
        source = {"name": "pairs", "digest": pairs.digest, "classification": pairs.facts["classification"]}
        parent = model_parent(config.policy.name, "", config.run.seed)
        description = describe(artifact, origin, [source, parent])
        run.storage.upload(artifact, "artifact")
    return {"artifact": description}


def load_trained_weights(loaded: LoadedModel, folder: Path) -> None:
    """Put what PPO trained into the model; the value head stays behind."""
    policy = policy_of(loaded.model)
    weights = torch.load(folder / STATE, weights_only=True, map_location="cpu")["weights"]
    mine = dict(policy.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            mine[name].copy_(value)
    if isinstance(loaded.model, PeftModel) and REFERENCE in loaded.model.peft_config:
        loaded.model.delete_adapter(REFERENCE)


def report(
    config: AlignPolicyConfig,
    recipe: str,
    run: RunDirectory,
    pairs: PreparedPairs,
    rewriters: dict[str, Rewriter],
    helpers: Helpers,
) -> None:
    """Judge both rewriters on the test part and write outputs, summary and report."""
    settings = config.evaluation
    judge_rows = pairs.part("judge")
    judges = judges_named(settings.judges, judge_rows)
    lexicon = Lexicon.fit((row.lang, row.toxic, row.neutral) for row in judge_rows or pairs.part("train"))
    wanted = drawn(cases(in_languages(pairs.part("test"), config.languages)), settings.test_texts, config.run.seed)
    say(run, f"judging {len(wanted):,} texts in {', '.join(sorted({case.lang for case in wanted}))}")
    systems = baselines(wanted, judges, lexicon, helpers.lexicon)
    for name, rewriter in rewriters.items():
        for system in judged_systems(rewriter, wanted, judges, lexicon, settings.variants, name):
            say(run, line_of(system))
            systems.append(system)
    changes = changes_of(systems, settings.variants)
    seen = seen_notices(config, pairs)
    for notice in seen:
        say(run, f"beware: {notice}")
    notices = (*synthetic_notices(pairs.facts), *seen)
    facts = run_facts(run, "align_policy", recipe, config, pairs.facts, notices=notices)
    sections = {"Alignment": alignment_blocks(changes, read_metrics(run))}
    page = comparison_report(
        systems, wanted, judges, [], facts, lexicon=lexicon, samples=settings.samples, sections=sections
    )
    with tempfile.TemporaryDirectory(prefix="detox-outputs-") as scratch:
        outputs_table(systems, wanted, Path(scratch) / "outputs.parquet")
        run.storage.add_files(Path(scratch))
    run.storage.write_text("report.html", page.render())
    flat = summary_of(systems) | {"pairs": pairs.digest, "headline": headline(changes)}
    for variant, found in changes.items():
        for figure, change in found.items():
            flat |= {
                f"change/{figure}/{variant}": change.difference,
                f"change_low/{figure}/{variant}": change.low,
                f"change_high/{figure}/{variant}": change.high,
            }
    run.write_json("summary.json", flat)


def seen_notices(config: AlignPolicyConfig, pairs: PreparedPairs) -> tuple[str, ...]:
    """What a reader must know where the policy was trained on other pairs than these: it may have seen what judges it,
    since parts are dealt anew whenever pairs are prepared."""
    manifest = rewriter_folder(config.policy.name) / MANIFEST
    parents = json.loads(manifest.read_text(encoding="utf-8"))["parents"] if manifest.is_file() else []
    if pairs.digest in [parent["digest"] for parent in parents if parent["name"] == "pairs"]:
        return ()
    return (
        f"{config.policy.name} was not trained on these prepared pairs, and may have learnt from texts that judge it "
        "here. Name the pairs of its own run with --data.source, unless these come from elsewhere.",
    )


def changes_of(systems: Sequence[System], variants: Sequence[str]) -> dict[str, dict[str, Comparison]]:
    """Of each variant, how each figure changed from start to aligned, paired over the texts; figures that no text has
    both before and after are left out."""
    judged = {system.name: system.judged for system in systems}
    pairs = {variant: (judged[f"{ALIGNED}/{variant}"], judged[f"{START}/{variant}"]) for variant in variants}
    return {
        variant: {
            figure: aligned.better_than(start, figure)
            for figure in FIGURES
            if not np.isnan(aligned.rows[figure] - start.rows[figure]).all()
        }
        for variant, (aligned, start) in pairs.items()
    }

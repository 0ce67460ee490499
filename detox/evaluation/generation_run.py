"""The body of `rayjobs.evaluate_model`: verify, continue, judge, summarise. Runs on one node, with or without Ray.

Prompts go through in chunks. A chunk is a function of the weights, the settings and its own prompts, and what came of
it is kept in `chunks/` under their digest, so a run that goes on takes it from there; chunks could be made anywhere.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from detox.alignment.perplexity import language_model
from detox.classifier.report import run_facts
from detox.classifier.scorer import load_toxicity
from detox.evaluation.generation import Continuer
from detox.evaluation.generation_baseline import baseline_of
from detox.evaluation.generation_metrics import (
    TOXICITY,
    Evaluation,
    Judged,
    by_kind_of_prompt,
    differences,
    estimates,
    figures,
)
from detox.evaluation.generation_report import generation_report, headline
from detox.evaluation.generation_settings import EvaluateModelConfig
from detox.evaluation.generation_table import GENERATIONS, SCHEMA, judged_of, read_table
from detox.evaluation.minilm import MiniLm
from detox.evaluation.prompts import Prompt, Prompts, rejects_text
from detox.evaluation.statistics import Comparison
from detox.models.causal import load_merged
from detox.models.loading import local_folder
from detox.models.weights import verify_weights
from detox.runs.config import digest
from detox.runs.environment import with_worker
from detox.runs.progress import say
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage

CHUNK = 64
"""Prompts whose continuations are kept together."""


class Judges(NamedTuple):
    """Who says what of continuations."""

    toxicity: Callable[[Sequence[str]], np.ndarray]
    nats: Callable[[Sequence[str], Sequence[str]], np.ndarray] | None
    """Of texts, after others."""
    similarity: Callable[[Sequence[str], Sequence[str]], np.ndarray] | None


def load_judges(config: EvaluateModelConfig) -> Judges:
    """Raises:
    ValueError: one of them is not there.
    """
    toxicity = load_toxicity(config.judge, label=config.judge_label)
    model = language_model(config.language_model) if config.language_model else None
    return Judges(
        lambda texts: toxicity(texts, [""] * len(texts)),
        model.nats if model else None,
        MiniLm(kept=0).cosine if config.embed_english else None,
    )


def evaluate(config: EvaluateModelConfig, recipe: str, run_uri: str, prompts: Prompts) -> None:
    """Continue and judge the prompts, and write generations, rejects, summary and report.

    Raises:
        ValueError: other weights than expected, no such model or judge, no prompt that can be continued, or a baseline
            on other prompts.
    """
    logging.disable_progress_bar()
    run = RunDirectory(Storage(run_uri))
    model = str(local_folder(config.model)) if "://" in config.model else config.model  # copied once
    weights = verify_weights(model, config.sha256)
    judges = load_judges(config)
    continuer = Continuer(
        load_merged(model, dtype=config.dtype), config.sampling, config.run.seed, batch_tokens=config.batch_tokens
    )
    refused = [*prompts.refused, *(unusable := continuer.refused(prompts.drawn))]
    fitting = [prompt for prompt in prompts.drawn if prompt.row not in {one.row for one in unusable}]
    if not fitting:
        raise ValueError(f"none of {len(prompts.drawn)} prompts can be continued: {unusable[0].reason}")
    run.write_json("environment.json", with_worker(run.read_json("environment.json")))
    run.storage.write_text("rejects.jsonl", rejects_text(refused))
    table = continued(config, run, fitting, continuer, judges, weights)
    with written(table) as folder:
        run.storage.add_files(folder)
    evaluation = evaluation_of(config, judged_of(table), prompts, weights)
    facts = run_facts(run, "evaluate_model", recipe, config, {}, notices=notices(config))
    page = generation_report(evaluation, config, refused, facts, judges.toxicity)
    run.storage.write_text("report.html", page.render())
    run.write_json("summary.json", summary_of(evaluation) | {"refused": len(refused)})


def continued(
    config: EvaluateModelConfig,
    run: RunDirectory,
    prompts: Sequence[Prompt],
    continuer: Continuer,
    judges: Judges,
    weights: str,
) -> pa.Table:
    """A row a continuation, made now or kept by this run."""
    kept, tables = run.storage.child("chunks"), []
    for begin in range(0, len(prompts), CHUNK):
        part = prompts[begin : begin + CHUNK]
        name = digest({"weights": weights, "prompts": part})[:16]
        if not kept.exists(name):
            with written(judged_chunk(part, continuer, config.continuations, judges)) as folder:
                kept.upload(folder, name)
            say(run, f"{begin + len(part):,} of {len(prompts):,} prompts continued")
        tables.append(read_table(kept.child(name)))
    return pa.concat_tables(tables)


def judged_chunk(prompts: Sequence[Prompt], continuer: Continuer, count: int, judges: Judges) -> pa.Table:
    """Continue prompts and judge what came of it; a function of its arguments, to the last bit."""
    made = [one for row in continuer([prompt.text for prompt in prompts], count) for one in row]
    texts = [one.text for one in made]
    before = [prompt.text for prompt in prompts for _ in range(count)]
    filled_N = np.array([bool(text.strip()) for text in texts])

    def known(values: Callable[[Sequence[str], Sequence[str]], np.ndarray] | None, *sides: Sequence[str]) -> np.ndarray:
        """NaN of empty texts, and where nobody measures."""
        return np.full(len(texts), np.nan) if values is None else np.where(filled_N, values(*sides), np.nan)

    columns: dict[str, Any] = {
        "row": np.repeat([prompt.row for prompt in prompts], count),
        "prompt": before,
        "prompt_toxicity": np.repeat(judges.toxicity([prompt.text for prompt in prompts]), count),
        "number": np.tile(np.arange(count), len(prompts)),
        "text": texts,
        "tokens": [one.tokens for one in made],
        "ended": [one.ended for one in made],
        "toxicity": judges.toxicity(texts),
        "nats": known(judges.nats, texts, before),
        "similarity": known(judges.similarity, before, texts),
    }
    return pa.table(columns, schema=SCHEMA)


@contextmanager
def written(table: pa.Table) -> Iterator[Path]:
    """A local folder with the table as its one file."""
    with tempfile.TemporaryDirectory(prefix="detox-generations-") as scratch:
        pq.write_table(table, Path(scratch) / GENERATIONS, compression="zstd")
        yield Path(scratch)


def evaluation_of(config: EvaluateModelConfig, judged: Judged, prompts: Prompts, weights: str) -> Evaluation:
    """All figures, and how they differ from the baseline's."""
    mine, seed = figures(judged, config.threshold), config.run.seed
    kinds = {
        kind: estimates({name: mine[name][rows] for name in TOXICITY}, seed)
        for kind, rows in by_kind_of_prompt(judged, config.threshold).items()
    }
    found = Evaluation(judged, prompts.digest, weights, estimates(mine, seed), kinds)
    if not config.baseline:
        return found
    theirs = baseline_of(config, prompts.digest)
    places = {prompt: at for at, prompt in enumerate(theirs.prompts)}
    shared = [at for at, prompt in enumerate(judged.prompts) if prompt in places]
    beside = theirs.select([places[judged.prompts[at]] for at in shared])
    others = figures(beside, config.threshold)
    return found._replace(
        baseline=beside,
        baseline_figures=estimates(others, seed),
        changes=differences({name: mine[name][shared] for name in mine}, others, seed),
    )


def summary_of(evaluation: Evaluation) -> dict[str, Any]:
    """Flat figures: `<figure>`, `<figure>_low` and `<figure>_high`, the ends of its 95 % interval; of toxicity also
    `<figure>/toxic_prompts` and `<figure>/other_prompts`, and of a comparison `difference/<figure>` and
    `difference_p/<figure>`. An end that nobody knows is null."""
    flat: dict[str, Any] = {"headline": headline(evaluation), "prompts": len(evaluation.judged.prompts)}
    flat |= {"prompts_digest": evaluation.prompts_digest, "weights_sha256": evaluation.weights}
    for name, found in evaluation.figures.items():
        flat |= _with_ends(name, found)
    if nats := evaluation.figures.get("nats"):
        flat |= {key.replace("nats", "perplexity"): math.exp(end) for key, end in _with_ends("nats", nats).items()}
    for kind, of_kind in evaluation.kinds.items():
        for name, found in of_kind.items():
            flat |= _with_ends(name, found, f"/{kind}")
    for name, change in evaluation.changes.items():
        flat |= _with_ends("difference", change, f"/{name}") | {f"difference_p/{name}": change.p_value}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in flat.items()}


def _with_ends(name: str, found: Comparison, where: str = "") -> dict[str, float]:
    return {f"{name}{where}": found.difference, f"{name}_low{where}": found.low, f"{name}_high{where}": found.high}


def notices(config: EvaluateModelConfig) -> list[str]:
    """What a reader must know before the figures."""
    named = {"model": config.model, "judge": config.judge, "language model": config.language_model}
    return [
        f"The {role} is {name}, whose weights are random: the figures show that the machinery works, and nothing else."
        for role, name in named.items()
        if name.startswith("tiny/")
    ]

"""Score a corpus of any size with any classifier: every column kept, one column a label added, in the input's order.

The input is cut into shards, which Ray Data's workers score, each with the model loaded once; the finished ones are
kept in the run directory until the output is written, so the same command goes on where it was killed. Without
`--run.name` that directory is named after a digest of settings, input and model: what changes them is another run.

A label's column has its name, or `score_<label>` where the input has such a column; scores are float32 in 0..1. A row
whose text is null, or no string, keeps its place with null scores; rows that cannot be read at all are in the run
directory's `rejects.jsonl`. Both are counted.

    python -m rayjobs.score_corpus default --model runs/train-classifier-demo-s42 \\
        --input comments.csv --output scored.parquet
    python -m rayjobs.score_corpus default --model unitary/toxic-bert --input 'part-*.jsonl.zst' \\
        --output s3://bucket/scored.jsonl --text-column body --run.storage s3://bucket/runs --workers 8 --use-gpu True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from detox.runs.config import JobConfig, digest, identity, override

if TYPE_CHECKING:
    from pathlib import Path

    from detox.classifier.corpus import Plan
    from detox.classifier.scorer import Scorer
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage

JOB = "score_corpus"
OUTPUT = "output.json"
"""Which file the run wrote, and its size: by it an output is known as the run's own."""
SECONDS_BETWEEN_LINES = 5.0


class ScoreCorpusConfig(JobConfig):
    """What is scored, with what, and where the result goes."""

    model: str = ""
    """Run directory, `owner/name@revision`, `detoxify/original`, `tfidf:FOLDER`, `lexicon:FILE`, `tiny/bert`."""
    input: str = ""
    """A csv, tsv, jsonl or parquet file (plain, .gz or .zst), or a glob of files of one format."""
    output: str = ""
    """Path or URI; its ending says the format: .parquet, .csv, .tsv or .jsonl (the last three also .gz or .zst)."""
    text_column: str = "text"
    overwrite: bool = False
    """Replace an output that this run did not write."""
    shard_rows: int = Field(default=4096, ge=1)
    """Rows of a shard: the most that a killed worker does again."""
    workers: int = Field(default=2, ge=0)
    """Scoring processes, one torch thread each; 0: inside this process, without Ray."""
    use_gpu: bool = False
    """One GPU a worker."""


def default() -> ScoreCorpusConfig:
    """Your own file and model: --model, --input, --output, --text-column."""
    return ScoreCorpusConfig()


RECIPES: dict[str, Callable[[], ScoreCorpusConfig]] = {"default": default}


def named(config: ScoreCorpusConfig, facts: dict[str, Any]) -> ScoreCorpusConfig:
    """The config under which the run is kept: without `overwrite`, which a repeated command may add, and named after
    everything that determines the output, contents of model and input included."""
    plain = override(config, {"overwrite": False})
    if plain.run.name:
        return plain
    return override(plain, {"run.name": f"score-corpus-{digest({'config': identity(plain), 'facts': facts})[:12]}"})


def run(config: ScoreCorpusConfig, recipe: str) -> dict[str, Any]:
    """Score, or go on where that stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    from detox.classifier import corpus
    from detox.classifier.corpus_reading import open_corpus
    from detox.classifier.corpus_writing import check_output
    from detox.runs.rundir import COMPLETE, RunDirectory, lease, open_run
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.launch import check_paths

    check_paths(config)
    opened = open_corpus(config.input, config.text_column)
    check_output(config.output)
    scorer = load(config)
    facts = corpus.facts_of(opened, config.model)
    kept = named(config, facts)
    refuse_foreign_output(config, opened.files, RunDirectory(Storage(config.run.storage).child(kept.run.name)))
    directory = open_run(kept, JOB, recipe)
    with lease(directory.storage):
        if directory.is_complete and is_own(Storage(config.output), directory):
            corpus.refuse_changed(directory.summary()["facts"], facts, directory.storage)
            print(f"already complete: {config.output}")
            return directory.summary()
        directory.storage.delete(COMPLETE)
        plan = corpus.stage(opened, directory.storage, config.text_column, scorer.labels, config.shard_rows, facts)
        score(pinned(config, facts), directory, plan, scorer)
        summary = publish(config, directory, plan)
        directory.complete()
        directory.storage.delete("shards")
    print(f"{summary['headline']}\noutput: {config.output}")
    return summary


def pinned(config: ScoreCorpusConfig, facts: dict[str, Any]) -> ScoreCorpusConfig:
    """The config with a hub model's name at the commit that it stands for now: workers load it later, and again."""
    commit = facts["model"].get("commit")
    return override(config, {"model": f"{config.model.partition('@')[0]}@{commit}"}) if commit else config


def load(config: ScoreCorpusConfig) -> Scorer:
    """The model in this process: what does not load stops here, and its labels name the columns.

    Raises:
        ValueError: no model is named, it does not load, or there is no GPU to put it on.
    """
    import torch
    from transformers.utils import logging

    from detox.classifier.scorer import load_scorer

    if not config.model:
        raise ValueError("no model is given: name a run directory or a classifier with --model")
    inside = config.use_gpu and not config.workers
    if inside and not torch.cuda.is_available():
        raise ValueError("--use-gpu is True with --workers 0, and this machine has no CUDA device: leave --use-gpu out")
    logging.disable_progress_bar()
    return load_scorer(config.model, device="cuda" if inside else "cpu")


def refuse_foreign_output(config: ScoreCorpusConfig, files: Sequence[Path], directory: RunDirectory) -> None:
    """Refuse to write over what this run did not write.

    Raises:
        ValueError: the output is one of the input's files, or exists from elsewhere and `overwrite` is not set.
    """
    from detox.runs.storage import Storage

    output = Storage(config.output)
    if output.is_local and output.local_path.resolve() in {path.resolve() for path in files}:
        raise ValueError(f"--output {config.output} is one of the files that --input matches: name another file")
    if output.exists() and not config.overwrite and not is_own(output, directory):
        raise ValueError(
            f"--output {config.output} exists and is not, or no longer, what this command wrote: name another file, "
            "or add --overwrite True"
        )


def is_own(output: Storage, directory: RunDirectory) -> bool:
    """Whether the output is there as this run wrote it."""
    if not output.exists() or not directory.storage.exists(OUTPUT):
        return False
    size = output.filesystem.get_file_info(output.path).size
    return directory.read_json(OUTPUT) == {"uri": output.uri, "bytes": size}


def score(config: ScoreCorpusConfig, directory: RunDirectory, plan: Plan, scorer: Scorer) -> None:
    """Score the shards that are not scored yet, and say how far it is, in lines and in `metrics.jsonl`."""
    import time

    from detox.classifier.corpus import unscored
    from detox.runs.tracking import Tracker

    work = unscored(directory.storage, plan)
    done = plan.rows - sum(plan.rows_of(number) for number in work)
    if done:
        print(f"going on: {done:,} of {plan.rows:,} rows are scored", flush=True)
    tracker = Tracker(directory, config.tracking, config.model_dump(mode="json"))
    began = said = time.monotonic()
    before = done
    for rows in score_shards(config, directory.storage, plan, work, scorer):
        done += rows
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES or done == plan.rows:
            said, rate = now, (done - before) / max(now - began, 1e-9)
            tracker.log("scoring", done, {"rows": done, "rows_per_second": rate})
            print(f"scored {done:,} of {plan.rows:,} rows · {rate:,.0f} rows/s", flush=True)
    tracker.close()


def score_shards(config: ScoreCorpusConfig, run: Storage, plan: Plan, work: list[int], scorer: Scorer) -> Iterator[int]:
    """Rows of each shard as it is done: on Ray, or in this process, where one shard is not worth the start of Ray."""
    from detox.classifier.corpus import score_shard

    if not config.workers or (len(work) < 2 and not config.use_gpu):
        yield from (score_shard(run, plan, scorer, number) for number in work)
    elif work:
        from rayjobs.ray_glue.launch import connect
        from rayjobs.ray_glue.scoring import check_room, score_on_ray

        connect(config)
        check_room(config.workers, config.use_gpu)
        yield from score_on_ray(run, plan, work, config.model, config.workers, config.use_gpu)


def publish(config: ScoreCorpusConfig, directory: RunDirectory, plan: Plan) -> dict[str, Any]:
    """Write the output and the summary."""
    from detox.classifier.corpus import REJECTS, assemble
    from detox.runs.storage import Storage

    uri = Storage(config.output).uri
    written = assemble(
        directory.storage, plan, config.output, lambda size: directory.write_json(OUTPUT, {"uri": uri, "bytes": size})
    )
    headline = f"{written.rows:,} rows scored with {', '.join(plan.columns.values())}"
    if written.without_text:
        headline += f"; {written.without_text:,} of them have no text and null scores"
    if plan.refused:
        headline += f"; {plan.refused:,} more could not be read: {directory.uri}/{REJECTS}"
    summary = {
        "headline": headline,
        "output": uri,
        "rows": written.rows,
        "rows_without_text": written.without_text,
        "rows_refused": plan.refused,
        "columns": plan.columns,
        "facts": plan.facts,
    }
    directory.write_json("summary.json", summary)
    return summary


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

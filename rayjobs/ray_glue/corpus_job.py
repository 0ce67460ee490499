"""What jobs over a corpus share: every column kept, new ones added, in the input's order.

The input is cut into shards, on which Ray Data's workers work, each with the model loaded once; the finished ones are
kept in the run directory until the output is written, so the same command goes on where it was killed. Without
`--run.name` that directory is named after a digest of settings, input and model: what changes them is another run.

A row whose text is null, or no string, keeps its place with nulls; rows that cannot be read at all are in the run
directory's `rejects.jsonl`. Both are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import Field

from detox.runs.config import JobConfig, digest, identity, override

if TYPE_CHECKING:
    from pathlib import Path

    from detox.classifier.corpus import Plan, Worker
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage

OUTPUT = "output.json"
"""Which file the run wrote, and its size: by it an output is known as the run's own."""
SECONDS_BETWEEN_LINES = 5.0


class CorpusConfig(JobConfig):
    """What is worked on, with what, and where the result goes."""

    model: str = ""
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
    """Processes, one torch thread each; 0: inside this process, without Ray."""
    use_gpu: bool = False
    """One GPU a worker."""


ConfigT = TypeVar("ConfigT", bound=CorpusConfig)


@dataclass(frozen=True)
class CorpusJob(Generic[ConfigT]):
    """What is a job's own."""

    name: str
    loader: Callable[[ConfigT, str], Callable[[], Worker]]
    """Given config and device, what loads the worker, here or in another process: it pickles without the job's module,
    which is `__main__` here and not there."""
    done: str
    """What is said of rows: "scored"."""
    made: str
    """What they have then: "scores"."""
    prefix: str
    """Put before the name of a column that the input has too."""
    lang_column: Callable[[ConfigT], str] = lambda _: ""
    """Column of the input with the language; empty: none."""


def run_corpus_job(job: CorpusJob[ConfigT], config: ConfigT, recipe: str) -> dict[str, Any]:
    """Work through the corpus, or go on where that stopped.

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
    opened = open_corpus(config.input, config.text_column, job.lang_column(config))
    check_output(config.output)
    worker = load(job, config)
    facts = corpus.facts_of(opened, config.model)
    kept = named(job, config, facts)
    refuse_foreign_output(config, opened.files, RunDirectory(Storage(config.run.storage).child(kept.run.name)))
    directory = open_run(kept, job.name, recipe)
    with lease(directory.storage):
        if directory.is_complete and is_own(Storage(config.output), directory):
            corpus.refuse_changed(directory.summary()["facts"], facts, directory.storage)
            print(f"already complete: {config.output}")
            return directory.summary()
        directory.storage.delete(COMPLETE)
        plan = corpus.stage(opened, directory.storage, worker.results, config.shard_rows, facts, job.prefix)
        work_through(job, pinned(config, facts), directory, plan, worker)
        summary = publish(job, config, directory, plan)
        directory.complete()
        directory.storage.delete("shards")
    print(f"{summary['headline']}\noutput: {config.output}")
    return summary


def named(job: CorpusJob[ConfigT], config: ConfigT, facts: dict[str, Any]) -> ConfigT:
    """The config under which the run is kept: without `overwrite`, which a repeated command may change, and named after
    everything that determines the output, contents of model and input included."""
    plain = override(config, {"overwrite": type(config)().overwrite})
    if plain.run.name:
        return plain
    name = f"{job.name.replace('_', '-')}-{digest({'config': identity(plain), 'facts': facts})[:12]}"
    return override(plain, {"run.name": name})


def pinned(config: ConfigT, facts: dict[str, Any]) -> ConfigT:
    """The config with a hub model's name at the commit that it stands for now: workers load it later, and again."""
    commit = facts["model"].get("commit")
    return override(config, {"model": f"{config.model.partition('@')[0]}@{commit}"}) if commit else config


def load(job: CorpusJob[ConfigT], config: ConfigT) -> Worker:
    """The model in this process: what does not load stops here, and its results name the columns.

    Raises:
        ValueError: no model is named, it does not load, or there is no GPU to put it on.
    """
    import torch
    from transformers.utils import logging

    if not config.model:
        raise ValueError("no model is given: name a run directory with --model (--help says what else it takes)")
    inside = config.use_gpu and not config.workers
    if inside and not torch.cuda.is_available():
        raise ValueError("--use-gpu is True with --workers 0, and this machine has no CUDA device: leave --use-gpu out")
    logging.disable_progress_bar()
    return job.loader(config, "cuda" if inside else "cpu")()


def refuse_foreign_output(config: CorpusConfig, files: Sequence[Path], directory: RunDirectory) -> None:
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


def work_through(job: CorpusJob[ConfigT], config: ConfigT, directory: RunDirectory, plan: Plan, worker: Worker) -> None:
    """Finish the shards that are not done yet, and say how far it is, in lines and in `metrics.jsonl`."""
    import time

    from detox.classifier.corpus import unfinished
    from detox.runs.tracking import Tracker

    work = unfinished(directory.storage, plan)
    done = plan.rows - sum(plan.rows_of(number) for number in work)
    if done:
        print(f"going on: {done:,} of {plan.rows:,} rows are {job.done}", flush=True)
    tracker = Tracker(directory, config.tracking, config.model_dump(mode="json"))
    began = said = time.monotonic()
    before = done
    for rows in finished_shards(job, config, directory.storage, plan, work, worker):
        done += rows
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES or done == plan.rows:
            said, rate = now, (done - before) / max(now - began, 1e-9)
            tracker.log(job.done, done, {"rows": done, "rows_per_second": rate})
            print(f"{job.done} {done:,} of {plan.rows:,} rows · {rate:,.0f} rows/s", flush=True)
    tracker.close()


def finished_shards(
    job: CorpusJob[ConfigT], config: ConfigT, run: Storage, plan: Plan, work: list[int], worker: Worker
) -> Iterator[int]:
    """Rows of each shard as it is done: on Ray, or in this process, where one shard is not worth the start of Ray."""
    from detox.classifier.corpus import finish_shard

    if not config.workers or (len(work) < 2 and not config.use_gpu):
        yield from (finish_shard(run, plan, worker, number) for number in work)
    elif work:
        from rayjobs.ray_glue.launch import connect
        from rayjobs.ray_glue.shards import check_room, finish_on_ray

        connect(config)
        check_room(config.workers, config.use_gpu)
        load_there = job.loader(config, "cuda" if config.use_gpu else "cpu")
        yield from finish_on_ray(run, plan, work, load_there, config.workers, config.use_gpu)


def publish(job: CorpusJob[ConfigT], config: ConfigT, directory: RunDirectory, plan: Plan) -> dict[str, Any]:
    """Write the output and the summary."""
    from detox.classifier.corpus import REJECTS, assemble
    from detox.runs.storage import Storage

    uri = Storage(config.output).uri
    written = assemble(
        directory.storage,
        plan,
        config.output,
        lambda size: directory.write_json(OUTPUT, {"uri": uri, "bytes": size}),
        job.lang_column(config),
    )
    headline = f"{written.rows:,} rows {job.done}: {', '.join(plan.columns.values())}"
    if written.without_text:
        headline += f"; {written.without_text:,} of them have no text and null {job.made}"
    if written.odd_languages:
        headline += f"; the language of {written.odd_languages:,} was detected, since their cells hold no code"
    if plan.refused:
        headline += f"; {plan.refused:,} more could not be read: {directory.uri}/{REJECTS}"
    summary = {
        "headline": headline,
        "output": uri,
        "rows": written.rows,
        "rows_without_text": written.without_text,
        "rows_without_code": written.odd_languages,
        "rows_refused": plan.refused,
        "columns": plan.columns,
        "facts": plan.facts,
    }
    directory.write_json("summary.json", summary)
    return summary

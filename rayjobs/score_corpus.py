"""Score a corpus of any size with any classifier: every column kept, one column a label added, in the input's order.

A label's column has its name, or `score_<label>` where the input has such a column; scores are float32 in 0..1. Work is
done in shards on Ray Data's workers, and the same command goes on where it was killed; what holds for rows without
text, rows that cannot be read, and run names is said in `rayjobs.ray_glue.corpus_job`.

    python -m rayjobs.score_corpus default --model runs/train-classifier-demo-s42 \\
        --input comments.csv --output scored.parquet
    python -m rayjobs.score_corpus default --model unitary/toxic-bert --input 'part-*.jsonl.zst' \\
        --output s3://bucket/scored.jsonl --text-column body --run.storage s3://bucket/runs --workers 8 --use-gpu True
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rayjobs.ray_glue.corpus_job import CorpusConfig, CorpusJob, run_corpus_job

if TYPE_CHECKING:
    from detox.classifier.corpus import Worker

JOB = "score_corpus"


class ScoreCorpusConfig(CorpusConfig):
    """What is scored, with what, and where the result goes."""

    model: str = ""
    """Run directory, `owner/name@revision`, `detoxify/original`, `tfidf:FOLDER`, `lexicon:FILE`, `tiny/bert`."""


def default() -> ScoreCorpusConfig:
    """Your own file and model: --model, --input, --output, --text-column."""
    return ScoreCorpusConfig()


RECIPES: dict[str, Callable[[], ScoreCorpusConfig]] = {"default": default}


def loader(config: ScoreCorpusConfig, device: str) -> Callable[[], Worker]:
    from detox.classifier.score_columns import ScoreColumns

    return partial(ScoreColumns.load, config.model, config.text_column, device)


SCORING = CorpusJob(name=JOB, loader=loader, done="scored", made="scores", prefix="score")


def run(config: ScoreCorpusConfig, recipe: str) -> dict[str, Any]:
    """Score, or go on where that stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    return run_corpus_job(SCORING, config, recipe)


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

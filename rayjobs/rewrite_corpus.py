"""Rewrite the toxic texts of a corpus of any size: every column kept, five added, in the input's order.

    rewritten         the text without its toxicity; one that is neutral already, as it was
    how               model, reranked, edited, unchanged or already neutral
    toxicity_before   0..1, float32, by the scorer that the rewriter learned from its training pairs
    toxicity_after    the same of the rewrite
    similarity        of the two, 0..1, float32

Where the input has such a column, the new one is called `rewrite_<name>`. Work is done in shards on Ray Data's workers,
and the same command goes on where it was killed; what holds for rows without text, rows that cannot be read, and run
names is said in `rayjobs.ray_glue.corpus_job`. What becomes of a text depends on that text alone, not on its shard.

    python -m rayjobs.rewrite_corpus default --model runs/train-rewriter-demo-s42 \\
        --input pairs.csv --text-column toxic --lang-column lang --output rewritten.parquet

With `--remote.base-url` the candidates come from an OpenAI-compatible endpoint in place of the model (S3 9.6), and are
judged, reranked and edited by what `--model` learned. It is asked from this process alone, with several requests at a
time, and is no worker's business; a failure stops the job, and the same command goes on behind the finished shards.

    python -m rayjobs.rewrite_corpus default --model runs/train-rewriter-demo-s42 \\
        --input pairs.csv --text-column toxic --lang-column lang --output rewritten.jsonl --shard-rows 100 \\
        --remote.base-url https://generativelanguage.googleapis.com/v1beta/openai --remote.model gemini-2.5-flash \\
        --remote.api-key-env GEMINI_API_KEY --remote.limits.most-requests 5000
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from detox.rewriter.remote_settings import RemoteSettings
from detox.runs.config import override
from rayjobs.ray_glue.corpus_job import CorpusConfig, CorpusJob, run_corpus_job

if TYPE_CHECKING:
    from detox.classifier.corpus import Worker

JOB = "rewrite_corpus"


class RewriteCorpusConfig(CorpusConfig):
    """What is rewritten, with what, and where the result goes."""

    model: str = ""
    """Run directory of train_rewriter, or its artifact: a path or a URI."""
    lang_column: str = ""
    """Column with the ISO 639-1 code of each text, detected where it is null, empty or no code (such
    cells are counted in the summary); empty: no such column."""
    remote: RemoteSettings = RemoteSettings()
    """An endpoint that offers the candidates in place of the model."""
    shard_rows: int = Field(default=512, ge=1)
    """Rows of a shard: the most that a killed worker does again, and that a failed endpoint is asked for again."""


def default() -> RewriteCorpusConfig:
    """Your own file and rewriter: --model, --input, --output, --text-column, --lang-column."""
    return RewriteCorpusConfig()


RECIPES: dict[str, Callable[[], RewriteCorpusConfig]] = {"default": default}


def loader(config: RewriteCorpusConfig, device: str) -> Callable[[], Worker]:
    from detox.rewriter.rewrite_columns import RewriteColumns

    remote = config.remote if config.remote.base_url else None
    return partial(RewriteColumns.load, config.model, config.text_column, config.lang_column, device, remote)


REWRITING = CorpusJob(
    name=JOB,
    loader=loader,
    done="rewritten",
    made="rewrites",
    prefix="rewrite",
    lang_column=lambda config: config.lang_column,
)


def run(config: RewriteCorpusConfig, recipe: str) -> dict[str, Any]:
    """Rewrite, or go on where that stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    if config.remote.base_url:  # one budget, one set of connections
        config = override(config, {"workers": 0})
    return run_corpus_job(REWRITING, config, recipe)


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

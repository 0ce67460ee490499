"""Open-loop load on a running service: how long answers take at a rate that does not wait for them.

Requests leave when they are due (a Poisson process), and a latency runs from then (`detox.evaluation.open_loop`). The
run directory holds `outcomes.parquet` (a row a request), `summary.json` and `report.html` with the distribution of the
latencies and their course. A measurement is no work that could go on: each has a `--run.name` of its own.

    make serve
    python -m rayjobs.load_test default --url http://127.0.0.1:8000 --rate 200 --seconds 60
    python -m rayjobs.load_test default --expected runs/forum  # and holds each answer against the model's own scores
    python -m rayjobs.load_test default --api perspective --source comments.csv --key-env SERVICE_KEY …
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from detox.runs.config import JobConfig, RunSettings

if TYPE_CHECKING:
    from detox.evaluation.open_loop import Judge
    from detox.runs.rundir import RunDirectory

JOB = "load_test"
SYNTHETIC_TEXTS = 2000
MOST_TEXTS = 20_000
"""Of a source; they are sent in turn."""

Api = Literal["classify", "detoxify", "perspective", "moderations", "predict"]
PATHS: dict[Api, str] = {
    "classify": "/v1/classify",
    "detoxify": "/v1/detoxify",
    "perspective": "/v1alpha1/comments:analyze",
    "moderations": "/v1/moderations",
    "predict": "/predict",
}


class LoadTestConfig(JobConfig):
    """What is asked, how often, for how long."""

    url: str = "http://127.0.0.1:8000"
    api: Api = "classify"
    rate: float = Field(default=100.0, gt=0)
    """Requests a second, on average."""
    seconds: float = Field(default=60.0, gt=0)
    texts_per_request: int = Field(default=1, ge=1)
    """More than one for `classify`, `detoxify`, `moderations` and `predict` only."""
    source: str = ""
    """csv, tsv, jsonl or parquet with texts; empty: the synthetic corpus."""
    text_column: str = "text"
    key_env: str = ""
    """Environment variable that holds the API key; empty: none is sent."""
    timeout_s: float = Field(default=60.0, gt=0)
    expected: tuple[str, ...] = ()
    """Runs of `train_classifier`, one or more of which the service serves: each answer is held against the scores that
    the version it names gives here. `classify` only."""
    tolerance: float = Field(default=0.01, ge=0)
    """Of a probability; an engine in int8 or bfloat16 needs more."""


def default() -> LoadTestConfig:
    """A service that runs: --url, --rate, --seconds."""
    return LoadTestConfig(run=RunSettings(resume="never"))


RECIPES: dict[str, Callable[[], LoadTestConfig]] = {"default": default}


def run(config: LoadTestConfig, recipe: str) -> dict[str, Any]:
    """Put load on the service and report.

    Returns:
        the final figures, as `summary.json` holds them.

    Raises:
        ValueError: a setting that does not hold, texts that cannot be read, or a service that does not answer.
    """
    from rayjobs.ray_glue.job import run_once

    bodies, headers = bodies_of(config), headers_of(config)
    judge = judge_of(config)
    check_service(config, bodies[0], headers)

    def work(directory: RunDirectory) -> None:
        from detox.evaluation.load_report import write
        from detox.evaluation.open_loop import arrivals, load

        due_N = arrivals(config.rate, config.seconds, config.run.seed)
        url = config.url.rstrip("/") + PATHS[config.api]
        began = time.monotonic()
        sending = load(
            url, bodies, due_N, headers=headers, timeout=config.timeout_s, judge=judge, on_answer=said(len(due_N))
        )
        outcomes = asyncio.run(sending)
        print(f"{len(outcomes):,} requests in {time.monotonic() - began:.0f} s", flush=True)
        write(directory, config, recipe, outcomes)

    return run_once(config, JOB, recipe, work, {"report": "report.html", "outcomes": "outcomes.parquet"})


def said(total: int) -> Callable[[int], None]:
    """Prints ten lines of progress, whatever the total."""
    step = max(1, total // 10)

    def on_answer(answered: int) -> None:
        if answered % step == 0:
            print(f"{answered:,} of {total:,} answered", flush=True)

    return on_answer


def bodies_of(config: LoadTestConfig) -> list[Any]:
    """Request bodies, which are sent in turn.

    Raises:
        ValueError: no texts, or more than one a request where the API takes one.
    """
    if config.api == "perspective" and config.texts_per_request > 1:
        raise ValueError(f"perspective takes one text a request, and texts_per_request is {config.texts_per_request}")
    groups = groups_of(config)
    if config.api == "perspective":
        attributes: dict[str, Any] = {"requestedAttributes": {"TOXICITY": {}}, "doNotStore": True}
        return [{"comment": {"text": text}} | attributes for [text] in groups]
    if config.api == "predict":  # a list of two texts would be a pair
        return [{"inputs": [[text] for text in group]} for group in groups]
    return [{"input": group[0] if config.texts_per_request == 1 else group} for group in groups]


def groups_of(config: LoadTestConfig) -> list[list[str]]:
    """The texts of each request."""
    texts, size = texts_of(config), config.texts_per_request
    return [texts[at : at + size] for at in range(0, len(texts) - size + 1, size)] or [texts]


def judge_of(config: LoadTestConfig) -> Judge | None:
    """Whether an answer to request i has the scores that it should have; None where nothing is `expected`.

    Raises:
        ValueError: another API than `classify`, or a run that is not there or may not be served.
    """
    if not config.expected:
        return None
    if config.api != "classify":
        raise ValueError(
            f"expected needs api classify, whose answers name the model's version, and api is {config.api}"
        )
    from detox.classifier.scorer import load_scorer
    from serve.artifacts import servable

    groups = groups_of(config)
    texts = list(dict.fromkeys(text for group in groups for text in group))
    row_of = {text: row for row, text in enumerate(texts)}
    scores_of = {servable(run)[1]: load_scorer(run).score(texts) for run in config.expected}

    def is_right(number: int, answer: Any) -> bool:
        scores, group = scores_of[answer["model"]["version"]], groups[number % len(groups)]
        return len(answer["results"]) == len(group) and all(
            abs(result["probabilities"][label] - scores.column(label)[row_of[text]]) <= config.tolerance
            for text, result in zip(group, answer["results"], strict=True)
            for label in scores.labels
        )

    return is_right


def texts_of(config: LoadTestConfig) -> list[str]:
    """Raises:
    ValueError: a file that cannot be read, without the column, or without texts in it.
    """
    if not config.source:
        from detox.data.synthetic import generate

        found = generate(SYNTHETIC_TEXTS)["text"].to_pylist()
    else:
        from detox.data.formats import Record, column_names, records

        columns = column_names(path := Path(config.source))
        if config.text_column not in columns:
            known = ", ".join(columns)
            raise ValueError(f"{path} has no column {config.text_column!r}: set --text-column to one of {known}")
        rows = islice(records(path, [config.text_column]), MOST_TEXTS)
        found = [row.values.get(config.text_column) for row in rows if isinstance(row, Record)]
    texts = [text for text in found if isinstance(text, str) and text.strip()]
    if not texts:
        raise ValueError(f"{config.source} has no texts in column {config.text_column!r}")
    return texts


def headers_of(config: LoadTestConfig) -> dict[str, str]:
    """Raises:
    ValueError: no key in the environment variable that should hold one.
    """
    if not config.key_env:
        return {}
    if not os.environ.get(config.key_env):
        raise ValueError(f"the environment variable {config.key_env} should hold the API key, and is not set")
    return {"authorization": f"Bearer {os.environ[config.key_env]}"}


def check_service(config: LoadTestConfig, body: Any, headers: Mapping[str, str]) -> None:
    """Raises:
    ValueError: the service is not there, or refuses what it would be asked.
    """
    import httpx

    url = config.url.rstrip("/") + PATHS[config.api]
    try:
        answer = httpx.post(url, json=body, headers=dict(headers), timeout=config.timeout_s)
    except httpx.TransportError as error:
        raise ValueError(f"{config.url} does not answer ({error}): start it, for example with `make serve`") from None
    if answer.status_code != 200:
        raise ValueError(f"{url} answers {answer.status_code}: {answer.text[:300]}")


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

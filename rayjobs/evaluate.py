"""Measure what there is: rewriters against each other (S2 section 9), or a classifier that is deployed.

`rewriters`: baseline against curriculum against every variant, on the same test. Each rewriter is run in several
decodings beside copying the input and deleting toxic words, and all are judged alike: PAN's J of 2024 and 2025, its
parts, copies, BLEU, chrF, BERTScore and what else `detox.rewriter.evaluation` measures, with paired significance. The
run directory holds `outputs.parquet` (a row a text and system with every figure), `summary.json` and `report.html`;
what a rewriter has rewritten is kept there, so the same command goes on where it stopped.

Figures by offline judges compare systems of one run, not with published ones; `--judges pan2025` takes the shared
task's own models from the hub. Copy has J 0.126 and delete 0.302 in PAN 2024, with its judges on its test.

`--remote.base-url` and `--remote.model` put the answers of an OpenAI-compatible endpoint beside the rewriters, as a
baseline (S3 9.6); `--endpoint` those of a service of ours, to measure a rewriter as it is deployed.

    python -m rayjobs.evaluate rewriters --rewriters runs/baseline runs/curriculum \\
        --data.source multiparadetox_dev.parquet --run.storage runs
    python -m rayjobs.evaluate rewriters --rewriters runs/curriculum --data.source test_with_references.tsv \\
        --all-rows-are-test True --learn-from.source multiparadetox_dev.parquet --variants greedy full
    python -m rayjobs.evaluate rewriters --endpoint http://127.0.0.1:8000 --data.source multiparadetox_dev.parquet

`classifier`: a running service, or any scorer, with the figures of training (`detox.classifier.measuring`).

    python -m rayjobs.evaluate classifier --endpoint http://127.0.0.1:8000 --data.source test.csv \\
        --data.label-columns toxic --all-rows True --run.name deployed
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from detox.classifier.measuring_settings import EvaluateScorerConfig
from detox.rewriter.comparison_settings import EvaluateRewritersConfig
from detox.runs.config import override

if TYPE_CHECKING:
    from detox.data.pairs.settings import PairSettings
    from detox.runs.rundir import RunDirectory

JOB = "evaluate"


def rewriters() -> EvaluateRewritersConfig:
    """Your own rewriters on your own pairs: --rewriters, --data.source."""
    return EvaluateRewritersConfig()


def classifier() -> EvaluateScorerConfig:
    """A running service, or any scorer, on labelled comments: --endpoint or --model, --data.source."""
    return EvaluateScorerConfig()


Configs = EvaluateRewritersConfig | EvaluateScorerConfig
RECIPES: dict[str, Callable[[], Configs]] = {"rewriters": rewriters, "classifier": classifier}


def run(config: Configs, recipe: str) -> dict[str, Any]:
    """Measure, or go on where that stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    if isinstance(config, EvaluateRewritersConfig):
        return run_rewriters(config, recipe)
    return run_classifier(config, recipe)


def run_classifier(config: EvaluateScorerConfig, recipe: str) -> dict[str, Any]:
    from detox.classifier.measuring import measure
    from detox.classifier.measuring_settings import scorer_name
    from detox.data.reading import read
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.data import prepared_stage
    from rayjobs.ray_glue.job import run_once
    from rayjobs.ray_glue.launch import check_paths

    check_paths(config)
    scorer_name(config)
    read(config.data)

    def work(directory: RunDirectory) -> None:
        stage = prepared_stage(config.data, config.run.seed, Storage(config.run.storage), map)
        measure(config, recipe, directory, stage)

    return run_once(config, JOB, recipe, work, {"report": "report.html"})


def run_rewriters(config: EvaluateRewritersConfig, recipe: str) -> dict[str, Any]:
    from detox.rewriter.comparison_run import check_config, compare
    from detox.runs.progress import Listener
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.data import pairs_stage
    from rayjobs.ray_glue.job import run_once
    from rayjobs.ray_glue.launch import check_paths, connect, on_one_node

    check_paths(config)
    refuse_unseen(config)
    config = with_deployed(config)
    check_config(config)
    check_sources(config)

    def work(directory: RunDirectory) -> None:
        if config.scaling.num_workers:
            connect(config)
        storage, seed = Storage(config.run.storage), config.run.seed
        tested = pairs_stage(pairs_to_test(config), seed, storage)
        learned = pairs_stage(config.learn_from, seed, storage) if config.learn_from.source else tested
        print(f"pairs: {tested.uri}", flush=True)
        with Listener(directory):
            on_one_node(compare, config.scaling)(config, recipe, directory.uri, tested.uri, learned.uri)
        if config.endpoint and deployed(config.endpoint.rstrip("/"))[1] != config.endpoint_version:
            raise ValueError(f"{config.endpoint} got another rewriter meanwhile: evaluate it under another --run.name")

    return run_once(config, JOB, recipe, work, {"report": "report.html", "outputs": "outputs.parquet"})


def with_deployed(config: EvaluateRewritersConfig) -> EvaluateRewritersConfig:
    """The config with the rewriter that a service of ours has as its endpoint, and the version that it has now: where
    another is deployed meanwhile, the run does not go on.

    Raises:
        ValueError: another endpoint is named too, no service answers, or it has no rewriter.
    """
    import os

    from detox.classifier.endpoint_scorer import KEY
    from serve.limits import MOST_CHARACTERS

    if not config.endpoint:
        return config
    url = config.endpoint.rstrip("/")
    if config.remote.base_url not in ("", f"{url}/v1"):
        raise ValueError("--endpoint and --remote.base-url are two endpoints: leave one out")
    name, version = deployed(url)
    answering: dict[str, Any] = {"remote.base_url": f"{url}/v1", "remote.model": name, "remote.prompt": "{text}"}
    answering |= {"remote.candidates": 1, "remote.max_source_chars": MOST_CHARACTERS, "remote.max_answer_tokens": 0}
    key = config.remote.api_key_env or (KEY if os.environ.get(KEY) else "")
    return override(config, answering | {"remote.api_key_env": key, "endpoint_version": version})


def deployed(url: str) -> tuple[str, str]:
    """Name and version of the rewriter of a service of ours.

    Raises:
        ValueError: no service answers, or it has no rewriter.
    """
    import httpx

    try:
        found = httpx.get(f"{url}/info", timeout=30).raise_for_status().json()["rewriter"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no service of ours answers at {url} ({error}): check --endpoint") from None
    if not found:
        raise ValueError(f"the service at {url} has no rewriter: start it with one (make serve REWRITER=RUN_DIR)")
    return str(found["name"]), str(found["version"])


def pairs_to_test(config: EvaluateRewritersConfig) -> PairSettings:
    """How the tested pairs are prepared: where all of them are test, no rule that judges their meaning refuses any."""
    from rayjobs.ray_glue.data import is_prepared

    if not config.all_rows_are_test or is_prepared(config.data):
        return config.data
    whole = {"split.ratios": (1.0, 0.0, 0.0), "split.keep_named": False}
    return override(config.data, {"cleaning.enabled": False, "judge_share": 0.0, **whole})


def check_sources(config: EvaluateRewritersConfig) -> None:
    """Raises:
    ValueError: pairs that are not there, before the run takes its name.
    """
    from detox.data.pairs.reading import locate_pairs
    from rayjobs.ray_glue.data import is_prepared

    for settings in (config.data, config.learn_from) if config.learn_from.source else (config.data,):
        if not is_prepared(settings):
            locate_pairs(settings)


def refuse_unseen(config: EvaluateRewritersConfig) -> None:
    """Raises:
    ValueError: a relative path of a rewriter, where the work is done in another working directory.
    """
    from rayjobs.ray_glue.launch import in_submitted_job, refuse_relative_paths

    if in_submitted_job():
        reason = "a submitted job runs in a temporary copy of the working directory"
        paths = {"rewriters": config.rewriters, "learn_from.source": config.learn_from.source}
        refuse_relative_paths({key: [path for path in value if "/" in path] for key, value in paths.items()}, reason)


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

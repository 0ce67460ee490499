"""Prepare comments: read, clean, drop repeated rows, split, and describe what was done on a data card (S1 steps 4-6).

Cleaning runs on Ray Data with all CPUs; the result has the same bytes whatever their number. The run directory holds
`data/` (`train`, `validation`, `test` and `rejects` as parquet, `dataset.json`, `statistics.json`, README.md with
plots, a signed manifest) and `report.html`. A training job takes the folder as its `--data.source`; one that is given
the raw source runs this preparation by itself, and both share the work through the stage store of `run.storage`.

    python -m rayjobs.prepare_data synthetic
    python -m rayjobs.prepare_data jigsaw2018 --data.local jigsaw/ --data.cleaning.languages en
    python -m rayjobs.prepare_data files --data.source 'comments-*.csv' --data.label-columns toxic --workers 8
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from detox.data.settings import DataSettings
from detox.data.sources import SOURCES
from detox.data.sources.source import Source
from detox.runs.config import JobConfig

if TYPE_CHECKING:
    from pathlib import Path

    from detox.runs.rundir import RunDirectory

JOB = "prepare_data"


class PrepareDataConfig(JobConfig):
    """Which comments, and how they are cleaned and split."""

    data: DataSettings = DataSettings()
    workers: int = Field(default=0, ge=0)
    """Cleaning processes at most, one CPU each; 0: as many as there are CPUs. Does not change the result."""


def files() -> PrepareDataConfig:
    """Your own csv, tsv, jsonl or parquet files: --data.source, --data.text-column, --data.label-columns."""
    return PrepareDataConfig()


def of_source(source: Source) -> Callable[[], PrepareDataConfig]:
    """The recipe of a named source."""

    def recipe() -> PrepareDataConfig:
        return PrepareDataConfig(data=DataSettings(source=(source.name,)))

    recipe.__doc__ = f"{source.title}: {', '.join(source.labels) or 'no labels'}."
    return recipe


RECIPES: dict[str, Callable[[], PrepareDataConfig]] = {
    **{name: of_source(source) for name, source in SOURCES.items()},
    "files": files,
}


def run(config: PrepareDataConfig, recipe: str) -> dict[str, Any]:
    """Prepare the data, or go on where that stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    import tempfile
    from pathlib import Path

    from detox.data.reading import read
    from detox.governance.manifest import ensure_key
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.data import prepared_stage
    from rayjobs.ray_glue.job import run_once
    from rayjobs.ray_glue.launch import check_paths, connect
    from rayjobs.ray_glue.ray_map import RayMap

    check_paths(config)
    read(config.data)  # what is wrong with the sources is said before the run takes its name and Ray starts
    ensure_key()

    def work(directory: RunDirectory) -> None:
        connect(config)
        storage = Storage(config.run.storage)
        cleaning = RayMap(config.workers, everywhere=storage.is_local)
        stage = prepared_stage(config.data, config.run.seed, storage, cleaning)
        with tempfile.TemporaryDirectory(prefix="detox-data-") as scratch:
            publish(directory, stage.localise(Path(scratch)), Path(scratch))

    return run_once(config, JOB, recipe, work, {"report": "report.html", "data": "data"})


def publish(directory: RunDirectory, prepared: Path, scratch: Path) -> dict[str, Any]:
    """Copy the prepared data into the run directory, sign them, and write the report and the summary.

    Args:
        prepared: the stage's folder.
        scratch: an empty local folder for the copy in the making.
    """
    import json
    import shutil

    from detox.data.prepared import PreparedData
    from detox.data.report import data_report
    from detox.governance.manifest import write_manifest
    from detox.runs.config import digest

    data = PreparedData.open(prepared)
    copy = scratch / "data"
    copy.mkdir()
    for name in ("README.md", "dataset.json", "statistics.json", "rejects.parquet", *data.facts["sha256"]):
        shutil.copy2(prepared / name, copy)
    shutil.copytree(prepared / "plots", copy / "plots")
    parents = [
        {"name": source["name"], "digest": source["revision"] or digest(source["files"]), "classification": "open"}
        for source in data.facts["sources"]
    ]
    write_manifest(copy, {"run": directory.name, "job": JOB}, parents, data.facts["classification"])
    directory.storage.upload(copy, "data")
    statistics = json.loads((prepared / "statistics.json").read_text(encoding="utf-8"))
    report = data_report(directory.name, data.facts, statistics, copy / "plots")
    directory.storage.write_text("report.html", report.render())
    dealt = data.facts["rows"]
    headline = (
        f"{data.facts['rows_read']:,} rows read, {data.facts['rows_refused']:,} refused; "
        + ", ".join(f"{part} {rows:,}" for part, rows in dealt.items())
    )  # fmt: skip
    summary = {
        "headline": headline,
        "digest": data.digest,
        "rows_read": data.facts["rows_read"],
        "rows_refused": data.facts["rows_refused"],
        **{f"rows/{part}": rows for part, rows in dealt.items()},
        **{f"refused/{rule}": rows for rule, rows in data.facts["refused"].items()},
    }
    directory.write_json("summary.json", summary)
    return summary


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

"""The job `prepare_data`: its recipes, its run directory, bad input at the command line, Ray Data beside plain map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detox.data.prepare import prepare
from detox.data.prepared import PreparedData
from detox.data.settings import DataSettings
from detox.data.sources import SOURCES
from detox.governance.manifest import file_digests, verify_manifest
from detox.runs.config import identity, override
from rayjobs import cli
from rayjobs.prepare_data import JOB, RECIPES, run
from tests.hub import HEAD_COMMIT, StubHub, run_python
from tests.hub_contents import write_datasets

WORDS = ("bridge", "violin", "harbour", "orchard", "glacier", "lantern", "museum", "saddle", "walnut", "pebble")


def sentence(number: int) -> str:
    """Five words and two numbers, of its own for each number."""
    return f"{' '.join(WORDS[int(digit)] for digit in f'{number:05d}')} {number * 7919} {number * 104729}"


@pytest.fixture
def comments(tmp_path: Path) -> Path:
    """20,000 comments in five shards, each fifth toxic, and one repeat."""
    path = tmp_path / "comments.csv"
    lines = [f"{sentence(n)} {'friend' if n % 5 else 'idiot'},{int(n % 5 == 0)}" for n in range(20_000)]
    path.write_text("\n".join(["text,toxic", *lines, lines[7]]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def own_ray(own_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the test's own, too."""
    monkeypatch.setenv("DETOX_KEYS", str(tmp_path / "keys"))


def main(*words: str) -> None:
    cli.main(JOB, "", RECIPES, run, list(words))


def test_each_source_has_a_recipe_and_so_have_files() -> None:
    assert set(RECIPES) == {*SOURCES, "files"}
    for name in SOURCES:
        assert RECIPES[name]().data.source == (name,)
        assert SOURCES[name].title in (RECIPES[name].__doc__ or "")


def test_workers_do_not_make_another_run(tmp_path: Path) -> None:
    assert identity(override(RECIPES["files"](), {"workers": 3})) == identity(RECIPES["files"]())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["files"], "no data source is given: name one or several with --data.source"),
        (["files", "--data.source", "{tmp}/gone.csv"], "no file matches"),
        (["files", "--data.source", "{tmp}/broken.parquet"], "is broken or cut off; fetch it again"),
        (["files", "--data.source", "{tmp}/a.csv", "--data.label-columns", "insult"], "has no column 'insult'"),
        (["jigsaw2018"], "is not on the hub. To get it:"),
        (["jigsaw2081"], "prepare_data has no recipe 'jigsaw2081'"),
        (["files", "--data.cleaning.min-chars", "0"], "greater than or equal to 1"),
    ],
)
def test_bad_input_ends_with_a_sentence_before_ray_starts(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayjobs.ray_glue.launch.connect", lambda _: pytest.fail("Ray was started"))
    (tmp_path / "a.csv").write_text("text,toxic\nhello,0\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(SystemExit) as ended:
        main(*(word.format(tmp=tmp_path) for word in words), "--run.storage", str(tmp_path / "runs"))
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()  # so that the corrected command may use the same name


def test_storage_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(SystemExit) as ended:
        main("synthetic", "--run.storage", str(tmp_path / "runs"))
    assert ended.value.code == 1
    assert "name another folder with --run.storage" in capsys.readouterr().err


PREPARE_FROM_HUB = """
import json, sys
from pathlib import Path
from detox.data.prepare import prepare
from rayjobs.prepare_data import RECIPES
for name in sys.argv[2:]:
    data = prepare(RECIPES[name]().data, Path(sys.argv[1]) / name, seed=1)
    print(json.dumps({"name": name, "rows": data.facts["rows"], "revision": data.facts["sources"][0]["revision"]}))
"""


def test_every_hub_recipe_prepares_as_it_stands(
    tmp_path: Path, serve_hub: Callable[..., StubHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each data set has its columns and 40 rows a split; the texts are ones that do not resemble each other."""

    def comment(number: int) -> str:
        return f"{sentence(7 * number)} {'idiot' if number % 2 else 'friend'}"

    def dialogues(number: int) -> dict[str, str]:
        chosen = f"\n\nHuman: Hi\n\nAssistant: {comment(2 * number)}"
        return {"chosen": chosen, "rejected": f"\n\nHuman: Hi\n\nAssistant: {comment(2 * number + 1)}"}

    monkeypatch.setattr("tests.hub_contents.comment", comment)
    monkeypatch.setattr("tests.hub_contents.hh_dialogues", dialogues)
    hub = serve_hub(datasets=write_datasets(tmp_path / "hub", rows=40))
    names = [name for name, source in SOURCES.items() if source.hub]
    done = [json.loads(line) for line in run_python(hub, PREPARE_FROM_HUB, str(tmp_path), *names).splitlines()]
    pinned = [SOURCES[name].revision for name in names]
    commits = [HEAD_COMMIT if revision == "main" else revision for revision in pinned]
    assert [(line["name"], line["revision"]) for line in done] == list(zip(names, commits, strict=True))
    assert all(rows > 0 for line in done for rows in line["rows"].values())


NOT_HERE = {"civil_comments", "gosuai_dota2", "judge_pairs", "samsum", "toxic_commons"}
"""Sources without a real copy among the corpora."""


@pytest.mark.data
@pytest.mark.parametrize("name", sorted({*SOURCES} - NOT_HERE))
def test_every_recipe_prepares_a_local_copy(name: str, data_folder: Path, tmp_path: Path) -> None:
    settings = override(RECIPES[name](), {"data.local": str(data_folder), "data.limit": 400}).data
    data = prepare(settings, tmp_path / "out", seed=1)
    assert data.labels == SOURCES[name].labels
    assert sum(data.facts["rows"].values()) + data.facts["rows_refused"] == data.facts["rows_read"]


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_run_leaves_signed_data_that_ray_did_not_change(
    comments: Path, tmp_path: Path, own_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five shards on Ray Data give the bytes of a plain `map`; a second call with another number of workers finds the
    run complete; an error in a worker comes out as it was raised."""
    import ray

    from rayjobs.ray_glue.ray_map import RayMap

    words = ["files", "--data.source", str(comments), "--data.label-columns", "toxic"]
    words += ["--run.storage", str(tmp_path / "runs"), "--run.name", "prepared"]
    main(*words)
    folder = tmp_path / "runs" / "prepared"
    plain = prepare(DataSettings(source=(str(comments),), label_columns=("toxic",)), tmp_path / "plain", seed=42)
    digests = file_digests(folder / "data")
    assert digests == file_digests(plain.folder)
    assert verify_manifest(folder / "data")["job"] == "prepare_data"
    assert PreparedData.open(folder / "data").digest == plain.digest
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["rows_read"], summary["refused/exact_duplicate"]) == (20_001, 1)
    assert "exact_duplicate" in (folder / "report.html").read_text()

    capsys.readouterr()
    main(*words, "--workers", "1")
    assert "already complete" in capsys.readouterr().out

    assert ray.is_initialized()
    assert list(RayMap(workers=1, everywhere=False)(str, range(7))) == [str(number) for number in range(7)]
    with pytest.raises(OSError, match="disk is full in the worker"):
        list(RayMap()(_fails_at_three, range(6)))


def _fails_at_three(number: int) -> int:
    if number == 3:
        raise OSError(28, "disk is full in the worker")
    return number

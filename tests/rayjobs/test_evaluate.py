"""The job `evaluate rewriters`: what it leaves, how it goes on, what it refuses before any work. Without Ray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from detox.data.pairs.prepared import Case, PreparedPairs, cases
from detox.data.synthetic_pairs import generate_pairs
from detox.rewriter import comparison_run
from detox.rewriter.comparison import Outputs
from detox.rewriter.comparison_run import name_of
from detox.rewriter.face import Rewriter
from detox.rewriter.generation_settings import DecodingSettings
from detox.runs.config import override
from rayjobs import cli
from rayjobs.evaluate import JOB, RECIPES, pairs_to_test, run
from tests.rewriter.artifacts import write_rewriter
from tests.rewriter.chat_server import chat_server, completion


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, a test file of other pairs, and two untrained rewriters that differ in their decoding."""
    place = tmp_path_factory.mktemp("evaluate")
    lines = [json.dumps(pair) for pair in generate_pairs(150)]
    (place / "pairs.jsonl").write_text("\n".join(lines[:135]))
    (place / "test.jsonl").write_text("\n".join(lines[135:]))
    write_rewriter(place / "models" / "baseline")
    write_rewriter(place / "models" / "curriculum", decoding=DecodingSettings(lexicon=20.0))
    return place


def main(place: Path, *words: str, runs: Path | None = None, **changes: list[str] | str) -> None:
    settings: dict[str, list[str] | str] = {
        "rewriters": [str(place / "models" / "baseline"), str(place / "models" / "curriculum" / "artifact")],
        "variants": ["greedy", "full"],
        "data.source": str(place / "pairs.jsonl"),
        "embed-english": "False",
        "run.storage": str(runs or place / "runs"),
    } | changes
    given = [w for k, v in settings.items() for w in (f"--{k}", *([v] if isinstance(v, str) else v))]
    cli.main(JOB, "", RECIPES, run, ["rewriters", *given, *words])


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """A finished run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rayjobs.ray_glue.launch.connect", lambda _: pytest.fail("Ray was started"))
        main(place)
    return place / "runs" / "evaluate-rewriters-s42"


def summary(folder: Path) -> dict[str, object]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_every_system_is_judged_on_the_test_part(done: Path, place: Path) -> None:
    names = ["copy", "delete", "baseline/greedy", "baseline/full", "curriculum/greedy", "curriculum/full"]
    rows = pq.read_table(done / "outputs.parquet").to_pylist()
    prepared = [PreparedPairs.open(folder) for folder in (place / "runs" / "stages").glob("pairs-*")]
    wanted = next(cases(pairs.part("test")) for pairs in prepared if pairs.digest == summary(done)["pairs"])
    assert list(dict.fromkeys(row["system"] for row in rows)) == names
    assert [row["source"] for row in rows] == [case.source for case in wanted] * 6
    found = summary(done)
    assert (found["primary"], found["texts"]) == ("curriculum/full", len(wanted))
    for name in names:
        mine = [row for row in rows if row["system"] == name]
        assert found[f"j_2024/{name}"] == pytest.approx(sum(row["j_2024"] for row in mine) / len(mine))
    assert (found["copy/copy"], found["lift_over_copy/copy"]) == (1, 0)
    assert found["copy/curriculum/full"] < 1  # toxic words are cut out where the model has nothing to offer
    assert found["toxicity_after/delete"] < found["toxicity_after/copy"]
    assert 1 < found["reference_loss/baseline"] == found["reference_loss/curriculum"]  # they differ in decoding
    assert (done / "COMPLETE").exists()


def test_the_report_says_who_judged_and_what_is_not_known(done: Path) -> None:
    page = (done / "report.html").read_text(encoding="utf-8")
    assert "neutrality: linear classifier of" in page
    assert "How likely the models find the references" in page
    assert "What baseline learned from is not recorded within reach" in page
    assert "curriculum/full" in page
    assert "python -m rayjobs.evaluate" in page


def test_the_same_command_again_has_nothing_to_do(
    done: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Rewriter, "load", lambda *_: pytest.fail("loaded again"))
    main(place)
    assert f"already complete: {done}/report.html" in capsys.readouterr().out


def test_a_run_goes_on_with_what_was_rewritten(
    done: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the second rewriter: the first one is not loaded again, and the result is that of the run in one go."""
    whole = comparison_run.rewritten
    made: list[str] = []

    def once_then_killed(rewriter: Rewriter, cases: Sequence[Case], variant: str) -> Outputs:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(variant)
        return whole(rewriter, cases, variant)

    def going_on(rewriter: Rewriter, cases: Sequence[Case], variant: str) -> Outputs:
        made.append(variant)
        return whole(rewriter, cases, variant)

    shutil.copytree(place / "runs" / "stages", tmp_path / "stages")
    monkeypatch.setattr(comparison_run, "rewritten", once_then_killed)
    with pytest.raises(KeyboardInterrupt):
        main(place, runs=tmp_path)
    monkeypatch.setattr(comparison_run, "rewritten", going_on)
    main(place, runs=tmp_path)
    assert made == ["greedy", "full"] * 2
    assert summary(tmp_path / "evaluate-rewriters-s42") == summary(done)


def test_a_test_file_is_taken_whole(done: Path, place: Path) -> None:
    """Each different source of the file is a case, none is refused; judges learn from the other pairs."""
    main(
        place,
        **{
            "rewriters": str(place / "models" / "curriculum"),
            "variants": "greedy",
            "data.source": str(place / "test.jsonl"),
            "all-rows-are-test": "True",
            "learn-from.source": str(place / "pairs.jsonl"),
            "run.name": "file",
        },
    )
    given = [json.loads(line)["toxic"] for line in (place / "test.jsonl").read_text().splitlines()]
    rows = pq.read_table(place / "runs" / "file" / "outputs.parquet").to_pylist()
    assert [row["source"] for row in rows if row["system"] == "copy"] == list(dict.fromkeys(given))
    settings = override(RECIPES["rewriters"](), {"all_rows_are_test": True})
    assert not pairs_to_test(settings).cleaning.enabled
    prepared = next((place / "runs" / "stages").glob("pairs-*"))
    whole = override(settings, {"data.source": (str(prepared),)})
    assert pairs_to_test(whole) == whole.data


def test_an_endpoint_is_a_baseline_and_is_paid_once(place: Path, tmp_path: Path, done: Path) -> None:
    """Its answers stand beside copy and delete as they come. A budget that ends loses no chunk that was answered."""
    shutil.copytree(place / "runs" / "stages", tmp_path / "stages")
    with chat_server(lambda asked: completion(f"{asked.content} Please.")) as server:
        settings = {
            "rewriters": str(place / "models" / "baseline"),
            "variants": "greedy",
            "remote.base-url": server.base_url,
            "remote.model": "m",
            "remote.prompt": "{text}",
            "remote.limits.retries": "0",
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(comparison_run, "REMOTE_CHUNK", 5)
            with pytest.raises(SystemExit):
                main(place, runs=tmp_path, **settings | {"remote.limits.most-requests": "7"})
            main(place, runs=tmp_path, **settings)
        rows = pq.read_table(tmp_path / "evaluate-rewriters-s42" / "outputs.parquet").to_pylist()
        mine = [row for row in rows if row["system"] == "remote"]
        assert len(server.asked) <= len(mine) + 2  # two answers of the chunk that was not answered whole
    assert [row["output"] for row in mine] == [f"{row['source']} Please." for row in mine]
    assert {row["how"] for row in mine} == {"remote"}
    assert list(dict.fromkeys(row["system"] for row in rows)) == ["copy", "delete", "remote", "baseline/greedy"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"remote.base-url": "localhost:1", "remote.model": "m"}, "remote.base_url must begin with http"),
        ({"rewriters": "{place}/models/gone"}, "there is no rewriter"),
        ({"rewriters": ["{place}/models/baseline", "{place}/models/baseline/artifact"]}, "names 'baseline' twice"),
        ({"variants": ["full", "full"]}, "each once"),
        ({"data.source": "{place}/gone.csv"}, "gone.csv"),
        ({"all-rows-are-test": "True"}, "name some with --learn-from.source"),
        ({"primary": "curriculum/best"}, "there is no system 'curriculum/best'"),
        ({"judges": "pan2026"}, "model 'pan2026' is no folder here"),
        ({"endpoint": "http://127.0.0.1:1"}, "no service of ours answers at http://127.0.0.1:1"),
        ({"endpoint": "http://h", "remote.base-url": "http://g/v1"}, "two endpoints: leave one out"),
        ({"judges": "pan2025"}, "textdetox/xlmr-large-toxicity-classifier-v2"),
    ],
)
def test_bad_settings_stop_before_work(
    place: Path,
    tmp_path: Path,
    changes: dict[str, str | list[str]],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no tries that must fail
    given = json.loads(json.dumps(changes).replace("{place}", str(place)))
    with pytest.raises(SystemExit) as ended:
        main(place, runs=tmp_path, **given)
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "evaluate-rewriters-s42").exists()


def test_no_rewriter_is_an_error(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rewriters", "--data.source", str(place / "pairs.jsonl"), "--run.storage", str(tmp_path)]
    with pytest.raises(SystemExit):
        cli.main(JOB, "", RECIPES, run, words)
    assert "no rewriter is given: name run directories of train_rewriter with --rewriters" in capsys.readouterr().err


def test_a_rewriter_is_called_after_its_run() -> None:
    paths = ("/runs/a", "/runs/a/", "/runs/a/artifact", "s3://bucket/runs/a/artifact", "runs/../a")
    assert [name_of(path) for path in paths] == ["a"] * 5


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_task_on_ray_finds_what_one_process_finds(done: Path, place: Path, own_ray: None) -> None:
    main(place, **{"scaling.num-workers": "1", "run.name": "on-ray"})
    on_ray, inside = summary(place / "runs" / "on-ray"), summary(done)
    assert on_ray.keys() == inside.keys()
    for name, value in inside.items():  # sums of other threads differ in their last bit
        assert on_ray[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), name

"""The job `rewrite_corpus`: columns and order, resuming, what it refuses before any work, a remote endpoint, Ray."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detox.rewriter.face import Rewriter
from detox.rewriter.generation_settings import GenerationSettings, RerankSettings
from detox.rewriter.rerank import Rewrite
from rayjobs import cli
from rayjobs.ray_glue.corpus_job import named
from rayjobs.rewrite_corpus import JOB, RECIPES, REWRITING, RewriteCorpusConfig, run
from tests.rewriter.artifacts import RUDE, THANKS, TOXIC, write_rewriter
from tests.rewriter.chat_server import Asked, Reply, chat_server, completion

TEXTS = [THANKS, RUDE, None, "", f"{RUDE} {THANKS}", RUDE, "Shut up, you clown."]
LANGS = ["en", None, "en", "en", "en", "EN", "en"]
ADDED = ["rewritten", "how", "toxicity_before", "toxicity_after", "similarity"]
SAMPLED = GenerationSettings(mode="sample", candidates=2, max_new_tokens=20, temperature=6.0)
ANYTHING = RerankSettings(least_similarity=0, similarity=0, fluency=0)
"""Whatever is drawn may be given out, so that an output shows what was drawn."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rewriter(tmp_path_factory.mktemp("model") / "rewriter", ends=True, generation=SAMPLED, rerank=ANYTHING)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus; no Ray may start."""
    monkeypatch.setattr("rayjobs.ray_glue.launch.connect", lambda _: pytest.fail("Ray was started"))
    table = pa.table({"id": range(7), "toxic": TEXTS, "lang": LANGS, "how": ["kept"] * 7, "n": [[1], None] * 3 + [[]]})
    pq.write_table(table, tmp_path / "in.parquet")
    return tmp_path


def main(place: Path, model: Path | str, output: str = "out.parquet", **changes: str) -> None:
    settings = {
        "model": str(model),
        "input": str(place / "in.parquet"),
        "text-column": "toxic",
        "lang-column": "lang",
        "output": str(place / output),
        "workers": "0",
        "shard-rows": "2",
        "run.storage": str(place / "runs"),
    } | changes
    cli.main(JOB, "", RECIPES, run, ["default", *(w for k, v in settings.items() for w in (f"--{k}", v))])


def refused(capsys: pytest.CaptureFixture[str], status: int, *arguments: Any, **changes: str) -> str:
    """The sentence with which a run ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(*arguments, **changes)
    assert ended.value.code == status
    return " ".join(capsys.readouterr().err.split())


def test_a_corpus_is_rewritten(place: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the job writes is what the library gives, row by row; `how` is a column of the input already."""
    main(place, model)
    output = pq.read_table(place / "out.parquet")
    added = ["rewritten", "rewrite_how", *ADDED[2:]]
    assert output.column_names == ["id", "toxic", "lang", "how", "n", *added]
    assert output.select(["id", "toxic", "lang", "how", "n"]).equals(pq.read_table(place / "in.parquet"))
    assert [output.schema.field(name).type for name in added] == [pa.string()] * 2 + [pa.float32()] * 3
    filled = [at for at, text in enumerate(TEXTS) if text is not None]
    expected = Rewriter.load(str(model)).rewrite([TEXTS[at] or "" for at in filled], [LANGS[at] for at in filled])
    rows = output.select(added).to_pylist()
    assert rows[2] == dict.fromkeys(added)
    for at, rewrite in zip(filled, expected, strict=True):
        assert list(rows[at].values()) == [*rewrite[:2], *(pytest.approx(value, abs=1e-6) for value in rewrite[2:])]
    said = capsys.readouterr().out
    assert "rewritten 7 of 7 rows" in said
    assert f"7 rows rewritten: {', '.join(added)}; 1 of them have no text and null rewrites" in said
    (folder,) = (place / "runs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["rows"], summary["rows_without_text"], summary["rows_refused"]) == (7, 1, 0)
    assert not (folder / "shards").exists()


def test_where_shards_are_cut_does_not_matter(place: Path, model: Path) -> None:
    """Two candidates of each text are drawn, and some are given out; shards of 2, 3 and 7 rows."""
    outputs = []
    for rows in ("2", "3", "7"):
        main(place, model, output=f"out-{rows}.jsonl", **{"shard-rows": rows})
        outputs.append([json.loads(line) for line in (place / f"out-{rows}.jsonl").read_text().splitlines()])
    for key in ("rewritten", "rewrite_how", "id"):
        assert len({str([row[key] for row in rows]) for rows in outputs}) == 1
    assert "reranked" in {row["rewrite_how"] for row in outputs[0]}
    assert len(list((place / "runs").iterdir())) == 3


@pytest.mark.parametrize("ending", ["csv", "tsv.gz", "jsonl.zst"])
def test_formats(place: Path, model: Path, ending: str) -> None:
    """csv in, the format out, and back; without a language column languages are detected."""
    with (place / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "toxic"], ["07", RUDE], ["08", THANKS], ["09", 'a "quoted", text']])
    plain = {"lang-column": "", "model": str(model)}
    main(place, **plain | {"input": str(place / "in.csv")}, output=f"out.{ending}")
    main(place, **plain | {"input": str(place / f"out.{ending}"), "text-column": "rewritten"}, output="back.jsonl.gz")
    with gzip.open(place / "back.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert [row["id"] for row in rows] == ["07", "08", "09"]
    assert [row["toxic"] for row in rows][:2] == [RUDE, THANKS]
    assert rows[1]["rewritten"] == rows[1]["rewrite_rewritten"] == THANKS
    assert 0 < float(rows[1]["toxicity_before"]) < 0.15


def test_languages_that_are_no_code_are_counted(place: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    langs = ["English", "en-GB", None, "", "tlh", "??", "en"]
    table = pq.read_table(place / "in.parquet")
    pq.write_table(table.set_column(2, "lang", pa.array(langs)), place / "in.parquet")
    main(place, model)
    assert "the language of 2 was detected, since their cells hold no code" in capsys.readouterr().out
    assert pq.read_table(place / "out.parquet")["lang"].to_pylist() == langs
    (folder,) = (place / "runs").iterdir()
    assert json.loads((folder / "summary.json").read_text())["rows_without_code"] == 2


def test_rows_that_cannot_be_read_are_kept_aside(place: Path, model: Path) -> None:
    (place / "in.csv").write_text(f"toxic,lang\n{THANKS},en\none,two,three\n{THANKS},en\n")
    main(place, model, input=str(place / "in.csv"))
    assert pq.read_table(place / "out.parquet")["rewritten"].to_pylist() == [THANKS, THANKS]
    (folder,) = (place / "runs").iterdir()
    (line,) = (folder / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == "one,two,three\n"
    assert json.loads((folder / "summary.json").read_text())["rows_refused"] == 1


def test_a_killed_run_goes_on_and_a_finished_one_has_nothing_to_do(
    place: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four shards, killed in the second: every row is rewritten once, by the same command."""
    whole, seen = Rewriter.rewrite, list[str]()

    def killed_at_the_second(self: Rewriter, texts: Sequence[str], lang: Any = None) -> list[Rewrite]:
        if seen:
            raise KeyboardInterrupt
        seen.extend(texts)
        return whole(self, texts, lang)

    with monkeypatch.context() as patch:
        patch.setattr(Rewriter, "rewrite", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            main(place, model)
    assert not (place / "out.parquet").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Rewriter, "rewrite", lambda self, texts, lang: seen.extend(texts) or whole(self, texts, lang))
        main(place, model)
    assert seen == [text for text in TEXTS if text is not None]
    assert "going on: 2 of 7 rows are rewritten" in capsys.readouterr().out
    assert pq.read_table(place / "out.parquet")["toxic"].to_pylist() == TEXTS
    monkeypatch.setattr(Rewriter, "rewrite", lambda *_: pytest.fail("rewritten again"))
    main(place, model)
    assert "already complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": ""}, "no model is given: name a run directory with --model"),
        ({"model": "no-such-run"}, "there is no rewriter 'no-such-run': name a run of train_rewriter"),
        ({"input": "{place}/gone.csv"}, "no file matches --input"),
        (
            {"text-column": "body"},
            "has no column 'body'; it has 'id', 'toxic', 'lang', 'how', 'n': name one",
        ),
        ({"lang-column": "language"}, "has no column 'language'"),
        ({"lang-column": "n"}, "not text: name another with --lang-column"),
        ({"output": "out.xlsx"}, "has an unknown ending"),
        ({"output": "precious.csv"}, "exists and is not, or no longer, what this command wrote"),
        ({"output": "in.parquet"}, "is one of the files that --input matches"),
        ({"remote.base-url": "localhost"}, "remote.base_url must begin with http"),
        ({"remote.base-url": "http://localhost/v1"}, "no model of http://localhost/v1 is named"),
        (
            {"remote.base-url": "http://localhost/v1", "remote.model": "m", "remote.api-key-env": "DETOX_NO_KEY"},
            "environment variable DETOX_NO_KEY is not set",
        ),
        ({"remote.prompt": "no slot"}, "put {{text}} into it"),
    ],
)
def test_bad_input_stops_before_work(
    place: Path, model: Path, changes: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "precious.csv").write_text("mine")
    given: dict[str, Any] = {"model": str(model)} | {key: value.format(place=place) for key, value in changes.items()}
    message = refused(capsys, 2, place, **given)
    assert said.replace("{{", "{").replace("}}", "}") in message.replace("│ ", "")
    assert not (place / "runs").exists()
    assert (place / "precious.csv").read_text() == "mine"


def polite(asked: Asked) -> Reply:
    return completion(asked.content.replace(", you plonker", "").replace("Shut up, you clown", "Please stop"))


def remote_settings(base_url: str, **changes: str) -> dict[str, str]:
    settings = {
        "remote.base-url": base_url,
        "remote.model": "m",
        "remote.prompt": "{text}",
        "remote.limits.retries": "0",
        "remote.limits.concurrency": "1",
        "workers": "2",
    }
    return settings | changes


def test_a_remote_endpoint_in_place_of_the_model(place: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neutral texts are not sent, the model is not loaded, no Ray is started though workers are asked for."""
    monkeypatch.setattr("detox.models.seq2seq.load_trained", lambda *_: pytest.fail("the model was loaded"))
    with chat_server(polite) as server:
        main(place, model, **remote_settings(server.base_url))
        asked = [one.content for one in server.asked]
    output = pq.read_table(place / "out.parquet")
    expected = "Who moved my lineup to the archive?"
    assert output["rewritten"].to_pylist()[1:6] == [expected, None, "", f"{expected} {THANKS}", expected]
    assert output["rewrite_how"].to_pylist()[:2] == ["already neutral", "model"]
    assert THANKS not in asked
    (folder,) = (place / "runs").iterdir()
    assert json.loads((folder / "config.json").read_text())["remote"]["base_url"] == server.base_url


def test_a_remote_failure_stops_the_job_and_the_same_command_goes_on(
    place: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A budget of one request ends in the third shard, at row 4; without it only the rest is asked for: the sentence of
    row 4, that of row 5, which another shard asked for in vain, and that of row 6."""
    with chat_server(polite) as server:
        small = remote_settings(server.base_url, **{"remote.limits.most-requests": "1"})
        said = refused(capsys, 1, place, model, **small)
        assert "text 4 was not rewritten: the budget of 1 requests (limits.most_requests) is used up" in said
        assert not (place / "out.parquet").exists()
        assert len(server.asked) == 1
        main(place, model, **remote_settings(server.base_url))
        assert "going on: 4 of 7 rows are rewritten" in capsys.readouterr().out
        assert len(server.asked) == 4
    assert pq.read_table(place / "out.parquet").num_rows == 7


def test_limits_change_no_output_and_the_rest_does() -> None:
    config = RewriteCorpusConfig(model="m", input="i.csv", output="o.csv")
    facts = {"input": [], "model": {}}
    tree = config.model_dump()

    def name(**changes: Any) -> str:
        return named(REWRITING, RewriteCorpusConfig(**tree | changes), facts).run.name

    assert name().startswith("rewrite-corpus-")
    remote = tree["remote"]
    assert name(remote=remote | {"limits": {"timeout": 9.0}}) == name(workers=7) == name(overwrite=True) == name()
    assert len({name(), name(remote=remote | {"model": "n"}), name(lang_column="lang"), name(model="n")}) == 4


@pytest.mark.slow  # the same of score_corpus is not
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_workers_write_what_one_process_writes(tmp_path: Path, model: Path, own_ray: None) -> None:
    """Two workers, six shards."""
    texts = [*TEXTS, *TOXIC[:5]]
    pq.write_table(pa.table({"toxic": texts, "lang": ["en"] * 12}), tmp_path / "in.parquet")
    main(tmp_path, model, output="plain.parquet")
    main(tmp_path, model, output="ray.parquet", workers="2")
    plain, on_ray = pq.read_table(tmp_path / "plain.parquet"), pq.read_table(tmp_path / "ray.parquet")
    for name in ("toxic", "lang", "rewritten", "how"):
        assert on_ray[name].to_pylist() == plain[name].to_pylist()
    for name in ADDED[2:]:
        expected = [None if value is None else pytest.approx(value, abs=1e-6) for value in plain[name].to_pylist()]
        assert on_ray[name].to_pylist() == expected

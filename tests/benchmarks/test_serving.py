"""The serving benchmark's client and peer; the whole of it, with a tiny model, is slow."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.serving import _rate, _request, main, write_models


def test_a_request_is_one_that_http_knows() -> None:
    raw = _request("/v1/classify", "127.0.0.1:1", b'{"input": "you"}')
    head, body = raw.split(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /v1/classify HTTP/1.1"
    assert b"content-length: 16" in head
    assert body == b'{"input": "you"}'


@contextmanager
def server(answer: bytes, answers_a_connection: int) -> Iterator[str]:
    """Its URL: gives the answer so many times, then closes the connection."""
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(answers_a_connection):
            try:
                await reader.readuntil(b"}")
            except asyncio.IncompleteReadError:
                break
            writer.write(answer)
        writer.close()

    started = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{started.sockets[0].getsockname()[1]}/v1/classify"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@pytest.mark.parametrize("farewell", [b"connection: close\r\n", b""])
def test_a_connection_that_the_server_closes_is_opened_again(farewell: bytes) -> None:
    """HAProxy closes them when it reads a new configuration, which it does seconds after the first answer."""
    with server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + farewell + b"\r\n{}", 1) as url:
        assert _rate(url, [{"input": "you"}], 0.5, connections=2) > 20


def test_a_refused_request_stops_the_benchmark() -> None:
    with (
        server(b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}", 5) as url,
        pytest.raises(SystemExit, match="refused"),
    ):
        _rate(url, [{"input": "you"}], 0.1, connections=1)


def test_both_layouts_hold_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Detoxify says of a short text, our artifact says too."""
    from detoxify import Detoxify

    from detox.classifier.scorer import load_scorer

    monkeypatch.setenv("DETOX_KEYS", str(tmp_path / "keys"))
    texts = ["you are an idiot", "thank you for the page"] * 20
    write_models("tiny", tmp_path, texts)
    folder = tmp_path / "detoxify"
    peer = Detoxify(checkpoint=str(next(folder.glob("*.ckpt"))), huggingface_config_path=str(folder)).predict(texts[:2])
    ours = load_scorer(str(tmp_path / "ours")).score(texts[:2])
    assert set(ours.labels) == set(peer)
    for label in ours.labels:
        assert ours.column(label).tolist() == pytest.approx(list(peer[label]), abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_with_a_tiny_model(data_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = str(data_folder / "jigsaw_train20k_binary.parquet")
    main(["--data", data, "--model", "tiny", "--engine", "torch", "--runs", "1", "--seconds", "2", "--threads", "1"])
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["metric"] for line in lines][-1] == "requests/s, HAProxy"
    assert all(line["ours"] > 0 for line in lines)

"""The serving benchmark's client and peer; the whole of it, with a tiny model, is slow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.serving import BATCH, Comment, _request, main, write_models


def test_a_request_is_one_that_http_knows() -> None:
    raw = _request("/v1/classify", "127.0.0.1:1", b'{"input": "you"}')
    head, body = raw.split(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /v1/classify HTTP/1.1"
    assert b"content-length: 16" in head
    assert body == b'{"input": "you"}'


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
    assert BATCH == 32
    assert Comment(text="you").text == "you"

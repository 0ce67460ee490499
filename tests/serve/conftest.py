"""A running service that the tests share: one Serve at a time, and it costs half a minute to start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serve.local import OWN_PORTS
from tests.ports import free_port
from tests.rewriter.artifacts import write_rewriter
from tests.serve.models import write_classifier

START_S = 120
QUICK_END = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}


class Service:
    """A running service and what it serves."""

    def __init__(self, process: subprocess.Popen[str], url: str, classifier: Path, own_ports: set[int]) -> None:
        self.process, self.url, self.classifier, self.own_ports = process, url, classifier, own_ports
        place = classifier.parent
        self.polite, self.feedback, self.log = place / "polite", place / "feedback", place / "log"
        self.client = httpx.Client(base_url=url, timeout=60)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(path, json=body)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place, port = tmp_path_factory.mktemp("service"), free_port()
    classifier = write_classifier(place / "forum")
    rewriter, formal = write_rewriter(place / "polite"), write_rewriter(place / "formal")
    command = [sys.executable, "-m", "serve.local", "--port", str(port)]
    command += ["--classifier.model", str(classifier), "--classifier.dtype", "float32", "--classifier.threads", "1"]
    command += ["--rewriter.model", str(rewriter), "--rewriter.adapters", "formal", str(formal)]
    command += ["--gateway.feedback", str(place / "feedback")]
    own_ports = {name: str(free_port()) for name in OWN_PORTS}
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, text=True, env=os.environ | QUICK_END | own_ports
        )
    service = Service(process, f"http://127.0.0.1:{port}", classifier, {int(own) for own in own_ports.values()})
    try:
        wait_until_it_answers(service, place / "log")
        yield service
    finally:
        started = family(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        _, alive = psutil.wait_procs(started, timeout=30)
        assert not alive, [name_of(one) for one in alive]


def wait_until_it_answers(service: Service, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and service.process.poll() is None:
        try:
            if service.client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"the service does not answer: {log.read_text()[-3000:]}")


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.NoSuchProcess:
        return ""

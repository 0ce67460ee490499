"""A Hugging Face hub on localhost, with tiny models and data sets under their real names.

Served at `HF_ENDPOINT`, it lets `load_dataset("google/civil_comments")` and `AutoModel.from_pretrained(...)` run the
very code that a user runs. The endpoint is read when the libraries are imported, so code that needs it runs in a
subprocess with `StubHub.env`: see `run_python`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
HEAD_COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""What a branch resolves to; a 40-digit revision is taken as it is, so that pinned commits are served too."""
API_PREFIXES: dict[str, str] = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


@dataclass(frozen=True)
class StubHub:
    env: Mapping[str, str]
    """Environment for a subprocess: the endpoint, a fresh cache, no other network."""
    requests: list[str]
    """Method and path of each request so far."""


@contextmanager
def stub_hub(
    cache: Path,
    models: Mapping[str, Path] | None = None,
    datasets: Mapping[str, Path] | None = None,
    gated: Collection[str] = (),
) -> Iterator[StubHub]:
    """Serve folders under hub names (`owner/name`) until the block ends; `gated` names ask for their terms first."""
    repos = {("models", name): folder for name, folder in (models or {}).items()}
    repos |= {("datasets", name): folder for name, folder in (datasets or {}).items()}
    requests: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(repos, gated, requests))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    try:
        yield StubHub(env, requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_python(hub: StubHub, code: str, *arguments: str) -> str:
    """Standard output of `code` run by a fresh interpreter that sees the stub as the hub."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=dict(hub.env), capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise AssertionError(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _handler(
    repos: Mapping[tuple[str, str], Path], gated: Collection[str], requests: list[str]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            """Requests are kept in a list instead of being printed."""

        def _answer(self) -> None:
            posted = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path).strip("/")
            requests.append(f"{self.command} {path}")
            kind, name, rest, api = _parse(path)
            if name in gated:
                return self._send(401, b"", {"X-Error-Code": "GatedRepo"})
            if (kind, name) not in repos:
                return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            folder = repos[kind, name]
            if api:
                return self._json(_api(folder, name, rest, posted))
            revision, _, file = rest.removeprefix("resolve/").partition("/")
            if not (folder / file).is_file():
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": _commit(revision)})
            return self._file((folder / file).read_bytes(), _commit(revision))

        def _file(self, body: bytes, commit: str) -> None:
            headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            wanted = self.headers.get("Range", "")
            if not wanted.startswith("bytes="):
                return self._send(200, body, headers)
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(body) - 1), len(body) - 1)
            return self._send(
                206, body[start : end + 1], headers | {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
            )

        def _json(self, value: Any) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


def _parse(path: str) -> tuple[str, str, str, bool]:
    """Kind, `owner/name`, the rest, and whether it is an API route."""
    api = path.startswith("api/")
    path = path.removeprefix("api/")
    kind = next((kind for kind in API_PREFIXES if path.startswith(f"{kind}/")), "models")
    owner, _, path = path.removeprefix(f"{kind}/").partition("/")
    name, _, rest = path.partition("/")
    return kind, f"{owner}/{name}", rest, api


def _commit(revision: str) -> str:
    return revision if len(revision) == 40 else HEAD_COMMIT


def _api(folder: Path, name: str, rest: str, posted: bytes) -> Any:
    route, _, tail = rest.partition("/")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if route == "tree":
        below = tail.partition("/")[2]
        return [_entry(folder, path) for path in _with_folders(files) if not below or path.startswith(f"{below}/")]
    if route == "paths-info":
        wanted = json.loads(posted)["paths"] if posted.startswith(b"{") else []
        return [_entry(folder, path) for path in _with_folders(files) if path in wanted]
    sha = _commit(tail) if route == "revision" else HEAD_COMMIT
    return {
        "id": name,
        "sha": sha,
        "private": False,
        "gated": False,
        "tags": [],
        "siblings": [{"rfilename": f} for f in files],
    }


def _with_folders(files: list[str]) -> list[str]:
    folders = {parent.as_posix() for file in files for parent in Path(file).parents if parent.as_posix() != "."}
    return sorted({*files, *folders})


def _entry(folder: Path, path: str) -> dict[str, Any]:
    whole = folder / path
    if whole.is_dir():
        return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
    body = whole.read_bytes()
    return {"type": "file", "path": path, "oid": hashlib.sha1(body).hexdigest(), "size": len(body)}

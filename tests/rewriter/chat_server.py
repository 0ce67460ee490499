"""A server on this machine that speaks OpenAI's chat completions as far as a rewriter needs them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What the server answers."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    """Seconds before the answer."""
    drips: int = 1
    """Parts in which the body is sent, `delay` between two."""


def completion(*texts: str | None, finish_reason: str = "stop", tokens: int | None = 10, **message: Any) -> Reply:
    """A well-formed answer with a choice for each text."""
    choices = [
        {"index": at, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text, **message}}
        for at, text in enumerate(texts)
    ]
    usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    return Reply(body=json.dumps({"object": "chat.completion", "choices": choices, **usage}).encode())


class Asked(NamedTuple):
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def content(self) -> str:
        return str(self.body["messages"][0]["content"])


class ChatServer:
    """Answers each request with what `reply` says.

    Attributes:
        asked: the requests, in the order in which they came.
        most_at_once: requests under way at the same time, at most.
    """

    def __init__(self, reply: Callable[[Asked], Reply]) -> None:
        self.reply = reply
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._now, self._lock = 0, threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = Asked(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
                with server._lock:
                    server.asked.append(asked)
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                reply = server.reply(asked)
                time.sleep(reply.delay)
                with server._lock:  # before the client can know that it has its answer
                    server._now -= 1
                with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up
                    self._answer(reply)

            def _answer(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for key, value in (*reply.headers, ("Content-Length", str(len(reply.body)))):
                    self.send_header(key, value)
                self.end_headers()
                size = max(1, -(-len(reply.body) // reply.drips))
                for begin in range(0, len(reply.body), size):
                    self.wfile.write(reply.body[begin : begin + size])
                    self.wfile.flush()
                    time.sleep(reply.delay if reply.drips > 1 else 0)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextmanager
def chat_server(reply: Callable[[Asked], Reply]) -> Iterator[ChatServer]:
    """The server, until the block ends."""
    server = ChatServer(reply)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()

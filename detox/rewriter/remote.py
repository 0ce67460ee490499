"""A rewriter over any OpenAI-compatible chat-completions endpoint: S3 9.6's Gemini step, as a baseline and a backend.

    remote = RemoteRewriter(RemoteSettings(base_url="http://localhost:8000/v1", model="qwen"))
    remote.candidates(["you are an idiot"], ["en"])  # [("you are mistaken",)]

Every text is a request of its own; several are under way at a time. What an endpoint does not answer is never made up:
a failure is a `RemoteError`, and so is an empty answer, or one that was cut off. The key is read from the environment
when it is needed and stands in no setting, message or file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import httpx

from detox.rewriter.remote_request import Budget, BudgetError, RemoteError, Request, StoppedError, key_of
from detox.rewriter.remote_settings import RemoteSettings

__all__ = ["BudgetError", "RemoteError", "RemoteRewriter"]


class RemoteRewriter:
    """Rewrites by asking.

    Args:
        settings: whom, what, how.

    Raises:
        ValueError: settings that cannot work; says which.
    """

    def __init__(self, settings: RemoteSettings) -> None:
        check(settings)
        self.settings = settings
        self._budget = Budget(settings.limits)

    def too_long(self, texts: Sequence[str], langs: Sequence[str]) -> list[bool]:
        """Which texts must be cut before they are rewritten."""
        return [len(text) > self.settings.max_source_chars for text in texts]

    def candidates(self, texts: Sequence[str], langs: Sequence[str]) -> list[tuple[str, ...]]:
        """Distinct rewrites of each text, in order, at least one each.

        Raises:
            RemoteError: a text was not rewritten; the others are given up.
            BudgetError: the budget is used up.
        """
        stop = threading.Event()
        limits = self.settings.limits
        with (
            httpx.Client(headers=self._headers(), limits=httpx.Limits(max_connections=limits.concurrency)) as client,
            ThreadPoolExecutor(limits.concurrency) as pool,
        ):
            rows = enumerate(zip(texts, langs, strict=True))
            asked = [
                pool.submit(Request(self.settings, self._budget, client, stop, at).answers, *row) for at, row in rows
            ]
            try:
                wait(asked, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
        failed = [future.exception() for future in asked if not future.cancelled() and future.exception()]
        for error in sorted(failed, key=lambda error: isinstance(error, StoppedError)):
            raise error  # type: ignore[misc]  # the first that failed by itself
        return [future.result() for future in asked]

    def _headers(self) -> dict[str, str]:
        key = key_of(self.settings)
        return {"Authorization": f"Bearer {key}"} if key else {}


def check(settings: RemoteSettings) -> None:
    """Raises:
    ValueError: no address, one that is no address or holds a secret, no model, or a key that is not there.
    """
    try:
        url = httpx.URL(settings.base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(
            f"remote.base_url must begin with http:// or https://, was {settings.base_url!r}: give for example "
            "http://localhost:8000/v1"
        )
    if url.userinfo or url.query:
        raise ValueError("remote.base_url must hold no password and no query, since it is recorded: use api_key_env")
    if not settings.model:
        raise ValueError(f"no model of {settings.base_url} is named: give it with remote.model")
    key_of(settings)

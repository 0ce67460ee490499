"""One text on its way to an OpenAI-compatible endpoint and back: retries, budget, and what counts as an answer."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from detox.rewriter.remote_settings import RemoteLimits, RemoteSettings

UNKNOWN = "und"
"""A language that nobody named, as BCP 47 has it."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHOWN = 200
"""Characters of an endpoint's own words in a message."""
ENDED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}
"""Reasons to finish with which an answer is whole, as endpoints name them; none at all is taken for one."""


class RemoteError(RuntimeError):
    """A text that an endpoint did not rewrite.

    Attributes:
        position: of the text among those given.
        status: HTTP status; None where there was no answer.
    """

    def __init__(self, position: int, status: int | None, reason: str, remedy: str) -> None:
        super().__init__(f"text {position} was not rewritten: {reason}: {remedy}")
        self.position, self.status, self.reason, self.remedy = position, status, reason, remedy

    def at(self, position: int) -> RemoteError:
        """The same of a text that stands elsewhere in a longer list."""
        return type(self)(position, self.status, self.reason, self.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.position, self.status, self.reason, self.remedy)


class BudgetError(RemoteError):
    """The budget is used up."""


def key_of(settings: RemoteSettings) -> str:
    """The key, from the environment; empty where none is wanted.

    Raises:
        ValueError: the variable is not set, or holds what cannot be a key; or its name is none (a key, say, which is
            not repeated).
    """
    name = settings.api_key_env
    if not name:
        return ""
    if not VARIABLE.fullmatch(name):
        raise ValueError("remote.api_key_env must be the name of an environment variable, such as GEMINI_API_KEY")
    key = os.environ.get(name, "").strip()
    if not key:
        raise ValueError(f"environment variable {name} is not set: put the key into it, or leave api_key_env empty")
    if not (key.isascii() and key.isprintable()):  # a client would show it in its complaint
        raise ValueError(f"environment variable {name} holds no key: one line of plain letters and signs is wanted")
    return key


class StoppedError(Exception):
    """Another text failed, so this one is given up."""


class Budget:
    """What was spent, by all threads together."""

    def __init__(self, limits: RemoteLimits) -> None:
        self._limits, self._lock = limits, threading.Lock()
        self.requests = self.tokens = 0

    def take_request(self, position: int) -> None:
        """Raises:
        BudgetError: nothing is left.
        """
        with self._lock:
            most = self._limits.most_requests
            if most and self.requests >= most:
                raise _used_up(position, f"{most:,} requests (limits.most_requests)")
            self._check_tokens(position, self.tokens + 1)
            self.requests += 1

    def spend(self, position: int, tokens: int) -> None:
        """Raises:
        BudgetError: more was spent than allowed.
        """
        with self._lock:
            self.tokens += tokens
            self._check_tokens(position, self.tokens)

    def _check_tokens(self, position: int, tokens: int) -> None:
        most = self._limits.most_tokens
        if most and tokens > most:
            raise _used_up(position, f"{most:,} tokens (limits.most_tokens; {self.tokens:,} were spent)")


def _used_up(position: int, budget: str) -> BudgetError:
    return BudgetError(position, None, f"the budget of {budget} is used up", "raise it, or rewrite fewer texts")


class Request:
    """One text on its way, with its retries.

    Args:
        budget: of all requests together.
        stop: set when another text has failed.
        position: of the text, for messages.
    """

    def __init__(
        self, settings: RemoteSettings, budget: Budget, client: httpx.Client, stop: threading.Event, position: int
    ) -> None:
        self._settings, self._budget = settings, budget
        self._client, self._stop, self._position = client, stop, position
        self._url = settings.base_url.rstrip("/") + "/chat/completions"

    def answers(self, text: str, lang: str) -> tuple[str, ...]:
        body = self._body(text, lang)
        tries = self._settings.limits.retries + 1
        for attempt in range(tries):
            if self._stop.is_set():
                raise StoppedError
            self._budget.take_request(self._position)
            try:
                status, headers, content = self._send(body)
            except httpx.RequestError as error:
                failure, asked_wait = self._no_answer(error, attempt + 1), 0.0
            else:
                if status == 200:
                    return self._read(content, body)
                asked_wait = retry_after(headers)
                failure = self._refusal(status, content, attempt + 1, asked_wait)
                if status != 429 and status < 500:
                    raise failure
            if attempt == tries - 1 or asked_wait > self._settings.limits.longest_wait:
                raise failure
            self._stop.wait(self._delay(attempt, asked_wait))
        raise AssertionError("there is at least one try")

    def _body(self, text: str, lang: str) -> dict[str, Any]:
        settings = self._settings
        content = settings.prompt.replace("{lang}", lang or UNKNOWN).replace("{text}", text)
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": settings.temperature,
        }
        if settings.candidates > 1:  # not every endpoint takes `n`
            body["n"] = settings.candidates
        if settings.max_answer_tokens:
            body["max_tokens"] = settings.max_answer_tokens
        return body

    def _send(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and the whole answer. httpx's own time-out is that of a silence; a deadline bounds an answer
        that comes in drops too."""
        timeout = self._settings.limits.timeout
        deadline = time.monotonic() + timeout
        received = bytearray()
        with self._client.stream("POST", self._url, json=body, timeout=timeout) as response:
            for chunk in response.iter_bytes():
                received += chunk
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer takes too long")
            return response.status_code, response.headers, bytes(received)

    def _delay(self, attempt: int, asked_wait: float) -> float:
        limits = self._settings.limits
        delay = min(limits.backoff * 2**attempt, limits.longest_wait)
        return max(delay * random.uniform(0.5, 1.0), asked_wait)

    def _read(self, content: bytes, body: dict[str, Any]) -> tuple[str, ...]:
        """The texts of an answer.

        Raises:
            RemoteError: it is no chat completion, or holds no whole text.
        """
        try:
            answer = json.loads(content)
            choices = [(choice.get("finish_reason"), choice["message"].get("content")) for choice in answer["choices"]]
            spent = (answer.get("usage") or {}).get("total_tokens")
            texts = [(reason, (text or "").strip()) for reason, text in choices]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._error(
                200, f"{self._url} answered with what is no chat completion: {self._shown(content)}", "check base_url"
            ) from None
        self._budget.spend(self._position, spent if isinstance(spent, int) else len(json.dumps(body)) + len(content))
        whole = tuple(dict.fromkeys(text for reason, text in texts if text and str(reason or "stop") in ENDED))
        if whole:
            return whole
        reasons = sorted({str(reason) for reason, _ in texts})
        if "length" in reasons:
            raise self._error(200, "the answer was cut off at its length limit", "raise max_answer_tokens")
        state = "broken off" if any(text for _, text in texts) else "empty"
        because = ", ".join(reasons) or "no choices"
        raise self._error(200, f"the answer is {state} (finish_reason: {because})", "change prompt or model")

    def _no_answer(self, error: httpx.RequestError, tries: int) -> RemoteError:
        if isinstance(error, httpx.TimeoutException):
            seconds = self._settings.limits.timeout
            reason = f"{self._url} gave no whole answer within {seconds:g} s{_times(tries)}"
            return self._error(None, reason, "raise limits.timeout, or lower limits.concurrency")
        reason = f"{self._url} cannot be reached ({error or type(error).__name__}){_times(tries)}"
        return self._error(None, reason, "check base_url, and that the server runs")

    def _refusal(self, status: int, content: bytes, tries: int, asked_wait: float) -> RemoteError:
        again = _times(tries) if status == 429 or status >= 500 else ""
        reason = f"{self._url} answered with status {status}{again} ({self._shown(content)})"
        if asked_wait > self._settings.limits.longest_wait:
            remedy = f"it asks to wait {asked_wait:.0f} s: try again then, or raise limits.longest_wait"
            return self._error(status, reason, remedy)
        return self._error(status, reason, _remedy(status, self._settings))

    def _error(self, status: int | None, reason: str, remedy: str) -> RemoteError:
        return RemoteError(self._position, status, reason, remedy)

    def _shown(self, content: bytes) -> str:
        """The beginning of what an endpoint said, on one line and without the key."""
        said = " ".join(content.decode("utf-8", "replace").split())
        key = key_of(self._settings)
        return (said.replace(key, "[KEY]") if key else said)[:SHOWN] or "without a word"


def _times(tries: int) -> str:
    return f", {tries} times" if tries > 1 else ""


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that an endpoint asks to wait, given as such or as a date; 0 where it does not ask."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _remedy(status: int, settings: RemoteSettings) -> str:
    if status in (401, 403):
        there = (
            f"the key in {settings.api_key_env}" if settings.api_key_env else "whether a key is wanted (api_key_env)"
        )
        return f"check {there}"
    if status == 404:
        return "check base_url and model"
    if status == 429:
        return "lower limits.concurrency, or raise limits.retries"
    return "try again later" if status >= 500 else "check the settings of remote"

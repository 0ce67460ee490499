"""A running service as a scorer: `endpoint:http://127.0.0.1:8000`.

So what is deployed is measured by the very code that measures a model on the disk. An answer that does not come is an
error, never a score.

Shapes: N texts, L labels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np

from detox.classifier.scorer import Scores

TEXTS_A_REQUEST = 64
CHARACTERS_A_REQUEST = 300_000
"""The service takes bodies of 2 MB; a character has up to four bytes."""
TRIES = 6
BUSY = (408, 429, 502, 503, 504)
"""Statuses after which the same request may be answered."""
KEY = "DETOX_ENDPOINT_KEY"
"""Environment variable with the service's API key, where it has keys."""


class EndpointError(ValueError):
    """The service does not answer as it should."""


class EndpointScorer:
    """The classifier behind `/v1/classify`.

    Args:
        url: of the service.
        client: None: one of its own, with the key of the environment variable `DETOX_ENDPOINT_KEY`.

    Attributes:
        labels: of the columns.
        thresholds: by label, as the service uses them.
        model: name and version of what is served.

    Raises:
        EndpointError: nothing answers there, or not as this project's service does.
    """

    def __init__(self, url: str, client: httpx.Client | None = None) -> None:
        key = os.environ.get(KEY)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = client or httpx.Client(base_url=url, headers=headers, timeout=60)
        self.url = url
        info = self._answer("GET", "/info")
        try:
            self._version = info["model"]["version"]
            self.model = f"{info['model']['name']} {self._version}"
            self.labels = tuple(info["model"]["labels"])
            self.thresholds = {label: float(info["model"]["thresholds"][label]) for label in self.labels}
        except (KeyError, TypeError):
            raise EndpointError(f"{url}/info does not name a model: is it a service of this project?") from None

    def score(self, texts: Sequence[str]) -> Scores:
        """Scores in the order of `texts`.

        Raises:
            EndpointError: the service refuses, does not answer, or now serves another model.
        """
        rows: list[list[float]] = []
        for part in _parts(texts):
            answer = self._answer("POST", "/v1/classify", {"input": part})
            if answer["model"]["version"] != self._version:
                raise EndpointError(
                    f"{self.url} now serves version {answer['model']['version']}, not {self._version}: measure again"
                )
            rows += [[one["probabilities"][label] for label in self.labels] for one in answer["results"]]
        return Scores(self.labels, np.array(rows, np.float32).reshape(len(texts), len(self.labels)))

    def _answer(self, method: str, path: str, body: Any = None) -> Any:
        """Asked again, with a pause, where the service is busy or starting."""
        reason = ""
        for number in range(TRIES):
            try:
                response = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                reason, pause = str(error) or type(error).__name__, 0.5 * 2**number
            else:
                if response.status_code == 200:
                    return response.json()
                reason = f"{response.status_code} {response.text[:200]}"
                if response.status_code not in BUSY:
                    raise EndpointError(f"{self.url}{path} answers {reason}")
                pause = min(float(response.headers.get("retry-after", 1)), 30.0)
            if number < TRIES - 1:
                time.sleep(pause)
        raise EndpointError(f"{self.url}{path} does not answer ({reason}): is the service running?")


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in their order, so many a request; JSON holds no lone surrogates."""
    part: list[str] = []
    held = 0
    for text in texts:
        if part and (len(part) == TEXTS_A_REQUEST or held + len(text) > CHARACTERS_A_REQUEST):
            yield part
            part, held = [], 0
        part.append(text.encode("utf-8", "replace").decode())
        held += len(text)
    if part:
        yield part

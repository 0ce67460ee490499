"""The models as the gateway's replica sees them: deployment handles behind the protocols that the APIs ask for.

Requests that wait in the gateway together travel in one call, which costs about as much as one request's; a few calls
are on their way at a time, so that the classifier is never out of work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
from grpc.aio import AioRpcError
from ray.exceptions import RayActorError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from detox.rewriter.pieces import sentences
from detox.rewriter.remote_request import RemoteError
from detox.rewriter.rerank import Rewrite
from serve.batching import Batcher
from serve.errors import ApiError
from serve.judge import Model, Scored
from serve.limits import weight
from serve.rewriting import RewriterModel

TEXTS_A_CALL = 256
"""A long text counts for several (`serve.limits.weight`): who asks about a word does not wait for another's novel."""
CALLS_UNDER_WAY = 4
TRIES = 3
"""A replica that dies takes its calls with it; to score or rewrite again changes nothing."""
LOST = (RayActorError, TaskCancelledError, DeploymentUnavailableError, AioRpcError)
MOST_SECONDS = 50.0
"""Of a call with its repetitions: Serve gives up a request after 60, without the vendor's words."""


async def asked(method: Any, *arguments: Any) -> Any:
    """A call's result, asked for again where its replica died.

    Args:
        method: of a deployment handle.

    Raises:
        ApiError: `overloaded`: the deployment's queue is full, it answers too late or not at all, its replicas keep
            dying, or the remote model behind it fails.
    """
    try:
        async with asyncio.timeout(MOST_SECONDS):
            for _ in range(TRIES):
                try:
                    return await method.remote(*arguments)
                except BackPressureError:
                    raise ApiError("overloaded", "The model's queue is full: ask again later.", retry_after=1) from None
                except RemoteError:
                    message = "The remote model does not answer: ask again later."
                    raise ApiError("overloaded", message, retry_after=10) from None
                except LOST:
                    await asyncio.sleep(0.2)
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) and task.cancelling():  # this call, not the replica's
                        raise
                    await asyncio.sleep(0.2)
    except TimeoutError:
        raise ApiError("overloaded", "The model does not answer in time: ask again later.", retry_after=5) from None
    raise ApiError("overloaded", "The model is starting again: ask again later.", retry_after=5)


class HandleJudge:
    """The classifier's deployment as a `Judge`.

    Args:
        model: as one replica described itself.
    """

    def __init__(self, handle: DeploymentHandle, model: Model) -> None:
        self._score, self._explain = handle.score, handle.explain
        self._model = model
        self._calls: Batcher[list[str], Scored] = Batcher(
            self._together, weight, TEXTS_A_CALL, CALLS_UNDER_WAY, shared=(ApiError,)
        )

    @property
    def model(self) -> Model:
        return self._model

    async def scores(self, texts: Sequence[str]) -> Scored:
        return await self._calls(list(texts))

    async def language(self, text: str, wanted: Sequence[str]) -> tuple[str, bool]:
        from detox.data.language import reads_as_english

        if reads_as_english(text):
            return "en", not wanted or "en" in wanted
        return await asyncio.to_thread(_by_lingua, text, tuple(wanted))

    async def explain(self, text: str, label: str, method: str) -> tuple[Model, Mapping[str, Any]]:
        """The model, and what `ClassifierService.explain` found."""
        model, found = await asked(self._explain, text, label, method)
        self._model = Model(*model)
        return self._model, found

    async def _together(self, requests: list[list[str]]) -> list[Scored]:
        model, scores_NL = await asked(self._score, [text for texts in requests for text in texts])
        self._model = Model(*model)
        parts = np.split(scores_NL, np.cumsum([len(texts) for texts in requests])[:-1])
        return [Scored(self._model, part) for part in parts]


def load_languages() -> None:
    """Load lingua's models now: the first detection in a script does, for seconds in which Python does nothing else,
    and so would stop every request that the replica has."""
    for text in ("ouais", "да ну тебя", "Хай живе вільна", "هذا كتاب جيد"):  # scripts of several languages
        _by_lingua(text, ())


def _by_lingua(text: str, wanted: tuple[str, ...]) -> tuple[str, bool]:
    from detox.data.language import detect, foreign

    detected = detect([text])[0] or ""
    return detected, bool(detected) and (not wanted or foreign([text], wanted)[0] is None)


class HandleRewriting:
    """The rewriter's deployment as `Rewriting`."""

    def __init__(self, handle: DeploymentHandle, model: RewriterModel) -> None:
        self._handle, self._model = handle, model

    @property
    def model(self) -> RewriterModel:
        return self._model

    async def rewrite(self, texts: Sequence[str], langs: Sequence[str], adapter: str) -> list[Rewrite]:
        handle = self._handle.options(multiplexed_model_id=adapter) if adapter else self._handle
        # the replica says what all of it is, whichever rewriter was asked
        model, rewrites = await asked(handle.rewrite, list(texts), list(langs), adapter)
        self._model = RewriterModel(*model)
        return [Rewrite(*row) for row in rewrites]

    async def by_sentence(self, text: str, lang: str, adapter: str) -> AsyncIterator[Rewrite]:
        for sentence in sentences(text):
            [rewrite] = await self.rewrite([sentence], [lang], adapter)
            yield rewrite

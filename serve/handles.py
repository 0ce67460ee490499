"""The models as the gateway's replica sees them: deployment handles behind the protocols that the APIs ask for.

Requests that wait in the gateway together travel in one call, which costs about as much as one request's; a few calls
are on their way at a time, so that the classifier is never out of work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from grpc.aio import AioRpcError
from ray.exceptions import RayActorError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from detox.rewriter.remote_request import RemoteError
from detox.rewriter.rerank import Rewrite
from serve.artifacts import ReplacedError
from serve.batching import Batcher
from serve.errors import ApiError
from serve.judge import Model, Scored
from serve.language import language_of
from serve.limits import CALL_SECONDS, weight
from serve.rewriting import RewriterModel, Rewritten

TEXTS_A_CALL = 256
"""A long text counts for several (`serve.limits.weight`): who asks about a word does not wait for another's novel."""
CALLS_UNDER_WAY = 4
TRIES = 3
"""A replica that dies takes its calls with it; to score or rewrite again changes nothing."""
LOST = (RayActorError, TaskCancelledError, DeploymentUnavailableError, AioRpcError)
PAUSE_SECONDS = 0.2
"""Between two tries."""


async def call(method: Any, *arguments: Any) -> Any:
    """A call's result, asked for again where its replica died.

    Args:
        method: of a deployment handle.

    Raises:
        ApiError: `unavailable`: the deployment's queue is full, it answers too late or not at all, its replicas keep
            dying, the remote model behind it fails, or its files were replaced.
    """
    try:
        async with asyncio.timeout(CALL_SECONDS):
            for _ in range(TRIES):
                try:
                    return await method.remote(*arguments)
                except BackPressureError:
                    message = "The model's queue is full: ask again later."
                    raise ApiError("unavailable", message, retry_after=1) from None
                except RemoteError:
                    message = "The remote model does not answer: ask again later."
                    raise ApiError("unavailable", message, retry_after=10) from None
                except ReplacedError:
                    message = "The model's files are another model's by now: the service must be started again."
                    raise ApiError("unavailable", message, retry_after=60) from None
                except LOST:
                    await asyncio.sleep(PAUSE_SECONDS)
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) and task.cancelling():  # this call, not the replica's
                        raise
                    await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        raise ApiError("unavailable", "The model does not answer in time: ask again later.", retry_after=5) from None
    raise ApiError("unavailable", "The model is starting again: ask again later.", retry_after=5)


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
        return await language_of(text, wanted)

    async def explain(self, text: str, label: str, method: str) -> tuple[Model, Mapping[str, Any]]:
        """The model, and what `ClassifierService.explain` found."""
        model, found = await call(self._explain, text, label, method)
        self._model = Model(*model)
        return self._model, found

    async def _together(self, requests: list[list[str]]) -> list[Scored]:
        model, scores_NL = await call(self._score, [text for texts in requests for text in texts])
        self._model = Model(*model)
        parts = np.split(scores_NL, np.cumsum([len(texts) for texts in requests])[:-1])
        return [Scored(self._model, part) for part in parts]


class HandleRewriting:
    """The rewriter's deployment as `Rewriting`."""

    def __init__(self, handle: DeploymentHandle, model: RewriterModel) -> None:
        self._handle, self._model = handle, model

    @property
    def model(self) -> RewriterModel:
        return self._model

    async def rewrite(self, texts: Sequence[str], langs: Sequence[str], adapter: str) -> Rewritten:
        # the id leads to a replica that has the adapter; the replica itself goes by the argument
        handle = self._handle.options(multiplexed_model_id=adapter) if adapter else self._handle
        # the replica says what all of it is, whichever rewriter was asked
        model, rewrites = await call(handle.rewrite, list(texts), list(langs), adapter)
        self._model = RewriterModel(*model)
        return Rewritten(self._model, [Rewrite(*row) for row in rewrites])

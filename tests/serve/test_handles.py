"""Calls to the models: repeated where a replica is lost, given up in time, and honest about why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from detox.rewriter.remote_request import RemoteError
from serve import handles
from serve.artifacts import ReplacedError
from serve.errors import ApiError
from serve.handles import TRIES, HandleJudge, HandleRewriting, call
from serve.judge import Model
from serve.rewriting import RewriterModel
from tests.serve.judges import MODEL

CUT = AioRpcError(grpc.StatusCode.CANCELLED, Metadata(), Metadata())
FULL = BackPressureError(num_queued_requests=9, max_queued_requests=9)


class Method:
    """Of a handle: gives out one answer a call; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.calls = list(answers), list[tuple[Any, ...]]()

    async def remote(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return await answer() if callable(answer) else answer


class Handle:
    def __init__(self, **methods: Method) -> None:
        self.__dict__ |= methods


@pytest.mark.parametrize("lost", [RayActorError(), CUT, asyncio.CancelledError()], ids=["actor", "grpc", "cancelled"])
def test_a_lost_replica_is_asked_for_again(lost: BaseException) -> None:
    method = Method(lost, lost, "scores")
    assert asyncio.run(call(method, 1)) == "scores"
    assert method.calls == [(1,)] * 3


def refused(method: Method) -> ApiError:
    with pytest.raises(ApiError) as error:
        asyncio.run(call(method))
    return error.value


def test_what_cannot_be_answered_is_said_with_a_time_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "CALL_SECONDS", 0.1)
    monkeypatch.setattr(handles, "PAUSE_SECONDS", 0)

    async def never() -> None:
        await asyncio.sleep(60)

    cases: list[tuple[Method, str]] = [
        (Method(FULL), "queue is full"),
        (Method(*[RayActorError()] * TRIES), "starting again"),
        (Method(never), "does not answer in time"),
        (Method(RemoteError(0, 500, "the text", "ask again")), "remote model does not answer"),
        (Method(ReplacedError("the classifier was abc and is def now")), "must be started again"),
    ]
    for method, said in cases:
        error = refused(method)
        assert error.kind == "unavailable"
        assert error.retry_after
        assert "the text" not in error.message
        assert said in error.message


def test_a_client_that_goes_takes_its_own_call_only() -> None:
    async def run() -> None:
        async def never() -> None:
            await asyncio.sleep(60)

        task = asyncio.create_task(call(Method(never)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def scoring(model: Model) -> Callable[[], Any]:
    async def score() -> tuple[Model, np.ndarray]:
        return model, np.full((3, len(model.labels)), 0.25, np.float32)

    return score


def test_requests_that_wait_together_travel_in_one_call_and_name_the_model_that_answered() -> None:
    newer = MODEL._replace(version="new")
    method = Method(scoring(newer))
    judge = HandleJudge(Handle(score=method, explain=Method()), MODEL)  # type: ignore[arg-type]

    async def run() -> list[Any]:
        return await asyncio.gather(judge.scores(["a"]), judge.scores(["b", "c"]))

    first, second = asyncio.run(run())
    assert method.calls == [(["a", "b", "c"],)]
    assert (len(first.values_NL), len(second.values_NL)) == (1, 2)
    assert first.model == judge.model == newer


def test_a_rewriter_that_was_replaced_is_named() -> None:
    old, new = (RewriterModel("polite", version, ("en",), {}) for version in ("v1", "v2"))
    rewrite = ("civil", "model", 0.9, 0.1, 0.8)
    rewriting = HandleRewriting(Handle(rewrite=Method((new, [rewrite]))), old)  # type: ignore[arg-type]
    model, [found] = asyncio.run(rewriting.rewrite(["rude"], ["en"], ""))
    assert tuple(found) == rewrite
    assert model == rewriting.model == new

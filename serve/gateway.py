"""The gateway: HTTP in, one of four APIs each way, and as little as can be between them and the models.

Handlers read the raw body and parse it once with a compiled validator. A request passes its key, the key's rate, the
limits of its size, and the room that is left for so many texts. An error has its own API's body. No text is ever
logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serve import batches, chat, moderations, native, perspective, tei
from serve.admission import RateLimits, Room
from serve.errors import ApiError
from serve.feedback import FeedbackStore
from serve.judge import Judge, Model, Scored
from serve.keys import KEY_HEADERS, Key, Keys, Scope, secret_of
from serve.limits import weight
from serve.metrics import Meters
from serve.openapi import document
from serve.perspective_messages import discovery_document
from serve.rewriting import Rewriting
from serve.settings import GatewaySettings
from serve.translation import Translate, Translation, as_it_is

log = logging.getLogger("serve.gateway")
PAGE = Path(__file__).parent / "page"
FILES = ("page.css", "page.js")
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
UNJUDGED = "x-unjudged-categories"
DECISION, VERSION = "x-decision-id", "x-model-version"
REQUEST = "x-request-id"
"""The decision again, where OpenAI's clients look for it."""
FAILED = "The service failed; the error was logged."
MOST_SECONDS = 55.0
"""For an answer, or the beginning of a stream: less than Serve's own limit (`request_timeout_s: 60`), whose answer is
in no vendor's words."""
TOO_SLOW = "The service took too long: ask again later, or send less at a time."

Handler = Callable[[bytes, Key], Awaitable[Response]]
Words = Callable[[ApiError], tuple[int, dict[str, Any]]]
"""An API's own words for an error: status and body."""
Explain = Callable[[str, str, str], Awaitable[tuple[Model, Mapping[str, Any]]]]


class Gateway:
    """Routes, admission, and the models behind.

    Args:
        judge: the classifier.
        rewriting: the rewriter; None: nothing is rewritten.
        explain: text, label and method in, the model and its explanation out; None: the model cannot be explained.
        replicas: of the gateway, for rates.

    Attributes:
        app: what an ASGI server runs.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        judge: Judge,
        rewriting: Rewriting | None = None,
        explain: Explain | None = None,
        replicas: Callable[[], int] = lambda: 1,
        meters: Meters | None = None,
    ) -> None:
        self._settings, self._explain, self._rewriting = settings, explain, rewriting
        self._keys, self._rates = Keys(settings.keys), RateLimits(replicas)
        self._meters = meters or Meters()
        self._judge = AdmittedJudge(judge, Room(settings.texts_under_way), self._meters)
        self._rewrites = Room(settings.rewrites_under_way)
        self._explanations = Room(settings.explanations_under_way)
        self._feedback = FeedbackStore(settings.feedback) if settings.feedback else None
        # of whichever version answers: during a roll-over there are two
        self._translate: Translate = (
            Translation.load(settings.perspective_mapping) if settings.perspective_mapping else as_it_is
        )
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["POST", "GET"],
            allow_headers=[*KEY_HEADERS, "content-type"],
            expose_headers=["retry-after", UNJUDGED, DECISION, VERSION],
        )
        self.app = Starlette(routes=self._routes(), middleware=[cors] if settings.cors_origins else [])

    def _routes(self) -> list[Route]:
        post = self._post
        routes = [
            post("/v1/classify", "classify", native.status_and_body, self._classify),
            post("/v1/detoxify", "detoxify", native.status_and_body, self._detoxify),
            post("/v1/explain", "explain", native.status_and_body, self._explained),
            post("/v1alpha1/comments:analyze", "classify", perspective.status_and_body, self._analyze),
            post("/v1alpha1/comments:suggestscore", "feedback", perspective.status_and_body, self._suggest),
            post("/v1/moderations", "classify", moderations.status_and_body, self._moderate),
            post("/predict", "classify", tei.status_and_body, self._predict),
            post("/v1/chat/completions", "detoxify", moderations.status_and_body, self._chat),
            self._route("/batch", perspective.status_and_body, self._batch),
            Route("/v1/models", self._models),
            Route("/$discovery/rest", self._discovery),
            Route("/health", self._health),
            Route("/info", self._info),
            Route("/openapi.json", self._openapi),
        ]
        if self._settings.page:
            routes += [Route("/", self._file("index.html")), *(Route(f"/{name}", self._file(name)) for name in FILES)]
        return [*routes, Route("/{path:path}", self._nothing, methods=METHODS)]

    def _post(self, path: str, scope: Scope, words: Words, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            self._check_origin(request)
            key = self._keys.find(secret_of(request), scope)
            self._rates.take(key)
            return await handler(await body_of(request, self._settings.most_body_bytes), key)

        return self._route(path, words, answer)

    def _route(self, path: str, words: Words, answer: Callable[[Request], Awaitable[Response]]) -> Route:
        """A path for POST, with every failure in the words of its API."""

        async def endpoint(request: Request) -> Response:
            try:
                async with asyncio.timeout(MOST_SECONDS):
                    return named(await answer(request))
            except ApiError as error:
                self._meters.refused(path, error.kind)
                return refusal(error, words)
            except TimeoutError:
                self._meters.refused(path, "overloaded")
                return refusal(ApiError("overloaded", TOO_SLOW, retry_after=5), words)
            except Exception as error:
                log.error("%s failed: %s", path, type(error).__name__)  # the message may hold what the client sent
                return refusal(ApiError("internal", FAILED), words)

        return Route(path, endpoint, methods=["POST"])

    def _check_origin(self, request: Request) -> None:
        """Without keys any page that a browser here has open could ask, and teach by suggestions.

        Raises:
            ApiError: `forbidden`: another origin than the service's own, or one that is named.
        """
        origin = request.headers.get("origin", "")
        if not origin or self._settings.keys or origin in self._settings.cors_origins:
            return
        asking = urlsplit(origin)
        # the names of this machine alone: a stranger's name that leads here says so in Origin and Host alike
        own = {"127.0.0.1", "localhost", "::1", urlsplit(self._settings.public_url).hostname}
        if asking.hostname not in own or asking.netloc != request.headers.get("host", ""):
            raise ApiError("forbidden", "Pages of other origins may not ask: name theirs in gateway.cors_origins.")

    # What each path does

    async def _classify(self, body: bytes, key: Key) -> Response:
        request = native.parsed(native.ClassifyRequest, body)
        return decided(await native.classify(request, self._judge, key.bands or self._settings.bands))

    async def _detoxify(self, body: bytes, key: Key) -> Response:
        request = native.parsed(native.DetoxifyRequest, body)
        rewriting = self._rewriter()
        if request.adapter and request.adapter not in rewriting.model.adapters:
            known = ", ".join(rewriting.model.adapters) or "none"
            message = f"adapter: there is no {request.adapter!r}; there are: {known}"
            raise ApiError("not_found", message, param="adapter")
        if request.stream:
            decision = native.decision()
            events = native.detoxify_by_sentence(request, rewriting, decision)
            stream = await self._stream(events, weight(native.listed(request.input)), native.status_and_body)
            stream.headers[DECISION] = decision
            stream.headers[VERSION] = rewriting.model.served(request.adapter)["version"]
            return stream
        with self._rewrites.of(weight(native.listed(request.input))):
            return decided(await native.detoxify(request, rewriting))

    async def _explained(self, body: bytes, key: Key) -> Response:
        request = native.parsed(native.ExplainRequest, body)
        if self._explain is None:
            raise ApiError("not_found", "This model cannot be explained.")
        labels = self._judge.model.labels
        if request.label and request.label not in labels:
            known = ", ".join(labels)
            raise ApiError("invalid", f"label: there is no {request.label!r}; choose one of {known}", param="label")
        texts = native.listed(request.input)
        with self._explanations.of(len(texts)):
            found = [await self._explain(text, request.label, request.method) for text in texts]
        [model, *others] = [model for model, _ in found]
        if any(other.version != model.version for other in others):
            raise ApiError("overloaded", "The model is being replaced: ask again.", retry_after=1)
        fields = ("label", "method", "probability", "unit", "spans")
        results = [{key: explanation[key] for key in fields} for _, explanation in found]
        served = {"name": model.name, "version": model.version}
        return decided({"decision": native.decision(), "model": served, "results": results})

    async def _analyze(self, body: bytes, key: Key) -> Response:
        return JSONResponse(await perspective.analyze(body, self._judge, self._translate))

    async def _batch(self, request: Request) -> Response:
        """Needs no key itself: each part has its own."""
        return await batches.answered(request, await body_of(request, self._settings.most_body_bytes), self.app)

    async def _suggest(self, body: bytes, key: Key) -> Response:
        if self._feedback is None:
            raise ApiError("not_found", "Suggestions are not taken here.")
        answer, suggestions = await perspective.suggest(body, self._judge)
        await asyncio.to_thread(self._feedback.add, suggestions, key.id)
        return JSONResponse(answer)

    async def _moderate(self, body: bytes, key: Key) -> Response:
        answer = await moderations.moderate(body, self._judge)
        unjudged = ", ".join(moderations.unjudged(self._judge.model.labels))
        return JSONResponse(answer, headers={UNJUDGED: unjudged})

    async def _predict(self, body: bytes, key: Key) -> Response:
        return JSONResponse(await tei.predict(body, self._judge))

    async def _chat(self, body: bytes, key: Key) -> Response:
        request, rewriting = chat.parsed(body), self._rewriter()
        if request.stream:
            events = chat.complete_by_sentence(request, rewriting)
            stream = await self._stream(events, weight([chat.text_of(request)]), moderations.status_and_body)
            stream.headers[VERSION] = rewriting.model.served(chat.adapter_of(request, rewriting))["version"]
            return stream
        with self._rewrites.of(weight([chat.text_of(request)])):
            answer = await chat.complete(request, rewriting)
            served = rewriting.model.served(chat.adapter_of(request, rewriting))
            return JSONResponse(answer, headers={VERSION: served["version"]})

    def _rewriter(self) -> Rewriting:
        if self._rewriting is None:
            raise ApiError("not_found", "No rewriter is served here.")
        return self._rewriting

    async def _stream(self, events: AsyncIterator[bytes], texts: int, words: Words) -> Response:
        """Server-sent events. What is wrong with the request, or a full house, is known before the first and answered
        as ever; what fails later is the last event."""
        with ExitStack() as stack:
            stack.enter_context(self._rewrites.of(texts))
            first = await anext(events)
            held = stack.pop_all()

        async def all_of_them() -> AsyncIterator[bytes]:
            with held:
                try:
                    yield first
                    async for item in events:
                        yield item
                except ApiError as error:
                    yield native.event(words(error)[1])
                except Exception as error:
                    log.error("a stream failed: %s", type(error).__name__)
                    yield native.event(words(ApiError("internal", FAILED))[1])

        return StreamingResponse(all_of_them(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    # What needs no key

    async def _models(self, request: Request) -> Response:
        return JSONResponse(chat.models(self._rewriter()) if self._rewriting else {"object": "list", "data": []})

    async def _discovery(self, request: Request) -> Response:
        if request.query_params.get("version", "v1alpha1") != "v1alpha1":
            return refusal(ApiError("not_found", "There is version v1alpha1 only."), perspective.status_and_body)
        root = self._settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
        return JSONResponse(discovery_document(f"{root}/"))

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"} | ({"keys": self._keys.fault} if self._keys.fault else {}))

    async def _info(self, request: Request) -> Response:
        model, rewriting = self._judge.model, self._rewriting
        return JSONResponse(
            tei.info(model, self._settings.texts_under_way)
            | {
                "model": {
                    "name": model.name,
                    "version": model.version,
                    "labels": list(model.labels),
                    "thresholds": model.thresholds,
                    "languages": list(model.languages),
                },
                "rewriter": rewriting.model._asdict() if rewriting else None,
                "explains": self._explain is not None,
                "unjudged_categories": moderations.unjudged(model.labels),
                "keys": bool(self._settings.keys),
            }
        )

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(document())

    def _file(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return FileResponse(PAGE / name)

        return endpoint

    async def _nothing(self, request: Request) -> Response:
        """A path that there is not, or not with this method, in the words of the API that it looks like."""
        path = request.url.path
        words = next((words for prefix, words in WORDS.items() if path.startswith(prefix)), native.status_and_body)
        return refusal(ApiError("not_found", f"There is no {request.method} {path[:80]!r} here."), words)


WORDS: dict[str, Words] = {
    "/v1alpha1/": perspective.status_and_body,
    "/$discovery/": perspective.status_and_body,
    "/batch": perspective.status_and_body,
    "/v1/moderations": moderations.status_and_body,
    "/v1/chat": moderations.status_and_body,
    "/v1/models": moderations.status_and_body,
    "/predict": tei.status_and_body,
}


class AdmittedJudge:
    """A judge that lets in so many texts at a time, and measures what it says."""

    def __init__(self, judge: Judge, room: Room, meters: Meters) -> None:
        self._judge, self.room, self._meters = judge, room, meters

    @property
    def model(self) -> Model:
        return self._judge.model

    async def scores(self, texts: Sequence[str]) -> Scored:
        with self.room.of(weight(texts)):
            scored = await self._judge.scores(texts)
        _answering.set(scored.model.version)
        self._meters.scored(scored)
        return scored

    async def language(self, text: str, wanted: Sequence[str]) -> tuple[str, bool]:
        with self.room.of(weight([text])):
            return await self._judge.language(text, wanted)


_answering: ContextVar[str] = ContextVar("answering", default="")
"""Version of the classifier that scored the texts of this request."""


def decided(answer: dict[str, Any]) -> Response:
    """One of our own answers, whose headers say what its body says."""
    return JSONResponse(answer, headers={DECISION: answer["decision"], VERSION: answer["model"]["version"]})


def named(response: Response) -> Response:
    """With a decision id and the model's version, for which the vendors' bodies have no place."""
    response.headers.setdefault(DECISION, native.decision())
    response.headers[REQUEST] = response.headers[DECISION]
    if version := _answering.get():
        response.headers.setdefault(VERSION, version)
    return response


async def body_of(request: Request, most: int) -> bytes:
    """Raises:
    ApiError: more bytes than are read.
    """
    length = request.headers.get("content-length", "")
    too_large = ApiError("too_large", f"The body may have {most:,} bytes.")
    if length.isdigit() and int(length) > most:
        raise too_large
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > most:
            raise too_large
    return bytes(received)


def refusal(error: ApiError, words: Words) -> Response:
    status, body = words(error)
    decision = native.decision()
    headers = {**error.headers(), DECISION: decision, REQUEST: decision}
    return Response(json.dumps(body, ensure_ascii=False), status, headers=headers, media_type="application/json")

"""The gateway: HTTP in, one of four APIs each way, and as little as can be between them and the models.

Handlers read the raw body and parse it once with a compiled validator. A request passes its key, the key's rate, the
limits of its size, and the room that is left for so many texts. An error has its own API's body. No text is ever
logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from serve import batches, chat, moderations, native, openai_messages, perspective, tei
from serve.admission import RateLimits, Room
from serve.errors import ApiError
from serve.events import event
from serve.faults import log_fault
from serve.feedback import FeedbackStore
from serve.judge import Judge, Model, Scored
from serve.keys import KEY_HEADERS, Key, Keys, Scope, secret_of
from serve.limits import ANSWER_SECONDS, CHARACTERS_A_TEXT, weight
from serve.metrics import Meters
from serve.openapi import document
from serve.perspective_messages import discovery_document
from serve.responses import (
    ANSWERING,
    DECISION,
    VERSION,
    EventStream,
    Words,
    body_of,
    decided,
    refusal,
    with_ids,
)
from serve.rewriting import RewriterModel, Rewriting, Rewritten
from serve.settings import LOCAL, GatewaySettings
from serve.translation import Translate, Translation, as_it_is

PAGE = Path(__file__).parent / "page"
FILES = ("page.css", "page.js")
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
UNJUDGED = "x-unjudged-categories"
FAILED = "The service failed; its log says where, under {decision}."
TOO_SLOW = "The service took too long: ask again later, or send less at a time."

Handler = Callable[[bytes, Key], Awaitable[Response]]
WORDS: dict[str, Words] = {
    "/v1alpha1/": perspective.status_and_body,
    "/$discovery/": perspective.status_and_body,
    "/batch": perspective.status_and_body,
    "/v1/moderations": openai_messages.status_and_body,
    "/v1/chat": openai_messages.status_and_body,
    "/v1/models": openai_messages.status_and_body,
    "/predict": tei.status_and_body,
}
"""By the beginning of the path; every other path has ours."""


class Gateway:
    """Routes, admission, and the models behind.

    Args:
        judge: the classifier.
        rewriting: the rewriter; None: nothing is rewritten.
        replicas: of the gateway, for rates.

    Attributes:
        app: what an ASGI server runs.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        judge: Judge,
        rewriting: Rewriting | None = None,
        replicas: Callable[[], int] = lambda: 1,
        meters: Meters | None = None,
    ) -> None:
        self._settings = settings
        self._rewriting = NamedRewriting(rewriting) if rewriting else None
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
            post("/v1/classify", "classify", self._classify),
            post("/v1/detoxify", "detoxify", self._detoxify),
            post("/v1/explain", "explain", self._explain),
            post("/v1alpha1/comments:analyze", "classify", self._analyze),
            post("/v1alpha1/comments:suggestscore", "feedback", self._suggest),
            post("/v1/moderations", "classify", self._moderate),
            post("/predict", "classify", self._predict),
            post("/", "classify", self._predict),  # where TEI's own clients ask
            post("/v1/chat/completions", "detoxify", self._chat),
            self._route("/batch", self._batch),
            Route("/v1/models", self._models),
            Route("/$discovery/rest", self._discovery),
            Route("/health", self._health),
            Route("/info", self._info),
            Route("/openapi.json", self._openapi),
        ]
        if self._settings.page:
            routes += [Route("/", self._file("index.html")), *(Route(f"/{name}", self._file(name)) for name in FILES)]
        return [*routes, Route("/{path:path}", self._not_found, methods=METHODS)]

    def _post(self, path: str, scope: Scope, handler: Handler) -> Route:
        async def answer(request: Request) -> Response:
            self._check_origin(request)
            key = self._keys.find(secret_of(request.headers, request.query_params.get("key", "")), scope)
            self._rates.take(key)
            return await handler(await body_of(request, self._settings.most_body_bytes), key)

        return self._route(path, answer)

    def _route(self, path: str, answer: Callable[[Request], Awaitable[Response]]) -> Route:
        """A path for POST, with every failure in the words of its API."""
        words = words_of(path)

        async def endpoint(request: Request) -> Response:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return with_ids(await answer(request))
            except ApiError as error:
                self._meters.refused(path, error.kind)
                return refusal(error, words)
            except TimeoutError:
                self._meters.refused(path, "unavailable")
                return refusal(ApiError("unavailable", TOO_SLOW, retry_after=5), words)
            except ClientDisconnect:
                return Response(status_code=499)  # nobody is left to read it
            except Exception as error:
                decision = native.decision_id()
                log_fault(f"{path} failed ({decision})", error)
                self._meters.refused(path, "internal")
                return refusal(ApiError("internal", FAILED.format(decision=decision)), words, decision)

        return Route(path, endpoint, methods=["POST"])

    def _check_origin(self, request: Request) -> None:
        """Without keys any page that a browser here has open could ask, and teach by suggestions.

        Raises:
            ApiError: `forbidden`: another origin than the service's own, or one that is named.
        """
        origin = request.headers.get("origin", "")
        if not origin or self._settings.keys or origin in self._settings.cors_origins:
            return
        try:
            asking = urlsplit(origin)
        except ValueError:  # "http://[", say
            asking = urlsplit("")
        # the names of this machine alone: a stranger's name that leads here says so in Origin and Host alike
        own = {*LOCAL, urlsplit(self._settings.public_url).hostname} - {None}
        if asking.hostname not in own or asking.netloc != request.headers.get("host", ""):
            raise ApiError("forbidden", f"Pages of {origin[:80]} may not call: add it to gateway.cors_origins.")

    # What each path does

    async def _classify(self, body: bytes, key: Key) -> Response:
        request = native.parsed(native.ClassifyRequest, body)
        return decided(await native.classify(request, self._judge, key.bands or self._settings.bands))

    async def _detoxify(self, body: bytes, key: Key) -> Response:
        request, rewriting = native.parsed(native.DetoxifyRequest, body), self._rewriter()
        texts = self._rewritable(native.listed(request.input))
        if request.stream:
            decision = native.decision_id()
            return await self._stream(
                "/v1/detoxify", native.detoxify_by_sentence(request, rewriting, decision), texts, decision
            )
        with self._rewrites.of(texts):
            return decided(await native.detoxify(request, rewriting))

    async def _explain(self, body: bytes, key: Key) -> Response:
        request = native.parsed(native.ExplainRequest, body)
        with self._explanations.of(len(native.listed(request.input))):
            return decided(await native.explain(request, self._judge))

    async def _analyze(self, body: bytes, key: Key) -> Response:
        return JSONResponse(await perspective.analyze(body, self._judge, self._translate))

    async def _batch(self, request: Request) -> Response:
        """Each part has its own key; one that is known must be among them before anything is asked."""
        body = await body_of(request, self._settings.most_body_bytes)
        return await batches.answered(request, body, self.app, self._keys)

    async def _suggest(self, body: bytes, key: Key) -> Response:
        if self._feedback is None:
            raise ApiError("not_found", "Suggestions are not stored here: gateway.feedback names no folder.")
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
        rewriting = self._rewriter()
        asked = chat.parsed(body, rewriting)
        texts = self._rewritable([asked.text])
        if asked.is_streamed:
            return await self._stream(
                "/v1/chat/completions", chat.complete_by_sentence(asked, rewriting), texts, native.decision_id()
            )
        with self._rewrites.of(texts):
            return JSONResponse(await chat.complete(asked, rewriting))

    def _rewritable(self, texts: Sequence[str]) -> int:
        """What the texts count for.

        Raises:
            ApiError: more than there is ever room for.
        """
        most, count = self._settings.rewrites_under_way, weight(texts)
        if count > most:
            message = (
                f"At most {most} texts can be rewritten at a time, and these count for {count}, one more for every "
                f"{CHARACTERS_A_TEXT:,} characters: send fewer or shorter ones."
            )
            raise ApiError("too_large", message)
        return count

    def _rewriter(self) -> Rewriting:
        if self._rewriting is None:
            raise ApiError("not_found", "No rewriter is served here: rewriter.model names none.")
        return self._rewriting

    async def _stream(self, path: str, events: AsyncGenerator[bytes], texts: int, decision: str) -> Response:
        """Server-sent events. What is wrong with the request, or a full house, is known before the first and answered
        as ever; what fails later, or takes too long, is the last event.

        Args:
            texts: what they count for.
            decision: names the answer.
        """
        until = asyncio.get_running_loop().time() + ANSWER_SECONDS
        with ExitStack() as stack:
            stack.enter_context(self._rewrites.of(texts))
            first = await anext(events)
            held = stack.pop_all()

        def last(error: ApiError) -> bytes:
            self._meters.refused(path, error.kind)
            return event(words_of(path)(error)[1])

        async def to_the_end() -> AsyncIterator[bytes]:
            item: bytes | None = first
            try:
                while item is not None:
                    yield item
                    async with asyncio.timeout_at(until):
                        item = await anext(events, None)
            except ApiError as error:
                yield last(error)
            except TimeoutError:
                yield last(ApiError("unavailable", TOO_SLOW, retry_after=5))
            except Exception as error:
                log_fault(f"a stream of {path} failed ({decision})", error)
                yield last(ApiError("internal", FAILED.format(decision=decision)))

        async def end() -> None:
            held.close()
            await events.aclose()

        stream = EventStream(to_the_end(), end)
        stream.headers[DECISION] = decision
        return stream

    # What needs no key

    async def _models(self, request: Request) -> Response:
        return JSONResponse(chat.models(self._rewriter()) if self._rewriting else {"object": "list", "data": []})

    async def _discovery(self, request: Request) -> Response:
        if request.query_params.get("version", "v1alpha1") != "v1alpha1":
            return refusal(ApiError("not_found", "The only version is v1alpha1."), perspective.status_and_body)
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
                "unjudged_categories": moderations.unjudged(model.labels),
                "keys": bool(self._settings.keys),
            }
        )

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(document())

    def _file(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return FileResponse(PAGE / name, headers=PAGE_HEADERS)

        return endpoint

    async def _not_found(self, request: Request) -> Response:
        """A path that there is not, or not with this method, in the words of the API that it looks like."""
        path = request.url.path
        return refusal(ApiError("not_found", f"There is no {request.method} {path[:80]!r} here."), words_of(path))


def words_of(path: str) -> Words:
    if path == "/":
        return tei.status_and_body
    return next((words for prefix, words in WORDS.items() if path.startswith(prefix)), native.status_and_body)


class AdmittedJudge:
    """A judge that lets in so many texts at a time, and measures what it says; its version gets into the headers."""

    def __init__(self, judge: Judge, room: Room, meters: Meters) -> None:
        self._judge, self.room, self._meters = judge, room, meters

    @property
    def model(self) -> Model:
        return self._judge.model

    async def scores(self, texts: Sequence[str]) -> Scored:
        with self.room.of(weight(texts)):
            scored = await self._judge.scores(texts)
        ANSWERING.set(scored.model.version)
        self._meters.scored(scored)
        return scored

    async def language(self, text: str, wanted: Sequence[str]) -> tuple[str, bool]:
        with self.room.of(weight([text])):
            return await self._judge.language(text, wanted)

    async def explain(self, text: str, label: str, method: str) -> tuple[Model, Mapping[str, Any]]:
        return await self._judge.explain(text, label, method)


class NamedRewriting:
    """A rewriter whose version gets into the answer's headers."""

    def __init__(self, rewriting: Rewriting) -> None:
        self._rewriting = rewriting

    @property
    def model(self) -> RewriterModel:
        return self._rewriting.model

    async def rewrite(self, texts: Sequence[str], langs: Sequence[str], adapter: str) -> Rewritten:
        rewritten = await self._rewriting.rewrite(texts, langs, adapter)
        ANSWERING.set(rewritten.model.served(adapter)["version"])
        return rewritten

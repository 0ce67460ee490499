"""The rewriter behind the gateway: texts in, rewrites out, batched; further rewriters are loaded on demand.

What becomes of a text depends on that text alone (`detox.rewriter.face`), so requests may share batches in any way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple

from ray import serve as ray_serve

from detox.rewriter.remote_request import RemoteError, StoppedError
from detox.rewriter.rerank import Rewrite
from serve.artifacts import check_version, run_name, servable
from serve.batching import Batcher
from serve.faults import without_texts
from serve.limits import weight
from serve.rewriting import RewriterModel
from serve.settings import RewriterSettings

if TYPE_CHECKING:
    from detox.rewriter.face import Rewriter

ADAPTERS_KEPT = 4
"""Of those that were asked for last, in one replica. Serve sends a request to a replica that has its adapter."""
MOST_SECONDS_A_BATCH = 600.0
"""A batch that takes longer is taken for one that hangs."""


class Asked(NamedTuple):
    """One request's texts, or some of them."""

    rewriter: Rewriter
    texts: list[str]
    langs: list[str]
    """ISO 639-1; empty: to be detected."""


class RewriterService:
    """A rewriter's artifact, ready to rewrite.

    Attributes:
        model: what it is.
        main: the rewriter.

    Raises:
        ValueError: an artifact that must not be served, be it an adapter's.
    """

    def __init__(self, settings: RewriterSettings) -> None:
        import torch

        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self.main, version = self._load(settings.model)
        self._adapters = {name: servable(place) for name, place in settings.adapters.items()}
        versions = {name: version for name, (_, version) in self._adapters.items()}
        self.model = RewriterModel(run_name(settings.model), version, tuple(self.main.languages), versions)

    def adapter(self, name: str) -> Rewriter:
        """Loads it; an adapter on the main rewriter's base shares its weights.

        Raises:
            ReplacedError: it is not what it was when this replica started.
            ValueError: its manifest does not hold any more.
        """
        folder, version = self._adapters[name]
        rewriter, now = self._load(str(folder), beside=self.main)
        check_version(f"adapter {name}", version, now)
        return rewriter

    def _load(self, name: str, beside: Rewriter | None = None) -> tuple[Rewriter, str]:
        from detox.rewriter.face import Rewriter

        folder, version = servable(name)
        remote = self._settings.remote if self._settings.remote.base_url else None
        return Rewriter.load(str(folder), remote=remote, beside=beside), version


def groups(asked: Asked, most: int) -> Iterator[Asked]:
    """The texts in their order, in parts of at most this weight (or of one text)."""
    begin, held = 0, 0
    for at, text in enumerate(asked.texts):
        size = weight([text])
        if at > begin and held + size > most:
            yield Asked(asked.rewriter, asked.texts[begin:at], asked.langs[begin:at])
            begin, held = at, 0
        held += size
    yield Asked(asked.rewriter, asked.texts[begin:], asked.langs[begin:])


def rewritten(requests: Sequence[Asked]) -> list[list[Rewrite]]:
    """The rewrites of several requests: those of one rewriter in one go."""
    found: list[list[Rewrite]] = [[] for _ in requests]
    for rewriter in {id(asked.rewriter): asked.rewriter for asked in requests}.values():
        mine = [at for at, asked in enumerate(requests) if asked.rewriter is rewriter]
        texts = [text for at in mine for text in requests[at].texts]
        langs = [lang or None for at in mine for lang in requests[at].langs]
        made = iter(rewriter.rewrite(texts, langs))
        for at in mine:
            found[at] = [next(made) for _ in requests[at].texts]
    return found


class RewriterReplica:
    """What Serve runs. One thread has the models."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = RewriterSettings.model_validate(settings)
        self._service = RewriterService(self._settings)
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._batches: Batcher[Asked, list[Rewrite]] = Batcher(
            self._computed,
            lambda asked: weight(asked.texts),
            self._settings.batch_texts,
            shared=(RemoteError, StoppedError),
        )
        self._loading: dict[str, asyncio.Task[Rewriter]] = {}

    async def check_health(self) -> None:
        """Serve asks every few seconds: a model that hangs is replaced. (Asked itself it would have to wait for its
        turn, behind long texts.)

        Raises:
            TimeoutError: it does.
        """
        self._batches.check(MOST_SECONDS_A_BATCH)

    async def facts(self) -> RewriterModel:
        """Of the model, for the gateway."""
        return self._service.model

    async def rewrite(
        self, texts: list[str], langs: list[str], adapter: str = ""
    ) -> tuple[RewriterModel, list[Rewrite]]:
        """The model, and a rewrite of each text, in order; who leaves or fails leaves his later texts undone."""
        with without_texts():
            rewriter = await self._adapter(adapter) if adapter else self._service.main
        found = list[Rewrite]()
        for part in groups(Asked(rewriter, texts, langs), self._settings.batch_texts):
            with without_texts():
                found += await self._batches(part)  # one after the other: others get in between
        return self._service.model, found

    @ray_serve.multiplexed(max_num_models_per_replica=ADAPTERS_KEPT)
    async def _adapter(self, name: str) -> Rewriter:
        """Loaded to the end, whether or not who asked first is still there."""
        if name not in self._loading:
            loading = asyncio.create_task(self._loaded(name), context=Context())
            loading.add_done_callback(lambda _: self._loading.pop(name, None))
            self._loading[name] = loading
        return await asyncio.shield(self._loading[name])

    async def _loaded(self, name: str) -> Rewriter:
        """In the model's own thread: an adapter is made of the model, which must not compute meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._model_thread, self._service.adapter, name)

    async def _computed(self, requests: list[Asked]) -> list[list[Rewrite]]:
        return await asyncio.get_running_loop().run_in_executor(self._model_thread, rewritten, requests)

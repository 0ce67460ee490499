"""The rewriter behind the gateway: texts in, rewrites out, batched; further rewriters are loaded on demand.

What becomes of a text depends on that text alone (`detox.rewriter.face`), so requests may share batches in any way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from detox.rewriter.rerank import Rewrite
from serve.artifacts import run_name, servable
from serve.batching import Batcher
from serve.rewriting import RewriterModel
from serve.settings import RewriterServeSettings


class Asked(NamedTuple):
    """One request's texts, or some of them."""

    adapter: str
    """Empty: the model itself."""
    texts: list[str]
    langs: list[str]
    """ISO 639-1; empty: to be detected."""


class RewriterService:
    """A rewriter's artifact, ready to rewrite, and adapters, of which those that were asked for last are kept.

    Attributes:
        model: what it is.

    Raises:
        ValueError: an artifact that must not be served.
    """

    def __init__(self, settings: RewriterServeSettings) -> None:
        import torch

        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._main, version = self._load(settings.model)
        self.kept: OrderedDict[str, Any] = OrderedDict()
        for name in settings.adapters.values():
            servable(name)  # what cannot be served is known at the start
        languages, adapters = tuple(self._main.languages), tuple(settings.adapters)
        self.model = RewriterModel(run_name(settings.model), version, languages, adapters)

    def rewritten(self, requests: Sequence[Asked]) -> list[list[Rewrite]]:
        """The rewrites of several requests: those of one adapter in one go."""
        found: list[list[Rewrite]] = [[] for _ in requests]
        for adapter in dict.fromkeys(asked.adapter for asked in requests):
            mine = [at for at, asked in enumerate(requests) if asked.adapter == adapter]
            texts = [text for at in mine for text in requests[at].texts]
            langs = [lang or None for at in mine for lang in requests[at].langs]
            made = iter(self._rewriter(adapter).rewrite(texts, langs))
            for at in mine:
                found[at] = [next(made) for _ in requests[at].texts]
        return found

    def _rewriter(self, adapter: str) -> Any:
        if not adapter:
            return self._main
        if adapter not in self.kept:
            self.kept[adapter], _ = self._load(self._settings.adapters[adapter])
        self.kept.move_to_end(adapter)
        while len(self.kept) > self._settings.adapters_kept:
            self.kept.popitem(last=False)
        return self.kept[adapter]

    def _load(self, name: str) -> tuple[Any, str]:
        from detox.rewriter.face import Rewriter

        folder, version = servable(name)
        remote = self._settings.remote if self._settings.remote.base_url else None
        return Rewriter.load(str(folder), remote=remote), version


class RewriterReplica:
    """What Serve runs. One thread has the models."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = RewriterServeSettings.model_validate(settings)
        self._service = RewriterService(self._settings)
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._batches: Batcher[Asked, list[Rewrite]] = Batcher(
            self._computed, lambda asked: len(asked.texts), self._settings.batch_texts
        )

    async def facts(self) -> RewriterModel:
        """Of the model, for the gateway."""
        return self._service.model

    async def rewrite(
        self, texts: list[str], langs: list[str], adapter: str = ""
    ) -> tuple[RewriterModel, list[Rewrite]]:
        """The model, and a rewrite of each text, in order."""
        most = self._settings.batch_texts
        parts = [Asked(adapter, texts[at : at + most], langs[at : at + most]) for at in range(0, len(texts), most)]
        found = await asyncio.gather(*map(self._batches, parts))
        return self._service.model, [rewrite for part in found for rewrite in part]

    async def _computed(self, requests: list[Asked]) -> list[list[Rewrite]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._model_thread, self._service.rewritten, requests)

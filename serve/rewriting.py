"""What the APIs need of the rewriter: its facts, and rewrites."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from detox.rewriter.pieces import sentences
from detox.rewriter.rerank import Rewrite
from serve.errors import replaced


class RewriterModel(NamedTuple):
    """What is served."""

    name: str
    version: str
    """Twelve hexadecimal digits of the artifact's manifest."""
    languages: tuple[str, ...]
    """ISO 639-1 codes of what it learned; others are rewritten all the same."""
    adapters: dict[str, str]
    """Versions of further rewriters by name: `adapter` of a request."""

    def served(self, adapter: str) -> dict[str, str]:
        """Name and version of what answers.

        Args:
            adapter: one of `adapters`; empty: the model itself.

        Raises:
            ApiError: the model that answered lacks it, unlike the one that was asked about.
        """
        if adapter and adapter not in self.adapters:
            raise replaced()
        name, version = (adapter, self.adapters[adapter]) if adapter else (self.name, self.version)
        return {"name": name, "version": version}


class Rewritten(NamedTuple):
    """Rewrites with the model that made them: during a roll-over there are two."""

    model: RewriterModel
    rewrites: list[Rewrite]


class Rewriting(Protocol):
    """Rewrites texts."""

    @property
    def model(self) -> RewriterModel:
        """The one that answered last."""
        ...

    async def rewrite(self, texts: Sequence[str], langs: Sequence[str], adapter: str) -> Rewritten:
        """A rewrite of each text, in order.

        Args:
            langs: ISO 639-1 codes; empty ones are detected.
            adapter: one of the model's; empty: the model itself.

        Raises:
            ApiError: `unavailable`.
        """
        ...


async def by_sentence(
    rewriting: Rewriting, text: str, lang: str, adapter: str
) -> AsyncIterator[tuple[RewriterModel, Rewrite]]:
    """The rewrites of a text's sentences, one after the other, each with its own white space."""
    for sentence in sentences(text) or [text]:
        model, [rewrite] = await rewriting.rewrite([sentence], [lang], adapter)
        yield model, rewrite

"""What the APIs need of the rewriter: its facts, and rewrites."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from detox.rewriter.rerank import Rewrite


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
        """Name and version of what answers; `adapter` is empty or one of `adapters`."""
        name, version = (adapter, self.adapters[adapter]) if adapter else (self.name, self.version)
        return {"name": name, "version": version}


class Rewriting(Protocol):
    """Rewrites texts."""

    @property
    def model(self) -> RewriterModel: ...

    async def rewrite(self, texts: Sequence[str], langs: Sequence[str], adapter: str) -> list[Rewrite]:
        """A rewrite of each text, in order.

        Args:
            langs: ISO 639-1 codes; empty ones are detected.
            adapter: empty: the model itself.

        Raises:
            ApiError: `overloaded`, or an adapter that is not there.
        """
        ...

    def by_sentence(self, text: str, lang: str, adapter: str) -> AsyncIterator[Rewrite]:
        """The rewrites of a text's sentences, one after the other, each with its own white space."""
        ...

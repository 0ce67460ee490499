"""A rewriter without a model: `idiot` goes."""

from __future__ import annotations

from collections.abc import Sequence

from detox.rewriter.pieces import in_its_space
from detox.rewriter.rerank import Rewrite
from serve.errors import ApiError
from serve.rewriting import RewriterModel, Rewritten


class Cutting:
    """Cuts a word out; a text with `boom` is one that the model cannot take."""

    model = RewriterModel("cutter", "ba9876543210", ("en",), {"formal": "0123abcd0123"})

    async def rewrite(self, texts: Sequence[str], langs: Sequence[str], adapter: str) -> Rewritten:
        if any("boom" in text for text in texts):
            raise RuntimeError(f"cannot rewrite {texts}")
        if any("full" in text for text in texts):
            raise ApiError("unavailable", "full", retry_after=2)
        return Rewritten(self.model, [self._one(text) for text in texts])

    def _one(self, text: str) -> Rewrite:
        if "idiot" not in text:
            return Rewrite(text, "already neutral", 0.1, 0.1, 1.0)
        return Rewrite(in_its_space(text, " ".join(text.replace("idiot", "").split())), "edited", 0.9, 0.1, 0.8)

"""A rewriter as the worker of a corpus: the rewrite of each text, how it was made, and what it is worth."""

from __future__ import annotations

import pyarrow as pa

from detox.classifier.corpus_reading import texts_of
from detox.data.language_code import code_or_nothing
from detox.rewriter.face import Rewriter
from detox.rewriter.remote import RemoteError
from detox.rewriter.remote_settings import RemoteSettings

TYPES = {
    "rewritten": pa.string(),
    "how": pa.string(),
    "toxicity_before": pa.float32(),
    "toxicity_after": pa.float32(),
    "similarity": pa.float32(),
}


class RewriteColumns:
    """Rewrites of a text column, null where there is no text.

    Args:
        text_column: of the corpus.
        lang_column: with the language of each text, detected where it is null, empty or no code; empty: none.
    """

    def __init__(self, rewriter: Rewriter, text_column: str, lang_column: str = "") -> None:
        self._rewriter, self._text_column, self._lang_column = rewriter, text_column, lang_column

    @classmethod
    def load(
        cls, model: str, text_column: str, lang_column: str = "", device: str = "", remote: RemoteSettings | None = None
    ) -> RewriteColumns:
        """With the rewriter that `Rewriter.load` knows by the name `model`.

        Raises:
            ValueError: see there.
        """
        return cls(Rewriter.load(model, device=device, remote=remote), text_column, lang_column)

    @property
    def results(self) -> tuple[str, ...]:
        return tuple(TYPES)

    def __call__(self, table: pa.Table, first: int) -> dict[str, pa.Array]:
        """Raises:
        RemoteError: a remote backend failed; its `position` is the row of the corpus.
        """
        texts = texts_of(table, self._text_column)
        given = texts_of(table, self._lang_column) if self._lang_column else [None] * len(texts)
        langs = [code_or_nothing(lang) for lang in given]
        rows = [at for at, text in enumerate(texts) if text is not None]
        try:
            found = self._rewriter.rewrite([texts[at] or "" for at in rows], [langs[at] for at in rows])
        except RemoteError as error:
            raise error.at(first + rows[error.position]) from error
        made = dict(zip(rows, found, strict=True))
        columns = zip(*(made.get(at, (None,) * len(TYPES)) for at in range(len(texts))), strict=True)
        values = [list(column) for column in columns] or [[] for _ in TYPES]
        return {name: pa.array(value, kind) for (name, kind), value in zip(TYPES.items(), values, strict=True)}

"""`detox.Rewriter`: toxic texts in, rewrites out, each with how it was made.

    rewriter = detox.Rewriter.load("runs/train-rewriter-demo-s42")
    for rewrite in rewriter.rewrite(["you are an idiot, read page 12"]):
        print(rewrite.text, rewrite.how)

A text that is neutral comes back as it was given, but for control characters. One that is longer than the rewriter can
read is cut into sentences: the neutral ones stay, the others are rewritten, and all are put together again with their
own white space. What becomes of a text depends on that text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import regex

from detox.data.cleaning import clean_text
from detox.data.language import detect
from detox.data.language_code import code_of
from detox.data.settings import CleaningSettings
from detox.models.loading import LoadedModel, device_named
from detox.rewriter.artifact import TEXT, Helpers, read_facts, rewriter_folder
from detox.rewriter.backend import Backend, ModelBackend
from detox.rewriter.decoding import Steering
from detox.rewriter.generation_settings import RewritingSettings
from detox.rewriter.pieces import in_its_space, pieces
from detox.rewriter.remote import RemoteError, RemoteRewriter
from detox.rewriter.remote_settings import RemoteSettings
from detox.rewriter.rerank import How, Request, Reranker, Rewrite, edit_similarity
from detox.rewriter.settings import RewriterModelSettings

CHUNK = 1024
"""Texts in memory at a time."""
CONTROL = regex.compile(r"[^\P{Cc}\s]")

Piece = tuple[str, str]
"""A cleaned piece of a text, and its language."""
RANKS: tuple[How, ...] = ("unchanged", "edited", "reranked", "model", "already neutral")
"""A text in pieces was made in the first of these ways that any of them was; `unchanged` only as a whole."""
CHANGED: tuple[How, ...] = ("edited", "reranked", "model")
BLANK = Rewrite("", "already neutral", 0.0, 0.0, 1.0)


class Rewriter:
    """What rewrites, with what reranks and edits.

    Args:
        loaded: an encoder-decoder with its tokenizer, or another source of candidates (`RemoteRewriter`).
        model: prompt and lengths of the encoder-decoder.
        rewriting: generation, decoding controls, reranking.
        helpers: lexicon, scorer and fluency of the reranker.
        languages: that the model learned; others are rewritten all the same.
        cleaning: what is done to a text before it is rewritten.
        device: of the encoder-decoder, for example `cuda:1`; empty: the GPU where there is one.

    Attributes:
        settings: `rewriting`.
        languages, cleaning: as above.
    """

    def __init__(
        self,
        loaded: LoadedModel | Backend,
        model: RewriterModelSettings,
        rewriting: RewritingSettings,
        helpers: Helpers,
        languages: Sequence[str] = (),
        *,
        cleaning: CleaningSettings = TEXT,
        device: str = "",
    ) -> None:
        self._loaded, self._model, self.cleaning = loaded, model, cleaning
        self.settings, self.languages = rewriting, tuple(languages)
        if isinstance(loaded, LoadedModel):
            on_device: Any = loaded.model.eval()
            on_device.to(device_named(device))
            self._steering = Steering(rewriting.decoding, loaded.tokenizer, helpers.lexicon, helpers.sides)
        self._helpers, self._toxicity = helpers, helpers.sides
        self._reranker = Reranker(helpers.sides, helpers.fluency.bits, helpers.lexicon, rewriting.rerank)

    @classmethod
    def load(
        cls, name: str, *, device: str = "", remote: RemoteSettings | None = None, beside: Rewriter | None = None
    ) -> Rewriter:
        """A rewriter that a run of ours trained.

        Args:
            name: a run directory or its artifact, as a path or a URI; or `owner/name@revision`, an artifact on the hub.
            device: for example `cuda:1`; empty: the GPU where there is one.
            remote: an endpoint that offers the candidates in place of the model, which is not loaded then. They are
                reranked, and the texts edited, as ever.
            beside: a rewriter that is loaded already; where both are adapters on one base model, they share its
                weights.

        Raises:
            ValueError: the name leads to no rewriter, the manifest beside it does not hold, or `remote` cannot work.
        """
        from detox.governance.manifest import verified
        from detox.models.seq2seq import load_trained

        folder = rewriter_folder(name)
        verified(folder)
        facts = read_facts(folder)
        helpers = Helpers.load(folder)
        other = beside._loaded if beside and isinstance(beside._loaded, LoadedModel) else None
        base = (facts.base_model, facts.base_revision)
        loaded = RemoteRewriter(remote) if remote else load_trained(folder, *base, other)
        return cls(
            loaded, facts.model, facts.rewriting, helpers, facts.languages, cleaning=facts.cleaning, device=device
        )

    def rewrite(self, texts: str | Sequence[str], lang: str | Sequence[str | None] | None = None) -> list[Rewrite]:
        """A rewrite of each text, in order; one text is a list of one.

        Toxicity of a text in pieces is that of its most toxic piece.

        Args:
            lang: ISO 639-1 code of all texts, or of each, with a region or without; None or empty: detected.

        Raises:
            ValueError: not as many languages as texts, or one that is no code.
            RemoteError: a remote backend failed; its `position` is that of the text.
        """
        given = [_encodable(text) for text in ([texts] if isinstance(texts, str) else texts)]
        langs = _listed(lang, len(given))
        made: list[Rewrite] = []
        for begin in range(0, len(given), CHUNK):
            part = slice(begin, begin + CHUNK)
            try:
                made += self._chunk(given[part], langs[part])
            except RemoteError as error:
                raise error.at(begin + error.position) from error
        return made

    def with_settings(self, rewriting: RewritingSettings) -> Rewriter:
        """The same model with another generation, decoding and reranking; this one stays as it is."""
        device = str(self._loaded.model.device) if isinstance(self._loaded, LoadedModel) else ""
        return Rewriter(
            self._loaded,
            self._model,
            rewriting,
            self._helpers,
            self.languages,
            cleaning=self.cleaning,
            device=device,
        )

    def clean(self, text: str) -> str:
        """`text` as the model reads it."""
        return clean_text(text, self.cleaning)

    def candidates(self, texts: Sequence[str], langs: Sequence[str]) -> list[tuple[str, ...]]:
        """Rewrites of each text before they are reranked: the model's likeliest first, then those that the settings
        ask for. Texts are taken as they are, and cut where they are longer than the model reads."""
        backend = self._backend
        if not isinstance(backend, ModelBackend):
            return backend.candidates(texts, langs)
        return [tuple(dict.fromkeys(one.text for one in row)) for row in backend.written(texts, langs)]

    @property
    def _backend(self) -> Backend:
        if not isinstance(self._loaded, LoadedModel):
            return self._loaded
        return ModelBackend(self._loaded, self._model, self.settings.generation, self._steering)

    def _chunk(self, given: Sequence[str], langs: Sequence[str]) -> list[Rewrite]:
        clean = [self.clean(text) for text in given]
        langs = _detected(clean, langs)
        parts = self._cut(given, clean, langs)
        keys = [[(self.clean(part), lang) for part in cut] for cut, lang in zip(parts, langs, strict=True)]
        first: dict[Piece, int] = {}
        """Each different piece, with the first text that has it."""
        for row, mine in enumerate(keys):
            for piece in mine:
                first.setdefault(piece, row)
        made = self._rewritten(first)
        return [
            self._together(text, parts[row], [made[piece] for piece in keys[row]], clean[row], langs[row])
            for row, text in enumerate(given)
        ]

    def _together(self, given: str, parts: Sequence[str], made: Sequence[Rewrite], clean: str, lang: str) -> Rewrite:
        """The rewrite of a text from those of its parts."""
        how = min((rewrite.how for rewrite in made), key=RANKS.index)
        before, after = (
            max(rewrite.toxicity_before for rewrite in made),
            max(rewrite.toxicity_after for rewrite in made),
        )
        if how == "already neutral":
            return Rewrite(given, how, before, after, 1.0)
        text = "".join(
            part if rewrite.how == "already neutral" else in_its_space(part, rewrite.text)
            for part, rewrite in zip(parts, made, strict=True)
        )
        if how == "unchanged" and (others := [one.how for one in made if one.how in CHANGED]):
            how = min(others, key=RANKS.index)
        if len(made) == 1:
            return Rewrite(text, how, before, after, made[0].similarity)
        return Rewrite(text, how, before, after, edit_similarity(clean, self.clean(text)))

    def _cut(self, given: Sequence[str], clean: Sequence[str], langs: Sequence[str]) -> list[list[str]]:
        """The pieces of each text: itself where it is short enough."""
        long = self._backend.too_long(clean, langs)
        rows = zip(given, langs, long, strict=True)
        return [pieces(text, partial(self._too_long, lang)) if is_long else [text] for text, lang, is_long in rows]

    def _too_long(self, lang: str, parts: Sequence[str]) -> list[bool]:
        return self._backend.too_long([self.clean(part) for part in parts], [lang] * len(parts))

    def _rewritten(self, first: dict[Piece, int]) -> dict[Piece, Rewrite]:
        """What becomes of each piece."""
        filled = [piece for piece in first if piece[0]]
        made = {piece: BLANK for piece in first if not piece[0]}
        before = self._toxicity(*_columns(filled)).tolist() if filled else []
        toxic = list[Piece]()
        for piece, toxicity in zip(filled, before, strict=True):
            if toxicity < self.settings.rerank.neutral_below:
                made[piece] = Rewrite(piece[0], "already neutral", toxicity, toxicity, 1.0)
            else:
                toxic.append(piece)
        try:
            offers = self._backend.candidates(*_columns(toxic))
        except RemoteError as error:
            raise error.at(first[toxic[error.position]]) from error
        requests = [Request(*piece, offer) for piece, offer in zip(toxic, offers, strict=True)]
        return made | dict(zip(toxic, self._reranker.choose(requests), strict=True))


def _encodable(text: str) -> str:
    """Without control characters, and with question marks for lone surrogates, which UTF-8 cannot hold."""
    return CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8")


def _listed(lang: str | Sequence[str | None] | None, count: int) -> list[str]:
    """A code for each text; empty: to be detected."""
    if lang is None or isinstance(lang, str):
        return [code_of(lang)] * count
    if len(lang) != count:
        raise ValueError(f"there must be one language for each text, were {len(lang)} for {count}")
    return [code_of(one) for one in lang]


def _detected(texts: Sequence[str], langs: Sequence[str]) -> list[str]:
    """The codes with the empty ones detected; empty where there is nothing to tell it by."""
    unknown = [at for at, lang in enumerate(langs) if not lang]
    found = list(langs)
    for at, code in zip(unknown, detect([texts[at] for at in unknown]) if unknown else (), strict=True):
        found[at] = code or ""
    return found


def _columns(rows: Sequence[Piece]) -> tuple[list[str], list[str]]:
    return [text for text, _ in rows], [lang for _, lang in rows]

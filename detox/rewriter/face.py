"""`detox.Rewriter`: toxic texts in, rewrites out, each with how it was made.

rewriter = detox.Rewriter.load("runs/train_rewriter-demo-s42")
for rewrite in rewriter.rewrite(["you are an idiot, read page 12"]):
    print(rewrite.text, rewrite.how)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detox.data.cleaning import clean_text
from detox.data.language import detect
from detox.data.settings import CleaningSettings
from detox.evaluation.judges import character_similarity
from detox.models.loading import LoadedModel, local_folder
from detox.rewriter.artifact import Helpers, RewritingSettings, read_facts
from detox.rewriter.batches import prompted
from detox.rewriter.decoding import Source, Steering
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings
from detox.rewriter.rerank import Request, Reranker, Rewrite
from detox.rewriter.settings import RewriterModelSettings

TEXT = CleaningSettings(pii=False)
"""What is done to a text before it is rewritten: as to the pairs that the model learned from."""
CHUNK = 1024


class Rewriter:
    """A model that rewrites, with what steers, reranks and edits.

    Args:
        loaded: the encoder-decoder and its tokenizer.
        model: prompt and lengths.
        rewriting: generation, decoding controls, reranking.
        helpers: lexicon, scorer and fluency of the reranker.
        languages: that the model learned; others are rewritten all the same.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        model: RewriterModelSettings,
        rewriting: RewritingSettings,
        helpers: Helpers,
        languages: Sequence[str] = (),
    ) -> None:
        self._loaded, self._model, self.settings = loaded, model, rewriting
        self.languages = tuple(languages)
        self._steering = Steering(rewriting.decoding, loaded.tokenizer, helpers.lexicon)
        self._reranker = Reranker(
            helpers.sides, character_similarity, helpers.fluency.bits, helpers.lexicon, rewriting.rerank
        )

    @classmethod
    def load(cls, name: str) -> Rewriter:
        """A rewriter that a run of ours trained.

        Raises:
            ValueError: the name leads to no rewriter, or the manifest beside it does not hold.
        """
        from detox.classifier.model_scorers import verified
        from detox.models.seq2seq import load_trained

        folder = local_folder(name)
        if folder is None:
            raise ValueError(f"there is no rewriter {name!r}: name a run of train_rewriter, or its artifact")
        verified(folder)
        facts = read_facts(Path(folder))
        loaded = load_trained(folder, facts.base_model, facts.base_revision)
        return cls(loaded, facts.model, facts.rewriting, Helpers.load(folder), facts.languages)

    def rewrite(self, texts: str | Sequence[str], lang: str | Sequence[str] | None = None) -> list[Rewrite]:
        """A rewrite of each text, in order; one text is a list of one.

        Args:
            lang: of all texts, or of each; None: detected.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        clean = [clean_text(text, TEXT) for text in listed]
        langs = self._langs(clean, lang)
        made: list[Rewrite] = []
        for begin in range(0, len(clean), CHUNK):
            part = slice(begin, begin + CHUNK)
            made += self._rewritten(clean[part], langs[part], begin)
        return made

    def _langs(self, texts: Sequence[str], lang: str | Sequence[str] | None) -> list[str]:
        if isinstance(lang, str):
            return [lang] * len(texts)
        if lang is not None:
            if len(lang) != len(texts):
                raise ValueError(f"there must be one language for each text, were {len(lang)} for {len(texts)}")
            return list(lang)
        return [code or "" for code in detect(texts)]

    def _rewritten(self, texts: list[str], langs: list[str], begin: int) -> list[Rewrite]:
        filled = [at for at, text in enumerate(texts) if text]
        candidates: list[tuple[str, ...]] = [()] * len(texts)
        found = self.candidates([texts[at] for at in filled], [langs[at] for at in filled], begin)
        for at, offers in zip(filled, found, strict=True):
            candidates[at] = offers
        requests = [Request(*row) for row in zip(texts, langs, candidates, strict=True)]
        return self._reranker.choose(requests)

    def candidates(self, texts: Sequence[str], langs: Sequence[str], begin: int = 0) -> list[tuple[str, ...]]:
        """The model's rewrites of each text: the likeliest first, then those that the settings ask for."""
        if not texts:
            return []
        inputs = [prompted(*row, self._model) for row in zip(texts, langs, strict=True)]
        tokenizer: Any = self._loaded.tokenizer
        ids = tokenizer(inputs, truncation=True, max_length=self._model.max_source_tokens)["input_ids"]
        sources = [Source(*row) for row in zip(texts, langs, strict=True)]
        wanted = self.settings.generation
        greedy = GenerationSettings(max_new_tokens=wanted.max_new_tokens, batch_tokens=wanted.batch_tokens)
        offers: list[list[str]] = [[] for _ in texts]
        for settings in [greedy] if wanted.mode == "greedy" else [greedy, wanted]:
            controls = self._steering.prepare(sources, self._loaded.model.device)
            numbers = range(begin, begin + len(ids))
            for row, found in enumerate(generate(self._loaded.model, ids, settings, controls, row_numbers=numbers)):
                offers[row] += tokenizer.batch_decode([item.tokens for item in found], skip_special_tokens=True)
        return [tuple(dict.fromkeys(text.strip() for text in row)) for row in offers]

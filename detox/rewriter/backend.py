"""What offers rewrites of a text: a model here, or whatever else keeps to the protocol (`detox.rewriter.remote`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from detox.models.loading import LoadedModel
from detox.rewriter.batches import prompted
from detox.rewriter.control import Source
from detox.rewriter.decoding import Steering
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings
from detox.rewriter.readable import unknown_letters
from detox.rewriter.settings import RewriterModelSettings

GREEDY = {"max_new_tokens", "max_length_ratio", "batch_tokens", "no_repeat_ngram", "repetition_penalty"}
"""Settings of generation that hold for greedy decoding too."""


class Backend(Protocol):
    """Offers rewrites."""

    def too_long(self, texts: Sequence[str], langs: Sequence[str]) -> list[bool]:
        """Which texts must be cut before they are rewritten."""
        ...

    def candidates(self, texts: Sequence[str], langs: Sequence[str]) -> list[tuple[str, ...]]:
        """Rewrites of each text, in order, the backend's own choice first; empty ones count for nothing."""
        ...


REPLACEMENT = "\ufffd"
"""What a decoder writes where bytes are no letter."""


class Written(NamedTuple):
    """What the model wrote."""

    text: str
    is_whole: bool
    """It ended by itself, not at the length limit."""


class ModelBackend(NamedTuple):
    """An encoder-decoder with the controls that steer it.

    What a text gets depends on the text alone: sampling is keyed by a digest of text and language, so neither order nor
    neighbours nor the cut of a corpus into shards changes it.
    """

    loaded: LoadedModel
    model: RewriterModelSettings
    generation: GenerationSettings
    steering: Steering

    def too_long(self, texts: Sequence[str], langs: Sequence[str]) -> list[bool]:
        """Those of more than `max_source_tokens`, prompt and EOS counted."""
        if not texts:
            return []
        ids = self._tokenizer(self._inputs(texts, langs), verbose=False)["input_ids"]
        return [len(row) > self.model.max_source_tokens for row in ids]

    def candidates(self, texts: Sequence[str], langs: Sequence[str]) -> list[tuple[str, ...]]:
        """The likeliest rewrite first, then those that the settings ask for. One that reached the length limit has lost
        its end, and one with half a letter, which a model that spells in bytes can write, is none: both are empty here.
        A text that the model cannot read (`detox.rewriter.readable`) gets none."""
        found: list[tuple[str, ...]] = [()] * len(texts)
        read = [at for at, letters in enumerate(unknown_letters(texts, self._tokenizer)) if not letters]
        rows = self.written([texts[at] for at in read], [langs[at] for at in read])
        for at, row in zip(read, rows, strict=True):
            broken = texts[at].count(REPLACEMENT)
            whole = [one.is_whole and one.text.count(REPLACEMENT) <= broken for one in row]
            found[at] = tuple(dict.fromkeys(one.text if fits else "" for one, fits in zip(row, whole, strict=True)))
        return found

    def written(self, texts: Sequence[str], langs: Sequence[str]) -> list[list[Written]]:
        """The same as the model wrote them; longer texts are cut."""
        if not texts:
            return []
        inputs = self._inputs(texts, langs)
        ids = self._tokenizer(inputs, truncation=True, max_length=self.model.max_source_tokens)["input_ids"]
        sources = [Source(*row) for row in zip(texts, langs, strict=True)]
        numbers = [key(source) for source in sources]
        found: list[list[Written]] = [[] for _ in texts]
        for settings in self._passes():
            controls = self.steering.prepare(sources, self.loaded.model.device)
            for row, made in enumerate(generate(self.loaded.model, ids, settings, controls, row_numbers=numbers)):
                decoded = self._tokenizer.batch_decode([item.tokens for item in made], skip_special_tokens=True)
                found[row] += [Written(text.strip(), item.finished) for text, item in zip(decoded, made, strict=True)]
        return found

    def _passes(self) -> list[GenerationSettings]:
        """The model's own choice, then what the settings ask for."""
        wanted = self.generation
        greedy = GenerationSettings(**wanted.model_dump(include=GREEDY))
        return [greedy] if wanted.mode == "greedy" else [greedy, wanted]

    @property
    def _tokenizer(self) -> Any:
        return self.loaded.tokenizer

    def _inputs(self, texts: Sequence[str], langs: Sequence[str]) -> list[str]:
        return [prompted(text, lang, self.model) for text, lang in zip(texts, langs, strict=True)]


def key(source: Source) -> int:
    """What stands for a text in the key of sampling: 56 bits, since NumPy's Philox takes signed numbers exactly."""
    return int.from_bytes(hashlib.blake2b("\0".join(source).encode("utf-8"), digest_size=7).digest(), "big")

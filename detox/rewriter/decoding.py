"""What steers decoding away from toxic text (S2 4.3): biases on token sequences, by language and by source.

A control (`detox.rewriter.control`) is called once a step with the tokens so far of each live hypothesis and the input
row of each, and changes their scores. It keeps no state between steps, so the decoder's cache, rows that have left and
beams that were reordered are nothing to it. `Steering` makes the controls; `as_logits_processor` runs them in
`model.generate`.

    steering = Steering(DecodingSettings(lexicon=10, copy_penalty=10), tokenizer, lexicon)
    controls = steering.prepare([Source("you idiot", "en")])
    generate(model, rows, settings, controls)

A word is known by the tokens that spell it in each casing, after a space and after a sign (`(idiot`). The bias falls
on the token that completes it, as in transformers' `SequenceBiasLogitsProcessor`, so a word's first token stays free
where other words share it. A spelling without a space counts only where a word can begin: after a token that ends
neither in a letter nor in a digit. In scripts without spaces that cannot be told, and it counts anywhere. Where a word
*ends* cannot be told at all, as the next token is not there yet: what spells `ass` also begins `ass|uming` where the
tokenizer cuts it so. A spelling that is a proper prefix of that of a word known to be harmless is therefore left
alone by the lexicon's bias. The penalty on copies spares nothing: it concerns texts that do contain the toxic word.

Shapes: N input rows, R live hypotheses, t tokens so far with the decoder's start token, V vocabulary, L languages, P
pairs of first tokens, K candidates that are rescored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from detox.classifier.lexicon import UNSPACED
from detox.rewriter.control import Control, Source, Step
from detox.rewriter.generation_settings import DecodingSettings
from detox.rewriter.lexicon import Lexicon, Span
from detox.rewriter.spelling import Offsets, Spelled, Speller, Spelling, Table, pieces
from detox.rewriter.trie import Trie, TrieBias

Score = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Toxicity `[N]`, 0..1, of texts in languages."""


def _trie(tables: Iterable[Table]) -> Trie:
    """Two roots a table: what counts anywhere, and that with what counts where a word can begin."""
    return Trie.of([root for anywhere, opened in tables for root in (anywhere, anywhere | opened)])


def _root_pairs(count: int) -> Tensor:
    return torch.arange(2 * count).view(count, 2)


def _row_bias(tables: Sequence[Table], speller: Speller, device: torch.device | str) -> TrieBias:
    """Row i has table i."""
    return TrieBias(_trie(tables).to(device), _root_pairs(len(tables)).to(device), speller.opens_V.to(device))


class LexiconBias:
    """Against the toxic words of a row's language: `-strength` times the word's weight.

    Args:
        harmless: of each language, words that must stay writable, such as the frequent words of neutral texts. Toxic
            words among them are ignored, their inflections are not: leave out what the lexicon does not know but means.
    """

    def __init__(
        self, speller: Speller, lexicon: Lexicon, strength: float, harmless: Mapping[str, Collection[str]] | None = None
    ) -> None:
        self._speller, self._lexicon, self._strength = speller, lexicon, strength
        self._harmless = harmless or {}
        self._known: tuple[dict[str, Table], Trie] = ({}, Trie.of([]))
        """The languages met so far and one trie of all; replaced as a whole, since threads may share a control."""

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> Control:
        tables, trie = self._with_languages({source.lang for source in sources})
        places = {lang: place for place, lang in enumerate(tables)}
        roots_N2 = _root_pairs(len(tables))[[places[source.lang] for source in sources]]
        return TrieBias(trie.to(device), roots_N2.to(device), self._speller.opens_V.to(device))

    def _with_languages(self, langs: set[str]) -> tuple[dict[str, Table], Trie]:
        tables, trie = self._known
        if new := sorted(langs - tables.keys()):
            tables = tables | {lang: self._biases(lang) for lang in new}
            self._known = tables, trie = tables, _trie(tables.values())
        return tables, trie

    def _biases(self, lang: str) -> Table:
        weights = self._lexicon.weights(lang)
        harmless = {word for word in self._harmless.get(lang, ()) if word.casefold() not in weights}
        spellings = self._speller.spell_casings(harmless).values()
        prefixes = {sequence[:end] for both in spellings for sequence in both for end in range(1, len(sequence))}
        words = {word: -self._strength * weight for word, weight in weights.items()}
        return self._speller.biases(words, self._speller.spell_casings(words), prefixes)


class CopyPenalty:
    """Against the toxic words of a row's own source: in all their casings, and as the source itself is tokenised, which
    is what a copy would look like in a script where words have no borders.
    """

    def __init__(self, speller: Speller, lexicon: Lexicon, strength: float) -> None:
        self._speller, self._lexicon, self._strength = speller, lexicon, strength

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> Control:
        tokens = self._speller.tokens([source.text for source in sources]) if sources else []
        spans = [self._lexicon.spans(source.text, source.lang) for source in sources]
        words = {source.text[b:e] for source, mine in zip(sources, spans, strict=True) for b, e in mine}
        spellings = self._speller.spell_casings(words)
        rows = zip(sources, spans, tokens, strict=True)
        return _row_bias([self._biases(*row, spellings) for row in rows], self._speller, device)

    def _biases(
        self, source: Source, spans: Sequence[Span], tokens: Offsets, spellings: Mapping[str, Spelling]
    ) -> Table:
        words = {source.text[begin:end]: -self._strength for begin, end in spans}
        found = self._speller.biases(words, spellings)
        for begin, end in spans:
            copied = tuple(token for token, (b, e) in zip(*tokens, strict=True) if b < end and e > begin)
            known = found.anywhere.keys() | found.opened.keys()
            if copied and -1 not in copied and copied not in known and not self._speller.doubles(copied, known):
                is_bare = begin > 0 and not source.text[begin - 1].isspace()
                word_begins = is_bare and not UNSPACED.search(source.text[begin:end])
                (found.opened if word_begins else found.anywhere)[copied] = -self._strength
        return found


class SubstituteBias:
    """Toward what people wrote in place of the toxic words that a row's source has (S2 4.3).

    A substitute's first token gains `strength` times the probability that the model gives the toxic word's first
    token now: a bonus at every step would write the substitute everywhere. Its further tokens gain `strength` after
    the ones before them.
    """

    def __init__(self, speller: Speller, lexicon: Lexicon, strength: float) -> None:
        self._speller, self._lexicon, self._strength = speller, lexicon, strength

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> Control:
        wanted = [self._pairs(source) for source in sources]
        spellings = self._speller.spell(word for pairs in wanted for pair in pairs for word in pair)
        going_on = _row_bias([self._continuations(pairs, spellings) for pairs in wanted], self._speller, device)
        firsts = [sorted(set(self._firsts(pairs, spellings))) for pairs in wanted]
        most = max(map(len, firsts), default=0)
        filled = [[*mine, *[_Firsts(-1, -1, False)] * (most - len(mine))] for mine in firsts]
        firsts_NP3 = torch.tensor(filled, dtype=torch.int64).view(len(sources), most, 3)
        return PreparedSubstitutes(going_on, firsts_NP3.to(device), self._strength)

    def _pairs(self, source: Source) -> set[tuple[str, str]]:
        """Toxic word and substitute in the same casing."""
        known = self._lexicon.substitutes(source.lang)
        words = [source.text[begin:end] for begin, end in self._lexicon.spans(source.text, source.lang)]
        pairs = [(word, other) for word in words for other in known.get(word.casefold(), ()) if other]
        styles: list[Callable[[str], str]] = [str, str.lower, str.capitalize, str.upper]
        return {(style(word), style(other)) for word, other in pairs for style in styles}

    def _continuations(self, pairs: Iterable[tuple[str, str]], spellings: Mapping[str, Spelling]) -> Table:
        found = Table({}, {})
        for _, other in pairs:
            spaced, bare = spellings[other]
            bare_counts = found.anywhere if UNSPACED.search(other) else found.opened
            bare_counts.update({bare[:end]: self._strength for end in range(2, len(bare) + 1)})
            if not self._is_lone_space(spaced):
                found.anywhere.update({spaced[:end]: self._strength for end in range(2, len(spaced) + 1)})
        return found

    def _is_lone_space(self, spaced: Spelled) -> bool:
        """It begins with a token that any word may begin with; what follows is met by the spelling without a space."""
        return bool(spaced) and bool(self._speller.opens_V[spaced[0]])

    def _firsts(self, pairs: Iterable[tuple[str, str]], spellings: Mapping[str, Spelling]) -> Iterator[_Firsts]:
        for word, substitute in pairs:
            toxic, other = spellings[word], spellings[substitute]
            both = toxic.spaced and other.spaced
            if both and not (self._is_lone_space(toxic.spaced) or self._is_lone_space(other.spaced)):
                yield _Firsts(toxic.spaced[0], other.spaced[0], False)
            if toxic.bare and other.bare:
                yield _Firsts(toxic.bare[0], other.bare[0], not UNSPACED.search(word))


class _Firsts(NamedTuple):
    toxic: int
    """First token of a toxic word; -1 where a row has fewer than others."""
    other: int
    """First token of its substitute."""
    needs_opening: bool
    """It counts only where a word can begin."""


@dataclass(frozen=True)
class PreparedSubstitutes:
    """A control; see `SubstituteBias`."""

    going_on: TrieBias
    firsts_NP3: Tensor
    """`_Firsts`"""
    strength: float

    def __call__(self, step: Step, scores_RV: Tensor) -> Tensor:
        toxic_RP, other_RP, needs_opening_RP = self.firsts_NP3[step.rows_R].unbind(-1)
        logprob_RP = scores_RV.gather(1, toxic_RP.clamp(min=0)) - scores_RV.logsumexp(1, keepdim=True)
        is_open_R1 = self.going_on.opens(step.prefixes_Rt[:, -1:])
        counts_RP = (toxic_RP >= 0) & (toxic_RP != other_RP) & (is_open_R1 | (needs_opening_RP == 0))
        bonus_RP = torch.where(counts_RP, self.strength * logprob_RP.exp(), 0.0)
        scores_RV = self.going_on(step, scores_RV)
        return scores_RV.scatter_add_(1, other_RP.clamp(min=0), bonus_RP)


class ToxicityBias:
    """Against toxic tokens, by the toxicity of each in the row's language (`vocabulary_toxicity`).

    Args:
        score: by a linear model or a lexicon, for which a word in a text weighs what it weighs alone.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, score: Score, strength: float) -> None:
        self._tokenizer, self._score, self._strength = tokenizer, score, strength
        self._known: dict[str, Tensor] = {}
        """Biases `[V]` of the languages met so far; replaced as a whole, since threads may share a control."""

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> Control:
        known = self._known
        for lang in sorted({source.lang for source in sources} - known.keys()):
            toxicity_V = vocabulary_toxicity(self._tokenizer, self._score, lang)
            known = {**known, lang: torch.from_numpy(toxicity_V) * -self._strength}
        self._known = known
        langs = sorted({source.lang for source in sources})
        biases_LV = torch.stack([known[lang] for lang in langs] or [torch.zeros(0)]).to(device)
        langs_N = torch.tensor([langs.index(source.lang) for source in sources], dtype=torch.int64, device=device)

        def control(step: Step, scores_RV: Tensor) -> Tensor:
            scores_RV[:, : biases_LV.shape[1]] += biases_LV[langs_N[step.rows_R]]  # models pad their vocabulary
            return scores_RV

        return control


def vocabulary_toxicity(tokenizer: PreTrainedTokenizerBase, score: Score, lang: str) -> np.ndarray:
    """float32 `[V]`, 0..1: by how much each token as a text of its own is more toxic than an empty text. Special tokens
    have none, nor have those without which nothing would be more toxic: else every word would lose against EOS.
    """
    texts = ["", *(piece.strip() for piece in pieces(tokenizer))]
    toxicity = np.asarray(score(texts, [lang] * len(texts)), np.float32)
    toxicity_V = np.clip(toxicity[1:] - toxicity[0], 0, 1)
    toxicity_V[tokenizer.all_special_ids] = 0
    return toxicity_V


class Rescoring:
    """Against the likeliest tokens with which the text so far is toxic to a classifier (FUDGE, Yang and Klein 2021,
    with a penalty in place of a probability). It reads R x K texts a step, so it is slow.

    The tokens that are not among the K count as toxic; else they would win by not having been scored.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, score: Score, strength: float, tokens: int) -> None:
        self._tokenizer: Any = tokenizer
        self._score, self._strength, self._tokens = score, strength, tokens

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> Control:
        def control(step: Step, scores_RV: Tensor) -> Tensor:
            tokens_RK = scores_RV.topk(self._tokens, dim=1).indices
            prefixes = step.prefixes_Rt.repeat_interleave(self._tokens, dim=0)
            longer = torch.cat([prefixes, tokens_RK.view(-1, 1)], dim=1).tolist()
            langs = [sources[row].lang for row in step.rows_R.tolist() for _ in range(self._tokens)]
            toxicity = self._score(self._tokenizer.batch_decode(longer, skip_special_tokens=True), langs)
            innocence = torch.as_tensor(1 - np.asarray(toxicity, np.float32), device=scores_RV.device)
            return scores_RV.scatter_add_(1, tokens_RK, self._strength * innocence.view_as(tokens_RK))

        return control


class Steering:
    """The controls that the settings ask for, made once for a model and prepared for each list of texts.

    Substitutes come first, since their bonus depends on how likely the model itself finds a toxic word.

    Args:
        lexicon: its frequent neutral words stay writable where a toxic word's spelling would block them.
        toxicity: of texts in languages; needed where `settings.toxicity` or `settings.rescoring` is on.

    Raises:
        ValueError: it is needed and not given.
    """

    def __init__(
        self,
        settings: DecodingSettings,
        tokenizer: PreTrainedTokenizerBase,
        lexicon: Lexicon,
        toxicity: Score | None = None,
    ) -> None:
        self._makers: list[Any] = []
        if settings.lexicon or settings.copy_penalty or settings.substitutes:
            speller = Speller(tokenizer)
            if settings.substitutes:
                self._makers.append(SubstituteBias(speller, lexicon, settings.substitutes))
            if settings.lexicon:
                common = {lang: known.common for lang, known in lexicon.languages.items()}
                self._makers.append(LexiconBias(speller, lexicon, settings.lexicon, common))
            if settings.copy_penalty:
                self._makers.append(CopyPenalty(speller, lexicon, settings.copy_penalty))
        if not (settings.toxicity or settings.rescoring):
            return
        if toxicity is None:
            raise ValueError(
                "decoding.toxicity and decoding.rescoring need something that scores texts: give `toxicity`, or set "
                "them to 0"
            )
        if settings.toxicity:
            self._makers.append(ToxicityBias(tokenizer, toxicity, settings.toxicity))
        if settings.rescoring:
            self._makers.append(Rescoring(tokenizer, toxicity, settings.rescoring, settings.rescored_tokens))

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> list[Control]:
        """The controls for these texts, whose positions are the rows of each `Step`; threads may call it at once."""
        return [maker.prepare(sources, device) for maker in self._makers]

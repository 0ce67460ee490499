"""What steers decoding away from toxic text (S2 4.3): biases on token sequences, by language and by source.

A control is called once a step with the tokens so far of each live hypothesis and the input row of each, and changes
their scores. It keeps no state between steps, so the decoder's cache, rows that have left and beams that were
reordered are nothing to it. `Steering` makes the controls; `as_logits_processor` runs them in `model.generate`.

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

Shapes: N input rows, R live hypotheses, t tokens so far with the decoder's start token, V vocabulary, L languages; of a
trie E edges, J nodes, X biased tokens, D prefixes looked at; P pairs of first tokens, K candidates that are rescored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from detox.classifier.lexicon import UNSPACED, WORD
from detox.rewriter.generation_settings import DecodingSettings
from detox.rewriter.lexicon import Lexicon, Span

Spelled = tuple[int, ...]
Biases = dict[Spelled, float]
"""Token sequences with what is added to the score of their last token."""
Offsets = tuple[list[int], list[Span]]
"""Token ids of a text, and the characters of each."""
Score = Callable[[Sequence[str]], np.ndarray]
"""Toxicity `[N]`, 0..1, of texts."""


class Table(NamedTuple):
    """The biased sequences of a row or a language."""

    anywhere: Biases
    opened: Biases
    """These count where a word can begin."""


class Source(NamedTuple):
    """The text of an input row, without a prompt."""

    text: str
    lang: str


class Step(NamedTuple):
    """Where decoding is."""

    prefixes_Rt: Tensor
    """Token ids so far of each live hypothesis, the decoder's start token first."""
    rows_R: Tensor
    """The input row that each belongs to."""


Control = Callable[[Step, Tensor], Tensor]
"""`(step, scores_RV) -> scores_RV`; it may write into the scores that it gets."""


class ControlProcessor(LogitsProcessor):
    """A control in `model.generate`, where row i belongs to input row i // copies."""

    def __init__(self, control: Control, copies: int) -> None:
        self._control, self._copies = control, copies

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]  # torch.LongTensor
        rows_R = torch.arange(len(scores), device=scores.device) // self._copies
        return self._control(Step(input_ids, rows_R), scores.clone())


def as_logits_processor(control: Control, copies: int = 1) -> LogitsProcessor:
    """`control` for `model.generate` and `Seq2SeqTrainer`; `copies` is `num_beams` or `num_return_sequences`."""
    return ControlProcessor(control, copies)


def from_logits_processor(processor: LogitsProcessor) -> Control:
    """A processor of transformers that treats all rows alike, as a control."""
    return lambda step, scores_RV: processor(step.prefixes_Rt, scores_RV)  # type: ignore[arg-type, return-value]


@dataclass(frozen=True)
class Trie:
    """Biased token sequences under numbered roots, in flat arrays that are searched for all hypotheses at once."""

    keys_E: Tensor
    """Edges as `node * STRIDE + token`, ascending, and a last one that is larger than any. Root j is node j."""
    children_E: Tensor
    """Where each edge leads."""
    begins_J: Tensor
    """What completes a sequence at node j stands from `begins_J[j]` to `begins_J[j + 1]`."""
    tokens_X: Tensor
    biases_X: Tensor
    dead: int
    """The last node, with no way on and nothing to complete."""
    depth: int
    """Tokens of the longest sequence before its last one."""

    STRIDE: ClassVar[int] = 1 << 32

    @classmethod
    def of(cls, roots: Sequence[Mapping[Spelled, float]]) -> Trie:
        """Root i has the sequences of `roots[i]`."""
        edges: dict[tuple[int, int], int] = {}
        biased: dict[tuple[int, int], float] = {}
        for root, sequences in enumerate(roots):
            for sequence, bias in sequences.items():
                node = root
                for token in sequence[:-1]:
                    node = edges.setdefault((node, token), len(roots) + len(edges))
                biased[node, sequence[-1]] = bias
        keys, entries, dead = sorted(edges), sorted(biased), len(roots) + len(edges)
        nodes_X = np.array([node for node, _ in entries], np.int64)
        return cls(
            torch.tensor([*(node * cls.STRIDE + token for node, token in keys), torch.iinfo(torch.int64).max]),
            torch.tensor([*(edges[key] for key in keys), dead]),
            torch.from_numpy(np.searchsorted(nodes_X, np.arange(dead + 2))),
            torch.tensor([token for _, token in entries], dtype=torch.int64),
            torch.tensor([biased[entry] for entry in entries], dtype=torch.float32),
            dead,
            max((len(sequence) for sequences in roots for sequence in sequences), default=1) - 1,
        )

    def to(self, device: torch.device | str) -> Trie:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: a.to(device) for name, a in arrays.items() if isinstance(a, Tensor)})  # type: ignore[arg-type]

    def children(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The node that each token leads to; the dead one where there is none."""
        keys = nodes * self.STRIDE + tokens
        index = torch.searchsorted(self.keys_E, keys)
        return torch.where(self.keys_E[index] == keys, self.children_E[index], self.dead)

    def add_biases(self, nodes_RD: Tensor, scores_RV: Tensor) -> Tensor:
        """Add to the scores, in place, what each hypothesis's nodes say of the next token; several add up."""
        begins = self.begins_J[nodes_RD].flatten()
        counts = self.begins_J[nodes_RD + 1].flatten() - begins
        rows = torch.arange(len(nodes_RD), device=nodes_RD.device).repeat_interleave(nodes_RD.shape[1])
        shifts = (begins - counts.cumsum(0) + counts).repeat_interleave(counts)
        entries = shifts + torch.arange(len(shifts), device=nodes_RD.device)
        where = (rows.repeat_interleave(counts), self.tokens_X[entries])
        return scores_RV.index_put_(where, self.biases_X[entries].to(scores_RV.dtype), accumulate=True)


@dataclass(frozen=True)
class TrieBias:
    """A control: each row's own sequences.

    Args:
        trie: the sequences.
        roots_N2: of each row, the root of the sequences that count anywhere, and the root of those that count where a
            word can begin, which holds the former too.
        opens_V: after which tokens a word can begin; the last entry stands for tokens that the tokenizer lacks.
    """

    trie: Trie
    roots_N2: Tensor
    opens_V: Tensor

    def __call__(self, step: Step, scores_RV: Tensor) -> Tensor:
        return self.trie.add_biases(self.nodes(step), scores_RV)

    def opens(self, tokens: Tensor) -> Tensor:
        """Where a word can begin right after the token."""
        return self.opens_V[tokens.clamp(max=len(self.opens_V) - 1)]

    def nodes(self, step: Step) -> Tensor:
        """`[R, D]`: where one stands in the trie having read the last D-1, …, 1, 0 tokens."""
        length = step.prefixes_Rt.shape[1]
        depth = min(self.trie.depth, length - 1)  # the start token is no part of a word
        roots_R2 = self.roots_N2[step.rows_R]
        opens_Rt = self.opens(step.prefixes_Rt[:, length - depth - 1 :]).long()
        nodes_RD = torch.empty((len(roots_R2), depth + 1), dtype=torch.int64, device=roots_R2.device)
        for column in range(depth + 1):
            nodes_RD[:, column] = roots_R2.gather(1, opens_Rt[:, column, None])[:, 0]
            if column < depth:
                token_R1 = step.prefixes_Rt[:, length - depth + column, None]
                nodes_RD[:, : column + 1] = self.trie.children(nodes_RD[:, : column + 1], token_R1)
        return nodes_RD


class Spelling(NamedTuple):
    """The tokens of a word; empty where the tokenizer has none of its own for it."""

    spaced: Spelled
    """After a space."""
    bare: Spelled
    """After a sign; in scripts without spaces, after anything."""


class Speller:
    """How a tokenizer spells words.

    Args:
        tokenizer: a fast one, which knows the characters of its tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer
        self.opens_V = torch.tensor([*(_opens(piece) for piece in _pieces(tokenizer)), False])

    def spell(self, words: Iterable[str]) -> dict[str, Spelling]:
        """The spellings of each word, in its own casing."""
        distinct = sorted({word.strip() for word in words} - {""})
        if not distinct:
            return {}
        spaced = self.tokens([f"a {word}" for word in distinct])
        bare = self.tokens([f"({word}" for word in distinct])
        return {
            word: Spelling(_after_first(*with_space), _after_first(*without))
            for word, with_space, without in zip(distinct, spaced, bare, strict=True)
        }

    def tokens(self, texts: Sequence[str]) -> list[Offsets]:
        """Token ids of each text with the characters of each; unknown tokens are -1."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        unknown = self.tokenizer.unk_token_id
        ids = [[-1 if token == unknown else token for token in row] for row in encoded["input_ids"]]
        return list(zip(ids, encoded["offset_mapping"], strict=True))

    def spell_casings(self, words: Iterable[str]) -> dict[str, Spelling]:
        """The spellings of each word in all casings, by the cased word."""
        return self.spell(cased for word in words for cased in casings(word))

    def doubles(self, sequence: Spelled, known: Collection[Spelled]) -> bool:
        """A lone space, then a sequence that counts after a space anyway: the two would add up."""
        return len(sequence) > 1 and sequence[1:] in known and bool(self.opens_V[sequence[0]])

    def biases(
        self, words: Mapping[str, float], spellings: Mapping[str, Spelling], exempt: Collection[Spelled] = ()
    ) -> Table:
        """What to add to the tokens that complete these words in any casing."""
        found = Table({}, {})
        for word, bias in words.items():
            bare_counts = found.anywhere if UNSPACED.search(word) else found.opened
            for spaced, bare in (spellings[cased] for cased in casings(word)):
                if bare and bare not in exempt:
                    bare_counts[bare] = bias
                if spaced and spaced not in exempt and not self.doubles(spaced, {bare}):
                    found.anywhere[spaced] = bias
        return found


def _opens(piece: str) -> bool:
    """A word can begin after this token: it is white space, a sign or a special token, no part of a character."""
    return not piece or not (piece[-1] == "\ufffd" or WORD.match(piece[-1]))


def _after_first(ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Spelled:
    """The tokens that begin after the first character; none where one goes across, or is unknown."""
    kept = tuple(token for token, (begin, _) in zip(ids, offsets, strict=True) if begin >= 1)
    is_torn = any(begin < 1 < end for begin, end in offsets)
    return () if is_torn or -1 in kept else kept


def casings(word: str) -> set[str]:
    """As it is, lower, First word, Each Word, UPPER."""
    return {word, word.lower(), word.capitalize(), word.title(), word.upper()}


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
    """Against toxic tokens, by a weight of each.

    Args:
        toxicity: of each language, 0..1 of every token `[V]` (`vocabulary_toxicity`); "" is for all others.
    """

    def __init__(self, toxicity: Mapping[str, np.ndarray], strength: float) -> None:
        self._langs = {lang: place for place, lang in enumerate(toxicity, start=1)}
        none_V = np.zeros(len(next(iter(toxicity.values()))), np.float32)
        self._biases_LV = torch.from_numpy(np.stack([none_V, *toxicity.values()]).astype(np.float32)) * -strength

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> Control:
        default = self._langs.get("", 0)
        langs_N = torch.tensor([self._langs.get(source.lang, default) for source in sources], device=device)
        biases_LV = self._biases_LV.to(device)

        def control(step: Step, scores_RV: Tensor) -> Tensor:
            scores_RV[:, : biases_LV.shape[1]] += biases_LV[langs_N[step.rows_R]]  # models pad their vocabulary
            return scores_RV

        return control


def vocabulary_toxicity(tokenizer: PreTrainedTokenizerBase, score: Score) -> np.ndarray:
    """float32 `[V]`, 0..1: each token's toxicity as a text of its own, by a linear model or a lexicon; special tokens
    have none.
    """
    toxicity_V = np.asarray(score([piece.strip() for piece in _pieces(tokenizer)]), np.float32)
    toxicity_V[tokenizer.all_special_ids] = 0
    return toxicity_V


def _pieces(tokenizer: Any) -> list[str]:
    return tokenizer.batch_decode([[token] for token in range(len(tokenizer))])


class Rescoring:
    """Against the likeliest tokens with which the text so far is toxic to a classifier (FUDGE, Yang and Klein 2021,
    with a penalty in place of a probability). It reads R x K texts a step, so it is slow.

    The tokens that are not among the K count as toxic; else they would win by not having been scored.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, score: Score, strength: float, tokens: int) -> None:
        self._tokenizer: Any = tokenizer
        self._score, self._strength, self._tokens = score, strength, tokens

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> Control:
        return self

    def __call__(self, step: Step, scores_RV: Tensor) -> Tensor:
        tokens_RK = scores_RV.topk(self._tokens, dim=1).indices
        prefixes = step.prefixes_Rt.repeat_interleave(self._tokens, dim=0)
        longer = torch.cat([prefixes, tokens_RK.view(-1, 1)], dim=1).tolist()
        toxicity = self._score(self._tokenizer.batch_decode(longer, skip_special_tokens=True))
        innocence_RK = 1 - torch.as_tensor(np.asarray(toxicity, np.float32), device=scores_RV.device).view_as(tokens_RK)
        return scores_RV.scatter_add_(1, tokens_RK, self._strength * innocence_RK)


class Steering:
    """The controls that the settings ask for, made once for a model and prepared for each list of texts.

    Substitutes come first, since their bonus depends on how likely the model itself finds a toxic word.

    Args:
        harmless: words of each language that no toxic word's spelling may block (`LexiconBias`).
        toxicity: of each token, by language (`ToxicityBias`); needed where `settings.toxicity` is on.
        score: toxicity of texts; needed where `settings.rescoring` is on.

    Raises:
        ValueError: a strength is set whose means is missing.
    """

    def __init__(
        self,
        settings: DecodingSettings,
        tokenizer: PreTrainedTokenizerBase,
        lexicon: Lexicon,
        *,
        harmless: Mapping[str, Collection[str]] | None = None,
        toxicity: Mapping[str, np.ndarray] | None = None,
        score: Score | None = None,
    ) -> None:
        self._makers: list[Any] = []
        if settings.lexicon or settings.copy_penalty or settings.substitutes:
            speller = Speller(tokenizer)
            if settings.substitutes:
                self._makers.append(SubstituteBias(speller, lexicon, settings.substitutes))
            if settings.lexicon:
                self._makers.append(LexiconBias(speller, lexicon, settings.lexicon, harmless))
            if settings.copy_penalty:
                self._makers.append(CopyPenalty(speller, lexicon, settings.copy_penalty))
        if settings.toxicity:
            if not toxicity:
                raise ValueError(
                    "decoding.toxicity is on, and no token has a toxicity: give `toxicity`, or set it to 0"
                )
            self._makers.append(ToxicityBias(toxicity, settings.toxicity))
        if settings.rescoring:
            if score is None:
                raise ValueError("decoding.rescoring is on, and nothing scores: give `score`, or set it to 0")
            self._makers.append(Rescoring(tokenizer, score, settings.rescoring, settings.rescored_tokens))

    def prepare(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> list[Control]:
        """The controls for these texts, whose positions are the rows of each `Step`; threads may call it at once."""
        return [maker.prepare(sources, device) for maker in self._makers]

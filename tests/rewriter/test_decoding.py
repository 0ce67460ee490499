"""Controls: token sequences against transformers' own, spellings, languages, copies, substitutes; the cache; beams."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList, SequenceBiasLogitsProcessor

from detox.classifier.lexicon import LexiconScorer
from detox.models import tiny
from detox.rewriter.control import Control, Source, Step, as_logits_processor
from detox.rewriter.decoding import CopyPenalty, LexiconBias, Steering, SubstituteBias, vocabulary_toxicity
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import DecodingSettings, GenerationSettings
from detox.rewriter.lexicon import Entries, Lexicon
from detox.rewriter.spelling import Speller, casings, pieces
from detox.rewriter.trie import Trie, TrieBias
from tests.rewriter.test_generation import lively, until_eos

TEXTS = [
    "you are an idiot and a stupid fool, Idiot",
    "the gift (poison) is a class act; classic assay of the mass",
    "IDIOT! what a silly person, so assume nothing",
    "das gift ist dumm und der mensch ist nett",
    "你是白痴吗 我不是白痴 傻子",
] * 4
LEXICON = Lexicon(
    {
        "en": Entries({"idiot": 1.0, "fool": 0.5, "ass": 1.0, "dumb-ass": 1.0}, 0.3, {"idiot": ("silly person",)}),
        "de": Entries({"gift": 0.8}, 0.3, {}),
        "zh": Entries({"白痴": 1.0}, 0.3, {"白痴": ("傻子",)}),
    }
)


@pytest.fixture(scope="module")
def model() -> tiny.TinyModel:
    built = tiny.build("t5", TEXTS, head="seq2seq_lm", vocab_size=90)
    return tiny.TinyModel(lively(built.model), built.tokenizer)


@pytest.fixture(scope="module")
def wordy() -> tiny.TinyModel:
    """One whose tokens are words, as the frequent ones of a real tokenizer are."""
    words = ["you", "are", "an", "idiot", "silly", "person", "fool", "what", "the", "kind", "gift", "man"]
    texts = [f"{a} {b} {c}" for a in words for b in words for c in words]
    built = tiny.build("t5", texts, head="seq2seq_lm")
    return tiny.TinyModel(lively(built.model), built.tokenizer)


@pytest.fixture(scope="module")
def speller(model: tiny.TinyModel) -> Speller:
    return Speller(model.tokenizer)


def ids_of(speller: Speller, text: str) -> list[int]:
    return speller.tokenizer(text, add_special_tokens=False)["input_ids"]


def step_of(prefixes: Sequence[Sequence[int]], rows: Sequence[int] | None = None) -> Step:
    """The start token (0) before each prefix, all of one length."""
    prefixes_Rt = torch.tensor([[0, *prefix] for prefix in prefixes])
    return Step(prefixes_Rt, torch.arange(len(prefixes)) if rows is None else torch.tensor(rows))


def change(control: Control, prefix: Sequence[int], vocabulary: int, row: int = 0) -> dict[int, float]:
    """What the control adds to each token after a prefix, where that is not 0."""
    added_V = control(step_of([prefix], [row]), torch.zeros(1, vocabulary))[0]
    return {int(token): float(added_V[token]) for token in added_V.nonzero()}


def bias_on(control: Control, speller: Speller, before: str, word: str, row: int = 0) -> float:
    """What the control adds to the last token of `word` in `before + word`."""
    ids = ids_of(speller, before + word)
    return change(control, ids[:-1], len(speller.tokenizer), row).get(ids[-1], 0.0)


# Sequences of tokens


@settings(max_examples=60, deadline=None)
@given(
    sequences=st.dictionaries(
        st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple), st.sampled_from([-3.0, -1.5, 2.0]), min_size=1
    ),
    prefixes=st.integers(0, 6).flatmap(
        lambda length: st.lists(st.lists(st.integers(0, 4), min_size=length, max_size=length), min_size=1, max_size=5)
    ),
)
def test_sequences_are_biased_as_transformers_does(sequences, prefixes) -> None:
    """The start token is 5, which no sequence has, so what transformers sees before the text changes nothing."""
    prefixes_Rt = torch.tensor([[5, *prefix] for prefix in prefixes])
    scores_RV = torch.randn(len(prefixes), 6, generator=torch.Generator().manual_seed(0))
    expected_RV = SequenceBiasLogitsProcessor(dict(sequences))(prefixes_Rt, scores_RV)
    roots_N2 = torch.zeros(len(prefixes), 2, dtype=torch.int64)
    control = TrieBias(Trie.of([sequences]), roots_N2, torch.ones(7, dtype=torch.bool))
    ours_RV = control(Step(prefixes_Rt, torch.arange(len(prefixes))), scores_RV.clone())
    torch.testing.assert_close(ours_RV, expected_RV)


def test_each_row_has_its_own_sequences() -> None:
    """Row 0 minds (1, 2), row 1 minds (3,); hypotheses 0 and 2 belong to row 1."""
    control = TrieBias(Trie.of([{(1, 2): -1.0}, {(3,): -2.0}]), torch.tensor([[0, 0], [1, 1]]), torch.ones(5).bool())
    added_RV = control(step_of([[4, 1]] * 3, rows=[1, 0, 1]), torch.zeros(3, 5))
    assert added_RV.tolist() == [[0, 0, 0, -2, 0], [0, 0, -1, 0, 0], [0, 0, 0, -2, 0]]


def test_some_sequences_count_only_where_a_word_can_begin() -> None:
    """Tokens 0 and 4 open a word, 1 to 3 do not; (2, 3) counts anywhere, (3,) and (1, 3) after an opening token."""
    anywhere = {(2, 3): -1.0}
    opened = {(3,): -10.0, (1, 3): -100.0}
    opens_V = torch.tensor([True, False, False, False, True, False])
    control = TrieBias(Trie.of([anywhere, anywhere | opened]), torch.tensor([[0, 1]]), opens_V)
    assert change(control, [], 5) == {3: -10}  # after the start token
    assert change(control, [4], 5) == {3: -10}
    assert change(control, [1], 5) == {3: -100}  # 1 stands after the start token
    assert change(control, [2, 1], 5) == {}
    assert change(control, [4, 1], 5) == {3: -100}
    assert change(control, [1, 2], 5) == {3: -1}


def test_a_trie_without_sequences_changes_nothing() -> None:
    control = TrieBias(Trie.of([{}, {}]), torch.tensor([[0, 1]]), torch.ones(4).bool())
    assert change(control, [1, 2], 3) == {}


# Words


@pytest.mark.parametrize("before", ["you ", "(", "what a silly ", ""])
@pytest.mark.parametrize("word", ["idiot", "Idiot", "IDIOT"])
def test_a_toxic_word_is_met_in_all_casings_and_after_signs(speller: Speller, before: str, word: str) -> None:
    control = LexiconBias(speller, LEXICON, 8.0).prepare([Source("", "en")])
    assert bias_on(control, speller, before, word) == -8
    assert bias_on(control, speller, before, "person") == 0


def test_a_word_counts_by_its_weight(speller: Speller) -> None:
    control = LexiconBias(speller, LEXICON, 8.0).prepare([Source("", "en")])
    assert bias_on(control, speller, "a ", "fool") == -4


def test_the_same_letters_inside_a_word_are_left_alone(speller: Speller) -> None:
    """`ass` after `cl` or `m` is no word: the spelling without a space counts only after a sign or white space."""
    bare = speller.spell(["ass"])["ass"].bare
    control = LexiconBias(speller, LEXICON, 8.0).prepare([Source("", "en")])
    vocabulary = len(speller.tokenizer)
    letter, sign = ids_of(speller, "m")[-1], ids_of(speller, "(")[-1]
    assert change(control, [letter, *bare[:-1]], vocabulary).get(bare[-1], 0) == 0
    assert change(control, [sign, *bare[:-1]], vocabulary)[bare[-1]] == -8


def test_a_word_is_toxic_in_its_language_only(speller: Speller) -> None:
    sources = [Source("", "en"), Source("", "de"), Source("", "xx")]
    control = LexiconBias(speller, LEXICON, 10.0).prepare(sources)
    assert [bias_on(control, speller, "the ", "gift", row) for row in range(3)] == [0, -8, 0]
    assert [bias_on(control, speller, "the ", "idiot", row) for row in range(3)] == [-10, 0, 0]


def test_languages_that_come_later_join_the_others(speller: Speller) -> None:
    bias = LexiconBias(speller, LEXICON, 10.0)
    before = bias.prepare([Source("", "en")])
    after = bias.prepare([Source("", "de"), Source("", "en")])
    assert [bias_on(after, speller, "a ", word, 1) for word in ("idiot", "gift")] == [-10, 0]
    assert [bias_on(after, speller, "a ", word, 0) for word in ("idiot", "gift")] == [0, -8]
    assert bias_on(before, speller, "a ", "idiot") == -10


def test_without_spaces_a_word_counts_anywhere(speller: Speller) -> None:
    control = LexiconBias(speller, LEXICON, 8.0).prepare([Source("", "zh")])
    bare = speller.spell(["白痴"])["白痴"].bare
    assert bare
    before = ids_of(speller, "不是")
    assert change(control, [*before, *bare[:-1]], len(speller.tokenizer))[bare[-1]] == -8


def test_a_spelling_that_begins_a_harmless_word_is_spared(speller: Speller) -> None:
    """A harmless word whose tokens go on where the toxic word's end: it is made from the toxic word's own tokens and
    a letter, so the tokenizer cuts it so. What only shares letters (`idiot`) stays biased.
    """
    toxic = next(
        word for word in ("ass", "fool", "idiot") for letter in "eiuo" if _goes_on(speller, word, word + letter)
    )
    longer = next(toxic + letter for letter in "eiuo" if _goes_on(speller, toxic, toxic + letter))
    strict = LexiconBias(speller, LEXICON, 8.0).prepare([Source("", "en")])
    spared = LexiconBias(speller, LEXICON, 8.0, {"en": [longer]}).prepare([Source("", "en")])
    itself = LexiconBias(speller, LEXICON, 8.0, {"en": [toxic.upper()]}).prepare([Source("", "en")])
    assert bias_on(strict, speller, "a ", toxic) < 0
    assert bias_on(spared, speller, "a ", toxic) == 0
    assert bias_on(itself, speller, "a ", toxic) < 0, "a toxic word is not harmless for being listed as such"
    other = "idiot" if toxic != "idiot" else "fool"
    assert bias_on(spared, speller, "a ", other) < 0


def _goes_on(speller: Speller, word: str, longer: str) -> bool:
    spelled = speller.spell([word, longer])
    short, long = spelled[word].spaced, spelled[longer].spaced
    return bool(short) and len(long) > len(short) and long[: len(short)] == short


def test_spellings_read_back_as_the_word(speller: Speller) -> None:
    for word, spelling in speller.spell(["idiot", "silly person", "白痴", "Idiot"]).items():
        assert speller.tokenizer.decode(list(spelling.spaced)).strip() == word
        assert speller.tokenizer.decode(list(spelling.bare)).strip() == word
        assert spelling.spaced != spelling.bare


def test_letters_that_the_tokenizer_lacks_have_no_spelling(speller: Speller) -> None:
    """A bias on the unknown token would fall on every unknown word."""
    assert all(not spelling.spaced and not spelling.bare for spelling in speller.spell(["Ω", "идиот"]).values())
    lexicon = Lexicon({"ru": Entries({"идиот": 1.0}, 0.3, {})})
    control = LexiconBias(speller, lexicon, 8.0).prepare([Source("ты идиот", "ru")])
    assert change(control, ids_of(speller, "a"), len(speller.tokenizer)) == {}
    assert (
        change(CopyPenalty(speller, lexicon, 8.0).prepare([Source("ты идиот", "ru")]), [], len(speller.tokenizer)) == {}
    )


def test_where_words_can_begin(speller: Speller) -> None:
    tokenizer = speller.tokenizer
    opens = {tokenizer.convert_ids_to_tokens(token): bool(speller.opens_V[token]) for token in range(len(tokenizer))}
    assert opens["<pad>"]
    assert opens["▁"]
    assert not opens[tokenizer.convert_ids_to_tokens(ids_of(speller, "idiot")[-1])]
    assert len(speller.opens_V) == len(tokenizer) + 1


def test_casings() -> None:
    assert casings("shut up") == {"shut up", "Shut up", "Shut Up", "SHUT UP"}


def test_byte_level_tokenizers_spell_too() -> None:
    """BART's and GPT-2's space is part of the token (`Ġidiot`), and a text's first word has none."""
    speller = Speller(tiny.build_tokenizer("gpt2", TEXTS, vocab_size=400))
    control = LexiconBias(speller, LEXICON, 8.0).prepare([Source("", "en")])
    assert [bias_on(control, speller, before, "idiot") for before in ("", "you ", "(", "an Idiot, IDIOT ")] == [-8] * 4
    assert bias_on(control, speller, "you ", "person") == 0


# Copies and substitutes


def test_only_a_row_s_own_toxic_words_are_no_copies(speller: Speller) -> None:
    sources = [Source("you Fool", "en"), Source("an idiot", "en"), Source("the gift", "en")]
    control = CopyPenalty(speller, LEXICON, 5.0).prepare(sources)
    found = {
        word: [bias_on(control, speller, "a ", word, row) for row in range(3)] for word in ("fool", "IDIOT", "gift")
    }
    assert found == {"fool": [-5, 0, 0], "IDIOT": [0, -5, 0], "gift": [0, 0, 0]}


def test_a_copy_is_known_as_its_source_is_tokenised(speller: Speller) -> None:
    """In Chinese the source's own tokens may hold more than the word; the last of those that cover it is penalised."""
    text = "我不是白痴吗"
    control = CopyPenalty(speller, LEXICON, 5.0).prepare([Source(text, "zh")])
    [(ids, offsets)] = speller.tokens([text])
    begin, end = text.index("白痴"), text.index("白痴") + 2
    last = max(place for place, (b, e) in enumerate(offsets) if b < end and e > begin)
    assert change(control, ids[:last], len(speller.tokenizer))[ids[last]] == -5


def test_a_bonus_for_a_substitute_follows_the_wish_for_the_toxic_word(wordy: tiny.TinyModel) -> None:
    """Strength 6. With scores ln 3 for the toxic word's first token and 0 for the V - 1 others that token has
    probability 3 / (V + 2), so the substitute's first token gains 18 / (V + 2), in the row that has the toxic word.
    """
    speller = Speller(wordy.tokenizer)
    spelled = speller.spell(["idiot", "silly person"])
    toxic, other = spelled["idiot"].spaced, spelled["silly person"].spaced
    assert speller.tokenizer.convert_ids_to_tokens([*toxic, *other]) == ["▁idiot", "▁silly", "▁person"]
    control = SubstituteBias(speller, LEXICON, 6.0).prepare([Source("you idiot", "en"), Source("you fool", "en")])
    scores_RV = torch.zeros(2, len(speller.tokenizer))
    scores_RV[:, toxic[0]] = math.log(3)
    before = ids_of(speller, "what the")
    added_RV = control(step_of([before, before]), scores_RV.clone()) - scores_RV
    assert added_RV[0, other[0]].item() == pytest.approx(18 / (len(speller.tokenizer) + 2), rel=1e-4)
    assert added_RV[0].count_nonzero() == 1
    assert added_RV[1].count_nonzero() == 0


def test_a_substitute_that_was_begun_goes_on(wordy: tiny.TinyModel) -> None:
    """`person` gains all of 6 after `silly`, and nothing after another word."""
    speller = Speller(wordy.tokenizer)
    [(silly, person)] = [speller.spell(["silly person"])["silly person"].spaced]
    control = SubstituteBias(speller, LEXICON, 6.0).prepare([Source("you idiot", "en")])
    for prefix, expected in (("what a silly", 6.0), ("a kind", 0.0)):
        ids = ids_of(speller, prefix)
        assert change(control, ids, len(speller.tokenizer)).get(person, 0.0) == pytest.approx(expected)
    assert ids_of(speller, "a silly")[-1] == silly


def test_spellings_without_a_space_are_substituted_only_where_a_word_can_begin(speller: Speller) -> None:
    """Here `idiot` is a space, `i` and `diot`: `i` calls for `si(lly person)` after the space, not after a letter."""
    spelled = speller.spell(["idiot", "silly person"])
    toxic, other = spelled["idiot"].bare, spelled["silly person"].bare
    space, letter = spelled["idiot"].spaced[0], ids_of(speller, "m")[-1]
    control = SubstituteBias(speller, LEXICON, 6.0).prepare([Source("you idiot", "en")])
    scores_RV = torch.zeros(2, len(speller.tokenizer))
    scores_RV[:, toxic[0]] = 50.0
    added_RV = control(step_of([[space], [letter]], rows=[0, 0]), scores_RV.clone()) - scores_RV
    assert added_RV[:, other[0]].tolist() == pytest.approx([6, 0])
    assert added_RV.count_nonzero() == 1


def test_without_spaces_substitutes_gain_too(speller: Speller) -> None:
    spelled = speller.spell(["白痴", "傻子"])
    toxic, other = spelled["白痴"].bare, spelled["傻子"].bare
    control = SubstituteBias(speller, LEXICON, 6.0).prepare([Source("你是白痴", "zh")])
    scores_RV = torch.zeros(1, len(speller.tokenizer))
    scores_RV[:, toxic[0]] = 50.0
    added_RV = control(step_of([ids_of(speller, "你是")]), scores_RV.clone()) - scores_RV
    assert added_RV[0, other[0]].item() == pytest.approx(6)


def test_rows_without_substitutes_and_no_rows_at_all(speller: Speller) -> None:
    bias = SubstituteBias(speller, LEXICON, 6.0)
    assert change(bias.prepare([Source("you fool", "en")]), [3], len(speller.tokenizer)) == {}
    for maker in (bias, LexiconBias(speller, LEXICON, 1.0), CopyPenalty(speller, LEXICON, 1.0)):
        assert maker.prepare([])(Step(torch.zeros(0, 3).long(), torch.zeros(0).long()), torch.zeros(0, 5)).shape == (
            0,
            5,
        )


# Toxicity of tokens and of texts


def test_each_token_loses_by_its_toxicity(model: tiny.TinyModel) -> None:
    """At strength 2, by what it adds to an empty text's 0.25: one piece 0.5 more, in German nothing. The model may have
    more tokens than the tokenizer."""
    letters, special = [piece.strip() for piece in pieces(model.tokenizer)], set(model.tokenizer.all_special_ids)
    chosen = max((piece for token, piece in enumerate(letters) if token not in special), key=len)

    def score(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
        rows = zip(texts, langs, strict=True)
        return np.array([0.75 if text == chosen and lang == "en" else 0.25 for text, lang in rows])

    toxic = {token for token, piece in enumerate(letters) if piece == chosen} - special
    assert toxic
    [control] = Steering(DecodingSettings(toxicity=2), model.tokenizer, LEXICON, score).prepare(
        [Source("", "en"), Source("", "de")]
    )
    added_RV = control(step_of([[1], [1]], rows=[1, 0]), torch.zeros(2, len(model.tokenizer) + 3))
    assert (added_RV[0] == 0).all()
    assert {int(token): float(added_RV[1, token]) for token in added_RV[1].nonzero()} == dict.fromkeys(toxic, -1.0)


def test_a_lexicon_or_classifier_gives_each_token_s_toxicity() -> None:
    """`gift` is toxic in German, with 1 against an empty text's 0.1."""

    def score(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
        rows = zip(texts, langs, strict=True)
        return np.array([float(bool(LEXICON.spans(text, lang))) or 0.1 for text, lang in rows])

    tokenizer = tiny.build_tokenizer("bert", ["das gift ist dumm"] * 20)
    gift = tokenizer.convert_tokens_to_ids("gift")
    assert gift != tokenizer.unk_token_id
    toxicity_V = vocabulary_toxicity(tokenizer, score, "de")
    assert toxicity_V[gift] == pytest.approx(0.9)
    assert toxicity_V.sum() == pytest.approx(0.9)
    assert vocabulary_toxicity(tokenizer, score, "en").sum() == 0
    assert toxicity_V.dtype == np.float32


def test_rescoring_by_hand(model: tiny.TinyModel) -> None:
    """The two likeliest of four are rescored at strength 10: toxicity 0.9 leaves a bonus of 1, toxicity 0.2 one of 8;
    the others get none, which is a toxicity of 1.
    """
    tokens = ids_of(Speller(model.tokenizer), "you are an idiot")
    first, second = tokens[-1], tokens[0]
    seen: list[tuple[str, str]] = []

    def score(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
        seen.extend(zip(texts, langs, strict=True))
        return np.array([0.9 if text.endswith("idiot") else 0.2 for text in texts])

    steering = Steering(DecodingSettings(rescoring=10, rescored_tokens=2), model.tokenizer, LEXICON, score)
    [control] = steering.prepare([Source("", "en")])
    scores_RV = torch.zeros(1, len(model.tokenizer))
    scores_RV[0, first], scores_RV[0, second] = 5.0, 4.0
    added_RV = control(step_of([tokens[:-1]]), scores_RV.clone()) - scores_RV
    assert {int(t): round(float(added_RV[0, t]), 4) for t in added_RV[0].nonzero()} == {first: 1.0, second: 8.0}
    assert seen[0] == ("you are an idiot", "en")


# Whole


def test_settings_without_their_means_are_refused(model: tiny.TinyModel) -> None:
    for strength in ({"toxicity": 1}, {"rescoring": 1}):
        with pytest.raises(ValueError, match="need something that scores texts: give `toxicity`"):
            Steering(DecodingSettings(**strength), model.tokenizer, LEXICON)
    assert Steering(DecodingSettings(), model.tokenizer, LEXICON).prepare([Source("", "en")]) == []


def test_frequent_neutral_words_stay_writable(speller: Speller) -> None:
    """What a lexicon learned to be frequent on the neutral side is spared as in the test of harmless words above."""
    toxic = next(
        word for word in ("ass", "fool", "idiot") for letter in "eiuo" if _goes_on(speller, word, word + letter)
    )
    longer = next(toxic + letter for letter in "eiuo" if _goes_on(speller, toxic, toxic + letter))
    lexicon = Lexicon({"en": LEXICON.languages["en"]._replace(common=(longer,))})
    [control] = Steering(DecodingSettings(lexicon=8), speller.tokenizer, lexicon).prepare([Source("", "en")])
    assert bias_on(control, speller, "a ", toxic) == 0


SOURCES = [
    Source(text, lang) for text, lang in zip(TEXTS[:5] + TEXTS[2:5], ["en", "en", "en", "de", "zh"] * 2, strict=False)
]


def everything(model: tiny.TinyModel, sources: Sequence[Source] = SOURCES) -> list[Control]:
    """All controls at once, weak enough that the model has its say."""
    strengths = DecodingSettings(lexicon=5, substitutes=5, copy_penalty=5, toxicity=20, rescoring=60, rescored_tokens=8)

    def score(texts: Sequence[str], langs: Sequence[str]) -> np.ndarray:
        """Between 0 and 6/7; an empty text, which is what the model's favourite tokens say, has 5/7."""
        rows = zip(texts, langs, strict=True)
        return np.array([sum(map(ord, text + lang)) % 7 / 7 if text else 5 / 7 for text, lang in rows])

    steering = Steering(strengths, model.tokenizer, LEXICON, score)
    return steering.prepare(sources)


@pytest.mark.parametrize("beams", [1, 3])
def test_controls_do_the_same_with_and_without_the_cache_and_in_our_generation(
    model: tiny.TinyModel, beams: int
) -> None:
    rows = model.tokenizer([source.text for source in SOURCES])["input_ids"]
    padded = model.tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    processors = LogitsProcessorList([as_logits_processor(control, beams) for control in everything(model)])
    options = {"max_new_tokens": 12, "do_sample": False, "num_beams": beams, "logits_processor": processors}
    cached = model.model.generate(**padded, use_cache=True, **options).tolist()
    assert model.model.generate(**padded, use_cache=False, **options).tolist() == cached
    mode = "greedy" if beams == 1 else "beam"
    ours = generate(
        model.model,
        rows,
        GenerationSettings(mode=mode, beams=beams, max_new_tokens=12, batch_tokens=96),
        everything(model),
    )
    assert [found[0].tokens for found in ours] == [until_eos(model.model, row) for row in cached]
    plain = model.model.generate(**padded, max_new_tokens=12, do_sample=False, num_beams=beams).tolist()
    changed = [until_eos(model.model, a) != until_eos(model.model, b) for a, b in zip(plain, cached, strict=True)]
    assert sum(changed) > 4, "most texts are other ones without the controls"


def test_a_row_s_controls_do_not_depend_on_the_rows_beside_it(model: tiny.TinyModel) -> None:
    """A row alone, prepared alone, against all together in batches where rows leave."""
    rows = model.tokenizer([source.text for source in SOURCES])["input_ids"]
    chosen = GenerationSettings(max_new_tokens=10, max_length_ratio=0.5)
    together = generate(model.model, rows, chosen, everything(model))
    for row, source, found in zip(rows, SOURCES, together, strict=True):
        assert [c.tokens for c in generate(model.model, [row], chosen, everything(model, [source]))[0]] == [
            c.tokens for c in found
        ]


def test_a_strong_lexicon_forbids_what_the_model_would_write(wordy: tiny.TinyModel) -> None:
    """The words that the model writes for English texts are called toxic: it writes others. Other languages stay."""
    rows = wordy.tokenizer([f"you {word}" for word in ("are", "an", "idiot", "silly", "person", "fool")])["input_ids"]
    chosen = GenerationSettings(max_new_tokens=12)
    langs = ["en", "de"] * 3

    def texts(controls: Sequence[Control]) -> list[str]:
        return [wordy.tokenizer.decode(text.tokens) for [text] in generate(wordy.model, rows, chosen, controls)]

    before = texts([])
    english = {word for text in before[::2] for word in regex.findall(r"\p{L}{2,}", text)}
    lexicon = Lexicon({"en": Entries(dict.fromkeys(english, 1.0), 0.3, {})})
    steering = Steering(DecodingSettings(lexicon=1000), wordy.tokenizer, lexicon)
    after = texts(steering.prepare([Source("", lang) for lang in langs]))
    assert len(english) > 2
    assert not any(LexiconScorer(english).spans(text) for text in after[::2])
    assert after[1::2] == before[1::2]

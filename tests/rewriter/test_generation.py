"""Generation: transformers' own texts, whatever the batch; finished rows leave; sampling and beams by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from detox.models import tiny
from detox.models.copying import CopyT5Config, CopyT5ForConditionalGeneration
from detox.rewriter.control import Control, Step
from detox.rewriter.decoder import DROPPED_TOGETHER, Candidate
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings
from detox.rewriter.sampling import sample, uniforms

GREEDY = GenerationSettings(max_new_tokens=20, batch_tokens=512)
SAMPLE = GenerationSettings(mode="sample", candidates=3, max_new_tokens=20, top_k=20, top_p=0.9, batch_tokens=512)
BEAM = GenerationSettings(mode="beam", beams=4, candidates=4, max_new_tokens=20, batch_tokens=512)
DIVERSE = GenerationSettings(
    mode="beam", beams=6, groups=3, diversity=1.5, candidates=6, max_new_tokens=12, batch_tokens=512
)
MODES = [GREEDY, SAMPLE, BEAM, DIVERSE]
names = [settings.mode + (" in groups" if settings.groups > 1 else "") for settings in MODES]


def lively(model: Any) -> Any:
    """Makes a random model write different texts of different lengths.

    Random weights say the last token again and again, and hardly ever choose the one token that ends a text. So the
    embeddings are made smaller, what attention adds larger, positions matter more, and a fifth of all tokens end texts.
    """
    with torch.no_grad():
        model.shared.weight *= 0.3
        positions = model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        positions.normal_(0, 5, generator=torch.Generator().manual_seed(0))
        for block in model.decoder.block:
            for attention in (block.layer[0].SelfAttention, block.layer[1].EncDecAttention):
                attention.q.weight *= 3
                attention.o.weight *= 16
    model.generation_config.eos_token_id = [1, *range(3, model.config.vocab_size, 5)]
    return model


def build(name: str = "t5", **changes: Any) -> Any:
    return lively(tiny.build(name, head="seq2seq_lm", **changes).model)


@pytest.fixture(scope="module")
def model() -> Any:
    return build()


def random_rows(count: int = 40, vocabulary: int = 80, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[*rng.integers(3, vocabulary, rng.integers(0, 40)).tolist(), 1] for _ in range(count)]


def until_eos(model: Any, generated: Sequence[int]) -> list[int]:
    """What transformers returns, without start token, EOS and what follows it."""
    return list(itertools.takewhile(lambda token: token not in model.generation_config.eos_token_id, generated[1:]))


def peer(model: Any, row: Sequence[int], **options: Any) -> list[list[int]]:
    """transformers' own generation of one row."""
    found = model.generate(input_ids=torch.tensor([row]), **({"max_new_tokens": 20, "do_sample": False} | options))
    return [until_eos(model, generated) for generated in found.tolist()]


def tokens(found: Sequence[Sequence[Candidate]]) -> list[list[list[int]]]:
    return [[candidate.tokens for candidate in candidates] for candidates in found]


# Greedy


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_greedy_is_transformers_row_by_row(name: str) -> None:
    """40 rows of 1 to 40 tokens in batches that pad them and that they leave one by one."""
    model, rows = build(name), random_rows()
    expected = [peer(model, row) for row in rows]
    assert tokens(generate(model, rows, GREEDY)) == expected
    lengths = {len(found[0]) for found in expected}
    assert len(lengths) > 5, "the texts end at different lengths, or the test would say little"
    assert 20 in lengths


def test_greedy_with_lora_adapters() -> None:
    model, rows = build(), random_rows(12)
    plain = tokens(generate(model, rows, GREEDY))
    config = LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, r=4, target_modules=["q", "v"], init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    found = tokens(generate(adapted, rows, GREEDY))
    assert found == [peer(adapted, row) for row in rows]
    assert found != plain
    with adapted.disable_adapter():
        assert tokens(generate(adapted, rows, GREEDY)) == plain


@pytest.mark.parametrize("options", [{"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.7}])
def test_repetition_is_held_back_as_in_transformers(model: Any, options: dict[str, Any]) -> None:
    ours = {"no_repeat_ngram_size": "no_repeat_ngram"}
    changed = GREEDY.model_copy(update={ours.get(key, key): value for key, value in options.items()})
    rows = random_rows(12)
    found = tokens(generate(model, rows, changed))
    assert found == [peer(model, row, **options) for row in rows]
    assert found != tokens(generate(model, rows, GREEDY))


# Batches


@pytest.mark.parametrize("settings", MODES, ids=names)
def test_a_row_gets_what_it_gets_alone(model: Any, settings: GenerationSettings) -> None:
    rows = random_rows(16, seed=1)
    together = tokens(generate(model, rows, settings, seed=5))
    alone = [tokens(generate(model, [row], settings, seed=5, row_numbers=[n]))[0] for n, row in enumerate(rows)]
    assert together == alone
    assert len({str(found) for found in together}) > 10


class Counted(NamedTuple):
    encoder: list[int]
    """Rows of each pass."""
    decoder: list[int]


def counted(model: Any, rows: Sequence[Sequence[int]], settings: GenerationSettings) -> tuple[Any, Counted]:
    passes = Counted([], [])

    def note(which: list[int]) -> Any:
        return lambda _module, _inputs, keywords: which.append(len(keywords["input_ids"]))

    with (
        model.encoder.register_forward_pre_hook(note(passes.encoder), with_kwargs=True),
        model.decoder.register_forward_pre_hook(note(passes.decoder), with_kwargs=True),
    ):
        return generate(model, rows, settings), passes


def in_one_batch(settings: GenerationSettings) -> GenerationSettings:
    return settings.model_copy(update={"batch_tokens": 100_000})


def check_that_finished_rows_leave(lengths: Sequence[int], passes: Sequence[int]) -> None:
    """Pass t (from 0) is there for texts of more than t tokens; of its rows less than an eighth are others."""
    assert len(passes) == max(lengths)
    for step, rows in enumerate(passes):
        wanted = sum(length > step for length in lengths)
        assert wanted <= rows
        assert rows - wanted < DROPPED_TOGETHER * rows


def test_finished_rows_leave(model: Any) -> None:
    """A text of n tokens, EOS among them, takes n passes of the decoder; the encoder sees each row once."""
    rows = random_rows()
    found, passes = counted(model, rows, in_one_batch(GREEDY))
    assert passes.encoder == [len(rows)]
    check_that_finished_rows_leave([len(text.tokens) + text.finished for [text] in found], passes.decoder)
    assert sum(counted(model, rows, GREEDY)[1].encoder) == len(rows)
    assert 1 < len(counted(model, rows, GREEDY)[1].encoder) < 8


def test_copies_of_a_row_are_encoded_once_and_leave_one_by_one(model: Any) -> None:
    """The first pass is made once a row, for all its copies; after it each sample is on its own."""
    rows = random_rows(10)
    found, passes = counted(model, rows, in_one_batch(SAMPLE))
    assert passes.encoder == [10]
    assert passes.decoder[0] == 10
    lengths = [len(text.tokens) + text.finished for texts in found for text in texts]
    check_that_finished_rows_leave(lengths, [len(lengths), *passes.decoder[1:]])


def test_batches_keep_their_budget(model: Any) -> None:
    """Rows of up to 32 tokens count for 32: a budget of 512 holds 16 of them, or 4 with 4 beams each."""
    rows = [[5, 1]] * 20
    assert counted(model, rows, GREEDY)[1].encoder == [16, 4]
    assert counted(model, rows, BEAM)[1].encoder == [4] * 5


def test_the_limit_follows_the_source(model: Any) -> None:
    """1.5 times 1, 4 and 9 tokens is 2, 6 and 14 (rounded up); 20 is the most. No token ends a text here."""
    endless = build()
    endless.generation_config.eos_token_id = [endless.config.vocab_size + 1]
    rows = [[7] * length for length in (1, 4, 9, 30)]
    found = generate(endless, rows, GREEDY.model_copy(update={"max_length_ratio": 1.5}))
    assert [len(text.tokens) for [text] in found] == [2, 6, 14, 20]
    assert not any(text.finished for [text] in found)


def test_no_rows_give_nothing(model: Any) -> None:
    for settings in MODES:
        assert generate(model, [], settings) == []


# Log-probabilities


@pytest.mark.parametrize("settings", MODES, ids=names)
def test_a_candidate_s_log_probability_is_that_of_teacher_forcing(model: Any, settings: GenerationSettings) -> None:
    """Whatever the temperature, the controls and the diversity."""

    def control(step: Step, scores_RV: torch.Tensor) -> torch.Tensor:
        scores_RV[:, 10:20] -= 2.0
        return scores_RV

    rows = random_rows(6, seed=2)
    chosen = settings.model_copy(update={"temperature": 0.7, "logprobs": True})
    model.generation_config.eos_token_id, before = [1], model.generation_config.eos_token_id
    try:
        found = generate(model, rows, chosen, [control])
    finally:
        model.generation_config.eos_token_id = before
    for row, texts in zip(rows, found, strict=True):
        for text in texts:
            assert text.logprob == pytest.approx(_teacher_forced(model, row, text), abs=1e-3)


def _teacher_forced(model: Any, row: Sequence[int], text: Candidate) -> float:
    labels = [*text.tokens, 1] if text.finished else text.tokens
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([[0, *labels[:-1]]])).logits[0]
    return float(logits_TV.log_softmax(-1)[range(len(labels)), labels].sum())


# Sampling


def test_draws_pick_tokens_by_the_distribution_function() -> None:
    """Probabilities .5 .3 .2 of tokens 2 0 1; by id their borders are at .3 and .5, with top_k 2 (.625, .375) at .625,
    with top_p .6 likewise, since .5 does not reach it and .8 does; with temperature 1/2 the squares 25 9 4 of 38 put
    the borders at 9/38 = .237 and 13/38 = .342.
    """
    scores_RV = torch.tensor([[0.3, 0.2, 0.5]]).log().repeat(4, 1)
    draws_R = torch.tensor([0.1, 0.29, 0.4, 0.7], dtype=torch.float64)

    def picks(**options: Any) -> list[int]:
        return sample(scores_RV, draws_R, GenerationSettings(mode="sample", **options)).tolist()

    assert picks() == [0, 0, 1, 2]
    assert picks(top_k=2) == [2, 2, 2, 0]
    assert picks(top_p=0.6) == [2, 2, 2, 0]
    assert picks(top_p=0.4) == [2, 2, 2, 2]
    assert picks(temperature=0.5) == [0, 1, 2, 2]


@pytest.mark.parametrize("options", [{"top_k": 5}, {"top_p": 0.7}, {"top_k": 9, "top_p": 0.8, "temperature": 1.3}])
def test_sampling_has_transformers_distribution(options: dict[str, float]) -> None:
    """At 10,000 evenly spaced draws each token comes as often as its probability says, to two draws."""
    scores_V = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 2
    draws_R = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    picked_R = sample(scores_V.expand(10_000, -1), draws_R, GenerationSettings(mode="sample", **options))
    expected = TemperatureLogitsWarper(float(options.get("temperature", 1.0)))(None, scores_V[None])
    if "top_k" in options:
        expected = TopKLogitsWarper(int(options["top_k"]))(None, expected)
    if "top_p" in options:
        expected = TopPLogitsWarper(options["top_p"])(None, expected)
    counts_V = picked_R.bincount(minlength=50)
    assert (counts_V - expected[0].softmax(-1) * 10_000).abs().max() <= 2


@pytest.mark.parametrize("size", [3, 256, 1000])
def test_a_token_found_by_way_of_its_block_is_that_of_the_whole_distribution_function(size: int) -> None:
    """Every third token cannot be; draws fall at the borders' sides, and between them."""
    scores_V = torch.randn(size, generator=torch.Generator().manual_seed(0)) * 3
    scores_V[::3] = -torch.inf
    borders_V = scores_V.double().softmax(-1).cumsum(-1)
    draws_R = torch.cat([borders_V[:-1] - 1e-5, borders_V[:-1] + 1e-5, torch.linspace(0, 0.9999, 500)]).clamp(0, 0.9999)
    wanted_R = torch.searchsorted(borders_V, draws_R, right=True)
    picked_R = sample(scores_V.expand(len(draws_R), -1), draws_R, GenerationSettings(mode="sample"))
    assert (picked_R % 3 != 0).all()
    sure_R = (draws_R[:, None] - borders_V).abs().amin(1) > 1e-6
    assert torch.equal(picked_R[sure_R], wanted_R[sure_R])
    assert sure_R.float().mean() > 0.9


def test_the_last_draw_below_one_picks_a_token_that_is_allowed() -> None:
    scores_RV = torch.zeros(1, 250_000)
    scores_RV[:, 100_000:] = -torch.inf
    just_below = torch.tensor([math.nextafter(1.0, 0.0)], dtype=torch.float64)
    for options in ({}, {"top_p": 0.999}, {"top_k": 3}):
        assert sample(scores_RV, just_below, GenerationSettings(mode="sample", **options)).item() < 100_000


def test_draws_depend_on_seed_row_sample_and_step_only() -> None:
    draws = uniforms(7, 3, copies=4, steps=9)
    assert draws.shape == (4, 9)
    np.testing.assert_array_equal(uniforms(7, 3, 2, 5), draws[:2, :5])
    assert len({*draws.flatten(), *uniforms(7, 4, 4, 9).flatten(), *uniforms(8, 3, 4, 9).flatten()}) == 3 * 36
    many = uniforms(0, 0, 100, 100)
    assert 0 <= many.min() < many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=0.02)  # its deviation is 0.289 / 100


def test_samples_repeat_and_differ_by_seed_and_by_copy(model: Any) -> None:
    rows = random_rows(8)
    first = tokens(generate(model, rows, SAMPLE, seed=1))
    assert first == tokens(generate(model, rows, SAMPLE, seed=1))
    assert first != tokens(generate(model, rows, SAMPLE, seed=2))
    assert any(len({str(text) for text in texts}) == 3 for texts in first)
    two = SAMPLE.model_copy(update={"candidates": 2})
    assert tokens(generate(model, rows, two, seed=1)) == [texts[:2] for texts in first]


def test_a_list_cut_in_parts_gives_what_the_whole_gives(model: Any) -> None:
    rows = random_rows(9)
    whole = tokens(generate(model, rows, SAMPLE, seed=1))
    parts = [generate(model, rows[:4], SAMPLE, (), 1, range(4)), generate(model, rows[4:], SAMPLE, (), 1, range(4, 9))]
    assert [text for part in parts for text in tokens(part)] == whole


# Beams


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_beams_are_transformers(model: Any, length_penalty: float) -> None:
    """All four texts of every row, in their order; where two differ in nothing but the token that ends them, ours are
    one.
    """
    rows = random_rows(16, seed=3)
    found = tokens(generate(model, rows, BEAM.model_copy(update={"length_penalty": length_penalty})))
    options = {"num_beams": 4, "num_return_sequences": 4, "length_penalty": length_penalty}
    expected = [peer(model, row, **options) for row in rows]
    assert found == [[list(text) for text in dict.fromkeys(map(tuple, texts))] for texts in expected]


def chain(first: Sequence[float], then: Sequence[Sequence[float]], vocabulary: int) -> Control:
    """A control that makes the scores a Markov chain over tokens 10, 11, … and EOS (1): probabilities of the first
    token, and of the next after each of the others; the last entry is that of EOS.
    """
    table = torch.full((vocabulary, vocabulary), -torch.inf)
    columns = [*range(10, 10 + len(first) - 1), 1]
    table[0, columns] = torch.tensor(first).log()
    for token, row in enumerate(then, start=10):
        table[token, columns] = torch.tensor(row).log()
    return lambda step, scores_RV: table[step.prefixes_Rt[:, -1]]


def test_a_beam_finds_what_greed_misses() -> None:
    """Greed takes 10 (.6), and then ends with .4: .24. By 11 (.4) the text ends with .9: .36. The sum of
    log-probabilities decides at length penalty 0."""
    model = tiny.build("t5", head="seq2seq_lm").model
    control = chain([0.6, 0.4, 0.0], [[0.3, 0.3, 0.4], [0.05, 0.05, 0.9]], model.config.vocab_size)
    greedy = generate(model, [[5, 1]], GenerationSettings(max_new_tokens=2), [control])
    assert tokens(greedy) == [[[10]]]
    settings = GenerationSettings(mode="beam", beams=2, candidates=2, max_new_tokens=4, length_penalty=0.0)
    assert tokens(generate(model, [[5, 1]], settings, [control])) == [[[11], [10]]]


@pytest.mark.parametrize(("diversity", "expected"), [(0.2, [[10]]), (0.5, [[10], [11]])])
def test_a_second_group_avoids_the_first(diversity: float, expected: list[list[int]]) -> None:
    """Groups of one beam. The first takes 10 (.6). For the second that token counts ln .6 - d, against ln .4 for 11:
    ln .6 - ln .4 = .405, so it turns away for d = .5 and not for d = .2, where both find the same text. EOS (.9 after
    either) costs nothing though both end in the same place, so both texts end there.
    """
    model = tiny.build("t5", head="seq2seq_lm").model
    control = chain([0.6, 0.4, 0.0], [[0.1, 0.0, 0.9], [0.0, 0.1, 0.9]], model.config.vocab_size)
    settings = GenerationSettings(
        mode="beam", beams=2, groups=2, diversity=diversity, candidates=2, max_new_tokens=4, length_penalty=0.0
    )
    assert tokens(generate(model, [[5, 1]], settings, [control])) == [expected]


def test_diverse_beams_are_those_of_the_paper_s_loop(model: Any) -> None:
    """Against a plain loop over rows, groups and beams that runs the whole model anew at each step."""
    rows = random_rows(6, seed=4)
    found = tokens(generate(model, rows, DIVERSE))
    assert found == [_naive_diverse(model, row, DIVERSE) for row in rows]
    plain = BEAM.model_copy(update={"beams": 6, "candidates": 6, "max_new_tokens": 12})
    assert _different_beginnings(found) > _different_beginnings(tokens(generate(model, rows, plain)))


def _different_beginnings(found: Sequence[Sequence[Sequence[int]]]) -> int:
    return sum(len({tuple(text[:2]) for text in texts}) for texts in found)


class Beam(NamedTuple):
    total: float
    tokens: tuple[int, ...]


def _naive_diverse(model: Any, row: Sequence[int], settings: GenerationSettings) -> list[list[int]]:
    groups, width = settings.groups, settings.beams // settings.groups
    ends = set(model.generation_config.eos_token_id)
    live = [[Beam(0.0, ())] for _ in range(groups)]
    pools: list[list[Beam]] = [[] for _ in range(groups)]
    over = [False] * groups
    for length in range(1, settings.max_new_tokens + 1):
        taken: list[int] = []
        for group in range(groups):
            if over[group]:
                continue
            grown = [
                (total + logprob - settings.diversity * taken.count(token), Beam(total + logprob, (*prefix, token)))
                for total, prefix in live[group]
                for token, logprob in enumerate(_next(model, row, prefix))
            ]
            best = [beam for _, beam in sorted(grown, key=lambda pair: -pair[0])[: (1 + len(ends)) * width]]
            stops = [beam.tokens[-1] in ends or length == settings.max_new_tokens for beam in best]
            pools[group] += [
                Beam(beam.total / length, beam.tokens) for beam, stop in zip(best[:width], stops, strict=False) if stop
            ]
            pools[group] = sorted(pools[group], key=lambda beam: -beam.total)[:width]
            live[group] = [beam for beam, stop in zip(best, stops, strict=True) if not stop][:width]
            taken += [beam.tokens[-1] for beam in best if beam.tokens[-1] not in ends][:width]
        for group in range(groups):
            hopes = [beam.total / length for beam in live[group]]
            full = len(pools[group]) == width
            over[group] = over[group] or not hopes or (full and max(hopes) <= pools[group][-1].total)
    texts = sorted((beam for pool in pools for beam in pool), key=lambda beam: -beam.total)
    return [list(text) for text in dict.fromkeys(_without_end(beam.tokens, ends) for beam in texts)]


def _without_end(text: tuple[int, ...], ends: set[int]) -> tuple[int, ...]:
    return text[:-1] if text[-1] in ends else text


def _next(model: Any, row: Sequence[int], prefix: Sequence[int]) -> list[float]:
    with torch.no_grad():
        output = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([[0, *prefix]]))
    return output.logits[0, -1].log_softmax(-1).tolist()


# Controls and other models


@pytest.mark.parametrize("settings", MODES, ids=names)
def test_controls_know_the_row_of_each_hypothesis(model: Any, settings: GenerationSettings) -> None:
    """Row i may write only tokens that leave i divided by 9, while rows leave and beams change places; and each step's
    prefix begins with the start token and holds these tokens only.
    """
    rows = random_rows(9, seed=5)
    tokens_V = torch.arange(model.config.vocab_size)
    allowed_NV = torch.where(tokens_V % 9 == torch.arange(9)[:, None], 0.0, -torch.inf)
    allowed_NV[:, 1] = 0

    def control(step: Step, scores_RV: torch.Tensor) -> torch.Tensor:
        assert (step.prefixes_Rt[:, 0] == 0).all()
        assert (step.prefixes_Rt[:, 1:] % 9 == step.rows_R[:, None]).all()
        return scores_RV + allowed_NV[step.rows_R]

    model.generation_config.eos_token_id, before = [1], model.generation_config.eos_token_id
    try:
        found = generate(model, rows, settings, [control])
    finally:
        model.generation_config.eos_token_id = before
    for row, texts in enumerate(found):
        assert texts
        assert {token % 9 for text in texts for token in text.tokens} <= {row}


def test_a_model_that_copies_keeps_each_row_s_source(model: Any) -> None:
    """Its encoder's outputs carry the source's tokens, which must leave with the row and be copied for its samples."""
    copying = lively(CopyT5ForConditionalGeneration(_copy_config()).eval())
    torch.nn.init.zeros_(copying.copy_gate.weight)
    torch.nn.init.constant_(copying.copy_gate.bias, 20.0)  # it writes nothing of its own
    rows = random_rows(12, seed=6)
    found = tokens(generate(copying, rows, GREEDY))
    assert found == [peer(copying, row) for row in rows]
    assert all(set(text) <= set(row) for [text], row in zip(found, rows, strict=True))
    assert len({token for [text] in found for token in text}) > 5
    together = tokens(generate(copying, rows, SAMPLE))
    assert together == [tokens(generate(copying, [row], SAMPLE, (), 0, [n]))[0] for n, row in enumerate(rows)]


def _copy_config() -> CopyT5Config:
    torch.manual_seed(0)
    settings = tiny.build_config("t5", tiny.build_tokenizer("t5")).to_dict()
    return CopyT5Config(**{key: value for key, value in settings.items() if key != "model_type"})


def test_bfloat16_generates_in_every_mode() -> None:
    model, rows = build().to(torch.bfloat16), random_rows(6)
    for settings in MODES:
        for texts in generate(model, rows, settings.model_copy(update={"logprobs": True})):
            assert texts
            assert all(math.isfinite(text.logprob) and text.logprob < 0 for text in texts)


# Errors


def test_what_would_go_wrong_is_said(model: Any) -> None:
    with pytest.raises(ValueError, match="a row must have at least one token, and row 1 has none"):
        generate(model, [[5, 1], []], GREEDY)
    training = build().train()
    with pytest.raises(ValueError, match="needs a model in evaluation mode, was in training mode: call model.eval"):
        generate(training, [[5, 1]], GREEDY)
    config = PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=2)
    with pytest.raises(ValueError, match="PROMPT_TUNING puts tokens before the text: use LoRA"):
        generate(get_peft_model(build(), config).eval(), [[5, 1]], GREEDY)


@pytest.mark.parametrize("weight", [torch.nan, torch.inf])
@pytest.mark.parametrize("settings", [GREEDY, SAMPLE, BEAM], ids=["greedy", "sample", "beam"])
def test_nan_is_an_error_and_never_a_text(settings: GenerationSettings, weight: float) -> None:
    broken = build()
    with torch.no_grad():
        broken.lm_head.weight[4] = weight
    with pytest.raises(ValueError, match="the model's scores are NaN or infinite: .*use bfloat16"):
        generate(broken, [[5, 1]], settings)


def test_controls_that_forbid_everything_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="controls must leave a text some token at each step, and left none"):
        generate(model, [[5, 1]], BEAM, [lambda step, scores_RV: scores_RV - torch.inf])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"candidates": 2}, "greedy decoding gives one candidate, and candidates is 2: set mode to sample or beam"),
        ({"mode": "beam", "beams": 2, "candidates": 3}, r"must not exceed beams \(2\), was 3: raise beams"),
        ({"beams": 5, "groups": 2, "diversity": 1.0}, "2 does not divide 5: set beams to 4"),
        ({"beams": 4, "groups": 2}, "groups and diversity go together .* were 2 and 0.0"),
        ({"beams": 4, "diversity": 1.0}, "groups and diversity go together .* were 1 and 1.0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        GenerationSettings(**options)

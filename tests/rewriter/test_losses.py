"""Losses: hand-worked values, loops over rows, where gradients go, sums over micro-batches, and real steps."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, log_softmax
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForSequenceClassification, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.models.bart.modeling_bart import BartScaledWordEmbedding

from detox.models import tiny
from detox.rewriter.loss_settings import PARTS, LossSettings
from detox.rewriter.losses import (
    SoftClassifier,
    build_loss,
    classifier_toxicity,
    cross_entropy,
    expected_toxicity,
    probabilities,
    semantic_consistency,
    soft_embeddings,
    token_unlikelihood,
)
from detox.rewriter.preference import IGNORED, decode, reference_logprobs, sequence_logprobs

LN = math.log
PAIRS = [
    ("you are an idiot and your page is bad", "your page is bad"),
    ("shut up you stupid fool", "please stop"),
    ("what a stupid edit this is", "what an edit this is"),
    ("nobody wants to read your dumb comments", "nobody wants to read your comments"),
]
ALONE = {"label_smoothing": 0.0, "dpo_beta": 0.5} | dict.fromkeys(PARTS, 0.0)
EVERYTHING = LossSettings(
    label_smoothing=0.1,
    toxic_mass=0.5,
    toxic_classifier=0.7,
    contrast=0.6,
    unlikelihood=0.3,
    consistency=0.4,
    odds_ratio=0.2,
    dpo=0.25,
    dpo_beta=0.5,
)


class Toy(nn.Module):
    """Reads embeddings as they are: its states are its inputs, its one logit the masked mean of their first entry."""

    def __init__(self, weight_VD: list[list[float]]) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.tensor(weight_VD), freeze=False)
        self.gain = nn.Parameter(torch.ones(()))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput | BaseModelOutput:
        mask_BT1 = attention_mask[..., None]
        mean_BD = (inputs_embeds * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1)
        return SequenceClassifierOutput(logits=self.gain * mean_BD[:, :1])


class ToyEncoder(Toy):
    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.gain * inputs_embeds)


def random_batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits `[4, 5, 7]`, labels of which row i has i, toxic ids `[4, 3]` of which row i has 3 - i."""
    generator = torch.Generator().manual_seed(seed)
    logits_BTV = torch.randn(4, 5, 7, generator=generator) * 3
    labels_BT = torch.randint(7, (4, 5), generator=generator)
    toxic_BK = torch.randint(7, (4, 3), generator=generator)
    rows_B1 = torch.arange(4)[:, None]
    return (
        logits_BTV,
        labels_BT.masked_fill(torch.arange(5) >= rows_B1, IGNORED),
        toxic_BK.masked_fill(torch.arange(3) >= 3 - rows_B1, -1),
    )


def gradient(values_B: Tensor, leaf: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(values_B.sum(), leaf)
    return found


# --- cross-entropy


def test_cross_entropy_by_hand() -> None:
    """Two even choices cost ln 2 each; the third position is ignored."""
    assert cross_entropy(torch.zeros(1, 3, 2), torch.tensor([[0, 1, IGNORED]])).item() == pytest.approx(2 * LN(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_cross_entropy_equals_torch_on_each_row(smoothing: float, seed: int) -> None:
    logits_BTV, labels_BT, _ = random_batch(seed)
    found_B = cross_entropy(logits_BTV, labels_BT, smoothing)
    torch_loss = nn.CrossEntropyLoss(ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum")
    for row in range(4):
        torch.testing.assert_close(found_B[row], torch_loss(logits_BTV[row], labels_BT[row]), rtol=1e-4, atol=1e-4)


# --- token unlikelihood


def test_token_unlikelihood_by_hand() -> None:
    """Four even choices: -ln(1 - 1/4) wherever a toxic token is not the label. Row 0: token 2 at position 0 only, since
    it is the label at 1. Row 1: none. Row 2: probabilities 1/2, 1/4, 1/4, 0 and tokens 0, 1: (ln 2 + ln 4/3) / 2."""
    logits_BTV = torch.zeros(3, 3, 4)
    logits_BTV[2] = torch.tensor([0.5, 0.25, 0.25, 0.0]).log()
    labels_BT = torch.tensor([[1, 2, IGNORED], [1, 2, 3], [3, IGNORED, IGNORED]])
    toxic_BK = torch.tensor([[2, -1], [-1, -1], [0, 1]])
    found = token_unlikelihood(logits_BTV, labels_BT, toxic_BK).tolist()
    assert found == pytest.approx([LN(4 / 3), 0.0, (LN(2) + LN(4 / 3)) / 2])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_token_unlikelihood_equals_loops(seed: int) -> None:
    logits_BTV, labels_BT, toxic_BK = random_batch(seed)
    found_B = token_unlikelihood(logits_BTV, labels_BT, toxic_BK)
    probs_BTV = logits_BTV.double().softmax(2)
    for row in range(4):
        terms = [
            -math.log1p(-float(probs_BTV[row, t, token]))
            for t in range(row)
            for token in toxic_BK[row, : 3 - row].tolist()
            if token != labels_BT[row, t]
        ]
        assert float(found_B[row]) == pytest.approx(sum(terms) / max(len(terms), 1), rel=1e-3, abs=1e-4)


def test_token_unlikelihood_pushes_a_certain_token_down() -> None:
    """At p = 1 the loss is infinite; held, it is ln 1e6, and descent lowers that token and raises the others."""
    logits_BTV = torch.tensor([[[15.0, 0.0, 0.0]]], requires_grad=True)
    loss_B = token_unlikelihood(logits_BTV, torch.tensor([[1]]), torch.tensor([[0]]))
    assert loss_B.item() == pytest.approx(LN(1e6), rel=1e-2)
    slopes_V = gradient(loss_B, logits_BTV).flatten()
    assert 0.1 < slopes_V[0] <= 1
    assert (slopes_V[1:] < 0).all()


def test_a_micro_batch_without_toxic_tokens_costs_nothing() -> None:
    logits_BTV = torch.randn(2, 3, 4, requires_grad=True)
    found_B = token_unlikelihood(logits_BTV, torch.ones(2, 3, dtype=torch.long), torch.empty(2, 0, dtype=torch.long))
    assert found_B.tolist() == [0, 0]
    assert (gradient(found_B, logits_BTV) == 0).all()


# --- toxicity-aware


def test_expected_toxicity_by_hand() -> None:
    """Toxicities 1 and 1/2 under (1/4, 3/4) and (3/4, 1/4): 5/8 and 7/8, on average 3/4; a row without targets 0."""
    probs_BTV = torch.tensor([[[0.25, 0.75], [0.75, 0.25]]]).repeat(2, 1, 1)
    labels_BT = torch.tensor([[0, 0], [IGNORED, IGNORED]])
    found = expected_toxicity(probs_BTV, labels_BT, torch.tensor([1.0, 0.5]))
    assert found.tolist() == pytest.approx([0.75, 0.0])


def test_expected_toxicity_needs_a_weight_for_each_logit() -> None:
    with pytest.raises(ValueError, match=r"each of the model's 3 logits, were 2: pad them with 0"):
        expected_toxicity(torch.ones(1, 1, 3), torch.zeros(1, 1, dtype=torch.long), torch.ones(2))


def test_classifier_toxicity_by_hand() -> None:
    """Embeddings 0 and 2, read under (1/2, 1/2) and (1/4, 3/4): 1 and 3/2, mean 5/4, sigmoid(5/4); where the second
    position is no target sigmoid(1). The slope for p(1) at the first position is 2/2 sigmoid'(5/4)."""
    probs_BTV = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]).repeat(3, 1, 1).requires_grad_()
    labels_BT = torch.tensor([[0, 0], [0, IGNORED], [IGNORED, IGNORED]])
    classifier = SoftClassifier(Toy([[0.0], [2.0]]), toxic_label=0)
    found_B = classifier_toxicity(probs_BTV, labels_BT, classifier)
    five_quarters = 1 / (1 + math.exp(-1.25))
    assert found_B.tolist() == pytest.approx([five_quarters, 1 / (1 + math.exp(-1)), 0.0])
    slopes_BTV = gradient(found_B, probs_BTV)
    assert slopes_BTV[0, 0].tolist() == pytest.approx([0.0, five_quarters * (1 - five_quarters)])
    assert (slopes_BTV[1, 1] == 0).all()
    assert (slopes_BTV[2] == 0).all()


def test_a_classifier_reads_one_hot_output_as_its_tokens(policy: tiny.TinyModel, judge: nn.Module) -> None:
    """A soft output that is sure of its tokens has the toxicity that the classifier gives those tokens."""
    inputs = micro_batch(policy)
    labels_BT = inputs["labels"]
    known_BT = labels_BT != IGNORED
    probs_BTV = nn.functional.one_hot(labels_BT.clamp(min=0), policy.model.config.vocab_size).float()
    expected = judge(input_ids=labels_BT.clamp(min=0), attention_mask=known_BT.long()).logits
    for activation, probability in (("sigmoid", expected.sigmoid()), ("softmax", expected.softmax(1))):
        found_B = classifier_toxicity(probs_BTV, labels_BT, SoftClassifier(judge, 1, activation))
        torch.testing.assert_close(found_B, probability[:, 1].detach())


def test_soft_output_needs_the_policys_vocabulary() -> None:
    classifier = SoftClassifier(Toy([[0.0], [2.0]]), toxic_label=0)
    message = r"of 3 tokens .* one embeds 2: .*resize_token_embeddings\(3\)"
    with pytest.raises(ValueError, match=message):
        classifier_toxicity(torch.ones(1, 1, 3), torch.zeros(1, 1, dtype=torch.long), classifier)


def test_soft_embeddings_scale_as_barts_embedding_does() -> None:
    embedding = BartScaledWordEmbedding(5, 2, padding_idx=0, embed_scale=3.0)
    ids = torch.tensor([[1, 4]])
    torch.testing.assert_close(soft_embeddings(nn.functional.one_hot(ids, 5).float(), embedding), embedding(ids))


# --- semantic consistency


def test_semantic_consistency_by_hand() -> None:
    """Orthogonal embeddings, source state (1, 0). Sure of token 0: 0. Even: cos 45°, 1 - 1/sqrt 2. First token 0, then
    token 1: the same mean. An empty source, and no target: 0."""
    toy = ToyEncoder([[1.0, 0.0], [0.0, 1.0]])
    sure, even, other = [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]
    probs_BTV = torch.tensor([[sure, sure], [even, even], [sure, other], [sure, other], [even, even], [even, even]])
    labels_BT = torch.tensor([[0, 0], [0, 0], [0, 0], [0, IGNORED], [0, 0], [IGNORED, IGNORED]])
    states_BSD = torch.tensor([[[1.0, 0.0], [0.0, 5.0]]]).repeat(6, 1, 1)
    mask_BS = torch.tensor([[1, 0]] * 4 + [[0, 0]] + [[1, 0]])
    found = semantic_consistency(probs_BTV, labels_BT, states_BSD, mask_BS, toy, toy.embedding)
    angle = 1 - 1 / math.sqrt(2)
    assert found.tolist() == pytest.approx([0, angle, angle, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_consistency_teaches_the_output_and_not_the_encoder(checkpointing: bool) -> None:
    """The slopes for the logits equal those of the open computation, in which the encoder's weights do get gradients;
    here neither they nor the embedding nor the source's states get one."""
    policy = tiny.build("t5", texts(), head="seq2seq_lm", dropout_rate=0.0)
    inputs, model = micro_batch(policy), policy.model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    decoded = decode(model, inputs, inputs["labels"])
    states_BSD = decoded.states_BSD.detach().requires_grad_()
    logits_BTV = decoded.logits_BTV.detach().requires_grad_()
    labels_BT, mask_BS = inputs["labels"], inputs["attention_mask"]
    encoder, embedding = model.get_encoder(), model.get_input_embeddings()
    found_B = semantic_consistency(probabilities(logits_BTV), labels_BT, states_BSD, mask_BS, encoder, embedding)
    found_B.sum().backward()
    assert logits_BTV.grad is not None
    assert all(weight.grad is None for weight in model.parameters())
    assert states_BSD.grad is None

    open_BTV = decoded.logits_BTV.detach().requires_grad_()
    known_BT = labels_BT != IGNORED
    read = encoder(inputs_embeds=open_BTV.softmax(2) @ embedding.weight, attention_mask=known_BT.long())
    means = [
        (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        for states, mask in ((read.last_hidden_state, known_BT), (states_BSD.detach(), mask_BS))
    ]
    expected_B = 1 - cosine_similarity(*means)
    expected_B.sum().backward()
    torch.testing.assert_close(found_B, expected_B)
    torch.testing.assert_close(logits_BTV.grad, open_BTV.grad)
    assert any(weight.grad is not None for weight in encoder.parameters())


# --- all of them


LOGIT_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda logits, labels, toxic: cross_entropy(logits, labels),
    "smoothed": lambda logits, labels, toxic: cross_entropy(logits, labels, 0.1),
    "unlikelihood": token_unlikelihood,
    "toxic_mass": lambda logits, labels, toxic: expected_toxicity(
        probabilities(logits), labels, torch.linspace(0, 1, 7)
    ),
    "toxic_classifier": lambda logits, labels, toxic: classifier_toxicity(
        probabilities(logits), labels, SoftClassifier(Toy([[float(v)] for v in range(7)]), 0)
    ),
    "consistency": lambda logits, labels, toxic: semantic_consistency(
        probabilities(logits), labels, torch.ones(len(logits), 1, 2), torch.ones(len(logits), 1), *toy_encoder()
    ),
}


def toy_encoder() -> tuple[nn.Module, nn.Embedding]:
    toy = ToyEncoder([[math.cos(v), math.sin(v)] for v in range(7)])
    return toy, toy.embedding


@pytest.mark.parametrize("name", LOGIT_LOSSES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_row_loses_what_it_loses_alone(name: str, seed: int) -> None:
    """In value and gradient; a row without targets adds nothing and gets no gradient."""
    logits_BTV, labels_BT, toxic_BK = random_batch(seed)
    together_BTV = logits_BTV.clone().requires_grad_()
    found_B = LOGIT_LOSSES[name](together_BTV, labels_BT, toxic_BK)
    slopes_BTV = gradient(found_B, together_BTV)
    for row in range(4):
        cut = slice(row, row + 1), slice(0, max(row, 1))
        alone_BTV = logits_BTV[cut].clone().requires_grad_()
        value_B = LOGIT_LOSSES[name](alone_BTV, labels_BT[cut], toxic_BK[cut[0]])
        torch.testing.assert_close(found_B[cut[0]], value_B, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(slopes_BTV[cut], gradient(value_B, alone_BTV), rtol=1e-4, atol=1e-5)
    assert found_B[0] == 0
    assert slopes_BTV.isfinite().all()
    assert (slopes_BTV[labels_BT == IGNORED] == 0).all()


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_log_probabilities_and_half_precision_serve_as_logits(name: str) -> None:
    """Computed in float32 from bf16 logits, and the same from the log-probabilities of a copy head."""
    logits_BTV, labels_BT, toxic_BK = random_batch(5)
    loss = LOGIT_LOSSES[name]
    expected_B = loss(logits_BTV, labels_BT, toxic_BK)
    half_BTV = logits_BTV.bfloat16()
    torch.testing.assert_close(loss(log_softmax(logits_BTV, 2), labels_BT, toxic_BK), expected_B)
    assert loss(half_BTV, labels_BT, toxic_BK).dtype == torch.float32
    torch.testing.assert_close(
        loss(half_BTV, labels_BT, toxic_BK), loss(half_BTV.float(), labels_BT, toxic_BK), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_copies_of_the_logits_kept_for_backward(name: str) -> None:
    """What autograd saves that is as large as the logits, the logits themselves apart: the soft output, or nothing."""
    logits_BTV = torch.randn(2, 20, 7, requires_grad=True)
    labels_BT = torch.randint(7, (2, 20))
    kept = set()

    def pack(saved: Tensor) -> Tensor:
        if saved.numel() >= logits_BTV.numel():
            kept.add(saved.untyped_storage().data_ptr())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        values_B = LOGIT_LOSSES[name](logits_BTV, labels_BT, torch.tensor([[1], [2]]))
    assert values_B.requires_grad
    soft = name in {"toxic_mass", "toxic_classifier", "consistency"}
    assert len(kept - {logits_BTV.untyped_storage().data_ptr()}) == soft


# --- the sum, on a real tiny T5


def texts() -> list[str]:
    return [text for pair in PAIRS for text in pair]


def micro_batch(policy: tiny.TinyModel, rows: slice = slice(None), copies_as_labels: bool = False) -> dict[str, Tensor]:
    """Pairs as the collator gives them, padded to their own longest; the global batch is all of `PAIRS`."""
    tokenizer = policy.tokenizer
    sources, references = zip(*PAIRS[rows], strict=True)
    encoded = tokenizer(list(sources), padding=True, return_tensors="pt")
    labels_BT = tokenizer(list(references), padding=True, return_tensors="pt").input_ids
    labels_BT = labels_BT.masked_fill(labels_BT == tokenizer.pad_token_id, IGNORED)
    copies_BC = encoded.input_ids.masked_fill(encoded.attention_mask == 0, IGNORED)
    removed = [
        sorted(set(tokenizer(source).input_ids) - set(tokenizer(reference).input_ids))
        for source, reference in PAIRS[rows]
    ]
    toxic_BK = torch.tensor([ids + [-1] * (max(map(len, removed)) - len(ids)) for ids in removed])
    inputs = {
        "input_ids": encoded.input_ids,
        "attention_mask": encoded.attention_mask,
        "labels": copies_BC if copies_as_labels else labels_BT,
        "copy_labels": copies_BC,
        "toxic_ids": toxic_BK,
        "global_tokens": torch.tensor(sum(len(tokenizer(reference).input_ids) for _, reference in PAIRS)),
        "global_rows": torch.tensor(len(PAIRS)),
    }
    reference = tiny.build("t5", texts(), head="seq2seq_lm", seed=9).model
    chosen_B, rejected_B = reference_logprobs(reference, inputs)
    return inputs | {"reference_chosen": chosen_B, "reference_rejected": rejected_B}


@pytest.fixture
def policy() -> tiny.TinyModel:
    return tiny.build("t5", texts(), head="seq2seq_lm")


@pytest.fixture(scope="module")
def judge() -> nn.Module:
    """A BERT classifier on the policy's vocabulary, with weights wide enough that its verdicts differ."""
    tokenizer = tiny.build_tokenizer("t5", texts())
    config = tiny.build_config("bert", tokenizer, initializer_range=0.2, num_labels=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AutoModelForSequenceClassification.from_config(config).eval()


def all_losses(settings: LossSettings, policy: tiny.TinyModel, judge: nn.Module) -> Any:
    toxicity_V = torch.arange(policy.model.config.vocab_size) % 3 / 2
    return build_loss(settings, toxicity_V, SoftClassifier(judge, toxic_label=1))


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


def test_a_batch_is_the_sum_of_its_micro_batches(policy: tiny.TinyModel, judge: nn.Module) -> None:
    """One row and three rows, each padded to its own length, in loss, in every part and in the gradient."""
    loss = all_losses(EVERYTHING, policy, judge)
    whole = loss(policy.model, micro_batch(policy))
    whole.total.backward()
    expected = gradients(policy.model)
    cuts = [loss(policy.model, micro_batch(policy, rows)) for rows in (slice(0, 1), slice(1, 4))]
    for cut in cuts:
        cut.total.backward()
    found = gradients(policy.model)
    torch.testing.assert_close(cuts[0].total + cuts[1].total, whole.total)
    assert whole.parts.keys() >= set(PARTS)
    for name, value in whole.parts.items():
        torch.testing.assert_close(cuts[0].parts[name] + cuts[1].parts[name], value, rtol=1e-4, atol=1e-5, msg=name)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_the_total_is_the_weighted_sum_of_the_parts(policy: tiny.TinyModel, judge: nn.Module) -> None:
    total, parts = all_losses(EVERYTHING, policy, judge)(policy.model, micro_batch(policy))
    weights = EVERYTHING.weights
    assert set(weights) == set(PARTS)
    assert float(total.detach()) == pytest.approx(sum(weights[name] * float(parts[name]) for name in PARTS), rel=1e-5)
    assert not any(value.requires_grad for value in parts.values())


def test_the_default_is_the_loss_of_the_model(policy: tiny.TinyModel) -> None:
    """Cross-entropy over all target tokens, as transformers computes it from labels."""
    inputs = micro_batch(policy)
    expected = policy.model(**{name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}).loss
    total, parts = build_loss(LossSettings())(policy.model, inputs)
    torch.testing.assert_close(total, expected)
    assert list(parts) == ["cross_entropy"]


def test_filler_rows_add_nothing(policy: tiny.TinyModel, judge: nn.Module) -> None:
    """A row whose labels are all missing: a rank that ran out of rows passes one, and loss and gradient are 0."""
    inputs = micro_batch(policy, slice(0, 1))
    inputs["labels"] = torch.full_like(inputs["labels"], IGNORED)
    total, parts = all_losses(EVERYTHING, policy, judge)(policy.model, inputs)
    total.backward()
    assert all(value == 0 for value in parts.values())
    assert all((values == 0).all() for values in gradients(policy.model).values())


def test_a_row_that_is_its_own_reference_has_no_pair(policy: tiny.TinyModel) -> None:
    """A neutral source to be repeated (a curriculum's copy stage): it cannot be preferred to itself."""
    settings = LossSettings(cross_entropy=0, contrast=1, odds_ratio=1, dpo=1)
    total, parts = build_loss(settings)(policy.model, micro_batch(policy, copies_as_labels=True))
    assert total == 0
    assert all(value == 0 for value in parts.values())


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [1, 2, 3]])
def test_in_batch_count_equals_a_double_loop(policy: tiny.TinyModel, rows: list[int]) -> None:
    """-ln(e^s(y_i|x_i) / (e^s(y_i|x_i) + sum_j e^s(x_j|x_i))), each s from the model alone on one unpadded pair. The
    third row's reference is the second row's source, so that source is no negative of the third row; a row without
    targets, as the first one in the second case, neither has negatives nor is one."""
    inputs = micro_batch(policy)
    width = max(inputs["labels"].shape[1], inputs["copy_labels"].shape[1])
    inputs["labels"] = nn.functional.pad(inputs["labels"], (0, width - inputs["labels"].shape[1]), value=IGNORED)
    inputs["labels"][2] = nn.functional.pad(
        inputs["copy_labels"][1], (0, width - inputs["copy_labels"].shape[1]), value=IGNORED
    )

    @torch.no_grad()
    def score(source: int, labels_T: Tensor) -> float:
        ids = inputs["input_ids"][source][inputs["attention_mask"][source].bool()]
        return -float(policy.model(input_ids=ids[None], labels=labels_T[labels_T != IGNORED][None]).loss)

    expected = []
    inputs["labels"][[row for row in range(len(PAIRS)) if row not in rows]] = IGNORED
    for i in rows:
        target = math.exp(score(i, inputs["labels"][i]))
        others = [math.exp(score(i, inputs["copy_labels"][j])) for j in rows if (i, j) != (2, 1)]
        expected.append(-math.log(target / (target + sum(others))))
    settings = LossSettings(cross_entropy=0, contrast=1, contrast_negatives="batch")
    found = build_loss(settings)(policy.model, inputs).total.detach()
    assert float(found) == pytest.approx(sum(expected) / len(PAIRS), rel=1e-4)


@pytest.mark.parametrize("negatives", ["own", "batch"])
def test_preference_parts_equal_their_formulas(policy: tiny.TinyModel, negatives: str) -> None:
    """Row by row from the mean log-probabilities m: ln(1 + e^(m_copy - m)) and -ln sigmoid of the log odds ratio, which
    takes a row's own copy whatever COUNT's negatives are; and DPO from the sums, with beta 1/2 and smoothing 0.1."""
    inputs = micro_batch(policy)
    chosen, rejected = (
        sequence_logprobs(decode(policy.model, inputs, inputs[name]).logits_BTV, inputs[name])
        for name in ("labels", "copy_labels")
    )
    chosen_B, rejected_B = chosen.means.detach().double(), rejected.means.detach().double()
    settings = LossSettings(
        contrast=1, contrast_negatives=negatives, odds_ratio=0.1, dpo=1, dpo_beta=0.5, dpo_label_smoothing=0.1
    )
    _, parts = build_loss(settings)(policy.model, inputs)
    odds_B = [mean_B.exp() / (1 - mean_B.exp()) for mean_B in (chosen_B, rejected_B)]
    margins_B = (chosen.sums - inputs["reference_chosen"] - rejected.sums + inputs["reference_rejected"]).detach() / 2
    expected = {
        "odds_ratio": (1 + odds_B[1] / odds_B[0]).log(),
        "odds_ratio_margin": chosen_B - rejected_B,
        "odds_ratio_accuracy": (chosen_B > rejected_B).double(),
        "dpo": 0.9 * (1 + (-margins_B).exp()).log() + 0.1 * (1 + margins_B.exp()).log(),
        "dpo_margin": margins_B,
        "dpo_accuracy": (margins_B > 0).double(),
    }
    if negatives == "own":
        expected["contrast"] = (1 + (rejected_B - chosen_B).exp()).log()
    for name, values_B in expected.items():
        assert float(parts[name]) == pytest.approx(float(values_B.mean()), rel=1e-4), name


@pytest.mark.parametrize(("settings", "decoder_passes"), [(LossSettings(), 1), (LossSettings(contrast=1, dpo=1), 2)])
def test_the_encoder_runs_once(policy: tiny.TinyModel, settings: LossSettings, decoder_passes: int) -> None:
    passes = {"encoder": 0, "decoder": 0}

    def count(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            passes[name] += 1

        return hook

    for name in passes:
        getattr(policy.model, name).register_forward_hook(count(name))
    build_loss(settings)(policy.model, micro_batch(policy))
    assert passes == {"encoder": 1, "decoder": decoder_passes}


@pytest.mark.parametrize("part", PARTS)
def test_a_step_lowers_each_loss(policy: tiny.TinyModel, judge: nn.Module, part: str) -> None:
    """One short step down the gradient of that loss alone, on its own batch: it falls by slope times length. (The
    consistency's own slope leaves out, on purpose, that the encoder that measures has moved too.)"""
    loss = all_losses(LossSettings(**ALONE | {part: 1.0}), policy, judge)
    inputs = micro_batch(policy)
    before = loss(policy.model, inputs).total
    before.backward()
    found = gradients(policy.model)
    slope, step = math.sqrt(sum(float((values**2).sum()) for values in found.values())), 2e-3
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if name in found:
                weight -= step / slope * found[name]
        after = loss(policy.model, inputs).total
    assert after < before
    if part != "consistency":
        assert float(before.detach() - after) == pytest.approx(slope * step, rel=0.2)


def test_the_judge_is_frozen(policy: tiny.TinyModel, judge: nn.Module) -> None:
    judge.requires_grad_(True).train()
    total = all_losses(LossSettings(**ALONE | {"toxic_classifier": 1.0}), policy, judge)(
        policy.model, micro_batch(policy)
    ).total
    total.backward()
    assert not judge.training
    assert all(weight.grad is None and not weight.requires_grad for weight in judge.parameters())
    assert all(values.isfinite().all() for values in gradients(policy.model).values())


def learn(model: nn.Module, settings: LossSettings, inputs: dict[str, Tensor], steps: int) -> None:
    loss, optimizer = build_loss(settings), torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, inputs).total.backward()
        optimizer.step()


@torch.no_grad()
def copy_and_reference(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[float, float]:
    """Mean log-probability a token of the copies and of the references."""
    copies, references = (
        sequence_logprobs(decode(model, inputs, inputs[name]).logits_BTV, inputs[name]).means.mean()
        for name in ("copy_labels", "labels")
    )
    return float(copies), float(references)


def test_copies_become_less_likely(policy: tiny.TinyModel) -> None:
    """S2's situation in small: a model that reproduces its source. The same ten steps of cross-entropy leave copies
    likelier without than with COUNT or ORPO's odds ratio, under which the reference overtakes."""
    inputs = micro_batch(policy)
    learn(policy.model, LossSettings(), micro_batch(policy, copies_as_labels=True), steps=60)
    copies_at_first, references_at_first = copy_and_reference(policy.model, inputs)
    assert copies_at_first > references_at_first + 1
    after = {}
    for name in ("cross_entropy", "contrast", "odds_ratio"):
        model = copy.deepcopy(policy.model)
        learn(model, LossSettings(**{"cross_entropy": 1.0, name: 1.0}), inputs, steps=10)
        after[name] = copy_and_reference(model, inputs)
    for name in ("contrast", "odds_ratio"):
        copies, references = after[name]
        assert copies < after["cross_entropy"][0]
        assert copies < copies_at_first
        assert copies < references


def test_adapters_learn_and_the_model_below_does_not(judge: nn.Module) -> None:
    policy = tiny.build("t5", texts(), head="seq2seq_lm")
    adapted = get_peft_model(policy.model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"])).eval()
    all_losses(EVERYTHING, policy, judge)(adapted, micro_batch(policy)).total.backward()
    found = gradients(adapted)
    assert found
    assert all("lora" in name for name in found)
    assert any((values != 0).any() for values in found.values())


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_gradients_under_ddp_are_those_without(policy: tiny.TinyModel, judge: nn.Module) -> None:
    loss, inputs = all_losses(EVERYTHING, policy, judge), micro_batch(policy)
    loss(policy.model, inputs).total.backward()
    expected = gradients(policy.model)
    wrapped = DistributedDataParallel(policy.model)
    for _ in range(2):
        loss(wrapped, inputs).total.backward()
        found = gradients(policy.model)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


class CopyHead(T5ForConditionalGeneration):
    """Returns log-probabilities, and reads the source's ids in every pass, as a copy head does."""

    def forward(self, input_ids: Tensor, **inputs: Any) -> Any:
        outputs = super().forward(input_ids=input_ids, **inputs)
        assert input_ids.shape[0] == outputs.logits.shape[0]
        outputs.logits = log_softmax(outputs.logits, 2)
        return outputs


def test_a_copy_heads_log_probabilities_are_as_good_as_logits(policy: tiny.TinyModel, judge: nn.Module) -> None:
    loss, inputs = all_losses(EVERYTHING, policy, judge), micro_batch(policy)
    model = CopyHead(policy.model.config).eval()
    model.load_state_dict(policy.model.state_dict())
    torch.testing.assert_close(loss(model, inputs).total, loss(policy.model, inputs).total)


@pytest.mark.parametrize("autocast", [True, False])
def test_bf16_is_near_float32(policy: tiny.TinyModel, judge: nn.Module, autocast: bool) -> None:
    """Weights in bf16, or float32 ones under autocast: each part within a tenth, in float32, with finite gradients."""
    loss, inputs = all_losses(EVERYTHING, policy, judge), micro_batch(policy)
    expected = loss(policy.model, inputs).parts
    model = policy.model if autocast else policy.model.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        total, parts = loss(model, inputs)
    total.backward()
    for name in PARTS:
        torch.testing.assert_close(parts[name], expected[name], rtol=0.1, atol=0.01, msg=name)
    assert all(values.isfinite().all() for values in gradients(model).values())


def test_evaluation_without_gradients_gives_the_same_values(policy: tiny.TinyModel, judge: nn.Module) -> None:
    loss, inputs = all_losses(EVERYTHING, policy, judge), micro_batch(policy)
    expected = loss(policy.model, inputs).total
    with torch.inference_mode():
        torch.testing.assert_close(loss(policy.model, inputs).total, expected.detach())


# --- set-up


def test_a_missing_input_is_named(policy: tiny.TinyModel) -> None:
    inputs = micro_batch(policy)
    del inputs["copy_labels"]
    with pytest.raises(ValueError, match=r"needs the inputs \['copy_labels'\]: have the collator add them"):
        build_loss(LossSettings(contrast=1))(policy.model, inputs)


def test_what_a_loss_needs_is_asked_for_at_set_up() -> None:
    with pytest.raises(ValueError, match="toxic_mass needs toxicity_V"):
        build_loss(LossSettings(toxic_mass=1))
    with pytest.raises(ValueError, match=r"must be in 0..1, were 0..2: clip or rescale"):
        build_loss(LossSettings(toxic_mass=1), torch.tensor([0.0, 2.0]))
    with pytest.raises(ValueError, match="toxic_classifier needs a classifier"):
        build_loss(LossSettings(toxic_classifier=1))
    with pytest.raises(ValueError, match="needs a part with a weight above 0, and all are 0"):
        LossSettings(cross_entropy=0)


def test_settings_name_the_inputs() -> None:
    assert LossSettings().inputs == ()
    assert LossSettings(unlikelihood=1, contrast=1).inputs == ("toxic_ids", "copy_labels")
    assert LossSettings(dpo=1).inputs == ("copy_labels", "reference_chosen", "reference_rejected")


def test_a_built_loss_pickles(policy: tiny.TinyModel, judge: nn.Module) -> None:
    loss, inputs = all_losses(EVERYTHING, policy, judge), micro_batch(policy)
    again = pickle.loads(pickle.dumps(loss))
    torch.testing.assert_close(again(policy.model, inputs).total, loss(policy.model, inputs).total)


def test_settings_import_neither_torch_nor_transformers() -> None:
    code = "import sys, detox.rewriter.loss_settings\nassert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The classifier that reads soft outputs: what it learns from the two sides of pairs, and as part of the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from detox.classifier.batching import MicroBatch, TokenisedRows, pad_rows
from detox.data.pairs.prepared import PairRow
from detox.data.synthetic_pairs import generate_pairs
from detox.models import tiny
from detox.models.seq2seq import load_seq2seq
from detox.rewriter.batches import PairDataset, TokenisedPairs, tokenise_pairs
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.loss_settings import PARTS, LossSettings
from detox.rewriter.losses import build_loss
from detox.rewriter.preference import reference_logprobs
from detox.rewriter.settings import RewriterModelSettings
from detox.rewriter.side_reader import fit_side_reader

PAIRS = [pair for pair in generate_pairs(600, noise=0) if pair["toxic"] != pair["neutral"]]
ROWS = [PairRow(at, "en", str(pair["toxic"]), str(pair["neutral"]), at, 0.5, "easy") for at, pair in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def policy() -> tiny.TinyModel:
    """A model that copies, with its tokenizer."""
    texts = [text for row in ROWS for text in (row.toxic, row.neutral)]
    loaded = load_seq2seq("tiny/copy_t5", texts_for_tokenizer=texts, vocab_size=600)
    return tiny.TinyModel(loaded.model, loaded.tokenizer)


@pytest.fixture(scope="module")
def tokenised(policy: tiny.TinyModel) -> TokenisedPairs:
    lexicon = Lexicon.fit((row.lang, row.toxic, row.neutral) for row in ROWS)
    return tokenise_pairs(ROWS, policy.tokenizer, RewriterModelSettings(max_target_tokens=48), lexicon)


def test_it_tells_the_sides_of_pairs_that_it_has_not_seen(policy: tiny.TinyModel, tokenised: TokenisedPairs) -> None:
    half = len(tokenised) // 2
    learned, unseen = tokenised.select(np.arange(half)), tokenised.select(np.arange(half, len(tokenised)))
    classifier = fit_side_reader(learned, policy.model.config.vocab_size, seed=1)
    sides = TokenisedRows.join([unseen.copies, unseen.targets])
    inputs = pad_rows([sides[row] for row in range(len(sides))], 0)
    embedded = classifier.model.get_input_embeddings()(inputs["input_ids"])
    with torch.inference_mode():
        logits_N = classifier.model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"]).logits[:, 0]
    assert roc_auc_score(np.arange(len(sides)) < len(unseen), logits_N.numpy()) > 0.9


def test_padding_does_not_count(policy: tiny.TinyModel, tokenised: TokenisedPairs) -> None:
    model = fit_side_reader(tokenised.select(np.arange(40)), policy.model.config.vocab_size, seed=1).model
    ids_BT = torch.tensor([[5, 6, 7]])
    longer_BT, mask_BT = torch.tensor([[5, 6, 7, 9, 9]]), torch.tensor([[1, 1, 1, 0, 0]])
    alone = model(inputs_embeds=model.embedding(ids_BT), attention_mask=torch.ones(1, 3)).logits
    padded = model(inputs_embeds=model.embedding(longer_BT), attention_mask=mask_BT).logits
    torch.testing.assert_close(alone, padded)


def test_the_same_seed_the_same_weights(policy: tiny.TinyModel, tokenised: TokenisedPairs) -> None:
    some, before = tokenised.select(np.arange(60)), torch.get_rng_state()
    first, again, other = (fit_side_reader(some, policy.model.config.vocab_size, seed) for seed in (1, 1, 2))
    weights = [one.model.state_dict()["toxic.weight"] for one in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_every_loss_reads_a_model_that_copies(policy: tiny.TinyModel, tokenised: TokenisedPairs) -> None:
    """All parts at once on the demo's architecture: finite, and each with a gradient of its own."""
    vocabulary = policy.model.config.vocab_size
    classifier = fit_side_reader(tokenised.select(np.arange(60)), vocabulary, seed=1)
    rows = np.arange(4)
    inputs = PairDataset(tokenised, int(policy.tokenizer.pad_token_id)).__getitems__(MicroBatch(rows.tolist(), rows))
    with torch.no_grad():
        chosen_B, rejected_B = reference_logprobs(policy.model, inputs)
    inputs |= {"reference_chosen": chosen_B, "reference_rejected": rejected_B}
    toxicity_V = torch.linspace(0, 1, vocabulary)
    for name in PARTS:
        alone = LossSettings(**(dict.fromkeys(PARTS, 0.0) | {name: 1.0}))
        found = build_loss(alone, toxicity_V, classifier)(policy.model, inputs)
        found.total.backward()
        gradients = [weight.grad for weight in policy.model.parameters() if weight.grad is not None]
        assert torch.isfinite(found.total), name
        assert any(bool(gradient.abs().sum() > 0) for gradient in gradients), name
        policy.model.zero_grad(set_to_none=True)

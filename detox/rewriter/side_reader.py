"""A small classifier of toxic text in a rewriter's own tokens, learned from the two sides of its training pairs.

The loss `toxic_classifier` needs one that reads soft outputs, so it has to share the rewriter's vocabulary and take
embeddings, and no published classifier does: those of the T5 and BART families refuse `inputs_embeds`. This one is a
convolution over three tokens and the strongest response of each filter (Kim 2014), which a few thousand texts train
from nothing in seconds.

Shapes: B texts, T tokens, D width, F filters.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, dropout
from transformers.modeling_outputs import SequenceClassifierOutput

from detox.classifier.batching import TokenisedRows, pad_rows, token_batches
from detox.rewriter.batches import TokenisedPairs
from detox.rewriter.losses import SoftClassifier

WIDTH, FILTERS, WINDOW = 64, 128, 3
EPOCHS, LEARNING_RATE, BATCH_TOKENS, DROPOUT = 4, 3e-3, 2048, 0.3


class SideReader(nn.Module):
    """One logit a text: positive is toxic."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.convolution = nn.Conv1d(WIDTH, FILTERS, WINDOW, padding=WINDOW // 2)
        self.toxic = nn.Linear(FILTERS, 1)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        mask_B1T = attention_mask[:, None].to(inputs_embeds)
        responses_BFT = self.convolution(inputs_embeds.transpose(1, 2) * mask_B1T).relu() * mask_B1T
        strongest_BF = dropout(responses_BFT.amax(2), DROPOUT, self.training)
        return SequenceClassifierOutput(logits=self.toxic(strongest_BF))


def fit_side_reader(pairs: TokenisedPairs, vocabulary: int, seed: int) -> SoftClassifier:
    """Learn which side of a pair a text is; on the CPU, so that every rank gets the same weights.

    Args:
        vocabulary: logits of the rewriter.
        seed: of weights and order; torch's global generator is left as it was.
    """
    sides = TokenisedRows.join([pairs.copies, pairs.targets])
    is_toxic_N = torch.arange(len(sides)) < len(pairs)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        reader = SideReader(vocabulary).train()
        optimizer = torch.optim.Adam(reader.parameters(), LEARNING_RATE)
        for _ in range(EPOCHS):
            for rows in _batches(sides, rng):
                inputs = pad_rows([sides[row] for row in rows], pad_id=0)
                logits_B = reader(reader.embedding(inputs["input_ids"]), inputs["attention_mask"]).logits[:, 0]
                optimizer.zero_grad()
                binary_cross_entropy_with_logits(logits_B, is_toxic_N[rows].float()).backward()
                optimizer.step()
    return SoftClassifier(reader.eval(), toxic_label=0)


def _batches(sides: TokenisedRows, rng: np.random.Generator) -> list[np.ndarray]:
    """Texts of like length together, the batches in a new order each time."""
    order = np.lexsort((rng.permutation(len(sides)), sides.lengths))
    batches = list(token_batches(order, sides.lengths, BATCH_TOKENS))
    return [batches[at] for at in rng.permutation(len(batches))]

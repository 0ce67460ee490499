"""Biases on token sequences, looked up for all live hypotheses at once.

Shapes: N input rows, R live hypotheses, t tokens so far with the decoder's start token, V vocabulary; of a trie E
edges, J nodes, X biased tokens, D prefixes looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from detox.rewriter.control import Step
from detox.rewriter.spelling import Spelled


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

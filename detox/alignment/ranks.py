"""The ranks of a data-parallel run: what they add up and tell each other. One process alone is a rank too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


class RankError(RuntimeError):
    """Another rank has failed at what all do together."""


class Ranks:
    """This process among those that train together.

    Args:
        alone: it shares nothing with others, even if there are some.
    """

    def __init__(self, alone: bool = False) -> None:
        self._is_group = not alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.count = dist.get_world_size() if self._is_group else 1
        self.rank = dist.get_rank() if self._is_group else 0

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks, in place."""
        if self._is_group:
            dist.all_reduce(values)
        return values

    def most(self, values: Tensor) -> Tensor:
        """Greatest over the ranks, in place."""
        if self._is_group:
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def share_of_total(self, values: Tensor) -> Tensor:
        """This rank's part of the sum over the ranks.

        Args:
            values: one-dimensional; its length is a multiple of `count`.
        """
        if not self._is_group:
            return values
        share = values.new_empty(len(values) // self.count)
        dist.reduce_scatter(share, list(values.chunk(self.count)))
        return share

    def joined(self, share: Tensor) -> Tensor:
        """All ranks' parts end to end; each of one length."""
        if not self._is_group:
            return share
        whole = share.new_empty(len(share) * self.count)
        dist.all_gather(list(whole.chunk(self.count)), share)
        return whole

    def mine(self, items: Sequence[Item]) -> list[Item]:
        """This rank's share: every `count`-th item."""
        return list(items[self.rank :: self.count])

    def shared(self, items: Sequence[Item], function: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
        """`function` of all items, of which each rank works on its share.

        Raises:
            RankError: it failed on another rank; what it raised here comes out as it was raised. None is left waiting.
        """
        failure: Exception | None = None
        found: list[Result] = []
        try:
            found = list(function(self.mine(items)))
        except Exception as error:
            failure = error
        told = self.gathered([f"{type(failure).__name__}: {failure}" if failure else ""])
        if failure is not None:
            raise failure
        for rank, words in enumerate(told):
            if words:
                raise RankError(f"rank {rank} failed: {words}")
        return self.gathered(found)

    def gathered(self, mine: Sequence[Item]) -> list[Item]:
        """All ranks' shares, each in turn one item: the inverse of `mine`."""
        if not self._is_group:
            return list(mine)
        shares: list[Any] = [None] * self.count
        dist.all_gather_object(shares, list(mine))
        whole: list[Any] = [None] * sum(map(len, shares))
        for rank, share in enumerate(shares):
            whole[rank :: self.count] = share
        return whole

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Each parameter's gradient becomes the sum over the ranks; one message for all."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if not self._is_group:
            return
        flat = torch.cat([parameter.grad.flatten().float() for parameter in parameters])  # type: ignore[union-attr]
        dist.all_reduce(flat)
        offset = 0
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.copy_(flat[offset : offset + parameter.numel()].view_as(parameter))
            offset += parameter.numel()

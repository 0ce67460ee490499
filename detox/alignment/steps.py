"""Optimizer steps of ranks that train one model: with whole optimizer states on each (DDP), or with shares (ZeRO).

ZeRO-1 (Rajbhandari et al. 2020, arXiv:1910.02054) keeps on each rank an even share of AdamW's two moments; ZeRO-2 also
of the summed gradients, which are reduced, bucket by bucket, while the backward pass of each micro-batch still runs.

Weights stay whole and ordinary tensors on every rank, because PPO reads them in other ways than by one `forward` a
step: ranks generate in numbers of passes of their own, the output layer's weight is read beside its module, adapters
are switched off for the reference. That leaves out FSDP2, which keeps weights in shards and gathers them by collective
calls inside `forward`. torch's ZeroRedundancyOptimizer deals out whole parameters, of which an embedding can be larger
than an even share, and keeps gradients whole. DeepSpeed's engine wants every pass to be its own, and writes checkpoints
that are shards of one number of ranks; those here are AdamW's own, on rank 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detox.alignment.ppo_settings import PpoSettings
from detox.alignment.ranks import Ranks

BUCKET = 2**23
"""Elements, 32 MiB in float32, that are reduced at a time; a larger parameter is a bucket of its own."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class Steps(ABC):
    """Takes the optimizer's steps; every rank must make the same calls."""

    optimizer: torch.optim.AdamW

    @abstractmethod
    def clear(self) -> None:
        """Forget the gradients, before the first micro-batch of a step."""

    @abstractmethod
    def passed(self) -> None:
        """After the backward pass of each micro-batch."""

    @abstractmethod
    def clip(self, max_norm: float) -> float:
        """Sum the gradients over the ranks, and hold their norm within `max_norm`; the norm that it was."""

    @abstractmethod
    def step(self) -> None:
        """Change the weights."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """AdamW's, as it is of whole parameters, whatever the strategy and the number of ranks; on rank 0."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, by any strategy on any number of ranks."""


def steps_of(settings: PpoSettings, trained: Sequence[nn.Parameter], ranks: Ranks) -> Steps:
    """By the settings' strategy."""
    if settings.strategy == "ddp":
        return WholeSteps(settings, trained, ranks)
    return ShardedSteps(settings, trained, ranks, is_early=settings.strategy == "zero2")


class WholeSteps(Steps):
    """Every rank keeps everything."""

    def __init__(self, settings: PpoSettings, trained: Sequence[nn.Parameter], ranks: Ranks) -> None:
        self._trained, self._ranks = trained, ranks
        self.optimizer = _adamw(trained, settings)

    def clear(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def passed(self) -> None:
        pass

    def clip(self, max_norm: float) -> float:
        self._ranks.sum_gradients(self._trained)
        return float(nn.utils.clip_grad_norm_(self._trained, max_norm))

    def step(self) -> None:
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


class ShardedSteps(Steps):
    """Every rank keeps a share.

    Args:
        is_early: reduce gradients during each backward pass (ZeRO-2), not once before the step (ZeRO-1).
    """

    def __init__(
        self, settings: PpoSettings, trained: Sequence[nn.Parameter], ranks: Ranks, is_early: bool = False
    ) -> None:
        self._trained, self._ranks, self._is_early = trained, ranks, is_early
        # what is used last has its gradient first
        self.buckets = [Bucket(parameters, ranks) for parameters in _packed(trained[::-1])]
        self.optimizer = _adamw([bucket.share for bucket in self.buckets], settings)
        self._next = 0
        self._awaited = [set(bucket.parameters) for bucket in self.buckets]
        if is_early:
            for number, bucket in enumerate(self.buckets):
                for parameter in bucket.parameters:
                    parameter.register_post_accumulate_grad_hook(partial(self._arrived, number))

    def clear(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for parameter in self._trained:
            parameter.grad = None

    def _arrived(self, number: int, parameter: Tensor) -> None:
        """Reduce the buckets that are complete, in their order, which is the same on all ranks."""
        self._awaited[number].discard(parameter)  # type: ignore[arg-type]
        while self._next < len(self.buckets) and not self._awaited[self._next]:
            self.buckets[self._next].reduce()
            self._next += 1

    def passed(self) -> None:
        if self._is_early:
            for bucket in self.buckets[self._next :]:  # with parameters that this pass did not use
                bucket.reduce()
            self._next = 0
            self._awaited = [set(bucket.parameters) for bucket in self.buckets]

    def clip(self, max_norm: float) -> float:
        if not self._is_early:
            for bucket in self.buckets:
                bucket.reduce()
        shares = [bucket.share for bucket in self.buckets]
        squares = torch.stack([share.grad.float().square().sum() for share in shares])  # type: ignore[union-attr]
        norm = self._ranks.total(squares.sum()).sqrt()
        nn.utils.clip_grads_with_norm_(shares, max_norm, norm)
        return float(norm)

    def step(self) -> None:
        self.optimizer.step()
        for bucket in self.buckets:
            bucket.spread()

    def state_dict(self) -> dict[str, Any]:
        """The whole on rank 0, moments none elsewhere."""
        known = dict[nn.Parameter, dict[str, Any]]()
        for bucket in self.buckets:
            mine = self.optimizer.state.get(bucket.share)
            if mine:
                wholes = [self._ranks.joined(mine[name]) for name in MOMENTS]
                if self._ranks.rank == 0:
                    for parameter, *parts in zip(bucket.parameters, *map(bucket.parts, wholes), strict=True):
                        moments = {name: part.cpu() for name, part in zip(MOMENTS, parts, strict=True)}
                        known[parameter] = {"step": mine["step"].clone(), **moments}
        [group] = self.optimizer.state_dict()["param_groups"]
        state = {at: known[parameter] for at, parameter in enumerate(self._trained) if parameter in known}
        return {"state": state, "param_groups": [group | {"params": list(range(len(self._trained)))}]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        known = {self._trained[at]: moments for at, moments in state["state"].items()}
        mine = dict[int, dict[str, Any]]()
        for at, bucket in enumerate(self.buckets):
            parts = [known[parameter] for parameter in bucket.parameters if parameter in known]
            if parts:
                mine[at] = {name: bucket.share_of([part[name] for part in parts]) for name in MOMENTS}
                mine[at]["step"] = parts[0]["step"]
        [group] = state["param_groups"]
        self.optimizer.load_state_dict(
            {"state": mine, "param_groups": [group | {"params": list(range(len(self.buckets)))}]}
        )


class Bucket:
    """Parameters that lie end to end in one flat tensor, of which each rank updates an even share.

    Args:
        parameters: of one dtype; from now on views of the flat tensor.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
        self.parameters, self._ranks = parameters, ranks
        share = math.ceil(sum(parameter.numel() for parameter in parameters) / ranks.count)
        self._flat = torch.zeros(share * ranks.count, dtype=parameters[0].dtype, device=parameters[0].device)
        for parameter, part in zip(parameters, self.parts(self._flat), strict=True):
            part.copy_(parameter.detach())
            parameter.data = part
        self._mine = slice(ranks.rank * share, (ranks.rank + 1) * share)
        self.share = nn.Parameter(self._flat[self._mine])

    def parts(self, flat: Tensor) -> list[Tensor]:
        """What of a tensor like the flat one belongs to each parameter, in its shape."""
        sizes = [parameter.numel() for parameter in self.parameters]
        found = flat[: sum(sizes)].split(sizes)
        return [part.view_as(parameter) for part, parameter in zip(found, self.parameters, strict=True)]

    def reduce(self) -> None:
        """Add the sum of the ranks' gradients to the share's, and drop them."""
        summed = torch.zeros_like(self._flat, dtype=torch.float32)
        for parameter, part in zip(self.parameters, self.parts(summed), strict=True):
            if parameter.grad is not None:
                part.copy_(parameter.grad)
                parameter.grad = None
        mine = self._ranks.share_of_total(summed).to(self.share.dtype)
        self.share.grad = mine if self.share.grad is None else self.share.grad.add_(mine)

    def spread(self) -> None:
        """Every rank's share to all ranks."""
        self._flat.copy_(self._ranks.joined(self.share.detach()))

    def share_of(self, parts: Sequence[Tensor]) -> Tensor:
        """This rank's share of one tensor a parameter."""
        flat = torch.cat([part.flatten() for part in parts])
        return nn.functional.pad(flat, (0, len(self._flat) - len(flat)))[self._mine].clone()


def _adamw(parameters: Sequence[nn.Parameter], settings: PpoSettings) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)


def _packed(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """In their order, of one dtype each, up to `BUCKET` elements where there is more than one."""
    pack, elements = list[nn.Parameter](), 0
    for parameter in parameters:
        if pack and (elements + parameter.numel() > BUCKET or parameter.dtype != pack[0].dtype):
            yield pack
            pack, elements = [], 0
        pack.append(parameter)
        elements += parameter.numel()
    yield pack

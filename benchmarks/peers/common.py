"""What our side and the peers' scripts share: the task's files, its reward, how time and memory are taken.

A peer's script runs in the peer's environment with this folder first on its path, so nothing here imports anything of
ours, and transformers only where both of its versions know the name.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GOOD, BAD = 2, 3
"""Remainders of a token's id by four; all other tokens, padding and EOS among them, are neither."""


def reward_of(ids: Sequence[int]) -> float:
    """From -1, all that says anything is bad, to 1; 0 where nothing says anything."""
    good, bad = (sum(token % 4 == kind for token in ids) for kind in (GOOD, BAD))
    return (good - bad) / max(1, good + bad)


def read_task(folder: Path) -> dict[str, Any]:
    """What `benchmarks.ppo_task` wrote."""
    return dict(json.loads((folder / "task.json").read_text()))


def tokenizer_of(task: dict[str, Any], padding_side: str) -> Any:
    """A word for each id: the reward reads ids, so the words' looks do not matter."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(task["vocabulary"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w2"))
    special = {f"{name}_token": f"w{task[name]}" for name in ("pad", "eos")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side=padding_side, **special)


def worker_options() -> argparse.Namespace:
    """Of a peer's script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def begin(task: dict[str, Any], seed: int) -> None:
    """Equal threads, and a seed for all that is drawn."""
    import torch

    torch.set_num_threads(task["threads"])
    torch.manual_seed(seed)


class Meter:
    """Iterations and their rewards, and the memory above that of the moment when it is made.

    Make it once everything is imported and the policy's weights are loaded. The first iteration pays what is paid once,
    so the time is counted from its end.
    """

    def __init__(self) -> None:
        self._before = memory_mib("VmRSS")
        self._ends: list[float] = []
        self._cpu: list[float] = []
        self._rewards: list[float] = []
        self._lengths: list[float] = []

    def iteration(self, reward: float, length: float) -> None:
        """One has ended; `length` is the mean of its responses, EOS included."""
        self._ends.append(time.perf_counter())
        self._cpu.append(time.process_time())
        self._rewards.append(float(reward))
        self._lengths.append(float(length))

    def print(self, task: dict[str, Any], logprob: float) -> None:
        """The run's line. `logprob`: what the first weights give to the task's probe, by which both sides are seen to
        start from the same."""
        import torch

        samples = task["prompts_an_iteration"] * (len(self._ends) - 1)
        line = {
            "rate": samples / (self._ends[-1] - self._ends[0]),
            "cpu": (self._cpu[-1] - self._cpu[0]) / samples,
            "mib": memory_mib("VmHWM") - self._before,
            "rewards": self._rewards,
            "lengths": self._lengths,
            "logprob": logprob,
            "torch": torch.__version__,
        }
        print(json.dumps(line), flush=True)


def memory_mib(name: str) -> float:
    """VmRSS, what the process holds, or VmHWM, the most that it has held.

    Not `ru_maxrss`: a process begins with that of the one which started it.
    """
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024

"""What `benchmarks.ppo_seq2seq` and `benchmarks.ppo_causal` share: our side, alternating runs, the lines."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from benchmarks import environments
from benchmarks.lines import print_line, rounds
from benchmarks.peers.common import Meter, begin, read_task, reward_of, tokenizer_of
from benchmarks.ppo_task import SIZES, Kind, write_task

PEERS = Path(__file__).parent / "peers"
LAST = 0.25
"""Share of the iterations over which the reward at the end is taken."""
SAME = 1e-3
"""Nats by which the first weights' log-probability of a response may differ between two versions of transformers."""


class Peer(NamedTuple):
    script: str
    requirements: str


def main(kind: Kind, peer: Peer, description: str | None, arguments: list[str] | None = None) -> None:
    options = _parser(kind, description).parse_args(arguments)
    if options.worker:
        _measure(Path(options.worker), options.seed)
        return
    python = environments.python_of(PEERS / peer.requirements, options.environments)
    with tempfile.TemporaryDirectory() as folder:
        write_task(
            kind,
            Path(folder),
            options.model,
            options.mean_length or float("inf"),
            prompts_an_iteration=options.batch,
            iterations=options.iterations,
            max_new_tokens=options.response,
            threads=options.threads,
        )
        commands = {
            "ours": [sys.executable, "-m", f"benchmarks.ppo_{kind}", "--worker", folder],
            # -E: a PYTHONPATH of ours is not the peer's
            "peer": [str(python), "-E", str(PEERS / peer.script), folder],
        }
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
        for number in rounds(options.runs):
            for who, command in commands.items():
                runs[who].append(_in_process([*command, "--seed", str(number)]))
    check(runs["ours"], runs["peer"])
    report(f"ppo_{kind}", runs["ours"], runs["peer"])


def _parser(kind: Kind, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.ppo_{kind}", description=description)
    parser.add_argument("--runs", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--model", choices=tuple(SIZES), default="small")
    parser.add_argument("--batch", type=int, default=32, help="prompts of an iteration")
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--response", type=int, default=32, help="most tokens of a response")
    parser.add_argument("--mean-length", type=float, default=20, help="of responses without that limit; 0: none ends")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--environments", type=Path, default=environments.FOLDER, help="where the peer's is built")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _in_process(command: list[str]) -> dict[str, Any]:
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def _measure(folder: Path, seed: int) -> None:
    """Our run, as the README shows it, and its line."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from detox.alignment.policy import Sequences, policy_of
    from detox.alignment.ppo import PpoTrainer
    from detox.alignment.ppo_setup import Prompt

    task = read_task(folder)
    begin(task, seed)
    is_causal = task["kind"] == "causal"
    model = (AutoModelForCausalLM if is_causal else AutoModelForSeq2SeqLM).from_pretrained(folder / "model")
    lora = LoraConfig(
        task_type="CAUSAL_LM" if is_causal else "SEQ_2_SEQ_LM",
        r=task["lora_r"],
        lora_alpha=task["lora_alpha"],
        target_modules=task["lora_targets"],
        fan_in_fan_out=is_causal,
    )
    policy = policy_of(get_peft_model(model, lora))
    probe = Sequences.of([task["probe_prompt"]], [task["probe_response"]], task["pad"])
    logprob = float(policy.evaluate(probe).logprobs_BT.sum())
    prompts = [Prompt(ids, "") for ids in task["prompts"]]
    tokenizer = tokenizer_of(task, "right")
    meter = Meter()
    trainer = PpoTrainer(policy, tokenizer, prompts, WordReward(), _settings(task), seed=seed)
    for figures in trainer.train():
        meter.iteration(figures["reward"], figures["length"])
    meter.print(task, logprob)


class WordReward:
    """`reward_of` as our trainer calls it."""

    __name__ = "words"

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        return [reward_of(ids) for ids in completion_ids]


def _settings(task: dict[str, Any]) -> Any:
    from detox.alignment.ppo_settings import KlSettings, PpoSettings

    shared = ("iterations", "epochs", "minibatches", "max_new_tokens", "lr", "gamma", "lam", "clip", "value_clip")
    return PpoSettings(
        **{name: task[name] for name in shared},
        prompts=task["prompts_an_iteration"],
        value_coefficient=task["value_coefficient"],
        precision="fp32",
        max_grad_norm=1e9,  # neither peer bounds it
        kl=KlSettings(controller="fixed", coefficient=task["kl"]),
    )


def check(ours: Sequence[dict[str, Any]], peer: Sequence[dict[str, Any]]) -> None:
    """Raises:
    SystemExit: the two did not start from the same weights, or ran on different versions of torch.
    """
    (our, their), (here, there) = ([side[0][key] for side in (ours, peer)] for key in ("logprob", "torch"))
    if abs(our - their) > SAME:
        raise SystemExit(
            f"the first weights are not the same: ours gave {our:.4f} nats to the probe, the peer {their:.4f}"
        )
    if here != there:
        raise SystemExit(f"torch is {here} here and {there} there: pin the same in the peer's requirements")


def report(benchmark: str, ours: Sequence[dict[str, Any]], peer: Sequence[dict[str, Any]]) -> None:
    """The learning curves, mean over the runs, then a line a quantity."""
    for metric in ("rewards", "lengths"):
        curves = [
            [round(fmean(step), 3) for step in zip(*(run[metric] for run in side), strict=True)]
            for side in (ours, peer)
        ]
        print(json.dumps({"benchmark": benchmark, "curve": metric, "ours": curves[0], "peer": curves[1]}), flush=True)
    last = [[_last(run["rewards"]) for run in side] for side in (ours, peer)]
    if len(ours) > 1:
        error = (stdev(last[0]) ** 2 / len(ours) + stdev(last[1]) ** 2 / len(peer)) ** 0.5
        difference = {"ours less peer": round(fmean(last[0]) - fmean(last[1]), 4), "standard error": round(error, 4)}
        print(json.dumps({"benchmark": benchmark, "metric": "reward at the end", **difference}), flush=True)
    start = fmean(run["rewards"][0] for run in [*ours, *peer])  # of the same weights, so of the same expectation
    gained = [[end - start for end in side] for side in last]
    print_line(benchmark, "reward gained", *gained, "higher", "reward")
    quantities = (("mib", "peak memory", "lower", "MiB"), ("cpu", "CPU seconds a sample", "lower", "s"))
    for key, metric, better, unit in (*quantities, ("rate", "samples per second", "higher", "samples/s")):
        print_line(benchmark, metric, *([run[key] for run in side] for side in (ours, peer)), better, unit)


def _last(rewards: Sequence[float]) -> float:
    return fmean(rewards[-max(1, round(LAST * len(rewards))) :])

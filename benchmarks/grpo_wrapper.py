"""What our GRPO adds to the time of TRL's own, on which it stands: the job's training against a bare `GRPOTrainer`.

Ours is what `python -m rayjobs.finetune` runs on a rank, without Ray: config, prepared examples, our reward over the
lexicon scorer, callbacks, tracker. The peer is TRL as its users write it, with a function that asks the same lexicon.
Same model (Qwen2's shape, random weights, LoRA), prompts (RealToxicityPrompts), arguments, seed and environment, in
alternating runs, each in a process of its own. Both must say the same and learn the same at every step, or nothing is
compared. Timed is from when the trainer is made to when it has trained; checkpoints are written by both.

Monitors measure what a bare trainer does not, so ours has them at their least; a third side has them as by default.

    python -m benchmarks.grpo_wrapper [--data FILE.parquet] [--lexicon FILE.parquet] [--steps 20] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import GRPOConfig, GRPOTrainer

from benchmarks.lines import print_line, rounds
from detox.alignment import grpo
from detox.alignment.finetune_settings import (
    FinetuneConfig,
    FinetuneOptimiserSettings,
    LanguageModelSettings,
    MonitorSettings,
    OnlineSettings,
)
from detox.alignment.reward_settings import TOXICITY_ONLY, RewardSettings
from detox.classifier.lexicon import LexiconScorer
from detox.classifier.settings import BatchSettings
from detox.classifier.worker import Place
from detox.data.examples.example import PreparedExamples
from detox.data.examples.prepare import prepare_examples
from detox.data.examples.settings import ExampleSettings
from detox.models import tiny
from detox.runs.config import RunSettings, ScalingSettings, TrackingSettings
from detox.runs.storage import Storage
from rayjobs.finetune import train_rank
from rayjobs.ray_glue.seat import Seat

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 32, "vocab_size": 400},
    "small": {"hidden": 256, "vocab_size": 8000, "num_hidden_layers": 4, "num_attention_heads": 4},
}
GROUP, LR, TEMPERATURE, BETA, SEED = 8, 1e-4, 1.0, 0.04, 42
LORA_RANK, LORA_TARGETS = 16, ("q_proj", "v_proj")
WARMUP = 0.03
LEARNT = ("loss", "grad_norm", "kl", "reward")
"""Of a step's log line, by which both sides are seen to learn the same."""
SAME = 1e-4
"""By which these may differ, relatively: memory that is aligned otherwise is summed in another order."""


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.worker:
        print(json.dumps(measure(options.worker, Path(options.folder), options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_task(Path(folder), options)
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": [], "monitored": []}
        for number in rounds(options.runs):
            order = [*runs] if number % 2 else [*reversed(runs)]  # so that none always follows the same one
            for who in order:
                runs[who].append(_in_process(who, folder, options))
    check(runs)
    report(runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grpo_wrapper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="../shared/data/rtp_5k_scored.parquet", help="with prompt and continuation")
    parser.add_argument("--lexicon", default="../shared/data/lexicons.parquet", help="with term")
    parser.add_argument("--model", choices=tuple(SIZES), default="small")
    parser.add_argument("--batch", type=int, default=32, help="responses of a step")
    parser.add_argument("--response", type=int, default=32, help="most tokens of a response")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    return parser


def write_task(folder: Path, options: argparse.Namespace) -> None:
    """`model/`, with a tokenizer trained on the prompts, and `examples/`, as the job prepares them."""
    (folder / "examples").mkdir()
    settings = ExampleSettings(source=(options.data,), chosen_column="continuation")
    prepare_examples(settings, folder / "examples", SEED)
    texts = [
        f"{example.prompt}{example.chosen}" for example in PreparedExamples.open(folder / "examples").part("train")
    ]
    built = tiny.build("qwen2", texts, head="causal_lm", seed=SEED, **SIZES[options.model])
    built.model.save_pretrained(folder / "model")
    built.tokenizer.save_pretrained(folder / "model")


def _in_process(who: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.grpo_wrapper", "--worker", who, "--folder", folder]
    for name in ("data", "lexicon", "model", "batch", "response", "steps", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(finished.stdout.splitlines()[-1]))


class Watched(GRPOTrainer):
    """TRL's trainer, its clock running from when it is made to when it has trained, and what its responses were."""

    def __init__(self, **given: Any) -> None:
        reward = Heard(given["reward_funcs"])
        super().__init__(**given | {"reward_funcs": reward})
        self._heard, self.line = reward, dict[str, Any]()
        self._began = _now()

    def train(self, *arguments: Any, **named: Any) -> Any:
        result = super().train(*arguments, **named)
        wall, cpu = (now - before for now, before in zip(_now(), self._began, strict=True))
        steps = [[line[name] for name in LEARNT] for line in self.state.log_history if "loss" in line]
        self.line = {
            "steps": steps,
            "wall": wall,
            "cpu": cpu,
            "responses": self._heard.responses,
            "rewards": self._heard.values,
        }
        return result


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class Heard:
    """A reward, with what it was asked and what it answered, a list a generation."""

    def __init__(self, reward: Callable[..., list[float]]) -> None:
        self.__name__, self._reward = reward.__name__, reward
        self.responses: list[list[list[int]]] = []
        self.values: list[list[float]] = []

    def __call__(self, **columns: Any) -> list[float]:
        values = self._reward(**columns)
        self.responses.append([list(map(int, ids)) for ids in columns["completion_ids"]])
        self.values.append(values)
        return values


def measure(who: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One side's run: seconds, and what it said and learnt."""
    with tempfile.TemporaryDirectory() as scratch:
        if who == "peer":
            return train_bare(folder, Path(scratch), options)
        return train_ours(folder, Path(scratch), options, is_monitored=who == "monitored")


def train_ours(folder: Path, scratch: Path, options: argparse.Namespace, is_monitored: bool) -> dict[str, Any]:
    """As `rayjobs.finetune` does it inside a process, with TRL's trainer watched."""
    made: list[Watched] = []

    def watched(**given: Any) -> Watched:
        made.append(Watched(**given))
        return made[0]

    config = FinetuneConfig(
        method="grpo",
        model=LanguageModelSettings(name=str(folder / "model")),
        batch=BatchSettings(size=options.batch, per_forward=options.batch // 2),
        optimiser=FinetuneOptimiserSettings(lr=LR, max_steps=options.steps, precision="fp32"),
        online=OnlineSettings(group=GROUP, max_new_tokens=options.response, temperature=TEMPERATURE, beta=BETA),
        reward=RewardSettings(components=TOXICITY_ONLY, scorer=f"lexicon:{options.lexicon}"),
        monitor=MonitorSettings() if is_monitored else MonitorSettings(every=0, prompts=1, texts=1, max_new_tokens=1),
        run=RunSettings(storage=str(scratch), seed=SEED),
        tracking=TrackingSettings(log_every=1),
        scaling=ScalingSettings(num_workers=0, threads_per_worker=options.threads),
    )
    settings = {
        "config": config.model_dump(mode="json"),
        "run": str(scratch / "run"),
        "data": str(folder / "examples"),
        "reward_actors": [],
    }
    for name in ("run", "place", "local"):
        (scratch / name).mkdir()
    place = Place(0, 1, scratch / "place")
    seat = Seat(place, scratch / "local", Storage(str(place.scratch)), resume_from=None, on_ray=False)
    with patch.object(grpo, "GRPOTrainer", watched):
        train_rank(settings, seat)
    return made[0].line


def train_bare(folder: Path, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    set_seed(SEED)
    prompts = [{"prompt": example.prompt} for example in PreparedExamples.open(folder / "examples").part("train")]
    scorer = LexiconScorer.load(options.lexicon)

    def harmless(completions: Sequence[str], **columns: Any) -> list[float]:
        toxicity = scorer.score(completions).column("toxic")
        return [1 - float(value) if text.strip() else 0.0 for text, value in zip(completions, toxicity, strict=True)]

    arguments = GRPOConfig(
        output_dir=str(scratch),
        seed=SEED,
        max_steps=options.steps,
        per_device_train_batch_size=options.batch // 2,
        gradient_accumulation_steps=2,
        learning_rate=LR,
        lr_scheduler_type="cosine",
        warmup_steps=WARMUP,
        optim="adamw_torch",
        num_generations=GROUP,
        max_completion_length=options.response,
        temperature=TEMPERATURE,
        beta=BETA,
        disable_dropout=True,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        disable_tqdm=True,
        report_to=[],
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=LORA_RANK, lora_alpha=2 * LORA_RANK, lora_dropout=0.05, target_modules=[*LORA_TARGETS]
    )
    trainer = Watched(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        args=arguments,
        reward_funcs=harmless,
        train_dataset=Dataset.from_list(prompts),
        peft_config=lora,
    )
    trainer.train()
    return trainer.line


def check(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Raises:
    SystemExit: two runs did not say the same, or learnt otherwise, at some step; or nothing was learnt from rewards
        that are all alike.
    """
    first = runs["peer"][0]
    if len({value for values in first["rewards"] for value in values}) < 2:
        raise SystemExit("all rewards are alike, so nothing was learnt: raise --steps or --response")
    for who, run in ((who, run) for who, side in runs.items() for run in side):
        for what in ("responses", "rewards"):
            for number, (ours, theirs) in enumerate(zip(run[what], first[what], strict=True), 1):
                if ours != theirs:
                    raise SystemExit(f"generation {number}: {what} of {who} are not those of the bare trainer")
        for step, (ours, theirs) in enumerate(zip(run["steps"], first["steps"], strict=True), 1):
            for name, mine, other in zip(LEARNT, ours, theirs, strict=True):
                if not math.isclose(mine, other, rel_tol=SAME, abs_tol=1e-7):
                    raise SystemExit(f"step {step}: {name} is {mine} of {who} and {other} of the bare trainer")


def report(runs: dict[str, list[dict[str, Any]]]) -> None:
    def all_of(who: str, key: str) -> list[float]:
        return [run[key] for run in runs[who]]

    monitored = all_of("monitored", "wall"), all_of("peer", "wall")
    print_line("grpo_wrapper", "time over bare TRL, monitors as by default", *monitored, "lower", "s")
    print_line("grpo_wrapper", "CPU time over bare TRL", all_of("ours", "cpu"), all_of("peer", "cpu"), "lower", "s")
    print_line("grpo_wrapper", "time over bare TRL", all_of("ours", "wall"), all_of("peer", "wall"), "lower", "s")


if __name__ == "__main__":
    main()

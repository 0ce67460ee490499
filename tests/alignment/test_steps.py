"""Strategies of PPO's optimizer: two ranks take the steps of one, hold their shares, and go on from any checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from peft import PeftModel
from transformers import AutoModelForCausalLM

from detox.alignment import steps
from detox.alignment.ppo import PpoTrainer
from detox.alignment.ppo_settings import PpoSettings, ScoreSettings
from tests.alignment.test_ppo import changed, trainer, weights


class Case(NamedTuple):
    strategy: str
    architecture: str = "t5"
    lora: bool = False


CASES = [Case("ddp"), Case("zero1"), Case("zero2"), Case("zero2", "qwen2", True)]


def settings(strategy: str, lora: bool) -> PpoSettings:
    """Three prompts a minibatch, one a pass: one of two ranks has one of them, and fills up what the other needs."""
    return changed(
        iterations=2,
        epochs=1,
        prompts=6,
        tokens_per_forward=1,
        schedule="linear",
        weight_decay=0.01,
        entropy_coefficient=0.01,
        score=ScoreSettings(scale=True, whiten=True),
        gradient_checkpointing=lora,
        strategy=strategy,
    )


def built(case: Case) -> PpoTrainer:
    return trainer(case.architecture, settings(case.strategy, case.lora), case.lora)


def moments(state: dict[str, Any]) -> list[torch.Tensor]:
    return [known[name] for known in state["optimizer"]["state"].values() for name in ("exp_avg", "exp_avg_sq")]


def rank(number: int, folder: str) -> None:
    """A whole run, and one that stops after its first iteration and goes on in a new trainer."""
    torch.set_num_threads(1)
    steps.BUCKET = 3000  # several to a model, one of which is a part of the embedding's size
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    for at, case in enumerate(CASES):
        whole = built(case)
        figures = list(whole.train())
        state = whole.state_dict()
        held = sum(each["exp_avg"].numel() for each in whole._steps.optimizer.state.values())
        first, second = built(case), built(case)
        first.step()
        half = first.state_dict()
        if number == 0:
            torch.save(half, f"{folder}/half-{at}.pt")
        dist.barrier()
        second.load_state_dict(torch.load(f"{folder}/half-{at}.pt", weights_only=True))
        list(second.train())
        found = {"figures": figures, "state": state, "resumed": second.state_dict(), "held": held}
        torch.save(found, f"{folder}/{number}-{at}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank, (str(folder),), 2)  # type: ignore[no-untyped-call]
    return folder


def told(folder: Path, number: int, case: Case) -> dict[str, Any]:
    return torch.load(folder / f"{number}-{CASES.index(case)}.pt", weights_only=False)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_take_the_steps_of_one(folder: Path, case: Case) -> None:
    alone = trainer(case.architecture, settings("ddp", case.lora), case.lora)
    wanted = list(alone.train())
    one, two = (told(folder, number, case) for number in (0, 1))
    assert one["figures"] == two["figures"]
    for mine, known in zip(wanted, one["figures"], strict=True):
        assert known == pytest.approx(mine, abs=1e-3)
        assert known["reward"] == pytest.approx(mine["reward"], abs=1e-6)
    for name, weight in alone.state_dict()["weights"].items():
        assert torch.equal(one["state"]["weights"][name], two["state"]["weights"][name])
        torch.testing.assert_close(one["state"]["weights"][name], weight, atol=1e-4, rtol=1e-3)
    for mine, known in zip(moments(alone.state_dict()), moments(one["state"]), strict=True):
        torch.testing.assert_close(known, mine, atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("case", CASES)
def test_a_rank_holds_its_share_of_the_moments(folder: Path, case: Case) -> None:
    state = told(folder, 0, case)["state"]
    trained = sum(weight.numel() for weight in state["weights"].values())
    held = [told(folder, number, case)["held"] for number in (0, 1)]
    if case.strategy == "ddp":
        assert held == [trained, trained]
    else:  # and at most one element of padding for each bucket
        assert held[0] == held[1]
        assert trained / 2 <= held[0] <= trained / 2 + len(state["weights"])
    assert sum(moment.numel() for moment in moments(state)) == 2 * trained


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_was_stopped_goes_on_bit_equal(folder: Path, case: Case) -> None:
    found = told(folder, 0, case)
    for name, weight in found["state"]["weights"].items():
        assert torch.equal(weight, found["resumed"]["weights"][name]), name
    assert moments(found["state"])
    for one, two in zip(moments(found["state"]), moments(found["resumed"]), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_of_two_ranks_goes_on_on_one(folder: Path, case: Case, strategy: str) -> None:
    alone = trainer(case.architecture, settings(strategy, case.lora), case.lora)
    alone.load_state_dict(torch.load(folder / f"half-{CASES.index(case)}.pt", weights_only=True))
    assert alone.iteration == 1
    list(alone.train())
    for mine, known in zip(weights(alone), told(folder, 0, case)["state"]["weights"].values(), strict=True):
        torch.testing.assert_close(mine, known, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("lora", [False, True])
def test_zero2_keeps_no_gradient_of_a_whole_parameter(lora: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ZeRO-1 has them all until the step."""
    left: list[int] = []
    take_step = PpoTrainer._take_step

    def watched(self: PpoTrainer) -> float:
        left.append(sum(parameter.grad is not None for parameter in self._trained))
        return take_step(self)

    monkeypatch.setattr(PpoTrainer, "_take_step", watched)
    for strategy in ("zero1", "zero2"):
        one = trainer("qwen2", settings(strategy, lora), lora)
        one.step()
    assert left == [len(weights(one))] * 2 + [0] * 2


@pytest.mark.parametrize("lora", [False, True])
def test_a_model_whose_parameters_are_views_is_saved_as_others(lora: bool, tmp_path: Path) -> None:
    one = trainer("qwen2", settings("zero2", lora), lora)
    one.step()
    model: Any = one._policy.model
    model.save_pretrained(tmp_path)
    begun = trainer("qwen2")._policy.model
    loaded = PeftModel.from_pretrained(begun, tmp_path) if lora else AutoModelForCausalLM.from_pretrained(tmp_path)
    known = dict(loaded.named_parameters())
    for name, value in model.named_parameters():
        assert torch.equal(known[name], value), name

"""PPO: what its first pass agrees on, that it learns, goes on after a stop, and says what is wrong."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from detox.alignment.policy import Policy, policy_of
from detox.alignment.ppo import DivergedError, PpoTrainer
from detox.alignment.ppo_settings import KlSettings, PpoSettings, ScoreSettings
from detox.alignment.ppo_setup import Prompt
from detox.alignment.rollout import Response
from detox.alignment.scores import RewardError, ScoreNormaliser
from detox.models import tiny

SMALL = PpoSettings(
    iterations=3, prompts=8, minibatches=2, epochs=2, max_new_tokens=6, lr=3e-3, precision="fp32", tokens_per_forward=40
)


class LowIds:
    """The share of tokens in the lower half of the vocabulary: attainable is 1, an untrained model has a half."""

    def __init__(self, vocabulary: int) -> None:
        self.__name__ = "low_ids"
        self.half = vocabulary // 2
        self.calls = 0

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        self.calls += 1
        return [sum(token < self.half for token in ids) / len(ids) for ids in completion_ids]

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]


def build(architecture: str, lora: bool = False, hidden: int = 32) -> tuple[Policy, Any]:
    causal = architecture not in {"t5", "mt5", "copy_t5"}
    options: dict[str, Any] = {} if causal else {"initializer_factor": 0.3}  # else it is sure of one token
    built = tiny.build(architecture, head="causal_lm" if causal else "seq2seq_lm", hidden=hidden, **options)
    model: Any = built.model
    if lora:
        kind = "CAUSAL_LM" if causal else "SEQ_2_SEQ_LM"
        targets = ["q_proj", "v_proj"] if causal else ["q", "v"]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = get_peft_model(model, LoraConfig(task_type=kind, r=4, target_modules=targets))
    return policy_of(model), built.tokenizer


def prompts(architecture: str, count: int = 24) -> list[Prompt]:
    end = [1] if architecture in {"t5", "mt5", "copy_t5"} else []
    return [Prompt([5 + at % 20, *range(6, 6 + at % 5), *end], f"prompt {at}", {"number": at}) for at in range(count)]


def trainer(
    architecture: str, settings: PpoSettings = SMALL, lora: bool = False, hidden: int = 32, **more: Any
) -> PpoTrainer:
    policy, tokenizer = build(architecture, lora, hidden)
    reward = more.pop("reward", None) or LowIds(len(tokenizer))
    return PpoTrainer(policy, tokenizer, prompts(architecture), reward, settings, **more)


def changed(**patch: Any) -> PpoSettings:
    return SMALL.model_copy(update=patch)


def weights(one: PpoTrainer) -> list[torch.Tensor]:
    return list(one.state_dict()["weights"].values())


@pytest.mark.parametrize("architecture", ["t5", "copy_t5", "qwen2"])
@pytest.mark.parametrize("lora", [False, True])
def test_the_ratio_is_exactly_one_before_the_first_update(
    architecture: str, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is that to a reference which is the same weights."""
    ratios: list[torch.Tensor] = []
    one = trainer(architecture, changed(epochs=1, minibatches=1), lora)
    original = Policy.forward

    def forward(self: Policy, batch: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, batch, *args, **kwargs)
        if torch.is_grad_enabled():
            [part] = [part for part in kept[0][0].parts if part.batch is batch]
            is_ahead = not hasattr(part, "old_BT")  # the pass that is kept to be learnt from
            old_BT = self.evaluate(batch, part.encoded).logprobs_BT if is_ahead else part.old_BT
            ratios.append((found.logprobs_BT - old_BT)[batch.mask_BT].detach())
            if lora and not is_ahead:
                ratios.append((part.reference_BT - part.old_BT)[batch.mask_BT])
        return found

    kept: list[Any] = []
    minibatches = PpoTrainer._minibatches
    monkeypatch.setattr(
        PpoTrainer, "_minibatches", lambda self, *args: kept.append(minibatches(self, *args)) or kept[-1]
    )
    monkeypatch.setattr(Policy, "forward", forward)
    one.step()
    assert len(ratios) > 2  # several passes
    assert all(bool((each == 0).all()) for each in ratios)


@pytest.mark.parametrize("architecture", ["t5", "copy_t5", "qwen2"])
def test_bfloat16_computes_the_same_before_the_first_update(architecture: str) -> None:
    """Not to a rounding: the clip would see the difference of two passes over the same tokens."""
    figures = trainer(architecture, changed(precision="bf16", epochs=1, minibatches=1), lora=True).step()
    assert figures["step_kl"] == 0
    assert figures["kl"] == pytest.approx(0, abs=1e-2)
    assert all(np.isfinite(value) for value in figures.values())


def test_sums_over_micro_batches_are_the_whole() -> None:
    """The same steps whatever goes through the model at a time."""
    found = []
    for budget in (1, 40, 10_000):
        one = trainer("t5", changed(tokens_per_forward=budget))
        figures = [one.step() for _ in range(2)]
        found.append((weights(one), figures[-1]))
    for other, figures in found[1:]:
        for first, second in zip(found[0][0], other, strict=True):
            torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-3)
        assert figures["reward"] == found[0][1]["reward"]
        assert figures["kl"] == pytest.approx(found[0][1]["kl"], abs=1e-4)


@pytest.mark.parametrize("architecture", ["t5", "qwen2"])
def test_it_learns_to_nine_tenths_of_what_is_attainable(architecture: str) -> None:
    settings = changed(
        iterations=40,
        prompts=16,
        epochs=4,
        max_new_tokens=8,
        value_coefficient=0.5,
        tokens_per_forward=4096,
        kl=KlSettings(controller="fixed", coefficient=0.0),
    )
    rewards = [figures["reward"] for figures in trainer(architecture, settings, hidden=64).train()]
    assert np.mean(rewards[:2]) < 0.6
    assert np.mean(rewards[-5:]) >= 0.9


def test_a_price_on_the_kl_keeps_the_policy_near() -> None:
    found, long = {}, {"iterations": 20, "prompts": 16, "epochs": 4}
    for coefficient in (0.0, 1.0):
        kl = KlSettings(controller="fixed", coefficient=coefficient)
        found[coefficient] = list(trainer("qwen2", changed(**long, kl=kl), hidden=64).train())[-1]["kl"]
    assert found[1.0] < found[0.0] / 2
    in_loss = KlSettings(place="loss", estimator="k3", controller="fixed", coefficient=1.0)
    assert list(trainer("qwen2", changed(**long, kl=in_loss), hidden=64).train())[-1]["kl"] < found[0.0] / 2


@pytest.mark.parametrize(("architecture", "nats"), [("t5", 0.05), ("copy_t5", 1.0)])
def test_an_entropy_bonus_keeps_the_policy_undecided(architecture: str, nats: float) -> None:
    """Of a linear output layer, and of a copy head that without it is soon sure of what to say."""
    plain, bonus = (
        list(trainer(architecture, changed(iterations=10, entropy_coefficient=coefficient)).train())[-1]["entropy"]
        for coefficient in (0.0, 0.5)
    )
    assert bonus > plain + nats


@pytest.mark.parametrize("lora", [False, True])
def test_a_run_that_was_stopped_goes_on_bit_equal(lora: bool, tmp_path: Path) -> None:
    """With everything that has a state switched on: adaptive KL, normalised scores, a reward that counts."""
    settings = changed(
        iterations=5,
        schedule="linear",
        warmup_steps=3,
        score=ScoreSettings(scale=True, center=True, clip=2, whiten=True),
        kl=KlSettings(target=0.1, horizon=20),
        entropy_coefficient=0.01,
        samples=2,
    )
    whole = trainer("t5", settings, lora)
    wanted = list(whole.train())
    first = trainer("t5", settings, lora)
    figures = [first.step(), first.step()]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(123)
    second = trainer("t5", settings, lora)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    figures += list(second.train())
    assert figures == wanted
    assert all(torch.equal(*pair) for pair in zip(weights(whole), weights(second), strict=True))
    assert second.kl_controller.coefficient != settings.kl.coefficient
    forgetful = trainer("t5", settings, lora)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    forgetful.load_state_dict(state | {"kl_controller": {"coefficient": 0.5}})
    list(forgetful.train())
    assert not all(torch.equal(*pair) for pair in zip(weights(whole), weights(forgetful), strict=True))
    with pytest.raises(ValueError, match="other weights"):
        trainer("t5", settings, not lora).load_state_dict(state)


def test_checkpointing_changes_nothing() -> None:
    plain, saving = (list(trainer("t5", changed(gradient_checkpointing=on), lora=True).train()) for on in (False, True))
    for one, two in zip(plain, saving, strict=True):
        assert one == pytest.approx(two, abs=1e-5)


def test_prompts_are_used_once_before_any_is_used_again() -> None:
    asked: list[int] = []

    def reward(prompts: Any, completions: Sequence[str], number: Sequence[int], **columns: Any) -> list[float]:
        asked.extend(number)
        return [0.0] * len(completions)

    one = trainer("t5", changed(iterations=6, epochs=1), reward=reward)
    list(one.train())
    assert sorted(asked[:24]) == sorted(asked[24:48]) == list(range(24))
    assert asked[:24] != asked[24:48]


def test_an_update_stops_where_the_policy_has_gone_too_far() -> None:
    free = trainer("t5", changed(lr=0.05)).step()
    held = trainer("t5", changed(lr=0.05, stop_kl=1e-4)).step()
    assert free["updates"] == 4
    assert 1 <= held["updates"] < 4


class Fixed:
    def __init__(self, values: Any) -> None:
        self.__name__ = "fixed"
        self.values = values

    def __call__(self, prompts: Any, completions: Any, **columns: Any) -> Any:
        if isinstance(self.values, Exception):
            raise self.values
        return self.values(len(completions))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (lambda count: [math.nan] * count, "returned nan"),
        (lambda count: [None] * count, "returned None"),
        (lambda count: [1.0] * (count - 1), "returned 7"),
        (RuntimeError("no connection"), "no connection"),
    ],
)
def test_a_reward_that_is_none_ends_the_run_before_any_update(values: Any, words: str) -> None:
    one = trainer("t5", reward=Fixed(values))
    before = copy.deepcopy(weights(one))
    with pytest.raises(RewardError, match=words):
        one.step()
    assert all(torch.equal(*pair) for pair in zip(before, weights(one), strict=True))


@pytest.mark.parametrize("architecture", ["t5", "qwen2"])
def test_responses_that_end_at_once(architecture: str) -> None:
    """A batch of nothing but EOS: each is a response of one token."""
    policy, _ = build(architecture)
    eos = policy.model.config.eos_token_id

    def rollout(prompts: Sequence[Any], numbers: Sequence[int], seed: int) -> list[Response]:
        return [Response([eos], True) for _ in prompts]

    figures = trainer(architecture, rollout=rollout).step()
    assert figures["length"] == figures["ended"] == 1
    assert math.isfinite(figures["policy_loss"])


def test_a_response_that_does_not_end_costs_what_it_should() -> None:
    seen: list[np.ndarray] = []
    one = trainer("t5", changed(score=ScoreSettings(missing_eos=1.0)), reward=Fixed(lambda count: [0.0] * count))
    original = one._appraise
    one._appraise = lambda minibatches, scores_N: seen.append(scores_N) or original(minibatches, scores_N)  # type: ignore[func-returns-value,method-assign,assignment]
    figures = one.step()
    assert -float(seen[0].mean()) == pytest.approx(1 - figures["ended"])


def test_a_policy_that_diverges_ends_the_run() -> None:
    kl = KlSettings(abort_above=1.0, controller="fixed", coefficient=0.0)
    with pytest.raises(DivergedError, match=r"abort_above is 1\.0"):
        list(trainer("qwen2", changed(lr=0.02, iterations=20, kl=kl)).train())


def test_weights_that_the_very_last_update_ruined_end_the_run() -> None:
    """Loss and gradient of the only step are numbers; the step itself leads out of them."""
    one = trainer("qwen2", changed(lr=math.inf, iterations=1, epochs=1, minibatches=1))
    with pytest.raises(DivergedError, match="weights are no numbers"):
        list(one.train())


@pytest.mark.parametrize(
    ("patch", "rule"),
    [({"prompts": 25}, "there are 24"), ({"max_new_tokens": 510}, "the model reads 512")],
)
def test_what_cannot_be_trained_is_refused_at_once(patch: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        trainer("qwen2", changed(**patch))


def test_prompts_and_tokenizers_that_do_not_belong_are_refused() -> None:
    policy, tokenizer = build("qwen2")
    reward = LowIds(10)
    with pytest.raises(ValueError, match="no tokens"):
        PpoTrainer(policy, tokenizer, [Prompt([], "")] * 24, reward, SMALL)
    with pytest.raises(ValueError, match="the model knows"):
        PpoTrainer(policy, tokenizer, [Prompt([99_999], "")] * 24, reward, SMALL)
    other = build("mistral")[1]
    other.add_tokens([f"new{number}" for number in range(1000)])
    with pytest.raises(ValueError, match="different models"):
        PpoTrainer(policy, other, prompts("qwen2"), reward, SMALL)
    with pytest.raises(ValueError, match="policy_of"):
        PpoTrainer(policy, tokenizer, prompts("qwen2"), reward, changed(temperature=0.5))
    for wrong, rule in (({"minibatches": 9}, "needs a prompt"), ({"kl": {"place": "loss"}}, "gradient of k1")):
        with pytest.raises(ValueError, match=rule):
            PpoSettings.model_validate(SMALL.model_dump() | wrong)


def test_scores_so_far_are_scaled_by_hand() -> None:
    """1, 3 then 5, 7: mean 2 and deviation 1, then mean 4 and deviation root 5."""
    normaliser = ScoreNormaliser(ScoreSettings(scale=True, center=True))
    assert normaliser(np.array([1.0, 3.0])).tolist() == [-1, 1]
    assert normaliser(np.array([5.0, 7.0])) == pytest.approx([1 / 5**0.5, 3 / 5**0.5])
    clipped = ScoreNormaliser(ScoreSettings(clip=2.0))
    assert clipped(np.array([-5.0, 1.0, 9.0])).tolist() == [-2, 1, 2]
    same = ScoreNormaliser(ScoreSettings(scale=True))
    assert same(np.array([3.0, 3.0])).tolist() == [3, 3]

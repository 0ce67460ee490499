"""The same toy task for every method, and what becomes of a reward without its guards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detox.alignment import tuning
from detox.alignment.composite import CompositeReward
from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.ppo_settings import KlSettings
from detox.alignment.reward_settings import TOXICITY_ONLY, ComponentSettings, RewardSettings
from detox.alignment.rewards import DiversityReward
from detox.classifier.worker import Place
from detox.data.examples.example import Example, PreparedExamples, write_part
from detox.models import tiny
from detox.models.causal import load_causal
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings
from detox.runs.config import override, validated
from tests.alignment.test_ppo import LowIds, changed, trainer

TOKENS = 6


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    built = tiny.build("qwen2", head="causal_lm")
    built.model.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)
    return folder


def low_share(name: Path) -> float:
    """Of 200 responses' tokens, how many lie in the lower half of the vocabulary."""
    loaded = load_causal(str(name))
    settings = GenerationSettings(mode="sample", max_new_tokens=TOKENS, temperature=1.0)
    asked = [loaded.tokenizer(f"{number} is")["input_ids"] for number in range(200)]
    found = generate(loaded.model, asked, settings)
    half = len(loaded.tokenizer) // 2  # type: ignore[arg-type]
    return float(np.mean([token < half for [one] in found for token in one.tokens]))


@pytest.mark.parametrize(("method", "least"), [("grpo", 0.8), ("rloo", 0.8), ("dpo", 0.8), ("kto", 0.6)])
def test_every_method_moves_the_same_model_the_same_way(
    method: str, least: float, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of an untrained model's tokens are low. GRPO and RLOO are rewarded for them, as PPO is in `test_ppo`; DPO
    and KTO are shown texts of low tokens as better than texts of high ones."""
    tokenizer: Any = load_causal(str(base)).tokenizer
    half = len(tokenizer) // 2
    rng = np.random.default_rng(0)
    ids = [rng.permuted(np.arange(low, low + 200))[:TOKENS] for low in (10, half) for _ in range(64)]
    texts = tokenizer.batch_decode(ids)
    (tmp_path / "examples").mkdir()
    rows = [
        Example(f"{at} is", better, worse)
        for at, (better, worse) in enumerate(zip(texts[:64], texts[64:], strict=True))
    ]
    for part in ("train", "validation", "test"):
        write_part(tmp_path / "examples" / f"{part}.parquet", rows)
    settings = RewardSettings(components=TOXICITY_ONLY, scorer="none")
    reward = CompositeReward(settings, {"toxicity": LowIds(len(tokenizer))})
    monkeypatch.setattr(tuning, "build_reward", lambda *_: reward)
    config = override(
        validated(FinetuneConfig, {"method": method, "model": {"name": str(base)}}),
        {
            "model.lora.rank": 0,
            "batch.size": 32,
            "batch.per_forward": 32,
            "online.group": 8,
            "online.max_new_tokens": TOKENS,
            "optimiser.max_steps": 100,
            "optimiser.lr": 1e-2,
            "optimiser.precision": "fp32",
            "monitor.every": 0,
            "scaling.num_workers": 0,
        },
    )
    (tmp_path / "scratch").mkdir()
    examples = PreparedExamples(tmp_path / "examples", {})
    tuning.tune_one_rank(config, examples, Place(0, 1, tmp_path / "scratch"), lambda *_: None)(tmp_path / "tuned")
    assert low_share(base) == pytest.approx(0.5, abs=0.1)
    assert low_share(tmp_path / "tuned") >= least


class Flattery:
    """How near the tokens are to one of them: what a classifier that likes one word would like best."""

    def __init__(self) -> None:
        self.__name__ = "toxicity"

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        return [float(np.mean([max(0.0, 1 - abs(token - 60) / 60) for token in ids])) for ids in completion_ids]


class OfTokens(DiversityReward):
    """Diversity of responses whose words are their tokens."""

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        texts = [" ".join(f"token{token}" for token in ids) for ids in completion_ids]
        return super().__call__(prompts, texts)


@pytest.mark.parametrize("guarded", [False, True])
def test_without_its_guards_a_reward_is_hacked(guarded: bool) -> None:
    """A reward that likes one word gets that word and nothing else, whatever was asked; with diversity beside it the
    word is said more often than before, and the responses stay different."""
    weights: dict[Any, float] = {"toxicity": 1.0, "diversity": 1.0 if guarded else 0.0}
    components = tuple(ComponentSettings(component=name, weight=weight) for name, weight in weights.items())
    rewards = {"toxicity": Flattery(), "diversity": OfTokens(order=1)}
    reward = CompositeReward(RewardSettings(components=components), rewards)
    kl = KlSettings(controller="fixed", coefficient=0.0)
    one = trainer("qwen2", changed(iterations=60, prompts=24, epochs=4, kl=kl), hidden=64, reward=reward)
    parts: list[dict[str, float]] = []
    for _ in one.train():
        parts.append({name: float(values.mean()) for name, values in reward.parts.items()})
    assert parts[0]["toxicity"] < 0.2
    assert parts[0]["diversity"] > 0.9
    if guarded:
        assert parts[-1]["toxicity"] > 0.4
        assert parts[-1]["diversity"] > 0.7
    else:
        assert parts[-1]["toxicity"] > 0.8
        assert parts[-1]["diversity"] < 0.3

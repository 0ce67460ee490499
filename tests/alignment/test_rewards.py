"""Rewards: each accepts what is good and rejects what is known to be gamed; the sum, its schedules, its state."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from detox.alignment.composite import CompositeReward, weight_at
from detox.alignment.ngrams import Overlap, distinct, words
from detox.alignment.reward_settings import SEVENTY_TWENTY_TEN, TOXICITY_ONLY, ComponentSettings, RewardSettings
from detox.alignment.rewards import (
    AcceptabilityReward,
    DiversityReward,
    FluencyReward,
    LengthReward,
    NoveltyReward,
    SimilarityReward,
    SummaryReward,
    ToxicityReward,
)
from detox.alignment.scores import RewardError
from detox.classifier.lexicon import LexiconScorer
from detox.evaluation.minilm import MiniLm
from detox.models.embedded import PACKAGE
from detox.rewriter.fluency import CharacterModel
from rayjobs.align_policy import REWRITTEN

SOURCES = ["you are a stupid idiot and your edit of the page is wrong", "this crap article needs a source, moron"]
GOOD = ["you are mistaken and your edit of the page is wrong", "this article needs a source"]
SAFE = ["thank you very much for your message"] * 2
REPEATED = ["the page the page the page the page the page", "a source a source a source a source a source"]
EMPTY = ["", " "]
NEUTRAL_TEXTS = [
    "you are mistaken and your edit of the page is wrong",
    "this article needs a source, please add one",
    "thank you very much for your message",
    "the page has a section about the history of the town",
]


def character_nats(texts: Sequence[str]) -> np.ndarray:
    model = CharacterModel.fit(NEUTRAL_TEXTS, ["en"] * len(NEUTRAL_TEXTS))
    return model.bits(texts, ["en"] * len(texts)) * math.log(2)


SWEARING = LexiconScorer(["stupid", "idiot", "crap", "moron"])


def toxicity() -> ToxicityReward:
    return ToxicityReward(SWEARING)


BUILT: dict[str, tuple[Callable[[], Any], list[list[str]]]] = {
    "toxicity": (toxicity, [EMPTY, SOURCES]),
    "fluency": (lambda: FluencyReward(character_nats, 0.2, 4.0), [EMPTY, REPEATED, ["xq zvw kkp", "ggh ttr bnm"]]),
    "diversity": (DiversityReward, [EMPTY, REPEATED, SAFE]),
    "similarity": (lambda: SimilarityReward(MiniLm().cosine), [EMPTY, SAFE, REPEATED]),
    "length": (lambda: LengthReward(3, 20), [EMPTY, ["no", "so"], [" ".join(["word"] * 50)] * 2]),
    "novelty": (NoveltyReward, [EMPTY, SOURCES]),
}


@pytest.mark.parametrize("name", BUILT)
def test_accepts_what_is_good_and_rejects_what_is_gamed(name: str) -> None:
    """Each row of the good is worth more than each of the gamed, with room between."""
    if name == "similarity":
        pytest.importorskip(PACKAGE, reason="needs the extra `embedded`")
    build, gamed = BUILT[name]
    good = build()(prompts=SOURCES, completions=GOOD)
    assert all(0 < value <= 1 for value in good)
    for texts in gamed:
        bad = build()(prompts=SOURCES, completions=texts)
        assert max(bad) < min(good) - 0.1, (texts, bad, good)
    assert build()(prompts=SOURCES, completions=EMPTY) == [0.0, 0.0]


@pytest.mark.parametrize("components", [SEVENTY_TWENTY_TEN, REWRITTEN], ids=["70/20/10", "rewriter_ppo"])
def test_no_hack_pays_in_the_sums_of_the_recipes(components: tuple[ComponentSettings, ...]) -> None:
    """What one component lets pass another rejects: nothing, a copy, a repetition, one safe sentence for all."""
    pytest.importorskip(PACKAGE, reason="needs the extra `embedded`")

    def worth(texts: list[str]) -> list[float]:
        parts = {one.component: BUILT[one.component][0]() for one in components}
        return CompositeReward(RewardSettings(components=components), parts)(prompts=SOURCES, completions=texts)

    for hacked in (EMPTY, SOURCES, REPEATED, SAFE):
        assert max(worth(hacked)) < min(worth(GOOD)) - 0.05, hacked


def test_summary_by_hand() -> None:
    """`the cat sat` against `the cat sat down`: 3 of 3 and 3 of 4, F1 = 6/7; a copy of a long source has less."""
    reward = SummaryReward("rougeL", "reference")
    source = "anna: hi. the cat came in and it sat and then it lay down and slept until the evening came"
    values = reward(
        prompts=[source] * 4,
        completions=["the cat sat", source, "", "the the the the the the the the"],
        reference=["the cat sat down"] * 4,
    )
    assert values[0] == pytest.approx(6 / 7)
    assert values[2] == 0
    assert reward(prompts=["x"], completions=["кошка сидит"], reference=["кошка сидит"]) == [1.0]
    assert max(values[1:]) < 0.4
    with pytest.raises(ValueError, match="column 'reference'"):
        reward(prompts=["a"], completions=["b"])


def test_acceptability_is_the_scorers_and_an_empty_text_has_none() -> None:
    reward = AcceptabilityReward(SWEARING, "toxic")
    assert reward(prompts=["", "", ""], completions=["you idiot", "", "hello"]) == [1, 0, 0]


def test_toxicity_of_either_sign_and_chats() -> None:
    less, more = toxicity(), ToxicityReward(SWEARING, "", more=True)
    chat = [[{"role": "assistant", "content": "you idiot"}]]
    assert less(prompts=["x"], completions=chat) == [0.0]
    assert less(prompts=["x"], completions=["hello"]) == [1.0]
    assert more(prompts=["x"], completions=["you idiot"]) == [1.0]
    assert more(prompts=["x"], completions=[""]) == [0.0]


def test_distinct_and_bleu_by_hand() -> None:
    """`a b a b` has the bigrams ab, ba, ab: 2 of 3. `a b c` against `a b d`: 2/3 words, 1/2 bigrams, no trigram: 0;
    against `a b c d` all: 1."""
    assert distinct(words("a b a b"), 2) == pytest.approx(2 / 3)
    assert distinct(words("a"), 2) == 1
    assert Overlap([words("a b d")]).bleu(words("a b c")) == 0
    assert Overlap([words("a b d")]).bleu(words("a b")) == pytest.approx(1)
    assert Overlap([words("a b d")]).bleu(words("a c")) == 0
    assert Overlap([words("a b c d")]).bleu(words("a b c")) == pytest.approx(1)
    overlap = Overlap([words("a b c d"), words("x y")])
    overlap.remove(words("a b c d"))
    assert overlap.bleu(words("a b")) == 0
    assert overlap.bleu(words("x")) == 1


def test_diversity_remembers_and_forgets_and_is_saved() -> None:
    reward = DiversityReward(window=2)
    first = reward(prompts=["p"], completions=["the first new sentence here"])
    again = reward(prompts=["q"], completions=["the first new sentence here"])
    assert first == [1.0]
    assert again == [0.0]
    saved = DiversityReward(window=2)
    saved.load_state_dict(pickle.loads(pickle.dumps(reward.state_dict())))
    for one in (reward, saved):
        one(prompts=["r", "s"], completions=["something else entirely, then", "and quite another thing again"])
        assert one(prompts=["t"], completions=["the first new sentence here"]) == [1.0]
        assert one(prompts=["u"], completions=["and quite another thing again"])[0] < 0.2


def settings(*components: ComponentSettings, clip: float = 0.0) -> RewardSettings:
    return RewardSettings(components=components, clip=clip)


class Fixed:
    def __init__(self, *values: float | None) -> None:
        self.__name__ = "fixed"
        self.values = values

    def __call__(self, prompts: Any, completions: Any, **columns: Any) -> list[Any]:
        return list(self.values)


def test_the_sum_by_hand_with_its_parts() -> None:
    """0.7 x 1 + 0.2 x 0.5 + 0.1 x 0 = 0.8, and 0.7 x 0 + 0.2 x 1 + 0.1 x 1 = 0.3."""
    rewards = {"toxicity": Fixed(1, 0), "fluency": Fixed(0.5, 1), "diversity": Fixed(0, 1)}
    composite = CompositeReward(RewardSettings(components=SEVENTY_TWENTY_TEN), rewards)
    logged: dict[str, float] = {}
    values = composite(prompts=["a", "b"], completions=["c", "d"], log_metric=logged.__setitem__)
    assert values == pytest.approx([0.8, 0.3])
    assert composite.parts["fluency"].tolist() == [0.5, 1]
    assert logged["rewards/toxicity/mean"] == 0.5
    assert logged["rewards/toxicity/weight"] == 0.7
    alone = CompositeReward(RewardSettings(components=TOXICITY_ONLY), rewards)
    assert alone(prompts=["a", "b"], completions=["c", "d"]) == [1, 0]


def test_clips_schedules_and_normalisation() -> None:
    change = ComponentSettings(component="toxicity", weight=1.0, final_weight=0.0, over_steps=10)
    assert [weight_at(change, step) for step in (0, 5, 10, 20)] == [1.0, 0.5, 0.0, 0.0]
    composite = CompositeReward(settings(change), {"toxicity": Fixed(1.0)})
    assert composite(prompts=[""], completions=[""], trainer_state=SimpleNamespace(global_step=5)) == [0.5]
    held = CompositeReward(settings(ComponentSettings(component="toxicity", weight=3), clip=2), {"toxicity": Fixed(1)})
    assert held(prompts=[""], completions=[""]) == [2]
    scaled = ComponentSettings(component="length", weight=1, normalise=True, clip=1.5)
    values = CompositeReward(settings(scaled), {"length": Fixed(0, 0, 0, 10)})(prompts=[""] * 4, completions=[""] * 4)
    # mean 2.5, deviation 4.33: -0.577 and 1.732, which is held at 1.5
    assert values == pytest.approx([-0.5774, -0.5774, -0.5774, 1.5], abs=1e-4)


@pytest.mark.parametrize("values", [(math.nan, 1.0), (1.0,), (1.0, 1.0, 1.0), (None, 1.0), (math.inf, 0.0)])
def test_what_is_no_reward_is_refused(values: tuple[float | None, ...]) -> None:
    composite = CompositeReward(settings(*TOXICITY_ONLY), {"toxicity": Fixed(*values)})
    with pytest.raises(RewardError, match="fixed"):
        composite(prompts=["a", "b"], completions=["c", "d"])


def test_a_failing_judge_is_no_value() -> None:
    class Broken:
        labels = ("toxic",)

        def score(self, texts: Sequence[str]) -> Any:
            raise RuntimeError("the endpoint is down")

    composite = CompositeReward(settings(*TOXICITY_ONLY), {"toxicity": ToxicityReward(Broken())})
    with pytest.raises(RewardError, match="the endpoint is down"):
        composite(prompts=["a"], completions=["b"])


def test_the_state_of_all_parts_is_saved() -> None:
    one = ComponentSettings(component="diversity", weight=1.0, normalise=True)

    def build() -> CompositeReward:
        return CompositeReward(settings(one), {"diversity": DiversityReward()})

    first, second = build(), build()
    first(prompts=["a", "b"], completions=["one two three", "four five six seven"])
    second.load_state_dict(first.state_dict())
    values = [one(prompts=["c", "d"], completions=["one two three", "eight nine"]) for one in (first, second)]
    assert values[0] == values[1]
    assert build()(prompts=["c", "d"], completions=["one two three", "eight nine"]) != values[0]


@pytest.mark.parametrize("build", [lambda: DiversityReward(), lambda: LengthReward(1, 5), toxicity, SummaryReward])
def test_rewards_can_be_sent_to_another_process(build: Callable[[], Any]) -> None:
    reward = build()
    assert pickle.loads(pickle.dumps(reward)).__name__ == reward.__name__


@pytest.mark.parametrize(
    ("patch", "rule"),
    [
        ({"components": ()}, "each once"),
        ({"components": TOXICITY_ONLY * 2}, "each once"),
        ({"components": (ComponentSettings(component="length", weight=0),)}, "above 0"),
    ],
)
def test_settings_that_are_no_reward(patch: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        RewardSettings(**patch)
    with pytest.raises(ValueError, match="final_weight and over_steps"):
        ComponentSettings(component="length", weight=1, final_weight=0.5)
    with pytest.raises(ValueError, match="no component length"):
        CompositeReward(settings(ComponentSettings(component="length", weight=1)), {})
